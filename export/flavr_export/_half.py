"""A float32 graph in half precision: weights and activations of 16 bits, inputs and outputs as they were.

Where it matters, float32 stays: at both ends, where pictures have more levels than half precision near 1, in
the convolution that makes pictures, whose rounding nothing evens out any more, and in the means, which add up
thousands of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flavr_export.errors import UnsupportedError

FULL = re.compile(r"(input|output|outconv)(/|$)|.*/mean(/|$)")
"""Nodes, by their names, that stay in float32."""

LARGEST = float(np.finfo(np.float16).max)
_SIZES_OF_RESIZE = 1  # its inputs from here on are no data


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every float32 tensor but those of `FULL` nodes in float16.

    Raises:
        UnsupportedError: a weight is larger than float16 can be.
    """
    pass_ = _Halving(model)
    for node in model.graph.node:
        pass_.add(node)
    return pass_.model()


def rounding_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph of `halved` in float32, each of its 16-bit numbers rounded, or made infinite, as float16 does.

    It tells what hardware that computes in half precision makes of the graph, on runtimes that do not. They
    must not optimise it: that takes the rounding out.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in _inferred(model).value_info}
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    del twin.graph.node[:], twin.graph.initializer[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            value = numpy_helper.to_array(tensor).astype(np.float32)
            twin.graph.initializer.append(numpy_helper.from_array(value, tensor.name))
        else:
            twin.graph.initializer.append(tensor)
    for node in model.graph.node:
        made = node.output[0]
        if types.get(made) != TensorProto.FLOAT16:
            twin.graph.node.append(node)
            continue
        exact = onnx.NodeProto()
        exact.CopyFrom(node)
        exact.output[0] = f"{made}/exact"
        if node.op_type == "Cast":
            exact.op_type = "Identity"
            del exact.attribute[:]
        rounded = helper.make_node("Cast", [f"{made}/exact"], [f"{made}/rounded"], to=TensorProto.FLOAT16)
        back = helper.make_node("Cast", [f"{made}/rounded"], [made], to=TensorProto.FLOAT)
        twin.graph.node.extend([exact, rounded, back])
    return twin


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph


class _Halving:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._old = model
        typed = _inferred(model)
        values = [*typed.input, *typed.value_info, *typed.output]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._stored: Mapping[str, onnx.TensorProto] = {t.name: t for t in model.graph.initializer}
        types |= {name: tensor.data_type for name, tensor in self._stored.items()}
        self._floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self._half: set[str] = set()  # tensors that are float16 now
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._casts: dict[tuple[str, int], str] = {}

    def add(self, old: onnx.NodeProto) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(old)
        half = not FULL.match(node.name)
        for position, name in enumerate(node.input):
            wanted = half and not (node.op_type == "Resize" and position >= _SIZES_OF_RESIZE)
            node.input[position] = self._as(name, TensorProto.FLOAT16 if wanted else TensorProto.FLOAT)
        self._nodes.append(node)
        if half:
            self._half |= self._floats & set(node.output)

    def model(self) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._old)
        for repeated, content in (
            (model.graph.node, self._nodes),
            (model.graph.initializer, self._constants.values()),
        ):
            del repeated[:]
            repeated.extend(content)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _as(self, name: str, wanted: int) -> str:
        """The name under which a tensor is to be had in a type; tensors of whole numbers are left alone."""
        if name in self._stored:
            return self._constant(name, wanted)
        if name not in self._floats or (name in self._half) == (wanted == TensorProto.FLOAT16):
            return name
        if (name, wanted) not in self._casts:
            label = "half" if wanted == TensorProto.FLOAT16 else "full"
            cast = helper.make_node("Cast", [name], [f"{name}/{label}"], name=f"{name}/{label}", to=wanted)
            self._nodes.append(cast)
            self._casts[name, wanted] = cast.output[0]
        return self._casts[name, wanted]

    def _constant(self, name: str, wanted: int) -> str:
        stored = self._stored[name]
        if name not in self._floats or wanted == TensorProto.FLOAT:
            self._constants[name] = stored
            return name
        value = numpy_helper.to_array(stored)
        if np.abs(value).max(initial=0) > LARGEST:
            raise UnsupportedError(
                f"{name} has a weight of {np.abs(value).max():.3g}, half precision ends at {LARGEST:.0f}; "
                "use --precision fp32"
            )
        half_name = f"{name}/half"
        self._constants[half_name] = numpy_helper.from_array(value.astype(np.float16), half_name)
        return half_name
