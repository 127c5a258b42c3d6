"""The conv2d form: no tensor of rank 5, in operators that every runtime has and tunes.

A convolution over time becomes convolutions over frames concatenated along channels: time has 4 steps and
each kernel spans 3, so the outer steps see two frames and the inner ones three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flavr.config import WINDOW
from flavr_export._form import Feature, Form, resize, taps_in_channels, transposed_taps_in_channels

_SMALLEST_OF_SUMS = 8  # channels of a block of ONNX Runtime's; the stem's frames cost little to copy

# Parts of a weight, by taps: Slices, which runtimes fold when they load the file. Ends are exclusive.
_TAPS = {"first": (1, 3), "last": (0, 2), "previous": (0, 1), "next": (2, 3)}
_Part = Callable[[str], str]


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
        part = self._parts(key, stored[0], 1, weight.shape[1])
        if self.spec.sums and weight.shape[1] >= _SMALLEST_OF_SUMS:
            return self._pairs_and_thirds(x, key, part, stored[1:], attributes)
        return self._neighbours(x, key, "Conv", stored, part, attributes)

    def conv_transpose(self, x: Feature, key: str) -> Feature:
        weight, bias = self.conv_parameters(key, None)
        kernel = list(weight.shape[3:])
        stored = self.stored(key, transposed_taps_in_channels(weight), bias)
        attributes = {"kernel_shape": kernel, "strides": [2, 2], "pads": [1] * 4}
        part = self._parts(key, stored[0], 0, weight.shape[0])
        return self._neighbours(x, key, "ConvTranspose", stored, part, attributes)

    def upsample(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: resize(self.g, part, at, spatial_rank=2))

    def _spatial_rank(self) -> int:
        return 2

    def _parts(self, key: str, weight: str, axis: int, channels: int) -> _Part:
        """`axis`: the weight's input channel axis."""

        def part(name: str) -> str:
            first, end = _TAPS[name]
            return self.g.slice(weight, axis, first * channels, end * channels, f"{key}/taps_{name}")

        return part

    def _neighbours(
        self,
        x: Feature,
        key: str,
        kind: str,
        stored: list[str],
        part: _Part,
        attributes: Mapping[str, object],
    ) -> Feature:
        """One 2-D operator per time step over its neighbours: ten frames are copied."""
        g, (weight, *bias) = self.g, stored
        weights = {0: part("first"), WINDOW - 1: part("last")}
        outputs = []
        for t in range(WINDOW):
            neighbours = x[max(t - 1, 0) : t + 2]
            seen = g.op("Concat", neighbours, f"{key}/neighbours/t{t}", axis=1)
            outputs.append(g.op(kind, [seen, weights.get(t, weight), *bias], f"{key}/t{t}", **attributes))
        return tuple(outputs)

    def _pairs_and_thirds(
        self, x: Feature, key: str, part: _Part, bias: list[str], attributes: Mapping[str, object]
    ) -> Feature:
        """The first two frames and the last two, each concatenated once, serve two steps: four are copied.

        The inner steps add the product of their third frame, which runtimes fuse into the convolution.
        """
        g = self.g
        early = g.op("Concat", x[:2], f"{key}/early", axis=1)
        late = g.op("Concat", x[2:], f"{key}/late", axis=1)
        first, last = part("first"), part("last")

        def conv(seen: str, weight: str, at: str, *added: str) -> str:
            return g.op("Conv", [seen, weight, *added], f"{key}/{at}", **attributes)

        def inner(pair: str, weight: str, third: str, its_weight: str, at: str) -> str:
            own = conv(third, its_weight, f"{at}/third")
            return g.op("Add", [own, conv(pair, weight, f"{at}/pair", *bias)], f"{key}/{at}")

        return (
            conv(early, first, "t0", *bias),
            inner(early, last, x[2], part("next"), "t1"),
            inner(late, first, x[1], part("previous"), "t2"),
            conv(late, last, "t3", *bias),
        )
