"""A clip written again, with blends between its frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from flavr_runtime.frames import Frame
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter


def smoothed(source: VideoReader, factor: int) -> Iterator[Frame]:
    """The source's frames with blends between them, as the network's are written."""
    before: Frame | None = None
    for frame in source.frames():
        for step in range(1, factor) if before is not None else ():
            assert before is not None
            share = Fraction(step, factor)
            rgb = before.rgb * float(1 - share) + frame.rgb * float(share)
            yield Frame(rgb.astype(np.uint8), before.time + (frame.time - before.time) * share)
        yield frame
        before = frame


def run(source: Path, target: Path, factor: int = 2, **settings: Any) -> VideoWriter:
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, reader.info.rate * factor, **settings) as writer,
    ):
        for frame in smoothed(reader, factor):
            writer.write(frame)
    return writer


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
