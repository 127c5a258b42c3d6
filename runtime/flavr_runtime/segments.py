"""Encoded video kept on disk in segments, each whole or not there, and read back packet by packet.

Every segment comes from an encoder of its own: it begins with a key frame and refers to nothing outside. So
the result of an interrupted run and that of one in a single go consist of the same packets.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from av.packet import Packet
from av.video.stream import VideoStream

from flavr_runtime.workfolder import sync_folder

__all__ = ["SEGMENT_FRAMES", "KeptPacket", "Segment", "SegmentFile", "decoding_times"]

SEGMENT_FRAMES = 250
"""Frames of the result per segment: what is encoded after the last whole one is lost in a crash.

A fresh encoder costs a key frame and the end of its look-ahead. x264 (crf 17, medium) on three real clips,
against one encoder for all 599 frames: 250 frames cost -4 to +1 % in size and 0.2 dB of 45 to 47, 120 cost
-3 to +5 % and 0.3 dB, 60 up to 8 % and 0.5 dB, 24 up to 21 % and 1.2 dB (benchmarks/segment_length.py). 250
is also the longest that x264 goes without a key frame anyway.
"""

_END = struct.Struct("<8sQI")  # the last bytes of a whole file: mark, length of the table, checksum of it all
_MARK = b"flavrseg"


@dataclass(frozen=True, slots=True)
class KeptPacket:
    """One encoded frame: its times in ticks of the encoder, and how many bytes it has."""

    pts: int
    dts: int | None
    duration: int
    is_keyframe: bool
    size: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A whole segment on disk."""

    path: Path
    extradata: bytes  # what the container's header needs to know of the encoder
    packets: tuple[KeptPacket, ...]

    @classmethod
    def read(cls, path: Path) -> Segment | None:
        """The segment at `path`; None if there is none, or one that a failing disk has damaged."""
        try:
            with path.open("rb") as file:
                file.seek(-_END.size, os.SEEK_END)
                end = file.tell()
                mark, length, expected = _END.unpack(file.read())
                if mark != _MARK or length > end:
                    return None
                file.seek(0)
                if _checksum(file.read(min(1 << 20, end - at)) for at in range(0, end, 1 << 20)) != expected:
                    return None
                file.seek(end - length)
                table = json.loads(file.read(length))
        except (OSError, ValueError, struct.error):
            return None
        packets = tuple(KeptPacket(*fields) for fields in table["packets"])
        return cls(path, bytes.fromhex(table["extradata"]), packets)

    def contents(self) -> Iterator[tuple[KeptPacket, bytes]]:
        """Every packet in decoding order."""
        with self.path.open("rb") as file:
            for packet in self.packets:
                yield packet, file.read(packet.size)


class SegmentFile:
    """A segment being written; it has its name once `complete` has brought it to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_suffix(".partial")
        self._file = self._partial.open("wb")
        self._checksum = 0
        self._packets: list[KeptPacket] = []

    def add(self, packets: Iterable[Packet[VideoStream]]) -> None:
        for packet in packets:
            data = bytes(packet)
            if packet.pts is None:
                raise ValueError("a packet without a time came from the encoder")
            kept = KeptPacket(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, len(data))
            self._packets.append(kept)
            self._write(data)

    def complete(self, extradata: bytes) -> Segment:
        """Make it a whole segment that survives a power cut."""
        fields = [(p.pts, p.dts, p.duration, p.is_keyframe, p.size) for p in self._packets]
        table = json.dumps({"extradata": extradata.hex(), "packets": fields}).encode()
        self._write(table)
        self._file.write(_END.pack(_MARK, len(table), self._checksum))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        sync_folder(self._path.parent)
        return Segment(self._path, extradata, tuple(self._packets))

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # closing writes what is left, and the disk may be full
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        self._checksum = zlib.crc32(data, self._checksum)
        self._file.write(data)


def decoding_times(segments: Iterable[Segment]) -> Iterator[int]:
    """When each packet of the joined segments is decoded, in order: as one encoder would have counted.

    The encoders' own times may run backwards from one segment to the next where the rate varies, since each
    encoder takes its delay from its own first frames.
    """
    segments = list(segments)
    shown = sorted(packet.pts for segment in segments for packet in segment.packets)
    delay = max((_delay(segment) for segment in segments), default=0)
    last = len(shown) - 1
    for position in range(len(shown)):
        if position >= delay:
            yield shown[position - delay]
        else:  # before the first frame, as far as that is before the frame the encoder has waited for
            ahead = delay - position
            yield shown[0] - (shown[min(ahead, last)] - shown[0]) - max(0, ahead - last)


def _delay(segment: Segment) -> int:
    """By how many frames decoding has to run ahead: the encoder's word, or more if its packets need it."""
    first = min(packet.pts for packet in segment.packets)
    said = sum(1 for packet in segment.packets if packet.dts is not None and packet.dts < first)
    rank = {pts: place for place, pts in enumerate(sorted(packet.pts for packet in segment.packets))}
    return max(said, *(place - rank[packet.pts] for place, packet in enumerate(segment.packets)))


def _checksum(blocks: Iterable[bytes]) -> int:
    total = 0
    for block in blocks:
        total = zlib.crc32(block, total)
    return total
