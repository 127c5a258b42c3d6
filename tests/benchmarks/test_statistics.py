"""The figures and their intervals, against NumPy, known laws and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from flavr_benchmarks.statistics import (
    median,
    median_interval,
    percentile,
    ratio_interval,
    relative_drift,
)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0, 50, 90, 99, 100])
def test_percentiles_are_those_of_the_sorted_values_interpolated(count: int, share: int) -> None:
    values = list(np.random.default_rng(count).normal(100, 10, count))
    ordered, place = sorted(values), share / 100 * (count - 1)
    low = int(place)
    high = min(low + 1, count - 1)
    assert percentile(values, share) == pytest.approx(
        ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    )
    assert median(values) == pytest.approx(float(np.median(values)))


def test_the_interval_of_a_median_has_the_textbook_ranks() -> None:
    # the 95 % interval of ten values is that from the second to the ninth, with 97.9 %
    interval = median_interval([10, 3, 7, 1, 9, 2, 8, 4, 6, 5])
    assert (interval.low, interval.high) == (2, 9)
    assert interval.confidence == pytest.approx(0.9785, abs=1e-4)
    # of twenty: sixth to fifteenth, 95.9 %
    interval = median_interval(range(1, 21))
    assert (interval.low, interval.high) == (6, 15)
    assert interval.confidence == pytest.approx(0.9586, abs=1e-4)


def test_thousands_of_values_have_an_interval() -> None:
    interval = median_interval(range(5000))  # binomial coefficients of 1500 digits
    assert (interval.low, interval.high) == (2430, 2569)  # 2499.5 -+ 1.96 * sqrt(5000) / 2
    assert interval.confidence == pytest.approx(0.95, abs=2e-3)
    assert interval.confidence >= 0.95


@pytest.mark.parametrize(("count", "confidence"), [(1, 0.0), (2, 0.5), (5, 0.9375)])
def test_too_few_values_admit_that_they_do_not_reach_95_percent(count: int, confidence: float) -> None:
    interval = median_interval(range(count))
    assert interval.confidence == pytest.approx(confidence)
    assert (interval.low, interval.high) == (0, count - 1)


def test_the_stated_probability_is_kept_on_skewed_noise() -> None:
    random = np.random.default_rng(0)
    truth = float(np.log(2))  # the median of the exponential distribution
    hits = []
    for _ in range(2000):
        interval = median_interval(list(random.exponential(size=15)))
        hits.append(interval.low <= truth <= interval.high)
    assert np.mean(hits) == pytest.approx(interval.confidence, abs=0.015)


def test_the_ratio_of_two_medians_is_bracketed_as_often_as_promised() -> None:
    random = np.random.default_rng(1)
    hits = []
    for seed in range(60):
        slow, fast = random.normal(20, 2, 25), random.normal(10, 1, 25)
        interval = ratio_interval(list(slow), list(fast), seed=seed)
        hits.append(interval.low <= 2 <= interval.high)
    assert np.mean(hits) >= 0.85


def test_a_difference_that_is_there_is_found() -> None:
    random = np.random.default_rng(2)
    interval = ratio_interval(list(random.normal(110, 3, 20)), list(random.normal(100, 3, 20)))
    assert interval.low > 1.05
    assert interval.high < 1.15


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no interval"):
        median_interval([])
    for numerator, denominator in (([], [1.0]), ([1.0], [])):
        with pytest.raises(ValueError, match="no interval"):
            ratio_interval(numerator, denominator)


def test_drift_compares_the_halves() -> None:
    assert relative_drift([10, 10, 11, 11]) == pytest.approx(0.1)
    assert relative_drift([1, 2, 3]) == 0
