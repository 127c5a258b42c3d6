"""A video file that comes into being segment by segment, so that what is done survives whatever happens."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from flavr_runtime.errors import OutputError
from flavr_runtime.muxing import OpenOutput, OutputFile
from flavr_runtime.segments import SEGMENT_FRAMES, Segment, SegmentFile, decoding_times
from flavr_runtime.workfolder import WorkFolder, sync_folder

__all__ = ["SegmentedVideo"]


class SegmentedVideo:
    """Encodes frames in order, `SEGMENT_FRAMES` per encoder; `finish` joins what they have made.

    Segments that an interrupted run has left in the work folder count as `kept`; what is encoded continues
    right after them.
    """

    def __init__(self, output: OutputFile, path: Path, work: WorkFolder) -> None:
        self._output = output
        self._path = path
        self._work = work
        self._joined = work.path / "joined.partial"
        self._whole: list[Segment] = []
        self._current: _Encoding | None = None

    @property
    def kept(self) -> int:
        return sum(len(segment.packets) for segment in self._whole)

    def open(self) -> None:
        """Take the work folder, and try the encoder and the container."""
        self._work.open()
        while (segment := Segment.read(self._next_path())) is not None:
            self._whole.append(segment)
        accepted = False
        try:
            with self._output.opened(str(self._joined)) as output:
                accepted = True
                self._check(output)
        except av.FFmpegError:
            if not accepted:  # else it is the end that was refused: GIF cannot be empty
                raise
        self._joined.unlink()

    def encode(self, picture: av.VideoFrame) -> None:
        current = self._current = self._current or self._begin()
        current.file.add(current.stream.encode(picture))
        current.frames += 1
        if current.frames == SEGMENT_FRAMES:
            self._complete(current)

    def finish(self, end: int | None) -> None:
        if self._current is not None:
            self._complete(self._current)
        with self._output.opened(str(self._joined)) as output:
            output.mux(self._packets(output, end))
            output.mux_rest_of_others()
        with self._joined.open("rb") as file:
            os.fsync(file.fileno())
        self._joined.replace(self._path)
        sync_folder(self._path.parent)
        self._work.close(remove=True)

    def discard(self) -> None:
        """Let go of everything but whole segments."""
        if self._current is not None:
            self._current.file.discard()
            self._current.close()
            self._current = None
        if self._work.held:  # else another run is writing it
            self._joined.unlink(missing_ok=True)
        self._work.close(remove=not self._whole)

    def _check(self, output: OpenOutput) -> None:
        """Refuse segments that the header would be wrong for, now rather than after the last frame.

        The same settings are not all: an encoder of another version may write another header.
        """
        header = output.stream.codec_context.extradata or b""
        if any(segment.extradata != header for segment in self._whole):
            name = output.stream.codec_context.codec.name
            raise OutputError(
                f"{self._path}: cannot be resumed: {name} encodes otherwise here than where it was begun; "
                "start over without --resume, or go on there"
            )

    def _next_path(self) -> Path:
        return self._work.path / f"{len(self._whole):06d}.segment"

    def _begin(self) -> _Encoding:
        # A container in memory, into which no packet goes, sets the encoder up as the final one does.
        container = av.open(io.BytesIO(), "w", format=self._output.layout.format)
        stream = self._output.add_video(container)
        container.start_encoding()
        return _Encoding(container, stream, SegmentFile(self._next_path()))

    def _complete(self, current: _Encoding) -> None:
        current.file.add(current.stream.encode(None))
        self._whole.append(current.file.complete(current.stream.codec_context.extradata or b""))
        current.close()
        self._current = None

    def _packets(self, output: OpenOutput, end: int | None) -> Iterator[Packet[VideoStream]]:
        """Those of all segments, as if one encoder had made them."""
        time_base: Fraction = output.stream.codec_context.time_base
        last = max(packet.pts for segment in self._whole for packet in segment.packets)
        times = decoding_times(self._whole)
        self._check(output)
        for segment in self._whole:
            final = segment.packets[-1] if segment is self._whole[-1] else None
            for kept, data in segment.contents():
                packet: Packet[VideoStream] = Packet(data)  # type: ignore[assignment]
                packet.stream, packet.time_base = output.stream, time_base
                packet.pts, packet.dts = kept.pts, next(times)
                packet.duration, packet.is_keyframe = kept.duration, kept.is_keyframe
                # MP4 takes its length from the last packet in decoding order, Matroska from the last shown.
                if end is not None and (kept.pts == last or kept is final):
                    packet.duration = max(kept.duration or 1, end - last)
                yield packet


@dataclass(slots=True)
class _Encoding:
    """The segment that is being encoded."""

    container: OutputContainer
    stream: VideoStream
    file: SegmentFile
    frames: int = 0

    def close(self) -> None:
        with contextlib.suppress(av.FFmpegError):  # some containers refuse to end without a packet
            self.container.close()
