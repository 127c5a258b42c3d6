"""The exported file is what it says: plain, checked ONNX, no rank above 4 in conv2d, each weight once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import flavr
from flavr import Flavr, FlavrConfig, load_checkpoint
from flavr_export import ExportSpec
from flavr_export.spec import GraphForm, Io, Padding

MakeNetwork = Callable[[FlavrConfig], Flavr]
MakeCheckpoint = Callable[[FlavrConfig], Path]
Exports = Callable[..., Path]

PLAIN = FlavrConfig(width=4)
GRAPHS: tuple[GraphForm, ...] = ("conv2d", "conv3d", "winograd")
IOS: tuple[Io, ...] = ("uint8", "float", "packed")


def test_a_conv2d_file_of_any_variant_has_no_tensor_of_rank_5(
    variant: FlavrConfig, exported: Exports
) -> None:
    assert_no_tensor_of_rank_5(onnx.load(exported(variant, ExportSpec(io="float"))))


@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("size", [None, (7, 9)])
def test_a_conv2d_file_of_any_form_has_no_tensor_of_rank_5(
    io: Io, size: tuple[int, int] | None, exported: Exports
) -> None:
    padding: Padding = "slices" if io == "float" else "pad"
    assert_no_tensor_of_rank_5(onnx.load(exported(PLAIN, ExportSpec(io=io, size=size, padding=padding))))


def assert_no_tensor_of_rank_5(model: onnx.ModelProto) -> None:
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    values = [*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    ranks |= {tensor.name: len(tensor.dims) for tensor in inferred.graph.initializer}
    # Each node's output is among them: what inference does not know cannot hide.
    assert {name for node in model.graph.node for name in node.output} <= ranks.keys()
    assert max(ranks.values()) == 4


@pytest.mark.parametrize("graph", GRAPHS)
def test_each_weight_is_stored_once(
    graph: GraphForm, variant: FlavrConfig, exported: Exports, tiny_network: MakeNetwork
) -> None:
    model = onnx.load(exported(variant, ExportSpec(graph=graph, io="float")))
    stored = [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if not tensor.name.startswith("const/winograd/")  # the same for networks of every width
    ]
    learnt = sum(4 * parameter.numel() for parameter in tiny_network(variant).parameters())
    most = 1.02 if graph == "winograd" else 1.01  # where each product has a bias
    assert 0.97 * learnt < sum(array.nbytes for array in stored) < most * learnt
    assert len({array.tobytes() for array in stored if array.nbytes > 64}) == sum(
        array.nbytes > 64 for array in stored
    )


@pytest.mark.parametrize("padding", ["pad", "slices"])
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_file_is_plain_checked_onnx(
    graph: GraphForm, io: Io, padding: Padding, exported: Exports
) -> None:
    path = exported(PLAIN, ExportSpec(graph=graph, io=io, padding=padding))
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert {entry.domain for entry in model.opset_import} == {""}
    assert not model.functions
    assert not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    assert not any(tensor.external_data or tensor.data_location for tensor in model.graph.initializer)
    assert list(path.parent.iterdir()) == [path]
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    assert all(node.name for node in model.graph.node)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ExportSpec(), {"graph": "conv2d", "io": "uint8", "size": "dynamic", "opset": "18"}),
        (
            ExportSpec(graph="conv3d", io="packed", size=(33, 50), opset=20),
            {"graph": "conv3d", "io": "packed", "size": "33x50", "opset": "20"},
        ),
    ],
    ids=["default", "other"],
)
def test_the_metadata_tells_what_the_file_is(
    spec: ExportSpec, expected: dict[str, str], exported: Exports, tiny_checkpoint: MakeCheckpoint
) -> None:
    config = FlavrConfig(width=4, arch="unet_34", factor=8, encoder_bias=True)
    model = onnx.load(exported(config, spec))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    measured = float(metadata.pop("flavr.parity_max_abs")), float(metadata.pop("flavr.parity_psnr_db"))
    assert 0 <= measured[0] < 1e-4
    assert measured[1] > 55
    assert metadata == {f"flavr.{name}": value for name, value in expected.items()} | {
        "flavr.format": "1",
        "flavr.factor": "8",
        "flavr.arch": "unet_34",
        "flavr.width": "4",
        "flavr.join": config.join,
        "flavr.upmode": config.upmode,
        "flavr.batchnorm": str(config.batchnorm).lower(),
        "flavr.padding": spec.padding,
        "flavr.producer_version": flavr.__version__,
        "flavr.precision": "fp32",
        "flavr.checkpoint_sha256": load_checkpoint(tiny_checkpoint(config)).sha256,
    }
    assert (model.producer_name, model.producer_version) == ("flavr", flavr.__version__)


@pytest.mark.parametrize(
    ("spec", "inputs", "outputs"),
    [
        (ExportSpec(), ("tensor(uint8)", ["batch", "height", "width", 3]), ["batch", "height", "width", 3]),
        (
            ExportSpec(io="float"),
            ("tensor(float)", ["batch", 3, "height", "width"]),
            ["batch", 3, "height", "width"],
        ),
        (ExportSpec(io="packed"), ("tensor(float)", [1, 12, "height", "width"]), [1, 9, "height", "width"]),
        (ExportSpec(size=(7, 9)), ("tensor(uint8)", [1, 7, 9, 3]), [1, 7, 9, 3]),
        (ExportSpec(io="packed", size=(7, 9)), ("tensor(float)", [1, 12, 7, 9]), [1, 9, 7, 9]),
    ],
    ids=["uint8", "float", "packed", "uint8_fixed", "packed_fixed"],
)
@pytest.mark.parametrize("graph", GRAPHS)
def test_players_find_the_declared_inputs_and_outputs(
    graph: GraphForm, spec: ExportSpec, inputs: tuple[str, list[Any]], outputs: list[Any], exported: Exports
) -> None:
    path = exported(FlavrConfig(width=4, factor=4), replace(spec, graph=graph))
    loaded = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {(value.type, tuple(value.shape)) for value in loaded.get_inputs()} == {
        (inputs[0], tuple(inputs[1]))
    }
    assert {(value.type, tuple(value.shape)) for value in loaded.get_outputs()} == {
        (inputs[0], tuple(outputs))
    }
