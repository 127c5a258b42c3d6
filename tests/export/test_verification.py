"""A graph that is not what PyTorch computes, or not what it promises to be, leaves no file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from flavr import load_checkpoint
from flavr_export import ExportError, ExportSpec, MismatchError, export, exporter
from flavr_export._builder import GraphBuilder
from flavr_export.graph import build_graph

Refusal = Callable[..., str]


def with_models(monkeypatch: pytest.MonkeyPatch, change: Callable[[onnx.ModelProto], None]) -> None:
    """Let every graph that is built from now on be changed by `change` before it is verified."""

    def broken(*args: Any) -> onnx.ModelProto:
        model = build_graph(*args)
        change(model)
        return model

    monkeypatch.setattr(exporter, "build_graph", broken)


def changed_weight(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(array), array.dtype), name))

    return apply


def replaced_operator(old: str, new: str) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type == old:
                node.op_type = new

    return apply


def leakier(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "LeakyRelu":
            node.attribute[0].f = 0.25


WRONG = {
    "one_weight": changed_weight("encoder.layer3.0.conv1.0.weight", lambda w: w * 1.05),
    "gate": changed_weight("decoder.2.upconv.1.attn_layer.0.bias", lambda b: b + 0.1),
    "one_code_value": changed_weight("outconv.1.bias", lambda b: b + 1 / 255),
    "swapped_channels": changed_weight("outconv.1.weight", lambda w: w[[1, 0, 2]]),
    "activation": leakier,
    "nan": changed_weight("outconv.1.bias", lambda b: b * np.nan),
}


@pytest.mark.parametrize("io", ["uint8", "float"])
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_a_graph_that_differs_from_pytorch_leaves_no_file(
    change: Callable[[onnx.ModelProto], None],
    io: Any,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Refusal,
) -> None:
    with_models(monkeypatch, change)
    message = refusal(MismatchError, tmp_path, checkpoint, tmp_path / "m.onnx", ExportSpec(io=io))
    assert re.fullmatch(
        r"the exported graph differs from PyTorch by (\d\.\d\de[-+]\d\d|nan) at 64x88 \(allowed: 1e-03\); "
        "no file was written",
        message,
    )


@pytest.mark.parametrize("operator", ["Floor", "Ceil"])
def test_code_values_that_are_not_rounded_leave_no_file(
    operator: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    with_models(monkeypatch, replaced_operator("Round", operator))
    assert "differs from PyTorch" in refusal(MismatchError, tmp_path, checkpoint, tmp_path / "m.onnx")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("io", ["uint8", "float", "packed"])
@pytest.mark.parametrize("graph", ["conv2d", "conv3d"])
def test_a_network_that_overflows_leaves_no_file(
    graph: Any, io: Any, checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    """NaN from both sides, or infinity, is no agreement."""
    loaded = load_checkpoint(checkpoint)
    state = {key: tensor.clone() for key, tensor in loaded.state_dict.items()}
    state["decoder.0.conv.0.weight"].fill_(3e38)
    overflowing = replace(loaded, state_dict=state)
    with torch.inference_mode():
        assert not overflowing.network()(torch.rand(1, 3, 4, 8, 8)).isfinite().all()
    spec = ExportSpec(graph=graph, io=io)
    message = refusal(MismatchError, tmp_path, overflowing, tmp_path / "m.onnx", spec)
    assert message == "the network makes NaN or infinite values out of ordinary frames; no file was written"


def test_frames_of_another_size_leave_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    def uncropped(model: onnx.ModelProto) -> None:
        (crop,) = (node for node in model.graph.node if node.name == "output/crop")
        crop.op_type = "Identity"
        del crop.input[1:]

    with_models(monkeypatch, uncropped)
    assert refusal(MismatchError, tmp_path, checkpoint, tmp_path / "m.onnx") == (
        "the exported graph returns [1, 1, 3, 56, 80] at 51x77, PyTorch [1, 1, 3, 51, 77]"
    )


def test_a_graph_that_onnx_runtime_cannot_load_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    with_models(monkeypatch, replaced_operator("Sigmoid", "NotAnOperator"))
    message = refusal(ExportError, tmp_path, checkpoint, tmp_path / "m.onnx")
    assert message.startswith("ONNX Runtime cannot load the exported graph: ")


def test_a_graph_that_onnx_runtime_cannot_run_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    def only_8_rows(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8

    with_models(monkeypatch, only_8_rows)
    message = refusal(ExportError, tmp_path, checkpoint, tmp_path / "m.onnx")
    assert message.startswith("ONNX Runtime cannot run the exported graph: ")


def unknown_domain(model: onnx.ModelProto) -> None:
    model.graph.node[5].domain = "com.example"


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def rank_5(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 1, 1, 1), np.float32), "deep"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_domain, "the graph came out with custom operators or local functions; please report"),
        (another_opset, "the graph came out with opsets {'': 17} instead of 18; please report"),
        (rank_5, "the conv2d graph came out with 5-D tensors (deep); please report"),
    ],
)
def test_a_file_that_breaks_its_promise_is_not_written(
    change: Callable[[onnx.ModelProto], None],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Refusal,
) -> None:
    with_models(monkeypatch, change)
    assert refusal(ExportError, tmp_path, checkpoint, tmp_path / "m.onnx") == message


def test_a_fixed_shape_too_large_to_run_is_verified_by_its_twin(checkpoint: Path, tmp_path: Path) -> None:
    exported = export(checkpoint, tmp_path / "m.onnx", ExportSpec(size=(2160, 3840)))
    assert exported.parity.sizes == ((64, 88), (51, 77))
    assert exported.path.is_file()


# ---------------------------------------------------------------- the graph writer guards itself


def test_one_name_never_means_two_things() -> None:
    g = GraphBuilder(18)
    g.constant("weight", np.ones(2))
    g.constant("weight", np.ones(2))  # the same one, shared
    with pytest.raises(ValueError, match="constant weight is already defined with another value"):
        g.constant("weight", np.zeros(2))
    g.op("Relu", ["x"], "relu")
    with pytest.raises(ValueError, match="node relu is already defined"):
        g.op("Relu", ["y"], "relu")
    with pytest.raises(ValueError, match="no node makes nothing"):
        g.rename_output("nothing", "mid1")
