"""A small writer of ONNX graphs: named nodes, each constant stored once, one opset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class GraphBuilder:
    """Collects nodes and constants; every operator method returns the name of its (only) output."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: set[str] = set()

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Store `value` under `name`. A name that is taken must hold the same value."""
        tensor = numpy_helper.from_array(value.copy(order="C"), name)
        known = self._constants.setdefault(name, tensor)
        if known is not tensor and known != tensor:
            raise ValueError(f"constant {name} is already defined with another value")
        return name

    def integers(self, *values: int) -> str:
        """A shared 1-D int64 constant."""
        label = "_".join(str(value).replace("-", "m") for value in values)
        return self.constant(f"const/i64/{label}", np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        """A shared 0-D float32 constant."""
        return self.constant(f"const/f32/{value!r}", np.array(value, np.float32))

    def op(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Append one node called `name`; its output is called `name`.out."""
        if name in self._names:
            raise ValueError(f"node {name} is already defined")
        self._names.add(name)
        output = f"{name}.out"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def rename_output(self, tensor: str, name: str) -> None:
        """Give the result of the last node that made `tensor` the name of a graph output."""
        for node in reversed(self._nodes):
            if tensor in node.output:
                node.output[list(node.output).index(tensor)] = name
                return
        raise ValueError(f"no node makes {tensor}")

    def slice(self, x: str, axis: int, start: int, end: int, name: str) -> str:
        """x[start:end] along one axis; an `end` of 0 with a negative `start` means to the end."""
        stop = np.iinfo(np.int64).max if start < 0 and end == 0 else end
        ints = self.integers
        return self.op("Slice", [x, ints(start), ints(int(stop)), ints(axis)], name)

    def mean(self, parts: Sequence[str], axes: Sequence[int], name: str) -> str:
        """Mean of tensors of one shape over `axes`, which stay with a length of 1.

        Axis by axis: ONNX Runtime's CPU kernels add up float32 one by one, and the mean of a flat 4K picture
        taken in one step comes out 0.01 beside the truth.
        """
        first, *others = axes
        if len(parts) == 1:
            x = self.mean_over(parts[0], first, f"{name}/axis{first}")
        else:
            means = [self.mean_over(part, first, f"{name}/t{t}") for t, part in enumerate(parts)]
            x = self.mean_over(self.op("Concat", means, name, axis=first), first, f"{name}/axis{first}")
        for axis in others:
            x = self.mean_over(x, axis, f"{name}/axis{axis}")
        return x

    def mean_over(self, x: str, axis: int, name: str) -> str:
        """Mean over one axis, which stays with a length of 1."""
        if self.opset < 18:  # axes became an input
            return self.op("ReduceMean", [x], name, axes=[axis], keepdims=1)
        return self.op("ReduceMean", [x, self.integers(axis)], name, keepdims=1)

    def model(self, graph_name: str) -> onnx.ModelProto:
        """Assemble the model, checked, with the lowest IR version its opset allows."""
        from flavr import __version__

        graph = helper.make_graph(
            self._nodes, graph_name, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            producer_name="flavr",
            producer_version=__version__,
            ir_version=helper.find_min_ir_version_for(opsets),
        )
        onnx.checker.check_model(model, full_check=True)
        return model


FLOAT = int(TensorProto.FLOAT)
UINT8 = int(TensorProto.UINT8)
