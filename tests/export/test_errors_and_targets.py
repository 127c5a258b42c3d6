"""An export that cannot be right is refused in one line with the cause and the cure; nothing is left."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from flavr import CheckpointError, Flavr, FlavrConfig, load_checkpoint
from flavr_export import (
    TARGETS,
    ExportError,
    ExportSpec,
    MismatchError,
    MissingPackageError,
    UnsupportedError,
    blockers,
    export,
    exporter,
    opsets,
    targets,
)
from flavr_export._builder import GraphBuilder
from flavr_export.cli import flavr_export as command
from flavr_export.graph import build_graph
from flavr_export.opsets import newest_opset
from flavr_export.spec import GraphForm

MakeCheckpoint = Callable[[FlavrConfig], Path]
PLAIN = FlavrConfig(width=4)


@pytest.fixture
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(PLAIN)


def refusal(kind: type[Exception], folder: Path, *args: Any, **options: Any) -> str:
    """The one-line message with which an export is refused; the folder is left as it was."""
    before = sorted(folder.iterdir())
    with pytest.raises(kind) as error:
        export(*args, **options)
    assert type(error.value) is kind
    assert sorted(folder.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize("opset", [0, 9, 12])
def test_an_old_opset_is_refused_with_the_reason(opset: int, checkpoint: Path, tmp_path: Path) -> None:
    spec = ExportSpec(opset=opset)
    assert refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec) == (
        f"opset {opset} cannot be written: before 13, Unsqueeze and other operators have other signatures; "
        f"use --opset 13 to {newest_opset()} (default 18)"
    )


def test_an_opset_of_the_future_is_refused_with_who_knows_what(checkpoint: Path, tmp_path: Path) -> None:
    spec = ExportSpec(opset=99)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec)
    assert re.fullmatch(
        rf"opset 99 cannot be written and verified: onnx \S+ knows up to {onnx.defs.onnx_opset_version()}, "
        rf"ONNX Runtime \S+ loads up to {newest_opset()}; use --opset 13 to {newest_opset()} \(default 18\)",
        message,
    )


def test_what_onnx_runtime_does_not_load_is_not_offered() -> None:
    assert opsets._loads(13)
    assert not opsets._loads(99)


def test_an_opset_that_onnx_runtime_does_not_load_is_refused(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opsets, "_loads", lambda opset, **_: opset <= 20)
    newest_opset.cache_clear()
    try:
        spec = ExportSpec(opset=21)
        message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec)
    finally:
        newest_opset.cache_clear()
    assert "loads up to 20; use --opset 13 to 20" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision int4 is not known; known: fp32, fp16, int8"),
        ({"targets": ["cpu", "cdua"]}, f"provider cdua is not known; known: {', '.join(TARGETS)}"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_known_ones(
    options: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    assert refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", **options) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 8)}, "size 0x8: height and width must be at least 1"),
        ({"size": (8, -1)}, "size 8x-1: height and width must be at least 1"),
        ({"graph": "conv4d"}, "graph conv4d is not known; known: conv2d, conv3d, winograd"),
        ({"io": "uint9"}, "io uint9 is not known; known: uint8, float, packed"),
        ({"padding": "mirror"}, "padding mirror is not known; known: pad, slices"),
    ],
)
def test_a_form_that_cannot_be_is_refused_before_any_work(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        ExportSpec(**change)
    assert str(error.value) == message


def test_an_output_of_another_kind_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    message = refusal(UnsupportedError, tmp_path, checkpoint, path)
    assert message == f"output {path} must end in .onnx"


def test_a_missing_folder_is_named(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "no" / "m.onnx"
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"cannot write {path}: the folder {path.parent} does not exist"


def test_a_folder_is_never_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.mkdir()
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"{path} exists already; choose another name with -o"


def test_a_file_is_overwritten_only_where_that_is_wanted(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    message = refusal(ExportError, tmp_path, checkpoint, path, overwrite=False)
    assert message == f"{path} exists already; choose another name with -o"
    assert path.read_bytes() == b"mine"
    export(checkpoint, path, overwrite=True)
    onnx.checker.check_model(path)


def test_a_full_disk_leaves_the_old_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the last good one")

    def full_disk(_: onnx.ModelProto, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full_disk)
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"the last good one"


def test_a_bad_checkpoint_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"nothing")
    message = refusal(CheckpointError, tmp_path, path, tmp_path / "m.onnx")
    assert message == f"{path} is not a PyTorch checkpoint, or is truncated or damaged"


def test_a_mistyped_checkpoint_is_what_the_error_is_about(tmp_path: Path) -> None:
    path = tmp_path / "modles" / "model.pth"
    message = refusal(CheckpointError, tmp_path, path, path.with_suffix(".onnx"))
    assert message.startswith(f"{path} does not exist")


def test_onnx_runtime_that_is_not_installed_is_named_with_its_cure(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refusal(MissingPackageError, tmp_path, checkpoint, tmp_path / "m.onnx") == (
        "exports are verified with ONNX Runtime, which is not installed: pip install 'flavr[export,cpu]'"
    )


# ---------------------------------------------------------------- what is verified


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
    operator: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_models(monkeypatch, replaced_operator("Round", operator))
    assert "differs from PyTorch" in refusal(MismatchError, tmp_path, checkpoint, tmp_path / "m.onnx")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("io", ["uint8", "float", "packed"])
@pytest.mark.parametrize("graph", ["conv2d", "conv3d"])
def test_a_network_that_overflows_leaves_no_file(
    graph: Any, io: Any, checkpoint: Path, tmp_path: Path
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
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_models(monkeypatch, replaced_operator("Sigmoid", "NotAnOperator"))
    message = refusal(ExportError, tmp_path, checkpoint, tmp_path / "m.onnx")
    assert message.startswith("ONNX Runtime cannot load the exported graph: ")


def test_a_graph_that_onnx_runtime_cannot_run_leaves_no_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
) -> None:
    with_models(monkeypatch, change)
    assert refusal(ExportError, tmp_path, checkpoint, tmp_path / "m.onnx") == message


# ---------------------------------------------------------------- what providers take


def entries(message: str, title: str) -> list[str]:
    start = f"{title} cannot run this graph: "
    assert message.startswith(start)
    return message.removeprefix(start).split("; ")


def test_coreml_names_the_5d_nodes_and_every_option_to_change(checkpoint: Path, tmp_path: Path) -> None:
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
    graph: Any, target: str, title: str, checkpoint: Path, tmp_path: Path
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


def test_cuda_names_the_pad_that_an_opset_drops_to_the_cpu(checkpoint: Path, tmp_path: Path) -> None:
    spec = ExportSpec(opset=20)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["cuda"])
    assert entries(message, "CUDA") == [
        "Pad input/pad/t0 and 4 more: no kernel newer than Pad-18 (use --opset 18)"
    ]


def test_an_opset_that_a_provider_does_not_read_is_named(checkpoint: Path, tmp_path: Path) -> None:
    spec = ExportSpec(opset=22)
    message = refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["tensorrt"])
    assert entries(message, "TensorRT") == ["opset 22: it reads 9 to 20 (use --opset 18)"]


def test_webgpu_refuses_what_it_only_claims(checkpoint: Path, tmp_path: Path) -> None:
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


def test_every_provider_that_refuses_is_named_at_once(checkpoint: Path, tmp_path: Path) -> None:
    spec = ExportSpec(io="float")
    message = refusal(
        UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec, targets=["rocm", "webnn"]
    )
    assert "ROCm (MIGraphX) cannot run this graph: Pad" in message
    assert "; WebNN (onnxruntime-web) cannot run this graph: Shape input/shape" in message


def test_a_fixed_shape_too_large_to_run_is_verified_by_its_twin(checkpoint: Path, tmp_path: Path) -> None:
    exported = export(checkpoint, tmp_path / "m.onnx", ExportSpec(size=(2160, 3840)))
    assert exported.parity.sizes == ((64, 88), (51, 77))
    assert exported.path.is_file()


def test_a_size_that_is_a_typing_error_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"^size 1000000x720: height and width can be 16384 at most$"):
        ExportSpec(size=(1_000_000, 720))
