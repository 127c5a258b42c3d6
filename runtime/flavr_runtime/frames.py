"""What flows through the pipeline: reader -> windows -> session -> writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Rgb = NDArray[np.uint8] | NDArray[np.uint16]
"""One picture: [H, W, 3], RGB, full range: uint8 (0 black, 255 white), or uint16 (65535 white) where the
source has more than 8 bits."""


Origin = Literal["source", "synthesised", "repeated"]


class Frame:
    """One picture of a stream, with the instant at which it is shown.

    The picture may be given as a function, which is called when it is first asked for: a frame that nobody
    looks at costs nothing.
    """

    __slots__ = (
        "_identity",
        "_picture",
        "between",
        "cut",
        "origin",
        "prepared",
        "source",
        "starts_scene",
        "time",
    )

    def __init__(
        self,
        picture: Rgb | Callable[[], Rgb],
        time: Fraction,
        source: av.VideoFrame | Path | None = None,
        *,
        origin: Origin = "source",
        between: tuple[Frame, Frame] | None = None,
        same_as: Frame | None = None,
        starts_scene: bool = False,
    ) -> None:
        """Take a picture, `rgb`, or a function that makes it.

        Args:
            time: seconds from the start of the input's timeline.
            source: the untouched original where there is one: the decoded video frame in its own pixel
                format, or the image file that holds it. A sink writes it instead of `rgb`.
            origin: whether the picture is the input's, made by the network, or one of those once more.
            between: for a synthesised frame, the source frames at either side.
            same_as: a frame with an equal picture.
            starts_scene: whether there is a cut right before it.
        """
        self._picture = picture
        self._identity: object = object() if same_as is None else same_as._identity
        self.time = time
        self.source = source
        self.origin: Origin = origin
        self.between = between
        self.starts_scene = starts_scene
        self.cut: tuple[Frame, Frame] | None = None
        """For a frame made between the two around a cut, those two."""
        self.prepared: object | None = None
        """What a session made of the picture, once for all the windows that it is in."""

    @property
    def rgb(self) -> Rgb:
        """What the network sees: [H, W, 3]."""
        if callable(self._picture):
            self._picture = self._picture()
        return self._picture

    def make(self) -> None:
        """Make the picture now, in this thread, where it is still to be made."""
        _ = self.rgb

    def same_picture(self, other: Frame) -> bool:
        """Whether the pictures are known to be equal, without looking at them."""
        return self._identity is other._identity

    def repeated(self, time: Fraction) -> Frame:
        """The same picture once more, at another instant; no scene starts with it."""
        again = self.shown_at(time, "repeated")
        again.starts_scene = False
        return again

    def shown_at(self, time: Fraction, origin: Origin | None = None) -> Frame:
        """The same frame at another instant; its picture is still made at most once."""
        shown = Frame(
            lambda: self.rgb,
            time,
            self.source,
            origin=origin or self.origin,
            between=self.between,
            same_as=self,
            starts_scene=self.starts_scene,
        )
        shown.cut = self.cut
        return shown


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of an input before its first frame is decoded."""

    path: Path
    width: int
    height: int
    rate: Fraction  # nominal frames per second: where not constant, those of the usual interval
    constant_rate: bool  # every frame lies on the grid of `rate`, to within the container's clock tick
    frame_count: int | None  # from the container's index, so it may decode to fewer; None: not known (a pipe)
    description: str  # for people: "h264 yuv420p bt709 limited", "24 png images"
    bits: int = 8  # per colour sample
    intervals: tuple[tuple[Fraction, int], ...] = ()  # where not constant: seconds between frames, how often
    shown: tuple[Fraction, Fraction] | None = None
    """Where not constant: from when the first frame and until when the last one is shown, as Frame.time."""

    @property
    def span(self) -> Fraction | None:
        """Seconds from the first frame to the last; None for a pipe."""
        if self.intervals:
            return sum((length * often for length, often in self.intervals), Fraction(0))
        return None if self.frame_count is None else (self.frame_count - 1) / self.rate


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

    @property
    def damage(self) -> list[str]:
        """What of the input could not be carried over because it is broken, one sentence each."""
        ...

    @property
    def kept(self) -> int:
        """Frames of the result that are safe on the disk, and would be after a crash.

        When the `with` block is entered, these are what an interrupted run has left: `write` passes over as
        many without looking at their pictures.
        """
        ...

    def write(self, frame: Frame) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
