"""A float32 graph with its convolutions in 8 bits: QuantizeLinear and DequantizeLinear around them.

ONNX Runtime's own quantiser finds the ranges and writes the graph; what is decided here is which ranges to
believe and which layers to leave alone, by what it costs on windows that the ranges were not taken from.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from flavr_export._calibration import Window
from flavr_export.errors import CalibrationError, MissingPackageError
from flavr_export.spec import CALIBRATIONS, Calibration
from flavr_export.targets import Quantisation

LARGEST_LOSS = 0.15
"""dB of PSNR against the true frames, on windows held out, that 8 bits may cost."""

_FLOAT_LAYERS = re.compile(
    r"encoder\.stem\.0|outconv|feature_fuse|.*\.(attn_layer|fg)\b.*|.*conv\.1|.*upconv\.1"
)
"""Never quantised: the first and last layers, and the gates, whose convolutions have one pixel."""

_SUSPECT = "decoder.4.upconv.0"
"""The last transposed convolution, the first to stay in float32 where all in 8 bits lose too much.

It writes what becomes pixels: alone it cost 8.2 of the 8.2 dB that the network that ships lost by min-max.
"""

_ENTROPY_BINS = 256
"""Of a histogram; more take longer, with the square, and do not lose less."""

Run = Callable[[bytes, Sequence[Window]], list[NDArray[np.float32]]]
"""What a graph makes of windows: code values [n, H, W, 3] each."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """How a graph is quantised."""

    how: Quantisation
    model: onnx.ModelProto  # the graph that was calibrated, every layer quantised
    calibration: Calibration
    lost: float  # dB of PSNR against the true frames, on the windows held out
    tried: Mapping[Calibration, float]  # the same for every calibration, before any layer was scanned
    sensitivity: Mapping[str, float]  # layer -> dB lost by quantising it alone; empty if it was not needed
    float_layers: tuple[str, ...]  # left in float32 because of it

    def applied(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """A conv2d graph of the same network, of whatever inputs and size, quantised like this."""
        return _shared(_applied(self.model, _folded(graph), self.float_layers), graph)


def quantise(
    model: onnx.ModelProto,
    calibrating: Sequence[Window],
    held_out: Sequence[Window],
    how: Quantisation,
    run: Run,
    *,
    calibrations: Sequence[Calibration] = CALIBRATIONS,
    scan: bool = False,
) -> Quantised:
    """Find out how to quantise the convolutions of a conv2d graph.

    Args:
        model: of uint8 pictures of any size.
        run: runs a graph on windows.
        calibrations: ways of finding ranges, of which the one that costs least is taken.
        scan: measure every layer even where nothing needs it.

    Raises:
        CalibrationError: more than `LARGEST_LOSS` is lost as long as any layer has 8 bits.
    """
    flat = _folded(model)
    layers = sorted({layer for node in flat.graph.node if (layer := _layer(node)) is not None})
    truth = [np.stack([np.asarray(frame[0], np.float32) for frame in window.between]) for window in held_out]
    reference = _psnr(run(flat.SerializeToString(), held_out), truth)

    def lost(graph: onnx.ModelProto) -> float:
        return reference - _psnr(run(graph.SerializeToString(), held_out), truth)

    ranges = _ranges_of_wholes(model, flat)
    graphs = {name: _calibrated(flat, calibrating, how, name, ranges) for name in calibrations}
    tried = {name: lost(graph) for name, graph in graphs.items()}
    floats: list[str] = []
    if min(tried.values()) > LARGEST_LOSS and _SUSPECT in layers:
        floats.append(_SUSPECT)
        tried = {name: lost(_applied(graph, flat, floats)) for name, graph in graphs.items()}
    best = min(tried, key=lambda name: tried[name])
    sensitivity: dict[str, float] = {}
    if scan or tried[best] > LARGEST_LOSS:
        for layer in layers:
            sensitivity[layer] = lost(_applied(graphs[best], flat, {*layers} - {layer}))
    loss = tried[best]
    for layer in sorted(sensitivity.keys() - floats, key=lambda name: -sensitivity[name]):
        if loss <= LARGEST_LOSS:
            break
        floats.append(layer)
        loss = lost(_applied(graphs[best], flat, floats))
    if loss > LARGEST_LOSS or len(floats) == len(layers):  # with all of them in float32 nothing is lost
        raise CalibrationError(
            f"8 bits cost {tried[best]:.2f} dB on frames held out of the calibration (allowed: "
            f"{LARGEST_LOSS}); calibrate with clips like those it will see, or use --precision fp32"
        )
    return Quantised(how, graphs[best], best, loss, tried, sensitivity, tuple(floats))


def _layer(node: onnx.NodeProto) -> str | None:
    """The layer whose convolution a node is, one of up to four; None for what is never quantised."""
    if node.op_type != "Conv":
        return None
    name = re.sub(r"/t\d$", "", node.name)
    return None if _FLOAT_LAYERS.fullmatch(name) or name.endswith("/conv") else name


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with slices of stored weights stored as well, and with a bias for each convolution.

    The quantiser takes stored weights only, and rounds a bias to the scale of one convolution's input.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    del flat.graph.node[:], flat.graph.initializer[:]
    for node in model.graph.node:
        if node.op_type == "Slice" and all(name in stored for name in node.input):
            value, *where = (stored[name] for name in node.input)
            part = np.ascontiguousarray(numpy_helper.to_array(value)[_index(value, *where)])
            stored[node.output[0]] = numpy_helper.from_array(part, node.output[0])
        else:
            flat.graph.node.append(node)
            if node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in stored:
                bias = numpy_helper.to_array(stored[node.input[2]])
                own = f"{node.name}/bias"
                flat.graph.node[-1].input[2] = own
                stored[own] = numpy_helper.from_array(bias, own)
    used = {name for node in flat.graph.node for name in node.input}
    flat.graph.initializer.extend(tensor for name, tensor in stored.items() if name in used)
    return flat


def _shared(model: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """The model with parts of weights as slices of the whole again, as before `_folded`, in 8 bits too.

    Runtimes fold them when they load the file, before they look for kernels.
    """
    stored = {tensor.name: tensor for tensor in original.graph.initializer}
    made = {tensor.name: tensor for tensor in model.graph.initializer}
    slices = []
    for node in original.graph.node:
        if node.op_type != "Slice" or any(name not in stored for name in node.input):
            continue
        whole, *where = node.input
        for kind in ("", "_quantized"):
            part = made.get(f"{node.output[0]}{kind}")
            source = made.get(f"{whole}{kind}") or (stored[whole] if not kind else None)
            if part is None or source is None:
                continue
            index = _index(source, *(stored[name] for name in where))
            if np.array_equal(numpy_helper.to_array(part), numpy_helper.to_array(source)[index]):
                del made[part.name]
                made |= {source.name: source} | {name: stored[name] for name in where}
                slices.append(
                    helper.make_node("Slice", [source.name, *where], [part.name], f"{part.name}/part")
                )
    nodes = [*slices, *model.graph.node]
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    del smaller.graph.node[:], smaller.graph.initializer[:]
    smaller.graph.node.extend(nodes)
    smaller.graph.initializer.extend(made.values())
    onnx.checker.check_model(smaller, full_check=True)
    return smaller


def _index(value: onnx.TensorProto, *where: onnx.TensorProto) -> tuple[slice, ...]:
    """What a Slice takes of a stored tensor, by its starts, ends and axes."""
    index = [slice(None)] * len(value.dims)
    for start, end, axis in zip(*(numpy_helper.to_array(each) for each in where), strict=True):
        index[axis] = slice(int(start), int(end))
    return tuple(index)


_Ranges = Mapping[str, Sequence[Mapping[str, float | int]]]  # tensor -> of each channel, for the quantiser


def _ranges_of_wholes(model: onnx.ModelProto, flat: onnx.ModelProto) -> _Ranges:
    """For each part of a stored weight the ranges of the whole, so that it is still a part in 8 bits."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    quantised = {node.input[1] for node in flat.graph.node if _layer(node) is not None}
    ranges = {}
    for node in model.graph.node:
        if node.op_type == "Slice" and node.input[0] in stored and node.output[0] in quantised:
            whole = numpy_helper.to_array(stored[node.input[0]])
            flattened = whole.reshape(len(whole), -1)
            ranges[node.output[0]] = [
                {"axis": 0, "rmin": float(row.min()), "rmax": float(row.max())} for row in flattened
            ]
    return ranges


def _calibrated(
    flat: onnx.ModelProto,
    windows: Sequence[Window],
    how: Quantisation,
    calibration: Calibration,
    weight_ranges: _Ranges,
) -> onnx.ModelProto:
    """Every layer quantised."""
    quantisation = _import_quantisation()
    kinds = {"uint8": quantisation.QuantType.QUInt8, "int8": quantisation.QuantType.QInt8}
    methods = {
        "minmax": quantisation.CalibrationMethod.MinMax,
        "entropy": quantisation.CalibrationMethod.MinMax,  # of tensors whose ranges are not given
        "percentile": quantisation.CalibrationMethod.Percentile,
    }
    excluded = [node.name for node in flat.graph.node if node.op_type == "Conv" and _layer(node) is None]
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(flat, source)
        logging.getLogger().addFilter(_quiet)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it tells its steps
                ranges = dict(weight_ranges)
                if calibration == "entropy":
                    ranges |= _entropy_ranges(source, windows)
                quantisation.quantize_static(
                    source,
                    path,
                    _Reader(windows),
                    op_types_to_quantize=["Conv"],
                    per_channel=True,
                    reduce_range=how.reduced_range,
                    activation_type=kinds[how.activations],
                    weight_type=quantisation.QuantType.QInt8,
                    nodes_to_exclude=excluded,
                    calibrate_method=methods[calibration],
                    extra_options={
                        "ActivationSymmetric": how.symmetric,
                        "WeightSymmetric": True,
                        "CalibPercentile": 99.99,
                        "TensorQuantOverrides": ranges,
                    },
                )
        finally:
            logging.getLogger().removeFilter(_quiet)
        made = onnx.load(path)
    # The quantiser declares a domain that it does not use.
    standard = [entry for entry in made.opset_import if entry.domain in ("", "ai.onnx")]
    del made.opset_import[:]
    made.opset_import.extend(standard)
    return made


def _entropy_ranges(source: Path, windows: Sequence[Window]) -> dict[str, Any]:
    """Ranges of what convolutions take and make, as the quantiser takes them.

    Not by its own entropy method: that compares as many bins as 8 bits have levels, so that nothing but the
    whole range is ever tried, which is min-max.
    """
    quantisation = _import_quantisation()
    calibrator = quantisation.calibrate.create_calibrator(
        source,
        ["Conv"],
        str(source.with_name("entropy.onnx")),
        calibrate_method=quantisation.CalibrationMethod.Entropy,
        extra_options={"num_bins": _ENTROPY_BINS},
    )
    calibrator.collect_data(_Reader(windows))
    found = {name: data.range_value for name, data in calibrator.compute_data().data.items()}
    return {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in found.items()
    }


def _applied(
    quantisation: onnx.ModelProto, graph: onnx.ModelProto, float_layers: Collection[str]
) -> onnx.ModelProto:
    """A float32 graph with the convolutions of its quantised twin, but for some layers.

    The twin's tensors have the same names; it may have other inputs and outputs.
    """
    convolutions = {node.name: node for node in quantisation.graph.node if node.op_type == "Conv"}
    edges = {
        node.output[0]: node
        for node in quantisation.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    rounded = {}  # tensor -> what it is after its pair of QuantizeLinear and DequantizeLinear
    for name, node in edges.items():
        pair = edges.get(node.input[0])
        if node.op_type == "DequantizeLinear" and pair is not None:
            rounded[pair.input[0]] = name
    in_eight_bits = set()  # what quantised convolutions make
    nodes: list[onnx.NodeProto] = []
    written: set[str] = set()

    def write_edges(name: str) -> None:
        if name in edges and name not in written:
            written.add(name)
            for source in edges[name].input:
                write_edges(source)
            nodes.append(edges[name])

    for original in graph.graph.node:
        layer, node = _layer(original), onnx.NodeProto()
        if layer is not None and layer not in float_layers:
            node.CopyFrom(convolutions[original.name])
            in_eight_bits.add(original.output[0])
            for name in node.input:
                write_edges(name)
        else:
            node.CopyFrom(original)
            for position, name in enumerate(node.input):
                if name in in_eight_bits and name in rounded:
                    node.input[position] = rounded[name]
                    write_edges(rounded[name])
        nodes.append(node)
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    needed = {name for node in nodes for name in node.input} - written
    stored = [*quantisation.graph.initializer, *graph.graph.initializer]
    model.graph.initializer.extend({t.name: t for t in stored if t.name in needed}.values())
    onnx.checker.check_model(model, full_check=True)
    return model


class _Reader:
    """What the quantiser calls a CalibrationDataReader."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._next = 0

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        if self._next == len(self._windows):
            return None
        frames = self._windows[self._next].frames
        self._next += 1
        return {f"frame{t}": np.ascontiguousarray(frame) for t, frame in enumerate(frames)}


def _psnr(made: Sequence[NDArray[np.float32]], truth: Sequence[NDArray[np.float32]]) -> float:
    """Mean over windows, in dB, of code values."""
    errors = [float(((a - b) ** 2).mean()) for a, b in zip(made, truth, strict=True)]
    return float(np.mean([10 * math.log10(255**2 / max(error, 1e-3)) for error in errors]))


def _quiet(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()  # advice to do what is done here already


def _import_quantisation() -> Any:  # onnxruntime ships no types
    try:
        import onnxruntime.quantization
    except ImportError as error:
        raise MissingPackageError(
            f"--precision int8 needs {error.name}, which is not installed: pip install 'flavr[export,cpu]'"
        ) from error
    return onnxruntime.quantization
