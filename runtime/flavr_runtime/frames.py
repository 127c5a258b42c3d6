"""What flows through the pipeline: reader -> windows -> session -> writer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Rgb = NDArray[np.uint8]
"""One picture: uint8 [H, W, 3], RGB, full range (0 black, 255 white)."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a stream, with the instant at which it is shown.

    `rgb` is what the network sees. `source` is the untouched original where there is one: the decoded
    video frame in its own pixel format, or the image file. A sink writes that instead of `rgb`, so that
    source frames never pass through RGB. It is None for a synthesised frame.
    """

    rgb: Rgb
    time: Fraction  # seconds from the start of the input's timeline
    source: av.VideoFrame | Path | None = None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of an input before its first frame is decoded."""

    path: Path
    width: int
    height: int
    rate: Fraction  # nominal frames per second
    constant_rate: bool  # every frame lies on the grid of `rate`, to within the container's clock tick
    frame_count: int  # from the container's index; a damaged file may decode to fewer
    description: str  # for people: "h264 yuv420p bt709 limited", "24 png images"


class FrameSource(Protocol):
    """A reader: open it with `with`, ask for `info`, iterate `frames()` once."""

    @property
    def info(self) -> StreamInfo: ...

    def frames(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FrameSink(Protocol):
    """A writer: the output appears under its final name when the `with` block ends without an error."""

    @property
    def notices(self) -> list[str]:
        """What the user should know about the output, one sentence each (a pixel format changed, ...)."""
        ...

    def write(self, frame: Frame) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
