"""The container of a result: its streams, its header, and the encoded video and the sound that go into it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Protocol

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from flavr_runtime._destination import Destination
from flavr_runtime.encoders import Container
from flavr_runtime.errors import OutputError
from flavr_runtime.passthrough import Carried, StreamCopy, carried_tags
from flavr_runtime.traits import SourceTraits

__all__ = ["EncodedVideo", "OpenOutput", "OutputFile", "StreamedVideo"]


class EncodedVideo(Protocol):
    """Takes pictures in order and makes a file of them; raises what FFmpeg and the system raise."""

    @property
    def kept(self) -> int:
        """Frames that are safe on the disk."""
        ...

    def open(self) -> None:
        """Try the encoder and the container, before the first slow step."""
        ...

    def encode(self, picture: av.VideoFrame) -> None: ...

    def finish(self, end: int | None) -> None:
        """Publish the result. `end` is when the last frame has been shown, None if like any other."""
        ...

    def discard(self) -> None:
        """Let go of everything that another run cannot use."""
        ...


class OutputFile:
    """What the container of a result holds: the video, the sound, the chapters, the metadata."""

    def __init__(
        self,
        layout: Container,
        traits: SourceTraits,
        add_video: Callable[[OutputContainer], VideoStream],
        carried: Carried,
    ) -> None:
        """`add_video` adds the stream with its encoder."""
        self.layout = layout
        self.add_video = add_video
        self._traits = traits
        self._carried = carried
        self.damage: list[str] = []  # of the sound, as far as it has been copied

    @contextlib.contextmanager
    def opened(self, target: str | BinaryIO) -> Iterator[OpenOutput]:
        """With the header written; complete when the `with` block has ended."""
        with contextlib.ExitStack() as stack:
            container = av.open(
                f"file:{target}" if isinstance(target, str) else target,
                "w",
                format=self.layout.format,
                container_options=self.layout.options_for(self._traits.metadata),
            )
            stack.callback(container.close)
            container.metadata.update(carried_tags(self._traits.metadata))
            self._carry_chapters(container)
            stream = self.add_video(container)
            others = None
            if self._carried.audio or self._carried.subtitles or self._carried.attachments:
                others = StreamCopy(self._carried, container, self.damage)
                stack.callback(others.close)
            container.start_encoding()
            if unused := stream.codec_context.options:
                raise OutputError(
                    f"{stream.codec_context.codec.name} has no option {', '.join(sorted(unused))}; "
                    f"ffmpeg -h encoder={stream.codec_context.codec.name} lists those that it has"
                )
            yield OpenOutput(container, stream, others)

    def _carry_chapters(self, container: OutputContainer) -> None:
        carried = []
        for chapter in self._traits.chapters:
            tick = chapter["time_base"] or Fraction(1, 1000)
            start, end = (
                round((at * tick - self._traits.origin) * self._carried.stretch / tick)
                for at in (chapter["start"], chapter["end"])
            )
            if end > 0:  # pictures may begin a little after the first chapter does, and none lie before 0
                carried.append(chapter | {"start": max(0, start), "end": end, "time_base": tick})
        if carried:
            container.set_chapters(carried)


@dataclass(frozen=True, slots=True)
class OpenOutput:
    """A container that is being filled."""

    container: OutputContainer
    stream: VideoStream
    others: StreamCopy | None

    def mux(self, packets: Iterable[Packet[VideoStream]]) -> None:
        """Write these, each after the sound and the subtitles that come before it."""
        for packet in packets:
            if self.others is not None and packet.dts is not None:
                self.others.mux_until(packet.dts * packet.time_base)
            self.container.mux(packet)

    def mux_rest_of_others(self) -> None:
        if self.others is not None:
            self.others.mux_until(None)


class StreamedVideo:
    """Encodes onto a stream, each frame as soon as it comes out of the encoder."""

    def __init__(self, output: OutputFile, destination: Destination) -> None:
        self._output = output
        self._destination = destination
        self._stack = contextlib.ExitStack()
        self._opened: OpenOutput | None = None
        self._last_pts = 0

    @property
    def kept(self) -> int:
        return 0

    def open(self) -> None:
        self._opened = self._stack.enter_context(self._output.opened(self._destination.target()))

    def encode(self, picture: av.VideoFrame) -> None:
        if self._opened is not None:
            self._last_pts = picture.pts or 0
            self._opened.mux(self._opened.stream.encode(picture))

    def finish(self, end: int | None) -> None:
        if self._opened is not None:
            packets = self._opened.stream.encode(None)
            for packet in packets:
                if end is not None and (packet.pts == self._last_pts or packet is packets[-1]):
                    packet.duration = max(packet.duration or 1, end - self._last_pts)
            self._opened.mux(packets)
            self._opened.mux_rest_of_others()
        self._stack.close()
        self._destination.publish()

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            self._stack.close()
        self._destination.discard()
