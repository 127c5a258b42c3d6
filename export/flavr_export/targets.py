"""What each execution provider can take of a FLAVR graph, as data.

Gathered from the runtimes' sources and kernel registrations and from trials on CPU machines. A kernel that
is registered open-ended matches only at its exact version in some runtimes, so a newer opset can drop a node
to the CPU in silence: `newest_version` is the newest version of an operator with a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from flavr_export.spec import GraphForm, Precision

_FLOATS = frozenset({"float", "float16"})  # names of onnx.TensorProto.DataType, in lower case
_BYTES = frozenset({"uint8", "int8"})
_INDICES = frozenset({"int64"})  # shapes, starts, ends: host-side arithmetic everywhere

_ELEMENTWISE = ("Add", "Mul", "Sub", "Relu", "LeakyRelu", "Sigmoid", "Clip", "Round")
_MOVEMENT = ("Cast", "Concat", "DepthToSpace", "Gather", "Reshape", "Slice", "Transpose", "Unsqueeze")
QUANTISED = ("DequantizeLinear", "QuantizeLinear")
_NETWORK = ("Conv", "ConvTranspose", "MatMul", "Pad", "ReduceMean", "Resize")
_SHAPES = ("Div", "Mod", "Neg", "Shape")
_ALL = frozenset(QUANTISED + _ELEMENTWISE + _MOVEMENT + _NETWORK + _SHAPES)

LOWER_OPSET = "use --opset 18"
FLAT_GRAPH = "use --graph conv2d"
FIXED_SIZE = "fix the shape with --size HxW"
NO_PAD = "use --padding slices"
FLOAT_IO = "use --io float"
NO_BYTES = "use --precision fp32"

DEFAULT_GRAPH: GraphForm = "conv2d"
"""For files that must run anywhere, and where nothing else was measured to be faster."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What kind of 8-bit numbers a provider multiplies fastest; weights are int8, per output channel."""

    activations: Literal["uint8", "int8"]
    symmetric: bool  # zero stays zero
    reduced_range: bool  # weights of 7 bits: x86 without VNNI adds up pairs of products in 16 bits

    def __str__(self) -> str:
        around = " around zero" if self.symmetric else ""
        return f"activations {self.activations}{around}, weights int8" + (
            " of 7 bits" if self.reduced_range else ""
        )


X86 = Quantisation("uint8", symmetric=False, reduced_range=True)
"""Exact with and without VNNI."""

SYMMETRIC = Quantisation("int8", symmetric=True, reduced_range=False)
"""GPUs and NPUs have no zero points in their kernels."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A form of an operator that a provider does not run; it applies where all its conditions hold."""

    operator: str
    reason: str
    cure: str  # the option of flavr-export that avoids it
    rank: int | None = None  # of the node's data input
    mode: str | None = None  # of a Pad
    dynamic: bool | None = None  # whether the data input's height or width is only known at run time
    newer_than: int | None = None  # newest version of the operator that has a kernel


@dataclass(frozen=True, slots=True)
class Target:
    """One execution provider, as far as FLAVR graphs are concerned."""

    name: str
    title: str
    opsets: range
    limits: tuple[Limit, ...] = ()
    operators: frozenset[str] = _ALL
    dtypes: frozenset[str] = _FLOATS | _BYTES | _INDICES
    dtype_cure: str = FLOAT_IO
    quantisation: Quantisation = SYMMETRIC
    symmetric_only: bool = False  # refuses other 8-bit numbers, where others are but slower with them
    graph: GraphForm = DEFAULT_GRAPH  # the fastest where it was measured: benchmarks/results


def _no_newer(operator: str, version: int) -> Limit:
    reason = f"no kernel newer than {operator}-{version}"
    return Limit(operator, reason, LOWER_OPSET, newer_than=version)


_NO_DYNAMIC_PAD = tuple(
    Limit("Pad", f"{mode} padding of a dynamic shape is not parsed", FIXED_SIZE, mode=mode, dynamic=True)
    for mode in ("reflect", "edge")
)
_NO_RUN_TIME_SIZES = Limit("Shape", "sizes must be known when the model is loaded", FIXED_SIZE)
_MIGRAPHX = Target("migraphx", "MIGraphX", range(13, 24), limits=_NO_DYNAMIC_PAD)

_TABLE = (
    Target(
        "cpu",
        "ONNX Runtime CPU",
        range(10, 29),
        # in 1.32; opset 28 has new versions, of which it has no kernels
        limits=tuple(_no_newer(operator, 25) for operator in QUANTISED),
        quantisation=X86,
        graph="winograd",
    ),
    Target(
        "cuda",
        "CUDA",
        range(13, 24),
        # Newer kernels exist in the latest builds only; older ones place these nodes on the CPU.
        limits=(_no_newer("Pad", 18), _no_newer("ConvTranspose", 11)),
    ),
    Target("tensorrt", "TensorRT", range(9, 21), symmetric_only=True),  # zero points must be 0
    _MIGRAPHX,
    Target("rocm", "ROCm (MIGraphX)", _MIGRAPHX.opsets, limits=_MIGRAPHX.limits),
    Target("openvino", "OpenVINO", range(13, 26), quantisation=X86),
    Target(
        "directml",
        "DirectML",
        range(7, 22),
        limits=(_no_newer("Conv", 11), _no_newer("ConvTranspose", 11), _no_newer("Pad", 21)),
    ),
    Target(
        "coreml",
        "CoreML (ML Program)",
        range(13, 24),
        limits=(
            Limit("Conv", "no convolution over 5-D tensors", FLAT_GRAPH, rank=5),
            Limit("ConvTranspose", "no convolution over 5-D tensors", FLAT_GRAPH, rank=5),
            _NO_RUN_TIME_SIZES,
        ),
        operators=_ALL - {"Pad"},
        dtypes=_FLOATS | _INDICES,
    ),
    Target(
        "webgpu",
        "WebGPU (onnxruntime-web)",
        range(13, 22),
        limits=(
            Limit("ConvTranspose", "5-D is claimed, then fails when it runs", FLAT_GRAPH, rank=5),
            _no_newer("Conv", 11),
            _no_newer("ConvTranspose", 11),
        ),
        dtypes=_FLOATS | _INDICES,
    ),
    Target("wasm", "WebAssembly (onnxruntime-web)", range(13, 24), quantisation=X86),
    Target(
        "webnn",
        "WebNN (onnxruntime-web)",
        range(13, 24),
        limits=(
            Limit("Conv", "no convolution over 5-D tensors", FLAT_GRAPH, rank=5),
            Limit("ConvTranspose", "no convolution over 5-D tensors", FLAT_GRAPH, rank=5),
            _NO_RUN_TIME_SIZES,
        ),
    ),
)

TARGETS: Mapping[str, Target] = MappingProxyType({target.name: target for target in _TABLE})


def best_graph(targets: Sequence[str], precision: Precision) -> GraphForm:
    """What `--graph auto` means: the fastest form for all `targets`, or the default one where they differ."""
    forms = {TARGETS[target].graph for target in targets if precision == "fp32"}
    return forms.pop() if len(forms) == 1 else DEFAULT_GRAPH


def best_quantisation(targets: Sequence[str]) -> Quantisation:
    """The 8-bit numbers for all `targets`; those for x86 where they differ, or none is named.

    But symmetric ones where a target takes no others: x86 runs them, too, if slower.
    """
    if any(TARGETS[target].symmetric_only for target in targets):
        return SYMMETRIC
    kinds = {TARGETS[target].quantisation for target in targets}
    return kinds.pop() if len(kinds) == 1 else X86
