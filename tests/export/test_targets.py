"""What each provider takes: a refusal names the nodes it cannot run and the options that cure it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from flavr import Flavr, FlavrConfig
from flavr_export import TARGETS, ExportSpec, UnsupportedError, blockers, export, targets
from flavr_export.cli import flavr_export as command
from flavr_export.graph import build_graph
from flavr_export.opsets import newest_opset
from flavr_export.spec import GraphForm

PLAIN = FlavrConfig(width=4)
Refusal = Callable[..., str]


def entries(message: str, title: str) -> list[str]:
    start = f"{title} cannot run this graph: "
    assert message.startswith(start)
    return message.removeprefix(start).split("; ")


def test_coreml_names_the_5d_nodes_and_every_option_to_change(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(graph="conv3d")
    message = refusal(
        UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["cpu", "coreml"]
    )
    assert entries(message, "CoreML (ML Program)") == [
        "Cast input/frame0/cast and 3 more: takes no uint8 tensors (use --io float)",
        "Shape input/shape: sizes must be known when the model is loaded (fix the shape with --size HxW)",
        "Pad input/pad/t0 and 4 more: no Pad there (use --padding slices)",
        "Conv encoder.stem.0 and 34 more: no convolution over 5-D tensors (use --graph conv2d)",
        "ConvTranspose decoder.1.upconv.0 and 2 more: no convolution over 5-D tensors (use --graph conv2d)",
        "Transpose output/mid1/interleaved: takes no uint8 tensors (use --io float)",
    ]


@pytest.mark.parametrize(("target", "title"), [("migraphx", "MIGraphX"), ("rocm", "ROCm (MIGraphX)")])
@pytest.mark.parametrize("graph", ["conv2d", "conv3d"])
def test_amd_names_the_padding_of_a_dynamic_shape(
    graph: Any, target: str, title: str, checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(graph=graph)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=[target])
    assert entries(message, title) == [
        "Pad input/pad/t0 and 3 more: edge padding of a dynamic shape is not parsed "
        "(fix the shape with --size HxW)",
        "Pad outconv/reflect: reflect padding of a dynamic shape is not parsed "
        "(fix the shape with --size HxW)",
    ]
    exported = export(checkpoint, tmp_path / "m.onnx", replace(spec, size=(17, 24)), targets=[target])
    assert exported.targets == (target,)


def test_cuda_names_the_pad_that_an_opset_drops_to_the_cpu(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(opset=20)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["cuda"])
    assert entries(message, "CUDA") == [
        "Pad input/pad/t0 and 4 more: no kernel newer than Pad-18 (use --opset 18)"
    ]


def test_an_opset_that_a_provider_does_not_read_is_named(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(opset=22)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["tensorrt"])
    assert entries(message, "TensorRT") == ["opset 22: it reads 9 to 20 (use --opset 18)"]


def test_webgpu_refuses_what_it_only_claims(checkpoint: Path, tmp_path: Path, refusal: Refusal) -> None:
    spec = ExportSpec(graph="conv3d", io="float")
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["webgpu"])
    assert entries(message, "WebGPU (onnxruntime-web)") == [
        "ConvTranspose decoder.1.upconv.0 and 2 more: 5-D is claimed, then fails when it runs "
        "(use --graph conv2d)"
    ]


def test_an_operator_that_no_option_avoids_is_named() -> None:
    target = replace(TARGETS["cpu"], operators=TARGETS["cpu"].operators - {"Sigmoid"})
    model = build_graph(PLAIN, Flavr(PLAIN).state_dict(), ExportSpec())
    found = blockers(model, target)
    assert len(found) == 13
    assert (found[0].operator, found[0].reason) == ("Sigmoid", "no Sigmoid there")
    assert found[0].cure == "choose another provider"


CURES: dict[str, dict[str, Any]] = {
    targets.LOWER_OPSET: {"opset": 18},
    targets.FLAT_GRAPH: {"graph": "conv2d"},
    targets.FIXED_SIZE: {"size": (15, 24)},
    targets.NO_PAD: {"padding": "slices"},
    targets.FLOAT_IO: {"io": "float"},
}


@pytest.mark.parametrize("opset", [18, newest_opset()])
@pytest.mark.parametrize("io", ["uint8", "packed"])
@pytest.mark.parametrize("graph", ["conv2d", "conv3d", "winograd"])
def test_following_the_suggestions_leads_to_a_file_for_every_provider(
    graph: Any, io: Any, opset: int
) -> None:
    config = FlavrConfig(width=1, upmode="upsample") if io == "packed" else FlavrConfig(width=1)
    asked = ExportSpec(graph=graph, io=io, opset=opset)
    known = {asked: build_graph(config, Flavr(config).state_dict(), asked)}
    for target in TARGETS.values():
        spec = asked
        while found := blockers(known[spec], target):
            cured = spec
            for blocker in found:
                cured = replace(cured, **CURES[blocker.cure])
            assert cured != spec, f"{target.name}: {found[0]}"
            spec = cured
            if spec not in known:
                known[spec] = build_graph(config, Flavr(config).state_dict(), spec)


def test_every_suggested_option_is_one_that_the_command_has() -> None:
    known = {option for parameter in command.params for option in parameter.opts}
    limits = [limit.cure for target in TARGETS.values() for limit in target.limits]
    cures = {*CURES, *limits, *(target.dtype_cure for target in TARGETS.values())}
    assert cures == CURES.keys()
    for cure in cures:
        (option,) = re.findall(r"--[a-z]+", cure)
        assert option in known


@pytest.mark.parametrize("variant", ["18_2x", "34_4x_add_upsample_bn"], indirect=True)
def test_every_operator_that_is_written_is_in_the_tables(variant: FlavrConfig) -> None:
    """A new operator in the graph must be looked up for every provider."""
    for graph in get_args(GraphForm):
        for spec in (ExportSpec(graph=graph), ExportSpec(graph=graph, padding="slices")):
            model = build_graph(variant, Flavr(variant).state_dict(), spec)
            assert {node.op_type for node in model.graph.node} <= TARGETS["cpu"].operators


def test_every_provider_that_refuses_is_named_at_once(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(io="float")
    message = refusal(
        UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["rocm", "webnn"]
    )
    assert "ROCm (MIGraphX) cannot run this graph: Pad" in message
    assert "; WebNN (onnxruntime-web) cannot run this graph: Shape input/shape" in message
