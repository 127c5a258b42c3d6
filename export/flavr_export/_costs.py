"""Which way of writing a layer of the winograd form is faster: a model fitted to measurements.

`benchmarks/winograd_layers.py` measures layers written in both ways and fits these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Way = Literal["time", "space"]

TILE: Mapping[int, int] = MappingProxyType({3: 4, 2: 3})
"""Kernel size -> outputs per tile and axis, where height and width are transformed too."""

TIME_PRODUCTS = 6
"""Of F(4, 3) over time, for all four steps together."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution over three time steps, with a kernel of `kernel` x `kernel`."""

    inputs: int  # channels
    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Costs:
    """Nanoseconds on one core."""

    product: float  # per multiplication and addition of the products themselves
    move: float  # per number that the transforms write


COSTS: Mapping[Way, Costs] = MappingProxyType(
    # benchmarks/results/winograd-layers-cpu-avx2-2core-ort1.32.json, another run of it
    {"time": Costs(product=0.0231, move=1.87), "space": Costs(product=0.0302, move=2.13)}
)


def faster_way(layer: Layer) -> Way:
    if layer.stride != 1 or layer.kernel not in TILE:
        return "time"
    return min(COSTS, key=lambda way: nanoseconds(layer, way, COSTS[way]))


def nanoseconds(layer: Layer, way: Way, costs: Costs) -> float:
    """What one output pixel of a window takes, its four time steps together."""
    products, moves = work(layer, way)
    return products * costs.product + moves * costs.move


def work(layer: Layer, way: Way) -> tuple[float, float]:
    """Products and moved numbers per output pixel."""
    channels = layer.inputs + layer.outputs
    if way == "time":
        return TIME_PRODUCTS * layer.kernel**2 * layer.inputs * layer.outputs, TIME_PRODUCTS * channels
    tile = TILE[layer.kernel]
    positions = (tile + layer.kernel - 1) ** 2 / tile**2  # per output pixel
    return TIME_PRODUCTS * positions * layer.inputs * layer.outputs, TIME_PRODUCTS * positions * channels
