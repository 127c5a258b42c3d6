"""Source and result in one picture, to be looked at: side by side, or as the two halves of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Literal, Self

import numpy as np

from flavr_runtime.colour import at_depth
from flavr_runtime.damage import Gap
from flavr_runtime.frames import Frame, FrameSink, Rgb, StreamInfo
from flavr_runtime.traits import MediaSource, SourceTraits

__all__ = ["CompareMode", "ComparedSource", "Comparison"]

CompareMode = Literal["side", "wipe"]

DIVIDER = 2  # pixels of white between the two


class ComparedSource:
    """A source for a sink to be opened with: what it says of itself, at the size of the comparison."""

    def __init__(self, source: MediaSource, mode: CompareMode) -> None:
        self._source = source
        width = source.info.width
        self._info = replace(source.info, width=2 * width + DIVIDER if mode == "side" else width)
        # At another size players would settle an untagged matrix in another way.
        colour = source.traits.colour
        self._traits = replace(source.traits, colour=colour.tagged() if mode == "side" else colour)

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def traits(self) -> SourceTraits:
        return self._traits

    @property
    def notices(self) -> list[str]:
        return self._source.notices

    @property
    def gaps(self) -> list[Gap]:
        return self._source.gaps

    def frames(self) -> Iterator[Frame]:
        return self._source.frames()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None  # whoever opened the source closes it


class Comparison:
    """A sink that puts each frame of the result beside the source frame a viewer of the source sees then."""

    def __init__(self, sink: FrameSink, mode: CompareMode) -> None:
        self._sink = sink
        self._compose: Callable[[Rgb, Rgb], Rgb] = side_by_side if mode == "side" else wiped

    @property
    def sink(self) -> FrameSink:
        """What it writes to."""
        return self._sink

    @property
    def notices(self) -> list[str]:
        return self._sink.notices

    @property
    def damage(self) -> list[str]:
        return self._sink.damage

    @property
    def kept(self) -> int:
        return self._sink.kept

    def write(self, frame: Frame) -> None:
        held = _held(frame)
        self._sink.write(Frame(lambda: self._compose(held.rgb, frame.rgb), frame.time, origin=frame.origin))

    def __enter__(self) -> Self:
        self._sink.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.__exit__(kind, error, trace)


def side_by_side(source: Rgb, result: Rgb) -> Rgb:
    """The source at the left, the result at the right."""
    source, result = _of_one_depth(source, result)
    divider = np.full_like(source, np.iinfo(source.dtype).max, shape=(len(source), DIVIDER, 3))
    return np.concatenate([source, divider, result], axis=1)


def wiped(source: Rgb, result: Rgb) -> Rgb:
    """The left half of the source, the right half of the result."""
    source, result = _of_one_depth(source, result)
    middle = source.shape[1] // 2
    picture = result.copy()
    picture[:, :middle] = source[:, :middle]
    picture[:, max(0, middle - DIVIDER // 2) : middle + DIVIDER // 2] = np.iinfo(source.dtype).max
    return picture


def _of_one_depth(source: Rgb, result: Rgb) -> tuple[Rgb, Rgb]:
    """That of the deeper: new pictures of a model with uint8 ends have 8 bits between deep ones."""
    bits = 8 * max(source.dtype.itemsize, result.dtype.itemsize)
    return at_depth(source, bits), at_depth(result, bits)


def _held(frame: Frame) -> Frame:
    """The last source frame that was shown when this one is."""
    around = frame.between or frame.cut
    return frame if around is None else around[0]
