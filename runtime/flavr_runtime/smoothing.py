"""Even motion across uneven intervals: those of a variable rate, and those that held frames leave.

In animation on twos and film converted by repeating frames the picture stands, then jumps. Here the repeats
are left out, the network interpolates between the distinct pictures, and the result is taken at the instants
that it would have had anyway: count, times and duration stay.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from flavr_runtime.frames import Frame
from flavr_runtime.holds import runs
from flavr_runtime.timing_plan import Timing
from flavr_runtime.windows import makeable_factors

__all__ = ["distinct", "evened", "interval_grids", "smoothed"]

_Expand = Callable[[Iterable[Frame], int], Iterator[Frame]]


def smoothed(
    frames: Iterable[Frame],
    timing: Timing,
    native: int,
    expand: _Expand,
    on_held: Callable[[int], None] = lambda _count: None,
) -> Iterator[Frame]:
    """The frames of the result, moving evenly across held ones; slow motion does not stretch them yet.

    No picture is further from its instant than a quarter of the time for which it is shown.

    Args:
        native: the model's own factor.
        expand: multiplies frames by a factor, lazily, as `Interpolator.expand` does.
        on_held: told how many repeats were left out, whenever some were.
    """
    instants = _Instants(timing)
    keys = distinct(instants.noting(frames), on_held)
    return _taken(expand, keys, instants, interval_grids(timing, native))


def evened(frames: Iterable[Frame], timing: Timing, native: int, expand: _Expand) -> Iterator[Frame]:
    """The frames at a constant rate, from those of a variable one; arguments as for `smoothed`.

    Each interval of the source is cut as finely as it needs for the quarter of a frame. In a pause for which
    even the finest steps are too coarse, the nearest of them is shown, several times in a row. The last frame
    is shown until `timing.end`.
    """
    instants = _Instants(timing)
    return _taken(expand, instants.noting(frames), instants, interval_grids(timing, native))


def interval_grids(timing: Timing, native: int) -> list[int]:
    """Into how many steps an interval may be cut, the fewest first: each is a part of the last one."""
    makeable = makeable_factors(native)
    finest = max(factor for factor in makeable if factor % timing.factor == 0)
    return [factor for factor in makeable if finest % factor == 0]


def _taken(
    expand: _Expand, keys: Iterator[Frame], instants: _Instants, grids: Sequence[int]
) -> Iterator[Frame]:
    """For each instant what is nearest to it, at the fewest passes that bring it near enough."""
    finest = grids[-1]
    span = deque[Frame]()  # what can be made from one distinct picture to the next, both included
    last: Frame | None = None
    for frame in expand(keys, finest):
        span.append(frame)
        if len(span) <= finest:
            continue
        start, end = span[0].time, frame.time
        wanted = instants.before(end)
        grid = _coarsest(grids, wanted, start, end, instants.tolerance(wanted, end))
        for instant in wanted:
            place = _place(instant, start, end, grid) * (finest // grid)
            while finest + 1 - len(span) < place:
                span.popleft()  # lets go of pictures that are done with
            yield _shown(span[0], instant, again=span[0] is last)
            last = span[0]
        span = deque([frame])
    if span:
        for instant in instants.rest(span[0].time):
            yield _shown(span[0], instant, again=span[0] is last)
            last = span[0]


def distinct(
    frames: Iterable[Frame], on_held: Callable[[int], None] = lambda _count: None
) -> Iterator[Frame]:
    """The frames without the repeats of held ones.

    The last picture before a cut and the very last keep theirs: nothing moves out of them.
    """
    held: list[Frame] = []
    for run in runs(frames):
        if run[0].starts_scene:
            yield from held
        elif held:
            if len(held) > 1:
                on_held(len(held) - 1)
            yield held[0]
        held = run
    yield from held


class _Instants:
    """When the result shows something: when the source does and in steps between, or at a constant rate."""

    def __init__(self, timing: Timing) -> None:
        self._factor = timing.factor
        self._step = 1 / (timing.rate * timing.stretch) if timing.resampled else None
        self._end = timing.end
        self._times = deque[Fraction]()  # of source frames; at a constant rate only the next instant

    def noting(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if self._step is None or not self._times:
                self._times.append(frame.time)
            yield frame

    def before(self, end: Fraction) -> list[Fraction]:
        """Those that have not been handed out, up to `end` but without it."""
        found, times = list[Fraction](), self._times
        if self._step is not None:
            while times[0] < end:
                found.append(times[0])
                times[0] += self._step
            return found
        while times[0] < end:
            start = times.popleft()
            found += [start + (times[0] - start) * Fraction(n, self._factor) for n in range(self._factor)]
        return found

    def rest(self, last: Fraction) -> Iterator[Fraction]:
        """Those from the last picture on, which comes at `last`."""
        instant, step = self._times[0], self._step
        if step is None:
            yield instant
            return
        # Until the source's end, to the nearest frame of the result.
        latest = last if self._end is None else max(last, self._end - step / 2)
        while instant <= latest:
            yield instant
            instant += step

    def tolerance(self, wanted: Sequence[Fraction], end: Fraction) -> Fraction:
        """How far a picture may be from its instant."""
        if self._step is not None:
            return self._step / 4
        return min(after - before for before, after in pairwise([*wanted, end])) / 4


def _coarsest(
    grids: Sequence[int], wanted: Sequence[Fraction], start: Fraction, end: Fraction, tolerance: Fraction
) -> int:
    """The fewest equal steps from `start` to `end` that have one near each instant: the fewest passes."""
    for grid in grids:
        step = (end - start) / grid
        if all(abs(start + step * _place(each, start, end, grid) - each) <= tolerance for each in wanted):
            return grid
    return grids[-1]


def _place(instant: Fraction, start: Fraction, end: Fraction, grid: int) -> int:
    """The nearest of `grid` steps from start to end, the earlier of two."""
    return math.ceil((instant - start) / (end - start) * grid - Fraction(1, 2))


def _shown(frame: Frame, instant: Fraction, *, again: bool) -> Frame:
    if again:
        return frame.repeated(instant)
    return frame if frame.time == instant else frame.shown_at(instant)
