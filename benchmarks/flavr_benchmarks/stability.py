"""Whether a measured figure can be trusted, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence

from flavr_benchmarks.scheduling import Course, Limits
from flavr_benchmarks.schema import Round
from flavr_benchmarks.statistics import FEWEST, median, relative_drift

_DRIFT = 0.05  # between the halves of a measurement
_CANARY = 0.10  # slowest tenth of the rounds over the median
_CONTENDED = 0.25  # cores that are wanted and not there


def doubts(course: Course, rounds: Sequence[Round], limits: Limits, *, threads: int, cores: int) -> list[str]:
    """The reasons not to trust a cell's figure; none if its interval is narrow and nothing disturbed it.

    Args:
        rounds: of the machine, from the first that the cell took part in; those after it had left are no
            matter.
        threads: that the cell uses.
        cores: that there are.
    """
    medians = course.medians
    found = []
    if len(medians) < max(FEWEST, limits.least_rounds // 2):
        count = "1 round" if len(medians) == 1 else f"{len(medians)} rounds"
        found.append(f"too few samples: {count} in the time budget")
    width = course.interval.relative_half_width(median(medians))
    narrow = width <= limits.narrow
    if not narrow:
        found.append(f"the interval is ±{width:.1%}, wider than ±{limits.narrow:.0%}")
    drift = relative_drift(medians)
    if abs(drift) > _DRIFT:
        found.append(f"drift: the second half was {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}")
    others = [value for value in course.others if value is not None]
    missing = median(others) + threads - cores if others else 0.0
    if missing > _CONTENDED:
        found.append(
            f"load: other programs kept {median(others):.1f} of {cores} cores busy, and it uses {threads}"
        )
    canaries = [one.canary_ms for one in rounds[: len(medians)]]
    if len(canaries) >= 2:
        slowest = sorted(canaries)[-max(len(canaries) // 10, 1)] / median(canaries) - 1
        if slowest > _CANARY:
            found.append(f"clock drift: fixed work took up to {slowest:.0%} longer in some rounds")
    return found
