"""Which opsets can be written here: what the graph needs, what onnx knows and what ONNX Runtime loads."""

from __future__ import annotations

from functools import cache

import onnx
from onnx import TensorProto, helper

from flavr_export.errors import UnsupportedError
from flavr_export.spec import DEFAULT_OPSET, OLDEST_OPSET
from flavr_export.verify import import_onnxruntime


def check_opset(opset: int, *, quantised: bool = False) -> None:
    """Refuse an opset that cannot be written or verified on this machine.

    Args:
        quantised: the graph is to have 8 bits. Runtimes learn the newest version of those operators later.

    Raises:
        UnsupportedError: naming the limit and its reason.
    """
    newest = newest_opset(quantised=quantised)
    usable = f"use --opset {OLDEST_OPSET} to {newest} (default {DEFAULT_OPSET})"
    if opset < OLDEST_OPSET:
        raise UnsupportedError(
            f"opset {opset} cannot be written: before {OLDEST_OPSET}, Unsqueeze and other operators "
            f"have other signatures; {usable}"
        )
    if opset > newest:
        known, runtime = onnx.defs.onnx_opset_version(), import_onnxruntime().__version__
        raise UnsupportedError(
            f"opset {opset} cannot be written and verified: onnx {onnx.__version__} knows up to {known}, "
            f"ONNX Runtime {runtime} loads up to {newest}{' in 8 bits' if quantised else ''}; {usable}"
        )


@cache
def newest_opset(*, quantised: bool = False) -> int:
    """The newest opset that the installed onnx knows and the installed ONNX Runtime loads."""
    newest = onnx.defs.onnx_opset_version()
    tried = range(newest, OLDEST_OPSET, -1)
    return next((opset for opset in tried if _loads(opset, quantised=quantised)), OLDEST_OPSET)


def _loads(opset: int, *, quantised: bool = False) -> bool:
    """Whether ONNX Runtime loads and places a convolution of this opset, of 8-bit numbers where asked.

    Its own number for the newest opset is not in its Python interface, so it is asked.
    """
    ort = import_onnxruntime()
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1]) for name in "xwy"]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    constants = []
    if quantised:
        constants = [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["bytes"]),
            helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["floats"]),
            helper.make_node("Conv", ["floats", "w"], ["y"]),
        ]
    graph = helper.make_graph(nodes, "probe", tensor[:2], tensor[2:], constants)
    opsets = [helper.make_opsetid("", opset)]
    try:
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
        )
        options = ort.SessionOptions()
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # any failure means no; ONNX Runtime has no error base class
        return False
    return True
