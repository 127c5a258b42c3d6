"""At which instants frames are wanted, and how often the model has to pass to have one near each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from flavr_runtime.errors import UsageError
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.windows import makeable_factors, plan_stages

__all__ = ["STEPS_PER_FRAME", "Timing", "plan_timing", "retimed"]

STEPS_PER_FRAME = 2
"""Where the new rate is no multiple of the old, a frame is taken from a grid at least this much finer than
the new rate: no frame is then further from its instant than a quarter of the time it is shown."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a run makes of the source's time."""

    factor: int  # the grid on which frames can be made, per source interval
    rate: Fraction  # of the result, frames per second
    resampled: bool  # whether frames are picked from the grid, rather than all of it taken
    stretch: Fraction  # how much longer the result lasts; 1 but for slow motion
    end: Fraction | None = None  # of the source, until when the last frame is repeated; None: it is not

    def frame_count(self, info: StreamInfo) -> int | None:
        """Frames of the result, as far as the container's index tells; None for a pipe."""
        if info.frame_count is None or info.span is None:
            return None
        if not self.resampled:
            return (info.frame_count - 1) * self.factor + 1
        made = self.rate * self.stretch
        frames = math.floor(info.span * made) + 1
        if self.end is None or info.shown is None:
            return frames
        return max(frames, math.floor((self.end - info.shown[0]) * made + Fraction(1, 2)))

    def is_constant(self, info: StreamInfo) -> bool:
        """Whether the result has a constant rate: the source's own, or the one that was asked for."""
        return info.constant_rate or self.resampled

    def apply(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames of the result, from those of the grid."""
        return self.stretched(retimed(frames, self.rate * self.stretch) if self.resampled else frames)

    def stretched(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The same frames, later where the result lasts longer."""
        for frame in frames:
            yield frame if self.stretch == 1 else frame.shown_at(frame.time * self.stretch)


def plan_timing(
    info: StreamInfo, native: int, *, factor: int | None, fps: Fraction | None, slowmo: bool
) -> Timing:
    """Decide the grid and the rate.

    Args:
        native: the model's own factor.
        factor: multiply the frames by this; by default the model's own factor.
        fps: frames per second instead of a factor: as many as it takes, at the source's speed.
        slowmo: keep the source's rate and let the result last longer.

    Raises:
        UsageError: both factor and fps, or one that the model cannot make.
    """
    if fps is None:
        factor = native if factor is None else factor
        plan_stages(factor, native)
        faster = info.rate * factor
    elif factor is not None:
        raise UsageError("--factor and --fps exclude each other: give one of them")
    elif slowmo and fps <= info.rate:
        raise UsageError(
            f"--fps {fps} is no more than the source's {info.rate}: there is nothing to slow down; with "
            "--slowmo, --fps is the rate that is made and then shown at the source's"
        )
    else:
        factor, faster = _grid_for(fps, info.rate, native), fps
    stretch = faster / info.rate if slowmo else Fraction(1)
    # At a variable rate even a whole multiple has to be picked: the result is asked to be constant.
    resampled = fps is not None and (faster != info.rate * factor or not info.constant_rate)
    end = info.shown[1] if resampled and info.shown is not None else None
    return Timing(factor, faster / stretch, resampled, stretch, end)


def retimed(frames: Iterable[Frame], rate: Fraction) -> Iterator[Frame]:
    """One frame for every 1 / rate seconds from the first on: the nearest in time, the earlier of two.

    Pictures of frames that are not taken are not made.
    """
    stream = iter(frames)
    before = next(stream, None)
    if before is None:
        return
    start, shown, last = before.time, 0, None
    for after in _with_end(stream):
        while after is None or start + shown / rate <= after.time:
            instant = start + shown / rate
            if after is None and instant > before.time:
                return
            nearer = before if after is None or instant - before.time <= after.time - instant else after
            yield nearer.repeated(instant) if nearer is last else nearer.shown_at(instant)
            last, shown = nearer, shown + 1
        before = after


def _with_end(frames: Iterator[Frame]) -> Iterator[Frame | None]:
    yield from frames
    yield None


def _grid_for(fps: Fraction, source: Fraction, native: int) -> int:
    """The smallest factor the model makes whose grid has every instant, or is fine enough."""
    ratio = fps / source
    makeable = makeable_factors(native)
    fine = next((factor for factor in makeable if factor >= STEPS_PER_FRAME * ratio), None)
    exact = next((factor for factor in makeable if (factor / ratio).denominator == 1), None)
    found = [factor for factor in (fine, exact) if factor is not None]
    if not found:
        highest = float(makeable[-1] * source / STEPS_PER_FRAME)
        raise UsageError(
            f"--fps {fps} is too much for a source of {float(source):g}: this model makes any rate up to "
            f"{highest:g}"
        )
    return min(found)
