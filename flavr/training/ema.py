"""A running mean of the weights, which scores better and steadier than the weights of any one step."""

from __future__ import annotations

import copy

import torch

from flavr.network import Flavr


class Ema:
    """A second network whose weights follow the first's: new = decay * old + (1 - decay) * current."""

    def __init__(self, network: Flavr, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: Flavr) -> None:
        """Take in the weights after a step. The first steps count for more: they have no past yet."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
