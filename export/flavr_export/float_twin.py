"""A second entrance to an exported uint8 model: the same network with float inputs and outputs.

The twin is a file of some 100 kB that holds the graph alone and points into its original for the weights, so
that pictures of more than 8 bits need no second copy of them. Both files must stay in one folder.

    python -m flavr_export.float_twin model.onnx        # writes model_float.onnx beside it
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, external_data_helper

from flavr_export.errors import ExportError

__all__ = ["write_float_twin"]

_SMALLEST = 1024  # bytes; what is smaller, such as shapes, stays in the graph, where it can be folded
_TO_FLOAT = ("Cast", "Transpose", "Mul")
_TO_BYTES = ("Mul", "Round", "Clip", "Cast", "Transpose")


def write_float_twin(original: Path, twin: Path | None = None) -> Path:
    """Write the twin of a uint8 model of flavr-export's, by default as NAME_float.onnx beside it.

    Raises ExportError for any other model.
    """
    twin = twin or original.with_name(f"{original.stem}_float.onnx")
    if twin.parent.resolve() != original.parent.resolve():
        raise ExportError(f"{twin}: a twin lies in the folder of its original, {original.parent}")
    model = onnx.load(original)
    facts = {entry.key: entry for entry in model.metadata_props}
    if "flavr.io" not in facts or facts["flavr.io"].value != "uint8":
        raise ExportError(f"{original}: no uint8 model of flavr-export; only those have twins")
    data = original.read_bytes()
    facts["flavr.io"].value = "float"
    model.metadata_props.add(key="flavr.weights_sha256", value=hashlib.sha256(data).hexdigest())
    _open_ends(model, original)
    _drop_unused(model)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= _SMALLEST:
            _point_into(tensor, data, original)
    onnx.save(model, twin)
    onnx.checker.check_model(str(twin))  # by its path, so that the weights are found
    return twin


def _open_ends(model: ModelProto, original: Path) -> None:
    """Cut off what turns bytes into floats and back."""
    graph = model.graph
    removed: list[NodeProto] = []
    for value in graph.input:
        chain = _chain(graph, value.name, _TO_FLOAT, original)
        _rename(graph, chain[-1].output[0], value.name)
        removed += chain
        _become_float(value)
    for value in graph.output:
        maker = {name: node for node in graph.node for name in node.output}
        chain, name = list[NodeProto](), value.name
        for kind in reversed(_TO_BYTES):
            node = maker[name]
            if node.op_type != kind:
                raise ExportError(f"{original}: unexpected {node.op_type} before its output {value.name}")
            chain.append(node)
            name = node.input[0]
        removed += chain
        maker[name].output[:] = [value.name if each == name else each for each in maker[name].output]
        _rename(graph, name, value.name)
        _become_float(value)
    names = {node.name for node in removed}
    kept = [node for node in graph.node if node.name not in names]
    del graph.node[:]
    graph.node.extend(kept)


def _chain(graph: onnx.GraphProto, name: str, kinds: tuple[str, ...], original: Path) -> list[NodeProto]:
    """The nodes of these kinds that follow one another from the value `name` on."""
    chain: list[NodeProto] = []
    for kind in kinds:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type != kind:
            raise ExportError(f"{original}: {name} is not followed by one {kind}")
        chain.append(users[0])
        name = users[0].output[0]
    return chain


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _become_float(value: onnx.ValueInfoProto) -> None:
    """From uint8 [B, H, W, 3] to float32 [B, 3, H, W]."""
    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.FLOAT
    sides = list(onnx.TensorShapeProto.FromString(tensor.shape.SerializeToString()).dim)
    del tensor.shape.dim[:]
    tensor.shape.dim.extend(sides[axis] for axis in (0, 3, 1, 2))


def _drop_unused(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _point_into(tensor: TensorProto, data: bytes, original: Path) -> None:
    offset = data.find(tensor.raw_data)
    if offset < 0:
        raise ExportError(f"{original}: the bytes of {tensor.name} are not in it as they are")
    length = len(tensor.raw_data)
    external_data_helper.set_external_data(tensor, original.name, offset, length)
    tensor.ClearField("raw_data")


if __name__ == "__main__":
    print(write_float_twin(Path(sys.argv[1])))  # noqa: T201
