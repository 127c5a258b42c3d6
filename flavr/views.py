"""Views of a window: mirrored, turned and run backwards, which a perfect network would treat alike.

A network in training does not: it errs on each view in another way, and the mean of what it makes of several,
each brought back, is better than any one of them (self-ensemble; Lim et al. 2017, EDSR, section 3.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TIME, _ROWS, _COLUMNS = -3, -2, -1  # axes of frames [B, 3, 4, H, W]
_NEW = -4  # axis of the new frames in [B, n, 3, H, W]


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at a window."""

    reverse: bool = False  # in time
    mirror: bool = False  # columns
    flip: bool = False  # rows
    turn: bool = False  # rows and columns swapped

    def of(self, frames: Tensor) -> Tensor:
        """float [B, 3, 4, H, W] as seen so; [B, 3, 4, W, H] where it is turned."""
        seen = self._flipped(frames, _TIME)
        return seen.transpose(_ROWS, _COLUMNS).contiguous() if self.turn else seen

    def back(self, made: Tensor) -> Tensor:
        """New frames [B, n, 3, H, W] of such a view, as they would be of the window itself."""
        return self._flipped(made.transpose(_ROWS, _COLUMNS) if self.turn else made, _NEW)

    def _flipped(self, pictures: Tensor, time: int) -> Tensor:
        asked = ((time, self.reverse), (_ROWS, self.flip), (_COLUMNS, self.mirror))
        return pictures.flip([axis for axis, wanted in asked if wanted])


VIEWS: tuple[View, ...] = (
    View(),
    View(reverse=True),
    View(mirror=True, flip=True),
    View(reverse=True, mirror=True, flip=True),
    View(mirror=True),
    View(reverse=True, mirror=True),
    View(flip=True),
    View(reverse=True, flip=True),
    View(turn=True),
    View(reverse=True, turn=True),
    View(mirror=True, flip=True, turn=True),
    View(reverse=True, mirror=True, flip=True, turn=True),
    View(mirror=True, turn=True),
    View(reverse=True, mirror=True, turn=True),
    View(flip=True, turn=True),
    View(reverse=True, flip=True, turn=True),
)
"""All there are, in the order in which they are taken: the first of them, as many as `flavr.config.ENSEMBLES`
has, are a group, so that the mean over them is the same for every view among them."""


def mean_over(views: Sequence[View], synthesise: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """The mean of what `synthesise` makes of each view of frames [B, 3, 4, H, W]: [B, n, 3, H, W]."""
    return torch.stack([view.back(synthesise(view.of(frames))) for view in views]).mean(dim=0)
