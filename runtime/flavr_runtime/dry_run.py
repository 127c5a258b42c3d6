"""What a run would make and cost, known from two windows of the network and nothing written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from flavr_runtime.errors import InputError
from flavr_runtime.smoothing import interval_grids
from flavr_runtime.timing_plan import STEPS_PER_FRAME, Timing
from flavr_runtime.windows import plan_stages

if TYPE_CHECKING:
    from flavr_runtime._job import Job
    from flavr_runtime.interpolator import Interpolator

__all__ = ["Estimate", "estimated", "uneven_window_count", "window_count"]

_TIMED = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """All but `window_seconds` are None where the number of frames is not known before the end."""

    frames: int | None  # of the result
    duration: Fraction | None  # of the result, in seconds
    windows: int | None  # at most: repeated frames and cuts need none
    window_seconds: float

    @property
    def seconds(self) -> float | None:
        return None if self.windows is None else self.windows * self.window_seconds


def estimated(job: Job, interpolator: Interpolator) -> Estimate:
    """Run and time two windows of the source's first frames. Raises InputError where it has none."""
    info = job.source.info
    pictures = [frame.rgb for frame in itertools.islice(job.source.frames(), 4)]
    if not pictures:
        raise InputError(f"{info.path}: there is no frame in it")
    first, second, third, fourth = (pictures * 4)[:4] if len(pictures) < 4 else pictures
    taken = []
    for _window in range(_TIMED):
        started = time.perf_counter()
        interpolator.between(first, second, third, fourth)
        taken.append(time.perf_counter() - started)
    timing, native = job.timing, interpolator.model.factor
    frames, windows, duration = timing.frame_count(info), None, None
    if info.frame_count is not None and frames is not None:
        windows = (
            uneven_window_count(timing, native, info.intervals)
            if timing.resampled and info.intervals
            else window_count(timing, native, info.frame_count, frames)
        )
        traits = job.source.traits
        duration = (
            frames / timing.rate if timing.is_constant(info) else (traits.end - traits.start) * timing.stretch
        )
    return Estimate(frames, duration, windows, min(taken))  # the first one may have warmed something up


def window_count(timing: Timing, native: int, source_frames: int, frames: int) -> int:
    """How often the network runs at most, for a source and a result of so many frames."""
    every = (source_frames - 1) * _windows_within(timing.factor, native)
    # Only what is shown is made, each picture by way of at most one window a pass.
    passes = len(plan_stages(timing.factor, native))
    return min(every, frames * passes) if timing.resampled else every


def uneven_window_count(timing: Timing, native: int, intervals: Iterable[tuple[Fraction, int]]) -> int:
    """The same for a source of variable rate, by its intervals and how often each is there: see `evened`."""
    grids = interval_grids(timing, native)
    needed = STEPS_PER_FRAME * timing.rate * timing.stretch  # steps per second
    total = 0
    for length, often in intervals:
        grid = next((grid for grid in grids if grid >= length * needed), grids[-1])
        total += often * _windows_within(grid, native)
    return total


def _windows_within(factor: int, native: int) -> int:
    """Windows of all passes that cut one interval into `factor` steps."""
    found, parts = 0, 1
    for stage in plan_stages(factor, native):
        found += parts
        parts *= stage
    return found
