"""Input that is broken in places: what can be read is read, and what cannot is known exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import av.logging
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from flavr_runtime.frames import Frame
from flavr_runtime.timing import Timeline

__all__ = ["LONGEST_BRIDGE", "Gap", "GapBridge", "readable_packets", "scanned_packets"]

LONGEST_BRIDGE = 2
"""Lost frames across which motion may still be interpolated: no longer than a drawing on threes is shown.
Across more, the two pictures have too little to do with each other, and the gap is treated as a cut."""

_MOST_ERRORS = 100  # in a row: then nothing more is to be had of the file


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a source is damaged. Times are seconds on Frame.time's line."""

    start: Fraction  # when the first lost frame would have been shown
    end: Fraction  # when the next readable one is, or the source ends
    frames: int  # how many are lost; 0 where the decoder complained and yet gave every frame
    clean_from: Fraction | None = None  # the next key frame: until there, traces of the damage may be seen
    cut_off: bool = False  # the file ends there, though its header promises more

    def __str__(self) -> str:
        place = f"{float(self.start):.2f} s"
        if self.cut_off:
            return f"cut off at {place}: about {self.frames} frames are missing, to {float(self.end):.2f} s"
        if self.frames == 0:
            text = f"damaged near {place}, though no frame is lost"
        elif self.frames == 1:
            text = f"1 frame at {place} is lost: the one before it is held"
        else:
            text = f"{self.frames} frames from {place} to {float(self.end):.2f} s are lost"
            text += ": the one before them is held"
        if self.frames > LONGEST_BRIDGE:
            text += ", and nothing is interpolated across"
        if self.clean_from is not None:
            text += f"; traces may be seen until {float(self.clean_from):.2f} s"
        return text


class GapBridge:
    """Puts stand-ins in the place of lost frames, so that everything after them stays in time.

    A stream of constant rate gets the frame before the gap again for every lost one; at a variable rate that
    frame is shown for longer anyway.
    """

    def __init__(
        self,
        timeline: Timeline,
        origin: Fraction,
        gaps: list[Gap],
        *,
        keys: Sequence[Fraction] = (),
        damaged: bool = False,
    ) -> None:
        """Begin before the first frame.

        Args:
            gaps: is filled as they are found.
            keys: when key frames are shown, as far as known. What refers to a lost one is lost as well.
            damaged: whether that there are gaps is known already.
        """
        self._timeline = timeline
        self._start, self._end = timeline.start - origin, timeline.end - origin
        self._gaps = gaps
        self._complaint: Fraction | None = None  # where something was unreadable, no frame being missed yet
        self._damaged = damaged
        self._keys = keys
        self._unclean = False  # since the last gap no key frame has come
        self._last: Frame | None = None

    def complain(self, time: Fraction) -> None:
        """Something near `time` could not be read. Whether a frame is lost by it, the next ones show."""
        self._damaged = True
        if self._complaint is None:
            self._complaint = time

    @property
    def damaged(self) -> bool:
        return self._damaged

    def follow(self, frame: Frame, *, is_key: bool) -> Iterator[Frame]:
        """`frame`, and before it what stands in for those lost before it."""
        if is_key and self._unclean:
            self._gaps[-1] = replace(self._gaps[-1], clean_from=frame.time)
            self._unclean = False
        lost = self._lost_before(frame.time)
        if lost > 0:
            if not is_key and self._key_is_lost_before(frame.time):
                return
            self._report(frame.time, lost)
            self._unclean = not is_key
            frame.starts_scene = self._last is not None and lost > LONGEST_BRIDGE
            yield from self._stand_ins(lost)
        self._last = frame
        yield frame

    def finish(self) -> Iterator[Frame]:
        """What stands in for frames lost at the end."""
        lost = self._lost_before(self._end) if self._timeline.constant else 0
        if lost > 0:
            self._report(self._end, lost)
            yield from self._stand_ins(lost)
        elif self._complaint is not None:
            self._gaps.append(Gap(self._complaint, self._complaint, 0))

    def _lost_before(self, time: Fraction) -> int:
        # At a constant rate a hole is a hole once there is damage; at a variable one it may be a pause,
        # unless something was unreadable since the last one.
        suspicious = self._damaged if self._timeline.constant else self._complaint is not None
        if not suspicious:
            return 0
        step = 1 / self._timeline.rate
        before = self._start - step if self._last is None else self._last.time
        return round((time - before) / step) - 1

    def _key_is_lost_before(self, time: Fraction) -> bool:
        half = 1 / self._timeline.rate / 2
        since = self._start - half if self._last is None else self._last.time + half
        return bisect_left(self._keys, since) < bisect_left(self._keys, time - half)

    def _report(self, end: Fraction, lost: int) -> None:
        before = self._start if self._last is None else self._last.time + 1 / self._timeline.rate
        self._gaps.append(Gap(before, end, lost))
        self._complaint = None

    def _stand_ins(self, lost: int) -> Iterator[Frame]:
        if self._last is not None and self._timeline.constant:
            for number in range(1, lost + 1):
                yield self._last.repeated(self._last.time + number / self._timeline.rate)


def readable_packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream] | None]:
    """Every packet that can be read, and None where something could not."""
    packets, errors = container.demux(*streams), 0
    while errors < _MOST_ERRORS:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            yield None
            packets, errors = container.demux(*streams), errors + 1  # goes on behind what it choked on
            continue
        if packet is None:
            return
        errors = 0
        yield packet


def scanned_packets(container: InputContainer) -> Iterator[Packet[Stream] | None]:
    """The same for all streams, to be read without decoding: None also where FFmpeg logs an error.

    Where a piece of a Matroska file is broken, its reader goes on behind it, and only the log tells.
    """
    level, skipping = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the same file may have been read before
    try:
        with av.logging.Capture() as logs:
            for packet in readable_packets(container):
                if logs:
                    logs.clear()
                    yield None
                yield packet
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skipping)
