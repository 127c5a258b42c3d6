from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flavr import Flavr, FlavrConfig, save_checkpoint
from flavr_export import ExportSpec, export
from flavr_runtime.errors import InputError, ModelError
from flavr_runtime.frames import Rgb
from flavr_runtime.model_info import read_model_info
from flavr_runtime.providers import Selected
from flavr_runtime.session import Session
from flavr_runtime.shipped import DEFAULT_MODEL
from model_files import write_blend_model

CPU = Selected("cpu", "CPUExecutionProvider")


def pictures(height: int = 20, width: int = 27, seed: int = 0) -> list[Rgb]:
    """Four pictures of a drifting pattern."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width][..., None]
    scene = [127 + 90 * np.sin((columns + 2 * t) / (3.0, 4.0, 5.0)) + 30 * np.cos(rows / 4) for t in range(4)]
    return [np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8) for picture in scene]


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.pth"
    save_checkpoint(path, Flavr(FlavrConfig(width=4, factor=4)))
    return path


def test_all_three_io_kinds_give_the_same_pictures(tiny_checkpoint: Path, tmp_path: Path) -> None:
    results = []
    for io in ("uint8", "float", "packed"):
        spec = ExportSpec(io=io)
        path = export(tiny_checkpoint, tmp_path / f"{io}.onnx", spec).path
        results.append(np.stack(Session(path, CPU).run(pictures())).astype(int))
        assert results[-1].shape == (3, 20, 27, 3)
    # One ulp at a rounding boundary may flip a code value; more than a handful is a different conversion.
    for other in results[1:]:
        difference = np.abs(results[0] - other)
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 3


def test_the_shipped_model_says_what_it_is() -> None:
    info = read_model_info(DEFAULT_MODEL)
    assert (info.factor, info.graph, info.io, info.size, info.opset) == (2, "conv2d", "uint8", None, 18)


def _psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return -10 * math.log10((((picture - truth.astype(float)) / 255) ** 2).mean())


def test_the_shipped_model_hardly_changes_what_hardly_moves() -> None:
    truth: list[Rgb] = []
    rows, columns = np.mgrid[0:96, 0:128]
    for t in range(7):  # half a pixel per step, so that the window's frames are 1 px apart
        x = columns + 0.5 * t
        wave = 127 + 60 * np.sin(x / 3) * np.cos(rows / 5) + 40 * np.sin((x + rows) / 7)
        truth.append(np.repeat(wave[..., None], 3, axis=2).round().astype(np.uint8))
    (middle,) = Session(DEFAULT_MODEL, CPU).run(truth[::2])
    assert _psnr(middle.astype(float), truth[3]) > 48  # one code value


def test_the_shipped_model_follows_a_moving_thing_better_than_averaging() -> None:
    truth: list[Rgb] = []
    rows, columns = np.mgrid[0:96, 0:128]
    for t in range(7):  # 3 pixels per step
        inside = np.clip(20.5 - np.hypot(columns - 46 - 3 * t, rows - 48), 0, 1)[..., None]
        ground = np.stack([columns, rows, 128 - columns], axis=2) * 0.8 + 40
        disc = np.array([200.0, 90.0, 60.0])
        truth.append((ground * (1 - inside) + disc * inside).round().astype(np.uint8))
    (middle,) = Session(DEFAULT_MODEL, CPU).run(truth[::2])
    average = (truth[2].astype(float) + truth[4]) / 2
    assert _psnr(middle.astype(float), truth[3]) > _psnr(average, truth[3]) + 1


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx does not exist; write one with flavr-export"):
        Session(tmp_path / "none.onnx", CPU)


@pytest.mark.parametrize("content", [b"", b"not a protobuf at all", b"\x08\x08\x12\x05flavr:"])
def test_a_file_that_is_no_model_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Session(path, CPU)
    assert "\n" not in str(caught.value)
    assert "broken.onnx" in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format": None}, r"is not a FLAVR export \(it has no flavr\.\* metadata\)"),
        ({"format": "9"}, r"has format 9; this version of flavr reads 1: update flavr"),
        ({"io": "yuv"}, r"has inputs of kind 'yuv'; known are uint8, float, packed"),
        ({"factor": "two"}, r"has flavr\.factor = 'two', which is not a number"),
        ({"factor": "1"}, r"has flavr\.factor = 1; at least 2 is possible"),
        ({"factor": "65"}, r"has flavr\.factor = 65; at most 64 is possible"),
        ({"factor": str(10**9)}, r"has flavr\.factor = 1000000000; at most 64 is possible"),
        ({"width": "-1"}, r"has flavr\.width = -1; at least 1 is possible"),
        ({"size": "0x32"}, r"has flavr\.size = '0x32'; at least 1x1 is possible"),
        ({"size": f"{'9' * 5000}x8"}, r"has flavr\.size = '9+x8'; HxW or dynamic is understood"),
        ({"size": "720p"}, r"has flavr\.size = '720p'; HxW or dynamic is understood"),
        ({"arch": None}, r"lacks the metadata flavr\.arch; export it again"),
        ({"io": "packed"}, r"has the inputs frame0, frame1, frame2, frame3 instead of frames"),
        ({"io": "float"}, r"frame0 is tensor\(uint8\) instead of tensor\(float\)"),
        ({"factor": "4"}, r"has the outputs mid1 instead of mid1, mid2, mid3"),
    ],
)
def test_a_model_that_is_not_understood_is_refused_by_name(
    metadata: dict[str, str | None], message: str, tmp_path: Path
) -> None:
    path = write_blend_model(tmp_path / "odd.onnx", metadata=metadata)
    with pytest.raises(ModelError, match=message) as caught:
        read_model_info(path)
    assert "odd.onnx" in str(caught.value)


def test_a_model_of_fixed_size_refuses_other_pictures(tmp_path: Path) -> None:
    path = write_blend_model(tmp_path / "fixed.onnx", metadata={"size": "64x48"})
    with pytest.raises(
        InputError,
        match=r"^fixed\.onnx takes 48x64 pictures, these are 27x20; export it with --size 20x27, or without",
    ):
        Session(path, CPU).run(pictures())


def test_frames_of_the_wrong_form_are_refused(tmp_path: Path) -> None:
    session = Session(write_blend_model(tmp_path / "m.onnx"), CPU)
    good = pictures()
    cases: list[tuple[list[Any], str]] = [
        (good[:3], "3 frames were given; FLAVR looks at 4"),
        ([*good[:3], good[3].astype(np.float32)], r"frame 3 is float32 \[20, 27, 3\]; uint8 \[H, W, 3\] RGB"),
        ([*good[:3], good[3][..., 0]], r"frame 3 is uint8 \[20, 27\]"),
        ([good[0], good[1][:-1], *good[2:]], "frame 1 is 27x19, frame 0 is 27x20; one size is needed"),
    ]
    for frames, message in cases:
        with pytest.raises(InputError, match=message):
            session.run(frames)


def test_the_placement_of_nodes_is_counted(tmp_path: Path) -> None:
    session = Session(write_blend_model(tmp_path / "m.onnx"), CPU)
    assert list(session.placement) == ["CPUExecutionProvider"]
    assert session.placement["CPUExecutionProvider"] >= 5


def test_a_run_can_be_cut_short_from_another_thread() -> None:
    session = Session(DEFAULT_MODEL, CPU, threads=1)
    errors: list[ModelError] = []

    def run() -> None:
        try:
            session.run(pictures(480, 640))
        except ModelError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        session.cancel()
        thread.join(0.01)
    assert len(errors) == 1
    assert session.run(pictures())[0].shape == (20, 27, 3)  # and it goes on working
