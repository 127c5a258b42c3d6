"""Checking an exported graph against what a provider can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto, shape_inference

from flavr_export.targets import LOWER_OPSET, NO_BYTES, NO_PAD, QUANTISED, Limit, Target


@dataclass(frozen=True, slots=True)
class Blocker:
    """A node that a provider cannot take."""

    node: str
    operator: str
    reason: str
    cure: str


def blockers(model: onnx.ModelProto, target: Target) -> list[Blocker]:
    """The nodes of a graph that `target` cannot take, each with the reason and what avoids it."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    found = []
    if opset not in target.opsets:
        low, high = target.opsets[0], target.opsets[-1]
        found.append(Blocker(str(opset), "opset", f"it reads {low} to {high}", LOWER_OPSET))
    types = _tensor_types(model)
    for node in model.graph.node:
        found.extend(_node_blockers(node, opset, types, target))
    return found


def _node_blockers(
    node: onnx.NodeProto, opset: int, types: Mapping[str, onnx.TypeProto.Tensor], target: Target
) -> list[Blocker]:
    found = []
    data = types.get(node.input[0]) if node.input else None
    if node.op_type not in target.operators:
        cure = NO_PAD if node.op_type == "Pad" else "choose another provider"
        found.append(Blocker(node.name, node.op_type, f"no {node.op_type} there", cure))
    dtype = TensorProto.DataType.Name(data.elem_type).lower() if data is not None else None
    if dtype is not None and dtype not in target.dtypes:
        reason = f"takes no {dtype} tensors"
        cure = NO_BYTES if node.op_type in QUANTISED else target.dtype_cure
        found.append(Blocker(node.name, node.op_type, reason, cure))
    version = onnx.defs.get_schema(node.op_type, opset).since_version
    found.extend(
        Blocker(node.name, node.op_type, limit.reason, limit.cure)
        for limit in target.limits
        if limit.operator == node.op_type and _applies(limit, node, version, data)
    )
    return found


def _applies(limit: Limit, node: onnx.NodeProto, version: int, data: onnx.TypeProto.Tensor | None) -> bool:
    dimensions = [] if data is None else list(data.shape.dim)
    conditions = (
        (limit.rank is None, len(dimensions) == limit.rank),
        (limit.dynamic is None, any(not d.HasField("dim_value") for d in dimensions[2:]) == limit.dynamic),
        (limit.mode is None, _mode(node) == limit.mode),
        (limit.newer_than is None, version > (limit.newer_than or 0)),
    )
    return all(unconditional or holds for unconditional, holds in conditions)


def _mode(node: onnx.NodeProto) -> str:
    return next((a.s.decode() for a in node.attribute if a.name == "mode"), "constant")


def _tensor_types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    return {value.name: value.type.tensor_type for value in [*graph.input, *graph.value_info, *graph.output]}
