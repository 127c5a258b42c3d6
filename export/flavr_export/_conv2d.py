"""The conv2d form: no tensor of rank 5, in operators that every runtime has and tunes.

A convolution over time becomes a convolution over neighbouring frames concatenated along channels: time has 4
steps and each kernel spans 3, so the outer steps see two frames and the inner ones three.
"""

from __future__ import annotations

from collections.abc import Mapping

from flavr.config import WINDOW
from flavr_export._form import Feature, Form, resize, taps_in_channels, transposed_taps_in_channels


class Conv2dForm(Form):
    """A feature is four tensors [B, C, H, W], one per time step."""

    def enter(self, frames: Feature) -> Feature:
        return frames

    def fold(self, x: Feature, name: str) -> str:
        return self.g.op("Concat", x, name, axis=1)

    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        weight, bias = self.conv_parameters(key, bn)
        taps, kernel = weight.shape[2], list(weight.shape[3:])
        stored = self.stored(key, taps_in_channels(weight), bias)
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
        stored = self.stored(key, transposed_taps_in_channels(weight), bias)
        attributes = {"kernel_shape": kernel, "strides": [2, 2], "pads": [1] * 4}
        return self._over_time(x, key, "ConvTranspose", stored, 0, weight.shape[0], attributes)

    def upsample(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: resize(self.g, part, at, spatial_rank=2))

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
