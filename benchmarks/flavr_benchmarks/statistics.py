"""Statistics of noisy timings, without assuming a distribution.

Neighbouring samples of a noisy machine resemble each other, so the unit of evidence is the round, not the
sample: a hundred windows measured during one disturbance count once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
FEWEST = 6  # values, below which no interval of the median has that
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true value lies, with at least this probability."""

    low: float
    high: float
    confidence: float  # below CONFIDENCE where there are too few values for more

    def relative_half_width(self, value: float) -> float:
        """Half the width as a share of `value`."""
        return (self.high - self.low) / 2 / value if value else math.inf


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` percent lie, interpolated between neighbours."""
    return float(np.percentile(np.asarray(values, np.float64), share))


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """A confidence interval of the median: two of the sorted values, chosen by the binomial distribution.

    The median of n independent values lies between the k-th smallest and the k-th largest with probability
    1 - 2 P(Binomial(n, 1/2) < k). Below six values even the extremes do not reach 95 %; the probability that
    they do reach is stated.

    Raises:
        ValueError: no values.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        raise ValueError("the median of no values has no interval")
    tail, best, depth = 0, 0.0, 1
    for k in range(1, n // 2 + 1):
        tail += math.comb(n, k - 1)
        coverage = 1 - 2 * tail / 2**n  # of whole numbers: beyond a thousand values neither fits a float
        if k == 1:
            best = coverage
        elif coverage >= confidence:
            best, depth = coverage, k
        else:
            break
    return Interval(ordered[depth - 1], ordered[n - depth], best)


def ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """A bootstrap interval of median(numerator) / median(denominator), two independent sets of rounds.

    Raises:
        ValueError: one of them is empty.
    """
    if not len(numerator) or not len(denominator):
        raise ValueError("the ratio of no values has no interval")
    random = np.random.default_rng(seed)
    above, below = (_resampled_medians(random, values) for values in (numerator, denominator))
    tail = (1 - confidence) / 2
    low, high = np.quantile(above / below, [tail, 1 - tail])
    return Interval(float(low), float(high), confidence)


def _resampled_medians(random: np.random.Generator, values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    medians: np.ndarray = np.median(random.choice(array, (_RESAMPLES, len(array))), axis=1)
    return medians


def relative_drift(values: Sequence[float]) -> float:
    """How far the median of the second half is from that of the first, as a share of it; 0 below 4 values."""
    if len(values) < 4:
        return 0.0
    middle = len(values) // 2
    return median(values[middle:]) / median(values[:middle]) - 1
