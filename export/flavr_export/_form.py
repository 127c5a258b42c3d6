"""What the ways of writing FLAVR's layers in ONNX have in common.

A *feature* is a tuple of tensor names: what the four time steps are between layers. It is one 5-D tensor in
the conv3d form, four 4-D tensors in the conv2d form, one 4-D tensor in the winograd form. All forms compute
the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flavr.config import LEAK
from flavr_export._builder import GraphBuilder
from flavr_export.spec import ExportSpec

Feature = tuple[str, ...]
Weights = Mapping[str, NDArray[np.float32]]


class Form(ABC):
    """Writes layers to `g`. Tensors of the checkpoint are addressed by their published key prefix."""

    def __init__(self, g: GraphBuilder, weights: Weights, spec: ExportSpec) -> None:
        self.g = g
        self.weights = weights
        self.spec = spec

    # What differs between the forms.

    @abstractmethod
    def enter(self, frames: Feature) -> Feature:
        """Four tensors [B, 3, H, W] as a feature."""

    @abstractmethod
    def fold(self, x: Feature, name: str) -> str:
        """A feature as one tensor [B, 4C, H, W], time-major."""

    @abstractmethod
    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        """Convolution with 'same' zero padding; `bn` is a BatchNorm folded into it."""

    @abstractmethod
    def conv_transpose(self, x: Feature, key: str) -> Feature:
        """Transposed convolution, kernel (3, 4, 4), stride (1, 2, 2)."""

    @abstractmethod
    def upsample(self, x: Feature, name: str) -> Feature:
        """Height and width doubled, bilinear, half-pixel centres."""

    # What they share: elementwise operators run over the parts of a feature.

    def relu(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: self.g.op("Relu", [part], at))

    def leaky_relu(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: self.g.op("LeakyRelu", [part], at, alpha=LEAK))

    def add(self, a: Feature, b: Feature, name: str) -> Feature:
        return tuple(
            self.g.op("Add", pair, at)
            for pair, at in zip(zip(a, b, strict=True), self._names(a, name), strict=True)
        )

    def concat(self, a: Feature, b: Feature, name: str) -> Feature:
        return tuple(
            self.g.op("Concat", pair, at, axis=1)
            for pair, at in zip(zip(a, b, strict=True), self._names(a, name), strict=True)
        )

    def gate(self, x: Feature, key: str, bn: str | None = None) -> Feature:
        """Scale each channel by sigmoid(W mean(x) + b), the mean over time, height and width.

        A BatchNorm after the gate is affine per channel: its factor joins the gate, its shift is added.
        """
        g = self.g
        mean = self._channel_means(x, f"{key}/mean")
        layer = f"{key}.attn_layer.0"
        weight = self.weights[f"{layer}.weight"]
        weight = weight.reshape(*weight.shape[:2], *[1] * self._spatial_rank())
        stored = self.stored(layer, weight, self.weights[f"{layer}.bias"])
        logits = g.op("Conv", [mean, *stored], f"{key}/conv", kernel_shape=[1] * self._spatial_rank())
        gate = g.op("Sigmoid", [logits], f"{key}/sigmoid")
        if bn is None:
            gate = self._per_channel(gate, key)
            return self._each(x, f"{key}/mul", lambda part, at: g.op("Mul", [part, gate], at))
        factor, shift = batchnorm(self.weights, bn)
        broadcast = (-1, *[1] * self._spatial_rank())
        gate = g.op("Mul", [gate, g.constant(f"{bn}.factor", factor.reshape(broadcast))], f"{key}/scale")
        gate = self._per_channel(gate, key)
        scaled = self._each(x, f"{key}/mul", lambda part, at: g.op("Mul", [part, gate], at))
        return self.shift(scaled, shift, f"{bn}.shift", f"{key}/shift")

    def shift(self, x: Feature, values: NDArray[np.float32], key: str, name: str) -> Feature:
        """Add a number to each channel."""
        shaped = self.g.constant(key, values.reshape(1, -1, *[1] * self._spatial_rank()))
        added = self._per_channel(shaped, key)
        return self._each(x, name, lambda part, at: self.g.op("Add", [part, added], at))

    def last_conv(self, x: str, key: str) -> str:
        """The 7x7 convolution that makes pictures: [B, C, H + 6, W + 6], padded, to [B, 3 n, H, W]."""
        stored = self.stored(key, self.weights[f"{key}.weight"], self.weights[f"{key}.bias"])
        return self.g.op("Conv", [x, *stored], "outconv", kernel_shape=[7, 7])

    @abstractmethod
    def _spatial_rank(self) -> int: ...

    def _channel_means(self, x: Feature, name: str) -> str:
        """[B, C, 1, ...]: means over time, height and width."""
        return self.g.mean(x, range(1 + self._spatial_rank(), 1, -1), name)

    def _per_channel(self, value: str, name: str) -> str:  # noqa: ARG002
        """One number per channel [B, C, 1, ...], as it is combined with the parts of a feature."""
        return value

    def _each(self, x: Feature, name: str, write: Callable[[str, str], str]) -> Feature:
        return tuple(write(part, at) for part, at in zip(x, self._names(x, name), strict=True))

    @staticmethod
    def _names(x: Feature, name: str) -> list[str]:
        return [name] if len(x) == 1 else [f"{name}/t{t}" for t in range(len(x))]

    def conv_parameters(
        self, key: str, bn: str | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        weight, bias = self.weights[f"{key}.weight"], self.weights.get(f"{key}.bias")
        if bn is None:
            return weight, bias
        factor, shift = batchnorm(self.weights, bn)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return weight, shift if bias is None else bias * factor + shift

    def stored(self, key: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> list[str]:
        names = [self.g.constant(f"{key}.weight", weight)]
        if bias is not None:
            names.append(self.g.constant(f"{key}.bias", bias))
        return names


def taps_in_channels(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """[outputs, C, 3, k, k] as [outputs, 3 C, k, k]: the taps for t-1, t, t+1 side by side.

    This and `transposed_taps_in_channels` are how every form without rank 5 stores its weights, so that two
    files can share them.
    """
    return weight.transpose(0, 2, 1, 3, 4).reshape(weight.shape[0], -1, *weight.shape[3:])


def transposed_taps_in_channels(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """[C, outputs, 3, k, k] as [3 C, outputs, k, k]: the taps for t-1, t, t+1 one below the other.

    Output t takes tap k from input t+1-k, so they are flipped.
    """
    return weight[:, :, ::-1].transpose(2, 0, 1, 3, 4).reshape(-1, weight.shape[1], *weight.shape[3:])


def resize(g: GraphBuilder, x: str, name: str, spatial_rank: int) -> str:
    scales = np.array([1.0] * spatial_rank + [2.0, 2.0], np.float32)
    scale_name = g.constant(f"const/scales{spatial_rank}d", scales)
    return g.op(
        "Resize", [x, "", scale_name], name, mode="linear", coordinate_transformation_mode="half_pixel"
    )


def batchnorm(weights: Weights, key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Evaluation-mode BatchNorm as (factor, shift) per channel; PyTorch's epsilon of 1e-5."""
    mean, variance = (weights[f"{key}.{name}"].astype(np.float64) for name in ("running_mean", "running_var"))
    factor = weights[f"{key}.weight"].astype(np.float64) / np.sqrt(variance + 1e-5)
    shift = weights[f"{key}.bias"].astype(np.float64) - mean * factor
    return factor.astype(np.float32), shift.astype(np.float32)
