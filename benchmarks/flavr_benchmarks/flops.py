"""How much arithmetic one window is, counted on the network without computing it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from flavr_benchmarks.cells import Size
from flavr_benchmarks.variants import NetworkFacts

if TYPE_CHECKING:
    from torch import Tensor

    from flavr.network import Flavr

_ZERO_TAPS = 2 / 12
"""Of three taps for each of four time steps, the share that falls before the first and after the last."""


def gflop(facts: NetworkFacts, factor: int, size: Size) -> float:
    """10^9 operations of one window (a multiplication and an addition are two), as the network is published.

    The zeros that its convolutions add at the ends of time count as well: that is the same number for every
    graph form, so that GFLOP/s compares speed. A form that leaves operations out may exceed what the machine
    can really do.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network, frames = _without_numbers(facts, factor, size)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(frames)
    return float(counter.get_total_flops()) / 1e9


def useful_gflop(facts: NetworkFacts, factor: int, size: Size) -> float:
    """`gflop` less the products with the zeros at the ends of time: 10 taps of 12, as conv2d computes them.

    The zeros around pictures count, as they do everywhere. The winograd form needs fewer operations still:
    more GFLOP/s of these than a machine can compute say how much it saves.
    """
    import torch
    from torch import nn

    network, frames = _without_numbers(facts, factor, size)
    over_time: list[int] = []  # operations of the layers whose kernels span three time steps

    def count(layer: nn.Conv3d | nn.ConvTranspose3d, inputs: tuple[Tensor], output: Tensor) -> None:
        if layer.kernel_size[0] == 3:
            transposed = isinstance(layer, nn.ConvTranspose3d)
            places, channels = (inputs[0], layer.out_channels) if transposed else (output, layer.in_channels)
            over_time.append(2 * places.numel() * channels * math.prod(layer.kernel_size))

    for layer in network.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        network(frames)
    return gflop(facts, factor, size) - sum(over_time) * _ZERO_TAPS / 1e9


def _without_numbers(facts: NetworkFacts, factor: int, size: Size) -> tuple[Flavr, Tensor]:
    """The network and its input as shapes alone."""
    import torch

    from flavr.config import BLOCKS, MULTIPLE, FlavrConfig, Join, Upmode
    from flavr.network import Flavr

    arch = next((name for name in BLOCKS if name == facts.arch), None)
    join = next((name for name in get_args(Join) if name == facts.join), None)
    upmode = next((name for name in get_args(Upmode) if name == facts.upmode), None)
    if arch is None or join is None or upmode is None:
        raise ValueError(f"the network {facts.arch} with {facts.join} and {facts.upmode} is not known")
    height, columns = (side + -side % MULTIPLE for side in size)
    with torch.device("meta"):
        config = FlavrConfig(
            factor=factor, arch=arch, width=facts.width, join=join, upmode=upmode, batchnorm=facts.batchnorm
        )
        network = Flavr(config).eval()
        return network, torch.empty(1, 3, 4, height, columns)
