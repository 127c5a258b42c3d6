"""What a network's weights are before training: the published start, or one that already averages.

From random weights a small network needs tens of thousands of crops before it merely equals the average of
the two middle frames. The blend start is that average exactly, so all training goes into improving on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flavr.config import WINDOW, FlavrConfig
from flavr.errors import UsageError
from flavr.network import Flavr

_COLOURS = 3
_OFFSETS = (0, 1)  # of the four pixels that one position of the half-size features stands for
_MIN_BLEND_WIDTH = _COLOURS * len(_OFFSETS) ** 2
_OPEN = 3.0  # bias of the gates on the way: sigmoid(3) = 0.95, where they can still be learnt
_LIFT = 1.0  # frames less their mean are in [-1, 1]: lifted by this they pass every ReLU unchanged


@dataclass(frozen=True, slots=True)
class Start:
    """A row of the table of starts."""

    fill: Callable[[Flavr], None]
    summary: str


def initialise(network: Flavr, start: str, seed: int) -> None:
    """Fill a network's weights in place; the same seed gives the same weights.

    Args:
        start: a key of `STARTS`.

    Raises:
        UsageError: no start of that name, or one that this network's configuration does not allow.
    """
    if start not in STARTS:
        raise UsageError(f"--init {start} is not known; known are {', '.join(STARTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.modules.conv._ConvNd | nn.BatchNorm3d | nn.BatchNorm2d):
                module.reset_parameters()
        STARTS[start].fill(network)


def check_blend(config: FlavrConfig) -> None:
    """Raise UsageError where `blend` cannot be built: it uses the skip connection and encoder biases."""
    lacking = [
        need
        for met, need in (
            (config.width >= _MIN_BLEND_WIDTH, f"a width of at least {_MIN_BLEND_WIDTH}"),
            (config.encoder_bias, "--encoder-bias"),
            (config.join == "concat", "--join-type concat"),
            (config.upmode == "transpose", "--upmode transpose"),
            (not config.batchnorm, "a network without BatchNorm"),
        )
        if not met
    ]
    if lacking:
        raise UsageError(f"--init blend needs {' and '.join(lacking)}")


def _published(network: Flavr) -> None:
    """The encoder as R3D-18 starts (He et al. 2015, fan out), everything else as PyTorch does."""
    for module in network.encoder.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def _blend(network: Flavr) -> None:
    """Route the pixels of frames 1 and 2 through the outermost skip connection; the rest starts as published.

    Stem channels 0..11 hold the 2x2 pixels of R, G and B; the skip half of the last transposed convolution
    scatters them to full size in channels 0..2; fusing averages frames 1 and 2; the output convolution passes
    the result. Its other weights are zero: what the random rest computes reaches the output as it is learnt.
    """
    check_blend(network.config)
    _published(network)
    width = network.config.width
    gather, scatter, gate, output = (
        _Parameters(network.get_parameter(f"{name}.weight"), network.get_parameter(f"{name}.bias"))
        for name in ("encoder.stem.0", "decoder.4.upconv.0", "decoder.4.upconv.1.attn_layer.0", "outconv.1")
    )
    fuse = network.get_parameter("feature_fuse.conv.0.weight")

    gather.weight[:_MIN_BLEND_WIDTH] = 0
    gather.bias[:_MIN_BLEND_WIDTH] = _LIFT
    scatter.weight[:, :_COLOURS] = 0
    scatter.bias[:_COLOURS] = 0
    gate.weight[:_COLOURS] = 0
    gate.bias[:_COLOURS] = _OPEN
    fuse[:_COLOURS] = 0
    output.weight.zero_()
    output.bias.fill_(-_LIFT)
    opening = 1 / (1 + math.exp(-_OPEN))
    channel = 0
    for colour in range(_COLOURS):
        for row in _OFFSETS:
            for column in _OFFSETS:
                # stride 2: kernel tap 3 of the 7x7 stem sits on pixel 2i, tap 1 of the 4x4 scatter writes it
                gather.weight[channel, colour, 1, 3 + row, 3 + column] = 1
                scatter.weight[width + channel, colour, 1, 1 + row, 1 + column] = 1 / opening
                channel += 1
        for frame in (WINDOW // 2 - 1, WINDOW // 2):
            fuse[colour, frame * width + colour] = 0.5
        for new in range(network.config.n_outputs):
            output.weight[new * _COLOURS + colour, colour, 3, 3] = 1


@dataclass(frozen=True, slots=True)
class _Parameters:
    weight: Tensor
    bias: Tensor


STARTS: Mapping[str, Start] = {
    "published": Start(_published, "random, as the authors start"),
    "blend": Start(_blend, "outputs the average of the middle frames: for short runs and small networks"),
}
