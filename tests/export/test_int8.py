"""An int8 file is calibrated on real frames, refused without, and keeps what is sensitive in float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flavr import Checkpoint, FlavrConfig, load_checkpoint
from flavr._images import read_rgb
from flavr_export import (
    CalibrationError,
    ExportError,
    ExportSpec,
    UnsupportedError,
    _calibration,
    _quantise,
    export,
    exporter,
    opsets,
)
from flavr_export._calibration import Window, read_windows
from flavr_export._frames import structured_frames
from flavr_export._quantise import Quantised, quantise
from flavr_export.cli import quantisation_rows
from flavr_export.compatibility import blockers
from flavr_export.graph import build_graph
from flavr_export.spec import ALLOWED, Allowed
from flavr_export.targets import SYMMETRIC, TARGETS, X86, best_quantisation
from flavr_runtime import Interpolator

MakeCheckpoint = Callable[[FlavrConfig], Path]
PLAIN = FlavrConfig(width=4)


@pytest.fixture
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint(PLAIN))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A folder of sixteen images of scenes that move."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for first in range(4):
        for t, picture in enumerate(structured_frames(40, 56, seed=first)):
            cv2.imwrite(str(folder / f"{4 * first + t:03}.png"), picture[0][..., ::-1])
    return folder


def quantised(checkpoint: Checkpoint, clip: Path, spec: ExportSpec | None = None, **options: Any) -> Any:
    output = clip.parent / "m.onnx"
    options = {"calibrations": ["minmax"], **options}
    return export(checkpoint, output, spec, precision="int8", calibrate=clip, **options)


# ---------------------------------------------------------------- it works


@pytest.fixture
def tolerant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights at a width of 4 make of 8 bits what no trained network does."""
    monkeypatch.setattr(_quantise, "LARGEST_LOSS", 5.0)
    monkeypatch.setattr(exporter, "ALLOWED", {**ALLOWED, "int8": Allowed(max_abs=1, psnr=15)})


@pytest.mark.usefixtures("tolerant")
@pytest.mark.parametrize(
    "spec", [ExportSpec(), ExportSpec(io="float", size=(32, 40))], ids=["bytes", "fixed_floats"]
)
def test_convolutions_have_8_bits_and_the_ends_float32(
    spec: ExportSpec, checkpoint: Checkpoint, clip: Path
) -> None:
    exported = quantised(checkpoint, clip, spec)
    model = onnx.load(exported.path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    edges = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    parts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Slice"}
    kinds = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            edge = edges.get(node.input[1])
            weight = node.input[1] if edge is None else edge.input[0]
            kinds[node.name] = stored[parts.get(weight, weight)].data_type
            assert (edge is None) == (node.input[0] not in edges)
    floats = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}
    assert {"outconv", "feature_fuse", "encoder.stem.0/t0", "encoder.layer1.0.fg/conv"} <= floats
    assert not any(name.startswith("encoder.layer4.1.conv") for name in floats)
    assert {kind for name, kind in kinds.items() if name not in floats} == {TensorProto.INT8}
    # Transposed convolutions have no 8-bit kernels: they are written as 2x2 ones.
    assert kinds["decoder.1.upconv.0/t0"] == kinds["decoder.4.upconv.0/t3"] == TensorProto.INT8
    assert not any(node.op_type == "ConvTranspose" for node in model.graph.node)
    # A sum of products would round each of them to 8 bits first.
    assert not any(node.op_type == "Add" and "conv" in node.name for node in model.graph.node)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["flavr.precision"], metadata["flavr.calibration"]) == ("int8", "minmax")


@pytest.mark.usefixtures("tolerant")
def test_no_weight_is_stored_twice(checkpoint: Checkpoint, clip: Path) -> None:
    """The outer time steps take two of a weight's three taps: parts of it, in 8 bits as in 32."""
    path = quantised(checkpoint, clip).path
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    layer = "encoder.layer4.1.conv1.0"
    parts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Slice"}
    assert parts[f"{layer}/taps_first.out_quantized"] == f"{layer}.weight_quantized"
    assert parts[f"{layer}/taps_last.out_quantized"] == f"{layer}.weight_quantized"
    assert not any(name.endswith(("taps_first.out_quantized", "taps_last.out_quantized")) for name in stored)
    last = "decoder.4.upconv.0"
    assert parts[f"{last}/taps_last.out_quantized"] == f"{last}.weight_quantized"
    # The stem stays in float32, its parts of weights too.
    assert parts["encoder.stem.0/taps_last.out"] == "encoder.stem.0.weight"
    assert not any(name.endswith(("taps_first.out", "taps_last.out")) for name in stored)
    # ONNX Runtime folds the parts before it looks for 8-bit kernels.
    layers = sum(
        node.op_type == "Conv" and node.name.startswith("encoder.layer") for node in model.graph.node
    )
    gates = sum(node.name.endswith("fg/conv") for node in model.graph.node)
    assert optimised_operators(path).count("QLinearConv") >= layers - gates


def optimised_operators(path: Path) -> list[str]:
    """What ONNX Runtime's CPU provider makes of a file."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this kind of processor
    optimised = path.with_name("optimised.onnx")
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(optimised).graph.node]


@pytest.mark.usefixtures("tolerant")
def test_entropy_finds_other_ranges_than_the_extremes(checkpoint: Checkpoint, clip: Path) -> None:
    """As ONNX Runtime sets it up, it tries nothing but the whole range."""
    tried = quantised(checkpoint, clip, calibrations=["minmax", "entropy"]).quantised.tried
    assert tried["entropy"] != tried["minmax"]


@pytest.mark.usefixtures("tolerant")
def test_the_runtime_plays_an_int8_file(checkpoint: Checkpoint, clip: Path) -> None:
    path = quantised(checkpoint, clip).path
    full = export(checkpoint, clip.parent / "full.onnx").path
    pictures = [picture[0] for picture in structured_frames(40, 56, seed=7)]
    (a,), (b,) = (Interpolator(file, provider="cpu").between(*pictures) for file in (path, full))
    assert np.abs(a.astype(int) - b).mean() < 20


@pytest.mark.usefixtures("tolerant")
def test_sensitive_layers_are_measured_named_and_kept(
    checkpoint: Checkpoint, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit just below what quantising every layer costs."""
    monkeypatch.setattr(_quantise, "_SUSPECT", "none")
    everything = quantised(checkpoint, clip, scan=True).quantised
    assert len(everything.sensitivity) == 24
    assert not everything.float_layers
    worst = max(everything.sensitivity, key=everything.sensitivity.__getitem__)
    monkeypatch.setattr(_quantise, "LARGEST_LOSS", everything.lost - 1e-4)
    kept = quantised(checkpoint, clip).quantised
    assert kept.float_layers[0] == worst
    assert kept.lost < everything.lost
    names = {node.name for node in onnx.load(clip.parent / "m.onnx").graph.node}
    assert not any(name.startswith(f"{worst}/") and "Quantize" in name for name in names)


def test_the_last_transposed_convolution_is_the_first_to_be_kept(checkpoint: Checkpoint, clip: Path) -> None:
    """It makes what becomes pixels. A scan of the layers would take minutes on the published network."""

    def run(model: bytes, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        wrong = 8 if b"decoder.4.upconv.0.weight_quantized" in model else 0
        return [np.concatenate(window.between).astype(np.float32) + wrong for window in windows]

    plain = build_graph(checkpoint.config, checkpoint.state_dict, ExportSpec(sums=False, subpixel=True))
    found = quantise(plain, *read_windows(clip, factor=2), X86, run, calibrations=["minmax"])
    assert (found.float_layers, found.lost, found.sensitivity) == (("decoder.4.upconv.0",), 0, {})
    assert b"decoder.1.upconv.0.weight_quantized" in found.applied(plain).SerializeToString()


# ---------------------------------------------------------------- it is refused


@pytest.mark.parametrize(
    ("spec", "options", "kind", "message"),
    [
        (
            ExportSpec(),
            {"precision": "int8"},
            CalibrationError,
            "int8 is calibrated on real frames; name a clip, a folder of images or a folder of clips with "
            "--calibrate",
        ),
        (
            ExportSpec(graph="conv3d"),
            {"precision": "int8", "calibrate": "clip"},
            UnsupportedError,
            "the conv3d graph cannot be written in int8: 3-D convolutions have no 8-bit kernels; "
            "use --graph conv2d",
        ),
        (
            ExportSpec(),
            {"calibrate": "clip"},
            UnsupportedError,
            "fp32 is not calibrated; leave --calibrate out or add --precision int8",
        ),
        (
            ExportSpec(),
            {"precision": "int8", "calibrate": "no_clip"},
            CalibrationError,
            "cannot calibrate: no_clip does not exist",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused_at_once(
    spec: ExportSpec,
    options: dict[str, Any],
    kind: type[ExportError],
    message: str,
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    with pytest.raises(kind) as error:
        export(checkpoint, tmp_path / "m.onnx", spec, **options)
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


def test_a_clip_of_too_few_frames_is_refused(clip: Path) -> None:
    for image in sorted(clip.iterdir())[6:]:
        image.unlink()
    with pytest.raises(CalibrationError, match=r"holds too little to calibrate with: .* 14 frames or more"):
        read_windows(clip, factor=2)


def test_every_factor_finds_windows_in_a_long_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [np.full((16, 16, 3), number, np.uint8) for number in range(250)]
    monkeypatch.setattr(_calibration, "find_videos", lambda _places: ["video"])
    monkeypatch.setattr(_calibration, "decode", lambda _video, _side: iter(pictures))
    for factor in (2, 8, 20, 32):
        calibrating, held_out = read_windows(Path("video"), factor)
        assert len(calibrating) == len(held_out) == 6
        first = calibrating[0]
        assert [int(frame.max()) for frame in first.frames] == [0, factor, 2 * factor, 3 * factor]
        assert [int(frame.max()) for frame in first.between] == list(range(factor + 1, 2 * factor))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("lengths", [[250], [50, 60], [30] * 20, [26, 26]])
def test_no_frame_both_calibrates_and_is_held_out(
    factor: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbouring windows of one video share most of theirs."""
    videos = [
        [np.full((16, 16, 3), (number, index, 0), np.uint8) for index in range(length)]
        for number, length in enumerate(lengths)
    ]
    monkeypatch.setattr(_calibration, "find_videos", lambda _places: videos)
    monkeypatch.setattr(_calibration, "decode", lambda video, _side: iter(video))
    sides = read_windows(Path("videos"), factor)
    calibrating, held_out = (
        {tuple(frame[0, 0, 0]) for window in side for frame in [*window.frames, *window.between]}
        for side in sides
    )
    assert calibrating
    assert held_out
    assert not calibrating & held_out


def test_a_version_without_8_bit_kernels_is_refused_before_anything_is_calibrated(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_calibration, "find_videos", lambda _places: pytest.fail("it calibrates"))
    loads = opsets._loads
    monkeypatch.setattr(
        opsets, "_loads", lambda opset, quantised=False: loads(opset) and (opset <= 21 or not quantised)
    )
    opsets.newest_opset.cache_clear()
    try:
        with pytest.raises(UnsupportedError, match=r"loads up to 21 in 8 bits; use --opset 13 to 21"):
            export(checkpoint, tmp_path / "m.onnx", ExportSpec(opset=22), precision="int8", calibrate="clip")
    finally:
        opsets.newest_opset.cache_clear()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("tolerant")
def test_the_newest_opset_for_8_bits_is_one_that_runs_them(checkpoint: Checkpoint, clip: Path) -> None:
    newest = opsets.newest_opset(quantised=True)
    assert newest <= opsets.newest_opset()
    made = quantised(checkpoint, clip, ExportSpec(opset=newest), calibrations=("minmax",), targets=("cpu",))
    assert made.path.exists()


def test_8_bit_nodes_that_a_provider_lacks_are_not_cured_by_other_inputs() -> None:
    byte, scale = (helper.make_tensor_value_info(n, t, [4]) for n, t in (("x", 3), ("s", 1)))
    node = helper.make_node("DequantizeLinear", ["x", "s"], ["y"], name="q", axis=0)
    graph = helper.make_graph([node], "g", [byte, scale], [helper.make_tensor_value_info("y", 1, [4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    for name in ("coreml", "webgpu"):
        (blocker,) = blockers(model, TARGETS[name])
        assert (blocker.reason, blocker.cure) == ("takes no int8 tensors", "use --precision fp32")


@pytest.mark.parametrize("target", ["coreml", "webgpu"])
def test_a_provider_without_8_bits_is_refused_before_anything_is_calibrated(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(_calibration, "find_videos", lambda _places: pytest.fail("it calibrates"))
    spec = ExportSpec(io="float", padding="slices", size=(64, 64))
    with pytest.raises(UnsupportedError, match=r"cannot run 8-bit graphs; use --precision fp32$"):
        export(
            checkpoint, tmp_path / "m.onnx", spec, precision="int8", calibrate="clip", targets=("cpu", target)
        )


def test_8_bits_that_cost_too_much_leave_no_file(
    checkpoint: Checkpoint, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_quantise, "LARGEST_LOSS", -100.0)
    with pytest.raises(CalibrationError, match=r"^8 bits cost -?\d+\.\d\d dB on frames held out"):
        quantised(checkpoint, clip)
    assert not (clip.parent / "m.onnx").exists()


def test_a_network_of_which_no_layer_stands_8_bits_is_refused(checkpoint: Checkpoint, clip: Path) -> None:
    """One layer after the other went back to float32, until a file with nothing in 8 bits was called int8."""

    def run(model: bytes, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
        wrong = 8 if b"QuantizeLinear" in model else 0
        return [np.concatenate(window.between).astype(np.float32) + wrong for window in windows]

    plain = build_graph(checkpoint.config, checkpoint.state_dict, ExportSpec(sums=False, subpixel=True))
    with pytest.raises(CalibrationError, match=r"^8 bits cost 48\.0\d dB on frames held out"):
        quantise(plain, *read_windows(clip, factor=2), X86, run, calibrations=["minmax"])


# ---------------------------------------------------------------- windows and providers


def test_pictures_of_any_shape_are_reduced(tmp_path: Path) -> None:
    """A ticker: of its 8 lines, 0.4 would be left."""
    for number in range(14):
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), np.full((8, 4000, 3), 15 * number, np.uint8))
    calibrating, _ = read_windows(tmp_path, factor=2)
    assert calibrating[0].frames[0].shape == (1, 1, 192, 3)


def test_windows_leave_out_the_frames_that_are_to_be_made(clip: Path) -> None:
    calibrating, held_out = read_windows(clip, factor=2)
    pictures = [read_rgb(path) for path in sorted(clip.iterdir())]
    assert len(calibrating) + len(held_out) >= 2
    first = calibrating[0]
    for frame, index in zip([*first.frames, *first.between], (0, 2, 4, 6, 3), strict=True):
        np.testing.assert_array_equal(frame[0], pictures[index])


@pytest.mark.parametrize(
    ("targets", "kind"),
    [
        ([], X86),
        (["cpu"], X86),
        (["cuda"], SYMMETRIC),
        (["cpu", "cuda"], X86),
        (["cpu", "tensorrt"], SYMMETRIC),  # it refuses others; the CPU is slower with these
    ],
)
def test_the_kind_of_8_bits_is_the_providers(targets: list[str], kind: object) -> None:
    assert best_quantisation(targets) == kind


@pytest.mark.parametrize(
    ("targets", "numbers"),
    [
        ((), "activations uint8, weights int8 of 7 bits"),
        (("cuda",), "activations int8 around zero, weights int8"),
        (
            ("openvino", "tensorrt"),
            "activations int8 around zero, weights int8; OpenVINO may be slow with these: a file of its own "
            "would have others",
        ),
        (
            ("cpu", "cuda"),
            "activations uint8, weights int8 of 7 bits; CUDA may be slow with these: a file of its own would "
            "have others",
        ),
    ],
)
def test_the_summary_says_whose_8_bits_they_are(targets: tuple[str, ...], numbers: str) -> None:
    how = best_quantisation(targets)
    found = Quantised(how, onnx.ModelProto(), "minmax", 0.0, {"minmax": 0.0}, {}, ())
    assert quantisation_rows(found, targets)["8-bit numbers"] == numbers
