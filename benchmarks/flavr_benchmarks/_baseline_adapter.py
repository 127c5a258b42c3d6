"""The baselines as backends, so that they are timed and scored like the networks."""

from __future__ import annotations

from collections.abc import Sequence

from flavr_benchmarks.baselines import BASELINES
from flavr_benchmarks.workload import Description, Phases, Pictures, Stopwatch, Task, unrounded
from flavr_runtime.frames import Rgb


class BaselineWorkload:
    """A row of `baselines.BASELINES`."""

    def __init__(self, task: Task) -> None:
        self._row = BASELINES[task.options["method"]]
        self._factor = task.factor
        self._method = self._row.open(task.threads)

    def describe(self) -> Description:
        return Description(device="CPU", quantised=True, split=False, notes=list(self._row.notes))

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        watch = Stopwatch()
        pictures = self._method(frames, self._factor)
        return pictures, Phases(0.0, watch.lap(), 0.0)

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        return unrounded(self._method(frames, self._factor))

    def device_memory(self) -> int | None:
        return None
