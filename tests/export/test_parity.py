"""The exported file computes what PyTorch and the NumPy reference compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flavr import Flavr, FlavrConfig
from flavr_export import ExportSpec
from flavr_export._builder import FLOAT, GraphBuilder
from flavr_export._forms import FORMS
from flavr_export._winograd import WinogradForm
from flavr_export.graph import build_graph
from flavr_export.opsets import newest_opset
from flavr_export.spec import GraphForm, Io, Padding
from flavr_export.verify import pytorch_frames
from reference import decoder, encoder, head

Pictures = list[NDArray[np.uint8]]
Floats = NDArray[np.floating[Any]]
MakeNetwork = Callable[[FlavrConfig], Flavr]
MakeCheckpoint = Callable[[FlavrConfig], Path]
MakeFrames = Callable[..., Pictures]
Exports = Callable[..., Path]

PLAIN = FlavrConfig(width=4)
GRAPHS: tuple[GraphForm, ...] = ("conv2d", "conv3d", "winograd")
IOS: tuple[Io, ...] = ("uint8", "float", "packed")
SIZES = ((1, 1), (7, 9), (8, 8), (33, 50), (16, 24))
NEWEST = (newest_opset(), "pad")
CLOSE = 1e-5  # of [0, 1], for float32 against float32 or float64


def load(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # at this size threads wait longer for each other than they work
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def session(path: Path) -> ort.InferenceSession:
    return load(path.read_bytes())


def run(path: Path, frames: Pictures) -> Floats:
    """The file's frames [n, B, 3, H, W]: code values from a uint8 file, else in [0, 1]."""
    names = [value.name for value in session(path).get_inputs()]
    planar = [frame.transpose(0, 3, 1, 2).astype(np.float32) / 255 for frame in frames]
    if names == ["frames"]:
        (mids,) = session(path).run(None, {"frames": np.concatenate(planar, axis=1)})
        return np.stack(np.split(cast("Floats", mids), mids.shape[1] // 3, axis=1))
    assert names == ["frame0", "frame1", "frame2", "frame3"]
    if session(path).get_inputs()[0].type == "tensor(uint8)":
        mids = session(path).run(None, dict(zip(names, frames, strict=True)))
        return np.stack([mid.transpose(0, 3, 1, 2) for mid in mids]).astype(np.float64)
    return np.stack(session(path).run(None, dict(zip(names, planar, strict=True))))


def assert_same_frames(path: Path, frames: Pictures, expected: Floats) -> None:
    """`expected` is [n, B, 3, H, W] in [0, 1], not clamped."""
    actual = run(path, frames)
    assert actual.shape == expected.shape
    if session(path).get_outputs()[0].type == "tensor(uint8)":
        codes = expected.clip(0, 1) * 255
        np.testing.assert_allclose(actual, codes, rtol=0, atol=0.5 + 255 * CLOSE)
    else:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=CLOSE)


def reference_frames(network: Flavr, frames: Pictures) -> Floats:
    """What `pytorch_frames` returns, from the NumPy reference: mean of the real pixels, repeated edges."""
    state = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    clip = np.stack(frames, axis=1).transpose(0, 4, 1, 2, 3) / 255
    height, width = clip.shape[3:]
    mean = clip.mean(axis=(2, 3, 4), keepdims=True)
    edges = [(0, 0), (0, 0), (0, 0), (0, -height % 8), (0, -width % 8)]
    features = encoder(np.pad(clip - mean, edges, mode="edge"), state)
    mids = head(decoder(features, state, network.config.join), state)[..., :height, :width]
    whole: Floats = np.stack(np.split(mids, mids.shape[1] // 3, axis=1)) + mean[:, :, 0]
    return whole


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_dynamic_file_gives_pytorchs_frames_at_any_size(
    graph: GraphForm,
    io: Io,
    size: tuple[int, int],
    exported: Exports,
    tiny_network: MakeNetwork,
    frames: MakeFrames,
) -> None:
    path = exported(PLAIN, ExportSpec(graph=graph, io=io))
    pictures = frames(*size)
    assert_same_frames(path, pictures, pytorch_frames(tiny_network(PLAIN), pictures))


@pytest.mark.parametrize(("io", "padding"), [("uint8", "pad"), ("packed", "pad"), ("float", "slices")])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_fixed_size_file_gives_pytorchs_frames(
    graph: GraphForm,
    io: Io,
    size: tuple[int, int],
    padding: Padding,
    exported: Exports,
    tiny_network: MakeNetwork,
    frames: MakeFrames,
) -> None:
    path = exported(PLAIN, ExportSpec(graph=graph, io=io, size=size, padding=padding))
    pictures = frames(*size)
    assert_same_frames(path, pictures, pytorch_frames(tiny_network(PLAIN), pictures))


def test_every_variant_gives_the_frames_of_the_numpy_reference(
    variant: FlavrConfig, exported: Exports, tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    pictures = frames(15, 23)
    expected = reference_frames(tiny_network(variant), pictures)
    for graph in GRAPHS:
        assert_same_frames(exported(variant, ExportSpec(graph=graph, io="float")), pictures, expected)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("io", ["uint8", "packed"])
def test_new_frames_come_in_time_order(
    io: Io, factor: int, exported: Exports, tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    config = FlavrConfig(width=4, factor=factor)
    path, pictures = exported(config, ExportSpec(io=io)), frames(16, 24)
    assert_same_frames(path, pictures, reference_frames(tiny_network(config), pictures))
    declared = [value.name for value in session(path).get_outputs()]
    assert declared == (["mids"] if io == "packed" else [f"mid{n}" for n in range(1, factor)])


@pytest.mark.parametrize(
    ("opset", "padding"), [(13, "pad"), (13, "slices"), (17, "slices"), (18, "pad"), (21, "pad"), NEWEST]
)
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_opset_gives_pytorchs_frames_and_is_what_was_asked_for(
    graph: GraphForm,
    opset: int,
    padding: Padding,
    exported: Exports,
    tiny_network: MakeNetwork,
    frames: MakeFrames,
) -> None:
    config = FlavrConfig(width=4, upmode="upsample") if graph == "conv3d" else PLAIN
    path = exported(config, ExportSpec(graph=graph, opset=opset, padding=padding))
    assert [(entry.domain, entry.version) for entry in onnx.load(path).opset_import] == [("", opset)]
    pictures = frames(7, 18)
    assert_same_frames(path, pictures, pytorch_frames(tiny_network(config), pictures))


@pytest.mark.parametrize("io", ["uint8", "float"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_clips_of_a_batch_do_not_mix(
    graph: GraphForm, io: Io, exported: Exports, tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    path, pictures = exported(PLAIN, ExportSpec(graph=graph, io=io)), frames(9, 20, batch=2)
    assert not np.array_equal(pictures[0][0], pictures[0][1])
    assert_same_frames(path, pictures, pytorch_frames(tiny_network(PLAIN), pictures))
    alone = [run(path, [picture[b : b + 1] for picture in pictures]) for b in range(2)]
    np.testing.assert_allclose(run(path, pictures), np.concatenate(alone, axis=1), rtol=0, atol=1e-6)


def test_all_graphs_compute_the_same(variant: FlavrConfig, exported: Exports, frames: MakeFrames) -> None:
    pictures = frames(24, 31)
    flat, *others = (
        run(exported(variant, ExportSpec(graph=graph, io="float")), pictures) for graph in GRAPHS
    )
    for other in others:
        np.testing.assert_allclose(flat, other, rtol=0, atol=CLOSE)


@given(height=st.integers(1, 40), width=st.integers(1, 40), batch=st.integers(1, 2), data=st.data())
@settings(
    deadline=None,
    max_examples=25,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_size_breaks_a_dynamic_file(
    height: int,
    width: int,
    batch: int,
    data: st.DataObject,
    exported: Exports,
    tiny_network: MakeNetwork,
    frames: MakeFrames,
) -> None:
    spec = ExportSpec(
        graph=data.draw(st.sampled_from(GRAPHS)),
        io=data.draw(st.sampled_from(("uint8", "float"))),
        padding=data.draw(st.sampled_from(("pad", "slices"))),
    )
    pictures = frames(height, width, batch)
    assert_same_frames(exported(PLAIN, spec), pictures, pytorch_frames(tiny_network(PLAIN), pictures))


EXTREMES = {
    "black": np.zeros((18, 21, 3), np.uint8),
    "white": np.full((18, 21, 3), 255, np.uint8),
    "checkerboard": np.broadcast_to(np.indices((18, 21)).sum(0)[..., None] % 2 * 255, (18, 21, 3)).astype(
        "u1"
    ),
    "one_bright_pixel": np.pad(np.full((1, 1, 3), 255, np.uint8), [(9, 8), (10, 10), (0, 0)]),
    "pure_red": np.full((18, 21, 3), (255, 0, 0), np.uint8),
}


@pytest.mark.parametrize("picture", EXTREMES.values(), ids=EXTREMES.keys())
@pytest.mark.parametrize("graph", GRAPHS)
def test_extreme_pictures_saturate_and_never_wrap(
    graph: GraphForm, picture: NDArray[np.uint8], tiny_network: MakeNetwork
) -> None:
    """A network that overshoots far beyond black and white, on still and on flickering extremes."""
    network = tiny_network(PLAIN)
    network.state_dict()["outconv.1.weight"].mul_(20)
    still = [picture[None]] * 4
    flickering = [picture[None], 255 - picture[None]] * 2
    files = {
        io: load(build_graph(PLAIN, network.state_dict(), ExportSpec(graph=graph, io=io)).SerializeToString())
        for io in IOS[:2]
    }
    for frames in (still, flickering):
        expected = pytorch_frames(network, frames)[0]
        assert np.isfinite(expected).all()
        names = [f"frame{t}" for t in range(4)]
        planar = [frame.transpose(0, 3, 1, 2).astype(np.float32) / 255 for frame in frames]
        (free,) = files["float"].run(None, dict(zip(names, planar, strict=True)))
        np.testing.assert_allclose(free, expected, rtol=1e-4, atol=1e-4)
        (codes,) = files["uint8"].run(None, dict(zip(names, frames, strict=True)))
        np.testing.assert_allclose(
            codes.transpose(0, 3, 1, 2), expected.clip(0, 1) * 255, rtol=0, atol=0.5 + 255 * 1e-3
        )
    assert expected.min() < -1 or expected.max() > 2 or picture.std() == 0


@pytest.mark.parametrize(
    ("io", "mean"), [("float", "input/mean/axis2.out"), ("uint8", "input/mean/planar.out")]
)
def test_a_large_flat_picture_keeps_its_mean(io: Io, mean: str) -> None:
    """Two million equal float32 numbers, added up one by one, come out 0.005 beside their mean."""
    config, names = FlavrConfig(width=1), [f"frame{t}" for t in range(4)]
    model = build_graph(config, Flavr(config).state_dict(), ExportSpec(io=io))
    typed = onnx.shape_inference.infer_shapes(model)
    only_mean = onnx.utils.Extractor(typed).extract_model(names, [mean])
    flat = {
        "float": np.full((1, 3, 1080, 1920), 233 / 255, np.float32),
        "uint8": np.full((1, 1080, 1920, 3), 233, np.uint8),
    }
    (value,) = load(only_mean.SerializeToString()).run(None, dict.fromkeys(names, flat[io]))
    assert value.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(value, 233 / 255, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("graph", GRAPHS)
def test_gates_see_the_mean_of_a_large_flat_feature(graph: GraphForm) -> None:
    g = GraphBuilder(18)
    channels = {"conv2d": [1], "conv3d": [1, 4], "winograd": [4]}[graph]
    shape: list[int | str] = [1, *channels, "height", "width"]
    names = tuple(g.input(f"x{t}", FLOAT, shape) for t in range(4 if graph == "conv2d" else 1))
    identity = np.ones((1, 1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
    keys = "gate.attn_layer.0.weight", "gate.attn_layer.0.bias"
    form = FORMS[graph](g, dict(zip(keys, identity, strict=True)), ExportSpec())
    if isinstance(form, WinogradForm):
        form.feature(names[0], channels=1, scale=1)
    gated = form.gate(names, "gate")
    g.rename_output(gated[0], "y")
    g.output("y", FLOAT, shape)
    flat = np.full(
        [n if isinstance(n, int) else {"height": 1080, "width": 1920}[n] for n in shape], 0.9137, "f4"
    )
    (y,) = load(g.model("gate").SerializeToString()).run(None, dict.fromkeys(names, flat))
    assert np.abs(y - 0.9137 / (1 + np.exp(-0.9137))).max() < CLOSE
