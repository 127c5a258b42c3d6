"""What a run would make and cost, known from two windows of the network and nothing written."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flavr_runtime.errors import InputError
from flavr_runtime.timing_plan import Timing
from flavr_runtime.windows import plan_stages

if TYPE_CHECKING:
    from flavr_runtime._job import Job
    from flavr_runtime.interpolator import Interpolator

__all__ = ["Estimate", "estimated", "window_count"]

_TIMED = 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """`windows`, `seconds` and `frames` are None where the number of frames is not known before the end."""

    frames: int | None  # of the result
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
    frames = job.timing.frame_count(info)
    windows = None
    if info.frame_count is not None and frames is not None:
        windows = window_count(job.timing, interpolator.model.factor, info.frame_count, frames)
    return Estimate(frames, windows, min(taken))  # the first one may have warmed something up


def window_count(timing: Timing, native: int, source_frames: int, frames: int) -> int:
    """How often the network runs at most, for a source and a result of so many frames."""
    intervals, every, passes = source_frames - 1, 0, plan_stages(timing.factor, native)
    for stage in passes:
        every += intervals
        intervals *= stage
    # Only what is shown is made, each picture by way of at most one window a pass.
    return min(every, frames * len(passes)) if timing.resampled else every
