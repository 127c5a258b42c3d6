"""One layer in 8 bits beside the same layer in float32, in every form: where could 8 bits win?

The 8-bit layer is as fast as ONNX Runtime's CPU provider has it: four QLinearConv that take their neighbours
as slices of one tensor. Measured twice: between float32 layers, quantising its input and dequantising its
output, and between 8-bit ones. CPU time of one thread, the least of a few interleaved runs.

    python benchmarks/int8_layers.py --json benchmarks/results/int8-layers-....json
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flavr.config import WINDOW
from machine import cpu_name
from winograd_layers import LAYERS, measure_layer


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(rounds: int, output: Path | None) -> None:
    """Measure layers in 8 bits against their float32 forms."""
    rows = {}
    for inputs, outputs, height, width, transposed in LAYERS:
        if transposed:  # no 8-bit kernel
            continue
        taken = measure_layer(inputs, outputs, height, width, transposed=False, rounds=rounds)
        for name, edges in (("int8 between float32", True), ("int8 between int8", False)):
            taken[name] = _milliseconds(_eight_bit_layer(inputs, outputs, height, width, edges), rounds)
        layer = f"{inputs}->{outputs} at {height}x{width}"
        rows[layer] = taken
        told = "  ".join(f"{form} {taken['conv2d'] / value:.2f}x" for form, value in taken.items())
        print(f"{layer:24} conv2d {taken['conv2d']:7.2f} ms: {told}")
    if output is not None:
        report = {
            "benchmark": "int8_layers",
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "threads": 1,
            "time": "CPU time, the least of the rounds",
            "rounds": rounds,
            "milliseconds": rows,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _eight_bit_layer(inputs: int, outputs: int, height: int, width: int, edges: bool) -> onnx.ModelProto:
    """[1, 4 inputs, H, W] to [1, 4 outputs, H, W]; `edges`: both in float32."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-63, 64, (outputs, 3 * inputs, 3, 3)).astype(np.int8)  # 7 bits, as for x86
    stored: dict[str, NDArray[Any]] = {
        "middle": weight,
        "first": np.ascontiguousarray(weight[:, inputs:]),
        "last": np.ascontiguousarray(weight[:, : 2 * inputs]),
        "weight_scale": np.full(outputs, 0.01, np.float32),
        "weight_zero": np.zeros(outputs, np.int8),
        "scale": np.array(0.03, np.float32),
        "zero": np.array(0, np.uint8),
        "channels": np.array([1]),
    }
    x = "x.bytes" if edges else "x"
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], [x])] if edges else []
    for t in range(WINDOW):
        stored |= {f"from{t}": np.array([max(t - 1, 0) * inputs]), f"to{t}": np.array([(t + 2) * inputs])}
        taps = {0: "first", WINDOW - 1: "last"}.get(t, "middle")
        edge = ["scale", "zero"]
        nodes += [
            helper.make_node("Slice", [x, f"from{t}", f"to{t}", "channels"], [f"seen{t}"]),
            helper.make_node(
                "QLinearConv",
                [f"seen{t}", *edge, taps, "weight_scale", "weight_zero", *edge],
                [f"made{t}"],
                kernel_shape=[3, 3],
                pads=[1] * 4,
            ),
        ]
    made = [f"made{t}" for t in range(WINDOW)]
    nodes.append(helper.make_node("Concat", made, ["y.bytes" if edges else "y"], axis=1))
    if edges:
        nodes.append(helper.make_node("DequantizeLinear", ["y.bytes", "scale", "zero"], ["y"]))
    kind = TensorProto.FLOAT if edges else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", kind, [1, WINDOW * inputs, height, width])],
        [helper.make_tensor_value_info("y", kind, [1, WINDOW * outputs, height, width])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _milliseconds(model: onnx.ModelProto, rounds: int) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(0).random(given.shape, dtype=np.float32)
    feed = {"x": x if given.type == "tensor(float)" else (255 * x).astype(np.uint8)}
    least = np.inf
    for _ in range(rounds + 1):  # one for warming up, which is never the least
        started = time.process_time()
        session.run(None, feed)
        least = min(least, 1e3 * (time.process_time() - started))
    return least


if __name__ == "__main__":
    main()
