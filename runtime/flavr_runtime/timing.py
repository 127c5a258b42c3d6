"""What a stream's timestamps say: its exact rate, whether that rate is constant, where it starts and ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameClock", "Timeline", "read_timeline", "without_holes"]

_NTSC = tuple(Fraction(whole * 1000, 1001) for whole in (24, 30, 48, 60, 72, 90, 96, 120, 144, 180, 192, 240))
# The rates people make video at: tried when what the container declares does not fit its own timestamps.
_STANDARD = (*(Fraction(whole) for whole in range(1, 241)), Fraction(25, 2), *_NTSC)
# How far apart, in clock ticks, the earliest and the latest timestamp may lie against the grid: 0 is
# certainty, 1 is what rounding leaves, 2 allows a muxer that rounded already rounded times ...
_SPREADS = (0, 1, 2)
# ... which on a clock with fewer ticks per frame than this is nearly a frame: there only the measured rate,
# which is right at both ends, is allowed it.
_TICKS_TO_SPARE = 6
# How many of all intervals are longer where a coarse clock rounds; frames left out are fewer.
_OFTEN = 8


@dataclass(frozen=True, slots=True)
class Timeline:
    """Times in seconds on the container's clock."""

    rate: Fraction  # frames per second: exact where constant, that of the usual interval where not
    constant: bool
    count: int
    start: Fraction
    end: Fraction  # when the last frame has been shown
    intervals: tuple[tuple[Fraction, int], ...] = ()  # see StreamInfo

    def index_at(self, time: Fraction) -> int:
        """The place on the grid of `rate` nearest to `time`."""
        return round((time - self.start) * self.rate)


class FrameClock:
    """Gives every decoded frame a time that is later than the one before, on the grid where there is one."""

    def __init__(self, timeline: Timeline, tick: Fraction, origin: Fraction, *, presented: bool) -> None:
        """Without `presented`, stamps are decoding times: late by a delay that the first frame shows."""
        self._timeline = timeline
        self._presented = presented
        self._delay: int | None = 0 if presented else None
        self._tick = tick
        self._origin = origin
        self._index = -1
        self._time: Fraction | None = None

    def skip(self) -> None:
        """A frame could not be decoded: where frames are only counted, the next one comes a step later."""
        if not self._presented:
            self._index += 1

    def time_of(self, stamp: int | None) -> Fraction:
        line = self._timeline
        if self._delay is None and stamp is not None:
            self._delay = stamp - round(line.start / self._tick)
        pts = None if stamp is None else stamp - (self._delay or 0)
        if line.constant:
            found = self._index + 1 if pts is None or not self._presented else line.index_at(pts * self._tick)
            self._index = max(self._index + 1, found)
            return line.start - self._origin + self._index / line.rate
        if pts is not None:
            time = pts * self._tick - self._origin
        else:
            time = line.start - self._origin if self._time is None else self._time + 1 / line.rate
        if self._time is not None and time <= self._time:
            time = self._time + self._tick
        self._time = time
        return time


def read_timeline(
    ticks: NDArray[np.int64],
    tick: Fraction,
    *,
    count: int,
    declared: Iterable[Fraction | None],
    last_duration: int = 0,
) -> Timeline:
    """Judge `count` frames by the timestamps `ticks` (any order, in units of `tick` seconds) that they have.

    `declared` are the rates that the container claims, most trusted first. Without timestamps (a raw stream)
    the first claim is believed and the rate is constant. `last_duration` is that of the last frame, 0 if
    unknown.
    """
    claims = [rate for rate in declared if rate is not None and 0 < rate <= 1000]
    ticks = np.sort(ticks)
    if len(ticks) < 2:
        start = int(ticks[0]) * tick if len(ticks) else Fraction(0)
        rate = claims[0] if claims else (1 / (last_duration * tick) if last_duration > 0 else Fraction(25))
        return Timeline(rate, True, count, start, start + count / rate)

    start = int(ticks[0]) * tick
    last = int(ticks[-1]) * tick
    if len(ticks) == count and last > start:
        mean = Fraction(count - 1) / (last - start)
        rate_found = _constant_rate(ticks - ticks[0], tick, claims, mean)
        if rate_found is not None:
            return Timeline(rate_found, True, count, start, start + count / rate_found)
    gaps = np.diff(ticks)
    usual = gaps[abs(gaps - np.median(gaps)) * 4 <= np.median(gaps)]  # without the pauses and the repeats
    rate = _nominal(Fraction(len(usual), max(1, int(usual.sum()))) / tick, tick, claims)
    held = last_duration * tick if last_duration > 0 else 1 / rate
    lengths = zip(*np.unique(gaps, return_counts=True), strict=True)
    intervals = tuple((int(length) * tick, int(often)) for length, often in lengths)
    return Timeline(rate, False, count, start, last + held, intervals)


def without_holes(ticks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The timestamps with those of lost frames put in, where whole steps are missing."""
    ticks = np.unique(ticks)
    if len(ticks) < 3:
        return ticks
    gaps = np.diff(ticks)
    usual = float(np.median(gaps))
    steps = np.rint(gaps / usual).astype(np.int64)
    whole = (steps > 1) & (abs(gaps - steps * usual) < usual / 4)
    filled = [
        np.rint(np.linspace(start, start + gap, int(count) + 1)[1:-1])
        for start, gap, count in zip(ticks[:-1][whole], gaps[whole], steps[whole], strict=True)
    ]
    return np.sort(np.concatenate([ticks, *filled]).astype(np.int64))


def _constant_rate(
    ticks: NDArray[np.int64], tick: Fraction, claims: list[Fraction], mean: Fraction
) -> Fraction | None:
    """The rate on whose grid every timestamp lies, or None.

    On a coarse clock several rates fit a short clip (ten frames at 24 and at 23.976 differ by 0.4 ms, and
    Matroska counts whole milliseconds), so the ranking matters: the closest fit, and among equals a claimed
    standard rate, the nearest standard rate, any claimed one, and last the one measured.
    """
    if _skips(np.diff(ticks)):
        return None
    standard = sorted(_STANDARD, key=lambda rate: abs(rate - mean))[:4]
    ranked = [*(rate for rate in claims if rate in _STANDARD), *standard, *claims, mean]
    spreads = [(rate, _spread(ticks, tick, rate)) for rate in dict.fromkeys(ranked)]
    spare = 1 / (mean * tick) >= _TICKS_TO_SPARE
    return next(
        (
            rate
            for limit in _SPREADS
            for rate, spread in spreads
            if spread <= limit and (limit < 2 or spare or rate == mean)
        ),
        None,
    )


def _skips(gaps: NDArray[np.int64]) -> bool:
    """Whether frames are left out: some intervals are at least twice as long as others.

    Where a tick is as long as a frame, the spread cannot tell: one frame less is one tick.
    """
    shortest, longest = int(gaps.min()), int(gaps.max())
    if longest < 2 * shortest:
        return False
    if (shortest, longest) != (1, 2):
        return True
    # Rounding may also leave one tick or two (60 fps in hundredths), but then it does so all the time.
    longer = int((gaps == 2).sum())
    return min(longer, len(gaps) - longer) < max(4, len(gaps) / _OFTEN)


def _spread(ticks: NDArray[np.int64], tick: Fraction, rate: Fraction) -> Fraction:
    """How far apart, in ticks, the earliest and the latest timestamp are against the grid of `rate`."""
    step = 1 / (rate * tick)  # ticks per frame
    span = int(ticks[-1]) * step.denominator
    kind = np.int64 if max(span, len(ticks) * step.numerator) < 2**62 else object
    late = ticks.astype(kind) * step.denominator - np.arange(len(ticks)).astype(kind) * step.numerator
    return Fraction(int(late.max()) - int(late.min()), step.denominator)


def _nominal(rate: Fraction, tick: Fraction, claims: list[Fraction]) -> Fraction:
    """`rate`, or the claimed or else standard rate whose interval is the same to within one tick."""
    for known in ([claim for claim in claims if claim in _STANDARD], _STANDARD):
        nearest = min(known, key=lambda each: abs(1 / each - 1 / rate), default=None)
        if nearest is not None and abs(1 / nearest - 1 / rate) <= tick:
            return nearest
    return rate.limit_denominator(1001)
