"""What a network costs, computed from the shapes of its layers without running it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flavr.config import WINDOW, FlavrConfig
from flavr.network import Flavr


@dataclass(frozen=True, slots=True)
class Cost:
    """The size of a network and the work of one window."""

    parameters: int
    gflops: float  # 10^9 multiplications and additions of the convolutions, for one window

    def __str__(self) -> str:
        return f"{self.parameters / 1e6:.2f} M parameters, {self.gflops:.1f} GFLOP per window"


def network_cost(config: FlavrConfig, height: int, width: int) -> Cost:
    """Parameters, and the convolutions' work on one window of height x width pixels (multiples of 8).

    Taps that fall on zero padding are counted, as other tools do; gates and activations hardly matter.
    """
    operations = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal operations
        if isinstance(module, nn.ConvTranspose3d):
            # every input value is multiplied with every tap of every output channel
            operations += 2 * inputs[0].numel() * module.out_channels * math.prod(module.kernel_size)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            operations += 2 * output.numel() * module.in_channels * math.prod(module.kernel_size)

    with torch.device("meta"), torch.no_grad():
        network = Flavr(config).eval()
        for module in network.modules():
            module.register_forward_hook(count)
        network(torch.empty(1, 3, WINDOW, height, width))
    return Cost(sum(parameter.numel() for parameter in network.parameters()), operations / 1e9)
