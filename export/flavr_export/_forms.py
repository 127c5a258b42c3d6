"""The two ways of writing FLAVR's layers in ONNX, with one interface.

A *feature* is a tuple of tensor names. In the conv3d form it is one 5-D tensor [B, C, 4, H, W]; in the conv2d
form it is four 4-D tensors [B, C, H, W], one per time step, and a convolution over time becomes a
convolution over neighbouring frames concatenated along channels: time has 4 steps and each kernel spans 3,
so the outer steps see two frames and the inner ones three. Both compute the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flavr.config import LEAK, WINDOW
from flavr_export._builder import GraphBuilder
from flavr_export.spec import GraphForm

Feature = tuple[str, ...]
Weights = Mapping[str, NDArray[np.float32]]


class Form(ABC):
    """Writes layers to `g`. Tensors of the checkpoint are addressed by their published key prefix."""

    def __init__(self, g: GraphBuilder, weights: Weights) -> None:
        self.g = g
        self.weights = weights

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

    # What both share: elementwise operators run over the parts of a feature.

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
        mean = g.mean(x, 2 + self._spatial_rank(), f"{key}/mean")
        layer = f"{key}.attn_layer.0"
        weight = self.weights[f"{layer}.weight"]
        weight = weight.reshape(*weight.shape[:2], *[1] * self._spatial_rank())
        stored = self.stored(layer, weight, self.weights[f"{layer}.bias"])
        logits = g.op("Conv", [mean, *stored], f"{key}/conv", kernel_shape=[1] * self._spatial_rank())
        gate = g.op("Sigmoid", [logits], f"{key}/sigmoid")
        if bn is None:
            return self._each(x, f"{key}/mul", lambda part, at: g.op("Mul", [part, gate], at))
        factor, shift = _batchnorm(self.weights, bn)
        broadcast = (-1, *[1] * self._spatial_rank())
        gate = g.op("Mul", [gate, g.constant(f"{bn}.factor", factor.reshape(broadcast))], f"{key}/scale")
        shift_name = g.constant(f"{bn}.shift", shift.reshape(broadcast))
        scaled = self._each(x, f"{key}/mul", lambda part, at: g.op("Mul", [part, gate], at))
        return self._each(scaled, f"{key}/shift", lambda part, at: g.op("Add", [part, shift_name], at))

    @abstractmethod
    def _spatial_rank(self) -> int: ...

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
        factor, shift = _batchnorm(self.weights, bn)
        weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        return weight, shift if bias is None else bias * factor + shift

    def stored(self, key: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None) -> list[str]:
        names = [self.g.constant(f"{key}.weight", weight)]
        if bias is not None:
            names.append(self.g.constant(f"{key}.bias", bias))
        return names


class Conv3dForm(Form):
    """The network as published."""

    def enter(self, frames: Feature) -> Feature:
        axis = self.g.integers(2)
        parts = [self.g.op("Unsqueeze", [frame, axis], f"stack/t{t}") for t, frame in enumerate(frames)]
        return (self.g.op("Concat", parts, "stack", axis=2),)

    def fold(self, x: Feature, name: str) -> str:
        # Reshape cannot keep dynamic H and W behind a changed rank; one Gather per time step can.
        parts = [
            self.g.op(
                "Gather",
                [x[0], self.g.constant(f"const/index/{t}", np.array(t, np.int64))],
                f"{name}/t{t}",
                axis=2,
            )
            for t in range(WINDOW)
        ]
        return self.g.op("Concat", parts, name, axis=1)

    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        weight, bias = self.conv_parameters(key, bn)
        kernel = list(weight.shape[2:])
        out = self.g.op(
            "Conv",
            [x[0], *self.stored(key, weight, bias)],
            key,
            kernel_shape=kernel,
            strides=[1, stride, stride],
            pads=[k // 2 for k in kernel] * 2,
        )
        return (out,)

    def conv_transpose(self, x: Feature, key: str) -> Feature:
        weight, bias = self.conv_parameters(key, None)
        out = self.g.op(
            "ConvTranspose",
            [x[0], *self.stored(key, weight, bias)],
            key,
            kernel_shape=list(weight.shape[2:]),
            strides=[1, 2, 2],
            pads=[1] * 6,
        )
        return (out,)

    def upsample(self, x: Feature, name: str) -> Feature:
        return (_resize(self.g, x[0], name, spatial_rank=3),)

    def _spatial_rank(self) -> int:
        return 3


class Conv2dForm(Form):
    """The same numbers without a tensor of rank 5, in operators that every runtime has and tunes."""

    def enter(self, frames: Feature) -> Feature:
        return frames

    def fold(self, x: Feature, name: str) -> str:
        return self.g.op("Concat", x, name, axis=1)

    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        weight, bias = self.conv_parameters(key, bn)
        taps, kernel = weight.shape[2], list(weight.shape[3:])
        # [Co, Ci, 3, kh, kw] -> [Co, 3 Ci, kh, kw]: the taps for t-1, t, t+1 side by side
        flat = weight.transpose(0, 2, 1, 3, 4).reshape(weight.shape[0], -1, *kernel)
        stored = self.stored(key, flat, bias)
        attributes = {
            "kernel_shape": kernel,
            "strides": [stride, stride],
            "pads": [k // 2 for k in kernel] * 2,
        }
        if taps == 1:
            return self._each(x, key, lambda part, at: self.g.op("Conv", [part, *stored], at, **attributes))
        return self._over_time(x, key, "Conv", stored, 1, weight.shape[1], attributes)

    def conv_transpose(self, x: Feature, key: str) -> Feature:
        weight, bias = self.conv_parameters(key, None)
        kernel = list(weight.shape[3:])
        # Output t takes tap k from input t+1-k: flipped, the taps for t-1, t, t+1 lie one below the other.
        flat = weight[:, :, ::-1].transpose(2, 0, 1, 3, 4).reshape(-1, weight.shape[1], *kernel)
        stored = self.stored(key, flat, bias)
        attributes = {"kernel_shape": kernel, "strides": [2, 2], "pads": [1] * 4}
        return self._over_time(x, key, "ConvTranspose", stored, 0, weight.shape[0], attributes)

    def upsample(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: _resize(self.g, part, at, spatial_rank=2))

    def _spatial_rank(self) -> int:
        return 2

    def _over_time(
        self,
        x: Feature,
        key: str,
        kind: str,
        stored: list[str],
        axis: int,
        channels: int,
        attributes: Mapping[str, object],
    ) -> Feature:
        """One 2-D operator per time step over its neighbours. `axis`: the weight's input channel axis.

        The first and last step have one neighbour and use two of the three taps: a Slice of the same
        stored weight, which runtimes fold when they load the file.
        """
        g, (weight, *bias) = self.g, stored
        weights = {
            0: g.slice(weight, axis, channels, 3 * channels, f"{key}/taps_first"),
            WINDOW - 1: g.slice(weight, axis, 0, 2 * channels, f"{key}/taps_last"),
        }
        outputs = []
        for t in range(WINDOW):
            neighbours = x[max(t - 1, 0) : t + 2]
            seen = g.op("Concat", neighbours, f"{key}/neighbours/t{t}", axis=1)
            outputs.append(g.op(kind, [seen, weights.get(t, weight), *bias], f"{key}/t{t}", **attributes))
        return tuple(outputs)


FORMS: dict[GraphForm, type[Form]] = {"conv2d": Conv2dForm, "conv3d": Conv3dForm}


def _resize(g: GraphBuilder, x: str, name: str, spatial_rank: int) -> str:
    scales = np.array([1.0] * spatial_rank + [2.0, 2.0], np.float32)
    scale_name = g.constant(f"const/scales{spatial_rank}d", scales)
    return g.op(
        "Resize", [x, "", scale_name], name, mode="linear", coordinate_transformation_mode="half_pixel"
    )


def _batchnorm(weights: Weights, key: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Evaluation-mode BatchNorm as (factor, shift) per channel; PyTorch's epsilon of 1e-5."""
    mean, variance = (weights[f"{key}.{name}"].astype(np.float64) for name in ("running_mean", "running_var"))
    factor = weights[f"{key}.weight"].astype(np.float64) / np.sqrt(variance + 1e-5)
    shift = weights[f"{key}.bias"].astype(np.float64) - mean * factor
    return factor.astype(np.float32), shift.astype(np.float32)
