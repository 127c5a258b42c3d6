"""A network that another one learns from: its frames take the place of a share of the truth.

What a truth holds beyond any network's reach (noise, the coder's blocks, motion that four frames leave open)
is most of the error of a network that is nearly trained, and all noise to its gradient. A teacher's frames do
not have it (Hinton et al. 2015). The teacher may be the network itself: over several views it is better than
over one (flavr/views.py). docs/training.md says how little of that a network of width 16 took over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flavr.network import Flavr
from flavr.views import View, mean_over


@dataclass(frozen=True, slots=True)
class Teacher:
    """Frozen weights, the views they see, and how much of a target is theirs."""

    network: Flavr
    views: Sequence[View]
    share: float

    def __str__(self) -> str:
        views = "1 view" if len(self.views) == 1 else f"{len(self.views)} views"
        return f"{self.share:.0%} of a target, {views}"

    @torch.no_grad()
    def targets(self, inputs: Tensor, truth: Tensor) -> Tensor:
        """Truth [B, n, 3, H, W] with the teacher's frames of the inputs [B, 3, 4, H, W] mixed in."""
        taught = mean_over(self.views, self.network, inputs)
        return truth.lerp(taught.to(truth.dtype), self.share)
