"""The conv2d form: no tensor of rank 5, in operators that every runtime has and tunes.

A convolution over time becomes convolutions over frames concatenated along channels: time has 4 steps and
each kernel spans 3, so the outer steps see two frames and the inner ones three.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flavr.config import WINDOW
from flavr_export._form import Feature, Form, resize, taps_in_channels, transposed_taps_in_channels

_SMALLEST_OF_SUMS = 8  # channels of a block of ONNX Runtime's; the stem's frames cost little to copy

# Parts of a weight, by taps: Slices, which runtimes fold when they load the file. Ends are exclusive.
_TAPS = {"first": (1, 3), "last": (0, 2), "previous": (0, 1), "next": (2, 3)}
_Part = Callable[[str], str]

_PHASES = 2  # of a transposed convolution of stride 2, in height and in width


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
        if self.spec.subpixel:
            return self._subpixels(x, key, weight, bias)
        kernel = list(weight.shape[3:])
        stored = self.stored(key, transposed_taps_in_channels(weight), bias)
        attributes = {"kernel_shape": kernel, "strides": [2, 2], "pads": [1] * 4}
        part = self._parts(key, stored[0], 0, weight.shape[0])
        return self._neighbours(x, key, "ConvTranspose", stored, part, attributes)

    def upsample(self, x: Feature, name: str) -> Feature:
        return self._each(x, name, lambda part, at: resize(self.g, part, at, spatial_rank=2))

    def _subpixels(
        self, x: Feature, key: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None
    ) -> Feature:
        """A transposed convolution as one of 2x2 pixels that makes four for each place between them.

        Half a pixel sticks out at every side, so the first and last row and column are cut off.
        """
        apart = taps_in_channels(_subpixel_weight(weight))
        spread = None if bias is None else np.tile(bias, _PHASES**2)
        stored = self.stored(key, apart, spread)
        attributes = {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1] * 4}
        part = self._parts(key, stored[0], 1, weight.shape[0])
        grids = self._neighbours(x, key, "Conv", stored, part, attributes)
        ints = self.g.integers
        inside = [ints(1, 1), ints(-1, -1), ints(2, 3)]

        def finished(grid: str, at: str) -> str:
            doubled = self.g.op("DepthToSpace", [grid], f"{at}/doubled", blocksize=_PHASES)
            return self.g.op("Slice", [doubled, *inside], f"{at}/crop")

        return self._each(grids, key, finished)

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


def _subpixel_weight(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A transposed convolution's weight [C, outputs, 3, 4, 4] as [4 outputs, C, 3, 2, 2].

    Row 2 i + k - 1 of the output takes tap k from row i. Between rows i and i + 1 that is rows 2 i + 1,
    of taps 2 and 0, and 2 i + 2, of taps 3 and 1; columns alike. The outputs of a place come in the order
    of DepthToSpace.
    """
    rows = [[2, 0], [3, 1]]  # [phase, tap]
    picked = weight[:, :, ::-1][:, :, :, rows][..., rows]  # [C, outputs, 3, phase, tap, phase, tap]
    return picked.transpose(3, 5, 1, 0, 2, 4, 6).reshape(-1, weight.shape[0], 3, 2, 2)
