"""The whole path, wired: reader -> windows -> session -> writer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flavr_runtime.frames import FrameSink, FrameSource
from flavr_runtime.interpolator import Interpolator


@dataclass(slots=True)
class Progress:
    """Counts of a run so far; the last one handed out is its result."""

    total: int  # frames to write, as far as the container's index tells; 0 if unknown
    read: int = 0  # source frames
    written: int = 0  # frames of the result, of which ...
    synthesised: int = 0  # ... made by the network
    repeated: int = 0  # ... repeated because the frames at both sides are equal
    seconds: float = 0.0  # since the first frame was asked for


def interpolate(
    source: FrameSource,
    sink: FrameSink,
    interpolator: Interpolator,
    factor: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Run a source through a model into a sink, a few frames at a time.

    Both must be open; the caller's `with` block completes or discards the output.

    Args:
        on_progress: called after every frame written, with the same, updated object.

    Raises:
        FlavrRuntimeError: from whichever stage failed.
    """
    progress = Progress(total=(source.info.frame_count - 1) * factor + 1)
    started = time.monotonic()

    def count_new(held: bool) -> None:
        if held:
            progress.repeated += 1
        else:
            progress.synthesised += 1

    for frame in interpolator.expand(source.frames(), factor, count_new):
        sink.write(frame)
        progress.written += 1
        progress.read = progress.written - progress.synthesised - progress.repeated
        progress.seconds = time.monotonic() - started
        if on_progress is not None:
            on_progress(progress)
    return progress
