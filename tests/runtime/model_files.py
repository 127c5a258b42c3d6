"""Model files with known arithmetic, in the form that flavr-export writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Weights = Sequence[float]  # of the four frames of the window, for one new frame

FRAMES = [f"frame{i}" for i in range(4)]


def average_weights(factor: int) -> list[Weights]:
    """New frames that fade linearly from frame1 to frame2."""
    return [(0.0, 1 - n / factor, n / factor, 0.0) for n in range(1, factor)]


def write_blend_model(
    path: Path,
    mids: Sequence[Weights] = ((0, 0.5, 0.5, 0),),
    metadata: Mapping[str, str | None] | None = None,
    *,
    io: str = "uint8",
) -> Path:
    """A model whose new frames are weighted sums of the window, rounded half to even where they are uint8.

    `metadata` overrides entries of the usual ones; None removes one.
    """
    kind = TensorProto.UINT8 if io == "uint8" else TensorProto.FLOAT
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    if io == "float":
        shape = ["batch", 3, "height", "width"]
    nodes = [helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT) for name in FRAMES]
    constants = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("low", 0), ("high", 255))]
    for n, weights in enumerate(mids, start=1):
        for name, weight in zip(FRAMES, weights, strict=True):
            constants.append(numpy_helper.from_array(np.array(weight, np.float32), f"w{n}_{name}"))
            nodes.append(helper.make_node("Mul", [f"{name}_f", f"w{n}_{name}"], [f"p{n}_{name}"]))
        parts = [f"p{n}_{name}" for name in FRAMES]
        if io == "float":
            nodes.append(helper.make_node("Sum", parts, [f"mid{n}"]))
            continue
        nodes += [
            helper.make_node("Sum", parts, [f"s{n}"]),
            helper.make_node("Round", [f"s{n}"], [f"r{n}"]),
            helper.make_node("Clip", [f"r{n}", "low", "high"], [f"c{n}"]),
            helper.make_node("Cast", [f"c{n}"], [f"mid{n}"], to=TensorProto.UINT8),
        ]
    graph = helper.make_graph(
        nodes,
        "blend",
        [helper.make_tensor_value_info(name, kind, shape) for name in FRAMES],
        [helper.make_tensor_value_info(f"mid{n + 1}", kind, shape) for n in range(len(mids))],
        constants if io == "uint8" else constants[2:],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    facts: dict[str, str | None] = {
        "format": "1",
        "factor": str(len(mids) + 1),
        "arch": "unet_18",
        "width": "4",
        "graph": "conv2d",
        "precision": "fp32",
        "io": io,
        "size": "dynamic",
        "opset": "18",
        "checkpoint_sha256": "0" * 64,
    }
    facts |= metadata or {}
    helper.set_model_props(model, {f"flavr.{k}": v for k, v in facts.items() if v is not None})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
