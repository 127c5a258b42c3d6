"""The whole path, wired: reader -> windows -> session -> writer.

Three stages overlap: "read" decodes, converts to RGB and finds cuts; "network" makes the new pictures; the
calling thread, "write", converts back and encodes, and is the one that an interrupt finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Literal

from flavr_runtime.frames import Frame, FrameSink, FrameSource
from flavr_runtime.interpolator import CutMode, Interpolator
from flavr_runtime.profile import spent, spent_on_each
from flavr_runtime.scenes import CutMarker
from flavr_runtime.smoothing import evened, smoothed
from flavr_runtime.stages import Stages
from flavr_runtime.timing_plan import Timing

AHEAD = 2
"""Frames that a stage may be ahead of the next: enough to ride out a slow one, little enough at 4K."""

Duplicates = Literal["keep", "smooth"]


@dataclass(slots=True)
class Progress:
    """Counts of a run so far; the last one handed out is its result."""

    total: int | None  # frames to write, as far as the container's index tells
    written: int = 0  # frames of the result, of which ...
    passed: int = 0  # ... the source's own
    synthesised: int = 0  # ... made by the network
    repeated: int = 0  # ... one of these shown once more, where nothing moves or a scene ends
    read: int = 0  # frames of the source
    cut_times: list[Fraction] = field(default_factory=list)  # found so far: where scenes begin
    held: int = 0  # repeats in the source in whose place the picture now moves
    kept: int = 0  # frames that an interrupted run had written already
    seconds: float = 0.0  # since the first frame was asked for

    @property
    def cuts(self) -> int:
        """Found so far."""
        return len(self.cut_times)

    @property
    def speed(self) -> float:
        """New frames of the result per second."""
        return max(0, self.written - self.kept) / self.seconds if self.seconds else 0.0

    def count(self, frame: Frame) -> None:
        self.written += 1
        self.passed += frame.origin == "source"
        self.synthesised += frame.origin == "synthesised"
        self.repeated += frame.origin == "repeated"

    def count_held(self, repeats: int) -> None:
        self.held += repeats

    def counting_cuts(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            if frame.starts_scene:
                self.cut_times.append(frame.time)
            yield frame

    def counting_source(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self.read += 1
            yield frame


def interpolate(
    source: FrameSource,
    sink: FrameSink,
    interpolator: Interpolator,
    timing: Timing,
    *,
    mark_cuts: CutMarker | None = None,
    cut_mode: CutMode = "repeat",
    duplicates: Duplicates = "keep",
    on_progress: Callable[[Progress], None] | None = None,
    ahead: int = AHEAD,
) -> Progress:
    """Run a source through a model into a sink, a few frames at a time.

    Both must be open; the caller's `with` block completes or discards the output.

    Args:
        mark_cuts: finds the cuts, across which nothing is interpolated; None takes the source for one scene.
        cut_mode: what is shown between the two frames around a cut, see `Interpolator.expand`.
        duplicates: whether a picture that the source holds for some frames is held in the result (keep), or
            motion goes on across them (smooth), see `smoothed`.
        on_progress: called after every frame written, with the same, updated object.
        ahead: how many frames a stage may be ahead of the next. 0 does one thing after the other in the
            calling thread; the result is the same.

    Raises:
        FlavrRuntimeError: from whichever stage failed.
    """
    progress = Progress(total=timing.frame_count(source.info), kept=sink.kept)
    started = time.monotonic()
    with Stages(interpolator.cancel) as stages:
        frames = progress.counting_source(spent_on_each(source.frames(), "decode"))
        if mark_cuts is not None:
            frames = progress.counting_cuts(spent_on_each(mark_cuts(frames), "find cuts"))
        frames = stages.ahead(frames, "read", limit=ahead)
        expand = partial(interpolator.expand, cut_mode=cut_mode)
        if duplicates == "smooth":
            smooth = smoothed(frames, timing, interpolator.model.factor, expand, progress.count_held)
            frames = timing.stretched(smooth)
        elif timing.resampled and not source.info.constant_rate:
            frames = timing.stretched(evened(frames, timing, interpolator.model.factor, expand))
        else:
            frames = timing.apply(expand(frames, timing.factor))
        frames = stages.ahead(_made(frames, sink.kept), "network", limit=ahead)
        for frame in frames:
            with spent("encode"):
                sink.write(frame)
            progress.count(frame)
            progress.seconds = time.monotonic() - started
            if on_progress is not None:
                on_progress(progress)
    return progress


def _made(frames: Iterable[Frame], kept: int) -> Iterator[Frame]:
    """The frames with their pictures: those of the network are made here, and not where they are written.

    Nobody looks at the first `kept` ones, which an interrupted run has written.
    """
    for number, frame in enumerate(frames):
        if number >= kept:
            frame.make()
        yield frame
