"""The winograd form: the same numbers from a third to a sixth of the multiplications.

A feature is one tensor [B, 4 C, H, W], time-major. Every kernel of FLAVR spans three time steps, so the four
outputs of a pixel are an F(4, 3) over time: six products instead of the ten that the conv2d form computes.
A layer is written in one of two ways, whichever `_costs` expects to be faster:

- *time*: the six products are six 2-D convolutions, one grouped Conv. The sums before and after are one small
  MatMul each, over tensors that are not moved.
- *space*: height and width are transformed too (F(4, 3) each; F(3, 2) where the kernel is 2x2), and the
  products are one batched MatMul. The input's transform is a strided Conv with one input channel, the
  output's a MatMul and two Transpose that put the outputs of a tile side by side.

Weights are stored as in the conv2d form, bit for bit, so that one file can hold them for both (twins.py);
the graph reorders and transforms them, which runtimes do once, when they load it. A transposed convolution
is a 2x2 convolution with four outputs per pixel, one for each of the 2x2 pixels that it becomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flavr._cook_toom import POINT_ONE, Matrix, short_convolution
from flavr.config import MULTIPLE, WINDOW
from flavr_export._builder import GraphBuilder
from flavr_export._costs import TILE, Layer, Way, faster_way
from flavr_export._form import Feature, Form, Weights, resize, taps_in_channels, transposed_taps_in_channels
from flavr_export.spec import ExportSpec

_TIME = short_convolution(WINDOW, 3)
_TIME_INPUTS = _TIME.inputs[:, 1:-1]  # the frames before the first and after the last are zero

_Part = int | str  # of a shape: a number, or the name of an int64 tensor [n] that is known at run time


@dataclass(frozen=True, slots=True)
class _Place:
    """What is known of a feature [B, 4 channels, H8 / scale, W8 / scale]."""

    channels: int
    scale: int


class WinogradForm(Form):
    """A feature is one tensor [B, 4 C, H, W]."""

    def __init__(self, g: GraphBuilder, weights: Weights, spec: ExportSpec) -> None:
        super().__init__(g, weights, spec)
        self._places: dict[str, _Place] = {}
        height, width = spec.size or (0, 0)
        self._whole: tuple[_Part, _Part] = height + -height % MULTIPLE, width + -width % MULTIPLE
        self._derived: set[str] = set()  # numbers that the graph computes from these at run time
        self._batch: _Part = 1
        self._pictures: _Part = WINDOW  # in a batch of windows

    def enter(self, frames: Feature) -> Feature:
        g = self.g
        stack = g.op("Concat", frames, "stack", axis=1)
        if self.spec.size is None:
            shape = g.op("Shape", [stack], "stack/shape")
            self._whole = g.slice(shape, 0, 2, 3, "stack/height"), g.slice(shape, 0, 3, 4, "stack/width")
            if self.spec.io != "packed":
                self._batch = g.slice(shape, 0, 0, 1, "stack/batch")
                self._pictures = self._calculated("Mul", self._batch, WINDOW)
        return self._feature(stack, _Place(3, 1))

    def fold(self, x: Feature, name: str) -> str:  # noqa: ARG002  a feature is folded as it is
        return x[0]

    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        weight, bias = self.conv_parameters(key, bn)
        outputs, inputs, taps, kernel, _ = weight.shape
        place = _Place(outputs, self._places[x[0]].scale * stride)
        if taps == 1:
            return self._refolded(self._pointwise(x[0], key, weight, bias, stride), place, key)
        layer = Layer(inputs, outputs, kernel, stride)
        way = self._way(layer)
        prepared = self._taps(key, weight, way)
        if way == "time":
            return self._refolded(self._by_time(x[0], key, layer, prepared, bias), place, key)
        pictures, _ = self._by_space(x[0], key, layer, prepared, bias)
        if not self._tiled(TILE[kernel], place.scale):
            ends = self._shape(self._size(place.scale), f"{key}/ends")
            axes = self.g.integers(2, 3)
            pictures = self.g.op("Slice", [pictures, self.g.integers(0, 0), ends, axes], f"{key}/crop")
        return self._refolded(pictures, place, key)

    def conv_transpose(self, x: Feature, key: str) -> Feature:
        weight, bias = self.conv_parameters(key, None)
        inputs, outputs = weight.shape[:2]
        place = _Place(outputs, self._places[x[0]].scale // 2)
        layer = Layer(inputs, 4 * outputs, 2, 1)
        way = self._way(layer)
        prepared, spread = self._subpixel_taps(key, weight, way), None if bias is None else np.tile(bias, 4)
        if way == "time":
            grid = self._by_time(x[0], key, layer, prepared, spread)
            columns = self._calculated("Add", self._size(2 * place.scale)[1], 1)
        else:
            grid, columns = self._by_space(x[0], key, layer, prepared, spread)
        doubled = self._side_by_side(grid, 2, outputs, columns, f"{key}/subpixels")
        # A pixel of the grid lies between four of the input: half a pixel sticks out at every side.
        ends = [self._calculated("Add", side, 1) for side in self._size(place.scale)]
        inside = [self.g.integers(1, 1), self._shape(ends, f"{key}/ends"), self.g.integers(2, 3)]
        return self._refolded(self.g.op("Slice", [doubled, *inside], f"{key}/crop"), place, key)

    def upsample(self, x: Feature, name: str) -> Feature:
        place = self._places[x[0]]
        larger = resize(self.g, self._unfolded(x[0], name), name, spatial_rank=2)
        return self._refolded(larger, _Place(place.channels, place.scale // 2), name)

    def add(self, a: Feature, b: Feature, name: str) -> Feature:
        return self._feature(super().add(a, b, name)[0], self._places[a[0]])

    def concat(self, a: Feature, b: Feature, name: str) -> Feature:
        parts = [self._reshape(x, (0, WINDOW, -1, 0), f"{name}/{x}") for x in (a[0], b[0])]
        channels = sum(self._places[x].channels for x in (a[0], b[0]))
        joined = self.g.op("Concat", parts, name, axis=2)
        folded = self._reshape(joined, (0, WINDOW * channels, -1, 0), f"{name}/fold")
        return self._feature(folded, _Place(channels, self._places[a[0]].scale))

    def last_conv(self, x: str, key: str) -> str:
        """As seven convolutions of one row: three output channels would leave the machine's vectors empty.

        One Conv makes what each row of the kernel sees, in seven times the channels; shifted, they add up.
        """
        g, weight, bias = self.g, self.weights[f"{key}.weight"], self.weights[f"{key}.bias"]
        outputs, inputs, rows, columns = weight.shape
        (stored,) = self.stored(key, weight, None)
        flat = g.op("Transpose", [stored], "outconv/by_row", perm=[2, 0, 1, 3])
        flat = self._reshape(flat, (rows * outputs, inputs, 1, columns), "outconv/weights")
        first = np.concatenate([bias, np.zeros((rows - 1) * outputs, np.float32)])
        spread = g.constant(f"{key}/bias/spread", first)
        seen = g.op("Conv", [x, flat, spread], "outconv/rows", kernel_shape=[1, columns])
        total = ""
        for row in range(rows):
            starts = g.integers(row * outputs, row)
            ends = g.integers((row + 1) * outputs, row - rows + 1 or np.iinfo(np.int64).max)
            part = g.op("Slice", [seen, starts, ends, g.integers(1, 2)], f"outconv/row{row}")
            total = g.op("Add", [total, part], f"outconv/sum{row}") if row else part
        return total

    def _spatial_rank(self) -> int:
        return 2

    def _channel_means(self, x: Feature, name: str) -> str:
        folded = super()._channel_means(x, name)
        channels = self._places[x[0]].channels
        by_time = self._reshape(folded, (0, WINDOW, channels, 1), f"{name}/by_time")
        return self._reshape(self.g.mean_over(by_time, 1, f"{name}/time"), (0, channels, 1, 1), name)

    def _per_channel(self, value: str, name: str) -> str:
        return self.g.op("Concat", [value] * WINDOW, f"{name}/each", axis=1)

    def _each(self, x: Feature, name: str, write: Callable[[str, str], str]) -> Feature:
        return self._feature(super()._each(x, name, write)[0], self._places[x[0]])

    # Convolutions.

    def _way(self, layer: Layer) -> Way:
        return faster_way(layer)

    def _pointwise(
        self, x: str, key: str, weight: NDArray[np.float32], bias: NDArray[np.float32] | None, stride: int
    ) -> str:
        stored = self.stored(key, weight[:, :, 0], bias)
        kernel = list(weight.shape[3:])
        attributes = {"kernel_shape": kernel, "strides": [stride] * 2}
        return self.g.op("Conv", [self._unfolded(x, key), *stored], key, **attributes)

    def _taps(self, key: str, weight: NDArray[np.float32], way: Way) -> str:
        """A convolution's weight [outputs, C, 3, k, k] as the transforms of a way take it.

        *time*: [3, outputs C k k]; *space*: [1, 3 k k, outputs, C].
        """
        g, (outputs, inputs, taps, kernel, _) = self.g, weight.shape
        apart = taps_in_channels(weight).reshape(outputs, taps, inputs, kernel**2)
        stored = g.constant(f"{key}.weight", apart)
        order = [1, 0, 2, 3] if way == "time" else [1, 3, 0, 2]
        turned = g.op("Transpose", [stored], f"{key}/stored/by_tap", perm=order)
        sides = (taps, -1) if way == "time" else (1, taps * kernel**2, outputs, inputs)
        return self._reshape(turned, sides, f"{key}/stored/flat")

    def _subpixel_taps(self, key: str, weight: NDArray[np.float32], way: Way) -> str:
        """A transposed convolution's weight [C, outputs, 3, 4, 4], stride 2, as `_taps` of a 2x2 convolution.

        It has 4 outputs of those: for the upper left, upper right, lower left and lower right pixel of a 2x2
        block that starts half an input pixel before the one that the kernel ends at.
        """
        g, (inputs, outputs, taps, kernel, _) = self.g, weight.shape
        apart = transposed_taps_in_channels(weight).reshape(taps, inputs * outputs, kernel**2)
        stored = g.constant(f"{key}.weight", apart)
        # [4 pixels, 4 taps] of a 2x2 convolution -> the place in the kernel. Pixel `row` takes every second
        # row of it, the last ones first.
        rows = np.array([[2, 0], [3, 1]])
        places = (kernel * rows[:, None, :, None] + rows[None, :, None, :]).reshape(4, 4)
        if way == "space":
            places = places.T
        picked = g.op("Gather", [stored, g.constant(f"const/places_{way}", places)], f"{key}/picked", axis=2)
        order = [0, 2, 1, 3] if way == "time" else [0, 2, 3, 1]
        picked = g.op("Transpose", [picked], f"{key}/picked/by_tap", perm=order)
        sides = (taps * 4, inputs, outputs, 4) if way == "time" else (taps * 16, inputs, outputs, 1)
        picked = self._reshape(picked, sides, f"{key}/picked/apart")
        turned = g.op("Transpose", [picked], f"{key}/picked/by_output", perm=[0, 2, 1, 3])
        flat = (taps, -1) if way == "time" else (1, taps * 4, 4 * outputs, inputs)
        return self._reshape(turned, flat, f"{key}/picked/flat")

    def _by_time(self, x: str, key: str, layer: Layer, taps: str, bias: NDArray[np.float32] | None) -> str:
        """A convolution, its weight as from `_taps`, as [B, 4, N], N the outputs of one time step."""
        g, place, products = self.g, self._places[x], _TIME.products
        inputs, outputs, kernel = layer.inputs, layer.outputs, layer.kernel
        weights = self._matmul("time/taps", _TIME.taps, taps, f"{key}/taps")
        conv_inputs = [self._reshape(weights, (products * outputs, inputs, kernel, kernel), f"{key}/weights")]
        if bias is not None:
            spread = np.zeros((products, outputs), np.float32)
            spread[POINT_ONE] = bias
            conv_inputs.append(g.constant(f"{key}/bias/spread", spread.reshape(-1)))
        steps = self._reshape(x, (0, WINDOW, -1), f"{key}/steps")
        mixed = self._matmul("time/inputs", _TIME_INPUTS, steps, f"{key}/inputs")
        mixed = self._reshape(mixed, (-1, products * inputs, *self._size(place.scale)), f"{key}/products")
        attributes = {"kernel_shape": [kernel] * 2, "strides": [layer.stride] * 2, "pads": [kernel // 2] * 4}
        made = self._grouped_conv([mixed, *conv_inputs], key, inputs, outputs, attributes)
        made = self._reshape(made, (0, products, -1), f"{key}/made")
        return self._matmul("time/outputs", _TIME.outputs, made, f"{key}/sums")

    def _grouped_conv(
        self, conv_inputs: list[str], key: str, inputs: int, outputs: int, attributes: Mapping[str, object]
    ) -> str:
        """One convolution per product. Three channels fill no block of any runtime: written apart."""
        g, products = self.g, _TIME.products
        if inputs > 3:
            return g.op("Conv", conv_inputs, key, group=products, **attributes)
        parts = []
        for product in range(products):
            at = f"{key}/product{product}"
            x = g.slice(conv_inputs[0], 1, product * inputs, (product + 1) * inputs, f"{at}/input")
            own = [
                g.slice(name, 0, product * outputs, (product + 1) * outputs, f"{at}/parameter{number}")
                for number, name in enumerate(conv_inputs[1:])
            ]
            parts.append(g.op("Conv", [x, *own], at, **attributes))
        return g.op("Concat", parts, key, axis=1)

    def _by_space(
        self, x: str, key: str, layer: Layer, taps: str, bias: NDArray[np.float32] | None
    ) -> tuple[str, _Part]:
        """A convolution, its weight as from `_taps`, as [4 B, outputs, H', W'], and W'.

        H' and W' are H and W, one more where k is even, rounded up to whole tiles.
        """
        g, place = self.g, self._places[x]
        inputs, outputs, kernel = layer.inputs, layer.outputs, layer.kernel
        tile = TILE[kernel]
        short = short_convolution(tile, kernel)
        side = short.products
        products = _TIME.products * side**2
        # A Conv of 1x1, because a MatMul's result would have to be reshaped, which takes a copy of it.
        of_taps = np.kron(_TIME.taps, np.kron(short.taps, short.taps)).reshape(products, -1, 1, 1)
        transform = self._matrix(f"space{kernel}/taps", of_taps)
        weights = g.op("Conv", [taps, transform], f"{key}/weights", kernel_shape=[1, 1])

        planes = self._reshape(x, (-1, 1, 0, 0), f"{key}/planes")
        of_pixels = np.kron(short.inputs, short.inputs).reshape(side**2, 1, side, side)
        tiles = g.op(
            "Conv",
            [planes, self._matrix(f"space{kernel}/inputs", of_pixels)],
            f"{key}/tiles",
            kernel_shape=[side, side],
            strides=[tile, tile],
            pads=[1, 1, tile, tile],
        )
        tiles = self._reshape(tiles, (self._pictures, inputs, side**2, -1), f"{key}/by_channel")
        tiles = g.op("Transpose", [tiles], f"{key}/by_product", perm=[0, 2, 1, 3])
        steps = self._reshape(tiles, (self._batch, WINDOW, -1), f"{key}/steps")
        mixed = self._matmul("time/inputs", _TIME_INPUTS, steps, f"{key}/inputs")
        mixed = self._reshape(mixed, (0, products, inputs, -1), f"{key}/products")
        made = g.op("MatMul", [weights, mixed], key)
        sums = self._reshape(made, (0, _TIME.products, -1), f"{key}/made")
        sums = self._matmul("time/outputs", _TIME.outputs, sums, f"{key}/sums")
        sums = self._reshape(sums, (0, WINDOW, side**2, -1), f"{key}/by_place")
        sums = self._matmul(
            f"space{kernel}/outputs", np.kron(short.outputs, short.outputs), sums, f"{key}/placed"
        )
        if bias is not None:
            by_channel = self._reshape(sums, (0, WINDOW * tile**2, outputs, -1), f"{key}/by_output")
            spread = g.constant(f"{key}/bias/spread", bias.reshape(1, 1, -1, 1))
            sums = g.op("Add", [by_channel, spread], f"{key}/bias")
        across = self._calculated("Add", self._size(place.scale)[1], tile - kernel % 2)
        columns = self._calculated("Div", across, tile)
        pictures = self._side_by_side(sums, tile, outputs, columns, f"{key}/pictures")
        return pictures, self._calculated("Mul", columns, tile)

    def _side_by_side(self, x: str, block: int, channels: int, columns: _Part, name: str) -> str:
        """[B, 4 block^2 C h w] -> [4 B, C, block h, block w]: DepthToSpace, in half of its time."""
        g = self.g
        rows = self._reshape(x, (self._batch, WINDOW * block, block, -1), f"{name}/columns")
        rows = g.op("Transpose", [rows], f"{name}/side_by_side", perm=[0, 1, 3, 2])
        wider = self._calculated("Mul", columns, block)
        rows = self._reshape(rows, (self._pictures, block, -1, wider), f"{name}/rows")
        whole = g.op("Transpose", [rows], f"{name}/one_below_the_other", perm=[0, 2, 1, 3])
        return self._reshape(whole, (self._pictures, channels, -1, wider), name)

    def _matmul(self, matrix_name: str, matrix: Matrix, x: str, name: str) -> str:
        return self.g.op("MatMul", [self._matrix(matrix_name, matrix), x], name)

    def _matrix(self, name: str, matrix: Matrix) -> str:
        return self.g.constant(f"const/winograd/{name}", matrix.astype(np.float32))

    # Shapes.

    def feature(self, tensor: str, channels: int, scale: int) -> Feature:
        """Make a tensor [B, 4 channels, H / scale, W / scale] known."""
        return self._feature(tensor, _Place(channels, scale))

    def _feature(self, tensor: str, place: _Place) -> Feature:
        self._places[tensor] = place
        return (tensor,)

    def _unfolded(self, x: str, name: str) -> str:
        """[B, 4 C, H, W] -> [4 B, C, H, W]"""
        place = self._places[x]
        return self._reshape(x, (-1, place.channels, *self._size(place.scale)), f"{name}/unfold")

    def _refolded(self, x: str, place: _Place, name: str) -> Feature:
        """[4 B, C, H, W] -> [B, 4 C, H, W]"""
        shape = (-1, WINDOW * place.channels, *self._size(place.scale))
        return self._feature(self._reshape(x, shape, f"{name}/fold"), place)

    def _size(self, scale: int) -> tuple[_Part, _Part]:
        """Height and width of features."""
        height, width = (self._calculated("Div", side, scale) for side in self._whole)
        return height, width

    def _tiled(self, tile: int, scale: int) -> bool:
        """Whether features are always made of whole tiles."""
        sides = [side if isinstance(side, int) else MULTIPLE // scale for side in self._size(scale)]
        return all(side % tile == 0 for side in sides)

    def _calculated(self, operator: Literal["Add", "Mul", "Div"], part: _Part, by: int) -> _Part:
        """A part of a shape, calculated now where it is known, else by the graph, once."""
        if isinstance(part, int):
            return {"Add": part + by, "Mul": part * by, "Div": part // by}[operator]
        if operator == "Div" and by == 1:
            return part
        name = f"{part.removesuffix('.out')}/{operator.lower()}{by}"
        if name in self._derived:
            return f"{name}.out"
        self._derived.add(name)
        return self.g.op(operator, [part, self.g.integers(by)], name)

    def _reshape(self, x: str, shape: Sequence[_Part], name: str) -> str:
        return self.g.op("Reshape", [x, self._shape(shape, f"{name}/shape")], name)

    def _shape(self, parts: Sequence[_Part], name: str) -> str:
        """The parts as one int64 tensor."""
        runs: list[list[int] | str] = []
        for part in parts:
            if isinstance(part, str):
                runs.append(part)
            elif runs and isinstance(runs[-1], list):
                runs[-1].append(part)
            else:
                runs.append([part])
        names = [run if isinstance(run, str) else self.g.integers(*run) for run in runs]
        return names[0] if len(names) == 1 else self.g.op("Concat", names, name, axis=0)
