"""Self-ensemble: the mean of what a model makes of a window and of its mirror images (others: TTA).

A perfect model would make the same of each, brought back. One that was trained for a while errs on each in
another way, and the mean is nearer to the truth, at that many times the arithmetic (Lim et al. 2017, EDSR,
section 3.4; with time, too, rife-ncnn's temporal TTA).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flavr_runtime.errors import UsageError
from flavr_runtime.frames import Rgb


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a window."""

    reverse: bool = False  # in time
    mirror: bool = False  # columns
    flip: bool = False  # rows

    def of(self, picture: Rgb) -> Rgb:
        """A picture [H, W, 3] as seen so, and the other way round."""
        seen: NDArray[Any] = picture[:: -1 if self.flip else 1, :: -1 if self.mirror else 1]
        return np.ascontiguousarray(seen)


VIEWS: tuple[View, ...] = (
    View(),
    View(reverse=True),
    View(mirror=True, flip=True),
    View(reverse=True, mirror=True, flip=True),
    View(mirror=True),
    View(reverse=True, mirror=True),
    View(flip=True),
    View(reverse=True, flip=True),
)
"""In the order in which they are taken: as many as `SIZES` has make the same of a window and of each of its
views among them."""

SIZES = (1, 2, 4, 8)


def check_ensemble(size: int) -> None:
    """Raise UsageError where there is no such ensemble."""
    if size not in SIZES:
        known = ", ".join(map(str, SIZES))
        raise UsageError(f"an ensemble of {size} is none that is known: give one of {known}")


def mean_over(
    views: Sequence[View], between: Callable[[Sequence[Rgb]], list[Rgb]], frames: Sequence[Rgb]
) -> list[Rgb]:
    """The mean of what `between` makes of each view of a window, rounded to whole code values.

    Args:
        between: four pictures [H, W, 3], uint8 or uint16, to new ones in time order.
    """
    made = []
    for view in views:
        seen = [view.of(picture) for picture in frames]
        new = between(seen[::-1] if view.reverse else seen)
        made.append([view.of(picture) for picture in (new[::-1] if view.reverse else new)])
    return [_mean(same) for same in zip(*made, strict=True)]


def _mean(pictures: Sequence[Rgb]) -> Rgb:
    total = np.zeros(pictures[0].shape, np.uint32)
    for picture in pictures:
        total += picture
    mean: NDArray[Any] = ((total + len(pictures) // 2) // len(pictures)).astype(pictures[0].dtype)
    return mean
