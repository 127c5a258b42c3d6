"""Held frames: pictures that the source shows several times in a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr_runtime.frames import Frame

__all__ = ["LONGEST_HOLD", "MOST_HELD", "runs"]

Grey = NDArray[np.uint8 | np.uint16]  # [H, W]

LONGEST_HOLD = Fraction(1, 5)
"""Seconds: drawings on fours at 24 frames per second, on twos at 10. A picture that is shown for longer
stands still on purpose; to spread the next movement over it would be a new film."""

MOST_HELD = 12
"""Frames: LONGEST_HOLD at 60 per second. So many are in memory at a time."""

# A repeat that was encoded again is not equal to the bit. In 70 real clips (8 of them converted to a higher
# rate by repeating every second to twelfth frame) the worst block of a repeat changes by 0.3 to 5.4 grey
# levels, and 6 to 100 times as much when the picture moves on. Both are asked for: the level alone would take
# slow motion for repeats, the ratio alone a quiet moment in a noisy clip.
_BLOCK, _LARGEST_CHANGE, _LEAST_RATIO = 16, 6.0, 5.0


def runs(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """The frames, those of one held picture together, all others one by one.

    A still, which is shown for longer than LONGEST_HOLD or in more than MOST_HELD frames, is not held: its
    frames come one by one, as they are read.
    """
    run: list[Frame] = []  # a picture and what may be its repeats
    reference: Grey | None = None
    worst, still = 0.0, False
    for frame in frames:
        grey = _grey(frame)
        change = math.inf if reference is None or frame.starts_scene else _change(reference, grey)
        if change <= _LARGEST_CHANGE:
            run.append(frame)
            worst = max(worst, change)
            still = still or len(run) > MOST_HELD or frame.time - run[0].time >= LONGEST_HOLD
            if still:
                yield from ([each] for each in run)
                run = []
            continue
        is_held = bool(run) and frame.time - run[0].time <= LONGEST_HOLD and change >= _LEAST_RATIO * worst
        yield from [run] if is_held else ([each] for each in run)
        run, reference, worst, still = [frame], grey, 0.0, False
    if run:
        yield run


def _grey(frame: Frame) -> Grey:
    return np.asarray(cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY), frame.rgb.dtype)


def _change(one: Grey, other: Grey) -> float:
    """Mean change of the block that changes most, in grey levels of 0..255."""
    if one.shape != other.shape:
        return math.inf
    height, width = one.shape
    blocks = (max(1, width // _BLOCK), max(1, height // _BLOCK))
    difference = cv2.absdiff(one, other).astype(np.float32)
    return (
        float(cv2.resize(difference, blocks, interpolation=cv2.INTER_AREA).max())
        * 255
        / np.iinfo(one.dtype).max
    )
