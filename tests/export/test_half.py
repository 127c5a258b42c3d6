"""A half-precision file has half the weights, keeps what needs float32, and is refused where it overflows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from flavr import Checkpoint, FlavrConfig, load_checkpoint
from flavr_export import ExportSpec, MismatchError, UnsupportedError, export
from flavr_export.spec import GraphForm, Io
from flavr_runtime import Interpolator

MakeCheckpoint = Callable[[FlavrConfig], Path]
MakeFrames = Callable[..., list[NDArray[np.uint8]]]
PLAIN = FlavrConfig(width=4)


@pytest.fixture
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint(PLAIN))


def changed(checkpoint: Checkpoint, factors: dict[str, float]) -> Checkpoint:
    """The checkpoint with some of its tensors multiplied."""
    state = {key: tensor * factors.get(key, 1.0) for key, tensor in checkpoint.state_dict.items()}
    return replace(checkpoint, state_dict=state)


@pytest.mark.parametrize(
    ("graph", "io", "size"),
    [("conv2d", "uint8", None), ("conv2d", "float", (33, 50)), ("conv3d", "packed", None)],
)
def test_weights_are_halved_and_the_ends_stay_as_they_were(
    graph: GraphForm, io: Io, size: tuple[int, int] | None, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    spec = ExportSpec(graph=graph, io=io, size=size)
    half = export(checkpoint, tmp_path / "half.onnx", spec, precision="fp16")
    full = export(checkpoint, tmp_path / "full.onnx", spec)
    assert half.parity.psnr > 50
    assert half.parity.max_abs < 2e-2
    models = [onnx.load(exported.path) for exported in (half, full)]
    weights = [
        sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer if tensor.dims)
        for model in models
    ]
    assert weights[0] < 0.52 * weights[1]
    for ends in ("input", "output"):
        assert getattr(models[0].graph, ends) == getattr(models[1].graph, ends)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in models[0].graph.initializer}
    assert stored["outconv.1.weight"].dtype == np.float32
    metadata = {entry.key: entry.value for entry in models[0].metadata_props}
    assert metadata["flavr.precision"] == "fp16"


def test_means_and_the_last_convolution_are_computed_in_float32(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = export(checkpoint, tmp_path / "m.onnx", ExportSpec(), precision="fp16").path
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    by_operator: dict[str, set[int]] = {}
    for node in graph.node:
        if node.output[0] in kinds:
            by_operator.setdefault(node.op_type, set()).add(kinds[node.output[0]])
        if node.name == "outconv":
            assert kinds[node.output[0]] == TensorProto.FLOAT
    assert by_operator["ReduceMean"] == {TensorProto.FLOAT}
    assert by_operator["ConvTranspose"] == by_operator["Relu"] == {TensorProto.FLOAT16}


def test_the_runtime_plays_a_half_precision_file(
    checkpoint: Checkpoint, tmp_path: Path, frames: MakeFrames
) -> None:
    half = export(checkpoint, tmp_path / "half.onnx", precision="fp16")
    full = export(checkpoint, tmp_path / "full.onnx")
    pictures = [picture[0] for picture in frames(32, 40)]
    (a,), (b,) = (Interpolator(exported.path, provider="cpu").between(*pictures) for exported in (half, full))
    assert np.abs(a.astype(int) - b).max() <= 3


def test_activations_that_overflow_leave_no_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """In float32 the second factor takes the first one back; half precision is at infinity by then."""
    overflowing = changed(checkpoint, {"feature_fuse.conv.0.weight": 3e4, "outconv.1.weight": 1 / 3e4})
    export(overflowing, tmp_path / "full.onnx")
    with pytest.raises(
        MismatchError, match=r"^the exported graph differs from PyTorch by (nan|inf|\d).* on "
    ):
        export(overflowing, tmp_path / "half.onnx", precision="fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["full.onnx"]


def test_a_weight_beyond_half_precision_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    large = changed(checkpoint, {"decoder.0.conv.0.weight": 1e6, "decoder.0.conv.0.bias": 1e6})
    with pytest.raises(UnsupportedError) as error:
        export(large, tmp_path / "m.onnx", precision="fp16")
    assert "half precision ends at 65504; use --precision fp32" in str(error.value)
    assert "decoder.0.conv.0" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_winograd_in_half_precision_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"^the winograd graph cannot be written in fp16: .* conv2d$"):
        export(checkpoint, tmp_path / "m.onnx", ExportSpec(graph="winograd"), precision="fp16")
