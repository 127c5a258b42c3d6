"""3x3x3 convolutions with fewer multiplications, for training on a CPU.

PyTorch's CPU backend multiplies every tap with every pixel. Winograd's algorithm needs half the products over
time and a quarter over height and width, at the price of transforms that only add up; over height and width
it pays from about 64 channels on. Everything is ordinary differentiable PyTorch, so gradients come for free,
and parameters keep their names and shapes. `benchmarks/training_step.py` measures it.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flavr._cook_toom import short_convolution
from flavr.config import WINDOW

_TILE = 4  # outputs per side that are computed together; over time, all four steps
_TAPS = 3
_PRODUCTS = _TILE + _TAPS - 1
# From so many inputs and outputs on, height and width too. A step of width 16 is 1.4 times as fast with 64
# here, 1.2 times with 32.
_SPACE_CHANNELS = 64


class _OverTime(nn.Conv3d):
    """Six 2-D convolutions for the twelve of four time steps with three taps each."""

    def forward(self, x: Tensor) -> Tensor:
        products = [
            F.conv2d(frame.permute(0, 3, 1, 2), weight, stride=self.stride[1:], padding=self.padding[1:])
            for frame, weight in zip(_time_transform(x), _time_taps(self.weight), strict=True)
        ]
        return _time_result(products, self.bias)


class _OverTimeTransposed(nn.ConvTranspose3d):
    """The same for the transposed convolution, which sees its taps in reverse order."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002
        products = [
            F.conv_transpose2d(
                frame.permute(0, 3, 1, 2),
                weight,
                stride=self.stride[1:],
                padding=[int(side) for side in self.padding[1:]],
            )
            for frame, weight in zip(_time_transform(x), _time_taps(self.weight.flip(2)), strict=True)
        ]
        return _time_result(products, self.bias)


class _OverSpaceAndTime(nn.Conv3d):
    """All three axes: 216 matrix products for tiles of 4x4x4 outputs."""

    def forward(self, x: Tensor) -> Tensor:
        batch, inputs, _, height, width = x.shape
        outputs = self.out_channels
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        a, g, _ = _matrices(x.dtype, x.device)
        a_space, g_space, b_space = _matrices_of_planes(x.dtype, x.device)
        below, right = 1 + rows * _TILE - height, 1 + columns * _TILE - width
        padded = F.pad(_time_transform(x), (0, 0, 1, right, 1, below))
        # products in time, batch, rows, columns, channels, 6, 6 -> 6, 6, time, batch, rows, columns, channels
        tiles = padded.unfold(2, _PRODUCTS, _TILE).unfold(3, _PRODUCTS, _TILE).permute(5, 6, 0, 1, 2, 3, 4)
        left = (b_space @ tiles.reshape(_PRODUCTS**2, -1)).view(_PRODUCTS**3, -1, inputs)

        taps = self.weight.permute(3, 4, 2, 1, 0).reshape(_TAPS**2, -1)
        taps = g @ (g_space @ taps).view(_PRODUCTS**2, _TAPS, -1)
        products = torch.bmm(left, taps.view(_PRODUCTS**3, inputs, outputs))

        result = a_space @ products.view(_PRODUCTS**2, -1)
        result = (a @ result.view(_TILE**2, _PRODUCTS, -1)).view(
            _TILE, _TILE, WINDOW, batch, rows, columns, outputs
        )
        result = result.permute(3, 2, 4, 0, 5, 1, 6).reshape(
            batch, WINDOW, rows * _TILE, columns * _TILE, outputs
        )[:, :, :height, :width]
        if self.bias is not None:
            result = result + self.bias
        return result.permute(0, 4, 1, 2, 3)


def quicken(network: nn.Module) -> int:
    """Put these in the place of a network's 3x3x3 and 3x4x4 convolutions; parameters stay the same objects.

    Returns how many were replaced. Results differ by float32's rounding, about 2e-6 of the largest value.
    """
    replaced = 0
    for module in network.modules():
        kind = _kind_for(module)
        if kind is not None:
            module.__class__ = kind  # it only computes otherwise
            replaced += 1
    return replaced


def _kind_for(module: nn.Module) -> type[nn.Module] | None:
    if isinstance(module, nn.ConvTranspose3d) and module.kernel_size[0] == _TAPS:
        return _OverTimeTransposed
    if not isinstance(module, nn.Conv3d) or module.kernel_size != (_TAPS, _TAPS, _TAPS):
        return None
    wide = min(module.in_channels, module.out_channels) >= _SPACE_CHANNELS
    return _OverSpaceAndTime if wide and module.stride == (1, 1, 1) else _OverTime


@cache
def _matrices(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A [4, 6], G [6, 3] and B [6, 6] of F(4, 3)."""
    short = short_convolution(_TILE, _TAPS)
    with torch.inference_mode(False):  # they outlive a validation that asks for them first
        a, g, b = (
            torch.tensor(matrix, dtype=dtype, device=device)
            for matrix in (short.outputs, short.taps, short.inputs)
        )
    return a, g, b


@cache
def _matrices_of_planes(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The same for height and width at once: A [16, 36], G [36, 9] and B [36, 36]."""
    with torch.inference_mode(False):
        a, g, b = (torch.kron(matrix, matrix) for matrix in _matrices(dtype, device))
    return a, g, b


def _time_transform(x: Tensor) -> Tensor:
    """[B, C, 4, H, W] to [6, B, H, W, C]; the steps before and after are zeros."""
    batch, channels, steps, height, width = x.shape
    if steps != WINDOW:
        raise ValueError(f"{steps} time steps; {WINDOW} are needed")
    _, _, b = _matrices(x.dtype, x.device)
    mixed = b[:, 1:-1] @ x.permute(2, 0, 3, 4, 1).reshape(WINDOW, -1)
    return mixed.view(_PRODUCTS, batch, height, width, channels)


def _time_taps(weight: Tensor) -> Tensor:
    """[O, I, 3, h, w] to [6, O, I, h, w]."""
    _, g, _ = _matrices(weight.dtype, weight.device)
    outputs, inputs, _, height, width = weight.shape
    mixed = g @ weight.permute(2, 0, 1, 3, 4).reshape(_TAPS, -1)
    return mixed.view(_PRODUCTS, outputs, inputs, height, width)


def _time_result(products: list[Tensor], bias: Tensor | None) -> Tensor:
    """Six of [B, O, H, W] to [B, O, 4, H, W]."""
    batch, outputs, height, width = products[0].shape
    a, _, _ = _matrices(products[0].dtype, products[0].device)
    stacked = torch.stack([product.permute(0, 2, 3, 1).reshape(-1) for product in products])
    result = (a @ stacked).view(WINDOW, batch, height, width, outputs)
    if bias is not None:
        result = result + bias
    return result.permute(1, 4, 0, 2, 3)
