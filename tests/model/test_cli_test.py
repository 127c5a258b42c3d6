"""The flavr-test command: checkpoints and exported files on the same windows, in the same table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flavr import FlavrConfig, cli_test
from flavr._image_saver import image_saver
from flavr.cli_test import main
from flavr.validate import WindowBatch
from flavr_export import ExportSpec, export
from flavr_export.twins import Twin, write_twins
from tiny_vimeo import write_tiny_vimeo

MakeCheckpoint = Callable[[FlavrConfig], Path]
Run = Callable[..., int]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three windows of 45x51, which is no multiple of 8."""
    return write_tiny_vimeo(tmp_path_factory.mktemp("set"), train=1, test=3, size=(45, 51))


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: MakeCheckpoint) -> Path:
    return tiny_checkpoint(FlavrConfig(width=4))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, data: Path) -> Run:
    """Runs flavr-test on the set with more options; gives the exit code."""

    def call(*options: object) -> int:
        line = ["--data_root", data, "--num-workers", 0, *options]
        monkeypatch.setattr(sys, "argv", ["flavr-test", *map(str, line)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def _scores(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_documented_line_prints_both_definitions_and_the_baseline(
    run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--dataset", "vimeo90K_septuplet", "--load_from", checkpoint, "--n_outputs", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = ("dataset", "PSNR", "SSIM", "PSNR 8 bits", "SSIM 8 bits", "ms per window", "device")
    assert all(title in lines[1] for title in titles)
    rows = {words[1]: words for words in map(str.split, lines) if words and words[0] == "vimeo90K_septuplet"}
    assert rows.keys() == {"FLAVR", "average"}
    assert rows["FLAVR"][-3:] == ["CPU,", "PyTorch", "fp32"]
    (row,) = (line for line in lines if line.startswith("FLAVR |"))
    psnr, ssim = (float(cell) for cell in row.split("|")[1:])
    assert psnr == pytest.approx(float(rows["FLAVR"][2]), abs=0.01)
    assert ssim == pytest.approx(float(rows["FLAVR"][3]), abs=1e-4)


def test_results_are_in_the_file_before_they_are_printed(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as to a pipe that is closed: hours of testing were lost."""

    def fail(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli_test, "_report", fail)
    json_file = tmp_path / "scores.json"
    assert run("--load-from", checkpoint, "--max-windows", 1, "--json", json_file) == 1
    assert _scores(json_file)["windows"] == 1


def test_videos_weigh_the_same_however_long_they_are(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    for number, frames in enumerate((7, 21, 14, 7)):
        folder = tmp_path / "clips" / f"video{number}"
        folder.mkdir(parents=True)
        for k in range(frames):
            picture = cv2.GaussianBlur(texture, (0, 0), 2 + number)[:, k : k + 48]
            cv2.imwrite(str(folder / f"{k:03d}.png"), picture)
    line = ("--data_root", tmp_path / "clips", "--dataset", "video", "--data-option", "val_fraction=0.75")
    json_file = tmp_path / "scores.json"
    assert run(*line, "--load-from", checkpoint, "--json", json_file) == 0
    content = _scores(json_file)
    videos = content["videos"]["average"]
    assert len(videos) == 3
    psnrs = [scores["psnr"] for scores in videos.values()]
    assert content["mean_over_videos"]["average"]["psnr"] == pytest.approx(sum(psnrs) / 3)
    assert content["results"]["average"]["psnr"] != pytest.approx(sum(psnrs) / 3)  # windows are 1, 3 and 2
    mean = f"{content['mean_over_videos']['FLAVR']['psnr']:.3f} dB, averaging {sum(psnrs) / 3:.3f}"
    assert f"mean over 3 videos: {mean}" in capsys.readouterr().out


def test_an_ensemble_scores_the_mean_over_its_views_for_files_too(
    run: Run, checkpoint: Path, tmp_path: Path
) -> None:
    export(checkpoint, tmp_path / "model.onnx", ExportSpec(io="float"))
    scores = {}
    for name, path, views in (("one", checkpoint, 1), ("torch", checkpoint, 16), ("onnx", "model.onnx", 16)):
        json_file = tmp_path / f"{name}.json"
        assert run("--load-from", tmp_path / path, "--ensemble", views, "--json", json_file) == 0
        content = _scores(json_file)
        assert content["ensemble"] == views
        assert content["device"].endswith(", ensemble of 16") == (views == 16)
        scores[name] = content["results"]["FLAVR"]["psnr"]
    assert scores["onnx"] == pytest.approx(scores["torch"], abs=1e-3)
    assert scores["one"] != pytest.approx(scores["torch"], abs=1e-2)
    assert run("--load-from", checkpoint, "--ensemble", 3) == 2


@pytest.mark.parametrize("io", ["uint8", "float", "packed"])
def test_an_exported_file_scores_what_its_checkpoint_scores(
    run: Run, checkpoint: Path, tmp_path: Path, io: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    export(checkpoint, tmp_path / "model.onnx", ExportSpec(io=io))
    assert run("--load-from", checkpoint, "--json", tmp_path / "torch.json") == 0
    assert (
        run("--load-from", tmp_path / "model.onnx", "--json", tmp_path / "onnx.json", "--test-batch-size", 2)
        == 0
    )
    ours, theirs = (_scores(tmp_path / f"{name}.json") for name in ("torch", "onnx"))
    assert theirs["device"] == f"CPU, ONNX Runtime, {io} fp32"
    assert theirs["windows"] == theirs["frames"] == 3
    a, b = ours["results"], theirs["results"]
    for metric in ("psnr_uint8", "ssim_uint8", *(() if io == "uint8" else ("psnr", "ssim"))):
        assert b["FLAVR"][metric] == pytest.approx(a["FLAVR"][metric], abs=1e-3)
    assert b["average"]["psnr"] == pytest.approx(a["average"]["psnr"], rel=1e-6)
    assert ("rounded results" in capsys.readouterr().out) == (io == "uint8")


def test_a_file_of_fixed_size_takes_that_size_alone(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(checkpoint, tmp_path / "fits.onnx", ExportSpec(io="float", size=(45, 51)))
    export(checkpoint, tmp_path / "other.onnx", ExportSpec(io="float", size=(48, 48)))
    assert run("--load-from", tmp_path / "fits.onnx", "--test-batch-size", 3) == 0
    assert run("--load-from", tmp_path / "other.onnx") == 1
    assert "takes 48x48 pictures, these are 51x45; export it without --size" in capsys.readouterr().err


def test_new_frames_are_written_as_images(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    assert run("--load-from", checkpoint, "--save-images", tmp_path / "frames", "--max-windows", 2) == 0
    written = sorted(path.relative_to(tmp_path / "frames") for path in tmp_path.rglob("*.png"))
    assert written == [Path("00001/0001/mid1.png"), Path("00001/0002/mid1.png")]
    image = cv2.imread(str(tmp_path / "frames" / written[0]))
    assert image is not None
    assert image.shape == (45, 51, 3)


def test_windows_of_like_names_are_written_to_folders_of_their_own(tmp_path: Path) -> None:
    save = image_saver(tmp_path, "video", "FLAVR")
    for value, name in enumerate(("a b:3", "a_b:3", "a b:3", "../a/b"), 1):
        frames = torch.full((1, 1, 3, 8, 8), value / 255)
        pictures = torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8)
        save(WindowBatch(pictures[:, :4], pictures[:, 4:], (name,)), {"FLAVR": frames})
    found = {str(path.relative_to(tmp_path)): cv2.imread(str(path)) for path in tmp_path.rglob("*.png")}
    assert {name: int(image[0, 0, 0]) for name, image in found.items() if image is not None} == {
        "a_b_3/mid1.png": 3,  # the same window once more
        "a_b_3-2/mid1.png": 2,
        "a/b/mid1.png": 4,
    }


def test_middlebury_without_truth_is_written_in_the_leaderboards_form(
    run: Run, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "eval" / "Army"
    scene.mkdir(parents=True)
    for number in range(4):
        frame = (data / f"sequences/00001/0000/im{number + 1}.png").read_bytes()
        (scene / f"frame{number + 9:02d}.png").write_bytes(frame)
    line = ("--dataset", "middlebury", "--load-from", checkpoint, "--save-images", tmp_path / "out")
    assert run("--data-root", tmp_path / "eval", *line, "--json", tmp_path / "scores.json") == 0
    assert (tmp_path / "out/Army/frame10i11.png").exists()
    assert _scores(tmp_path / "scores.json")["results"]["FLAVR"]["psnr"] is None
    assert "FLAVR | - | -" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--n_outputs", 3), 1, "is a 2x network, which has --n-outputs 1; 3 was asked for"),
        (("--provider", "cpu"), 2, "--provider is for .onnx files"),
        (("--dataset", "ucf101"), 1, "ucf101"),
        (("--data_root", "nowhere"), 1, "nowhere"),
        (("--json", "nowhere/scores.json"), 1, "nowhere/scores.json: the folder nowhere does not exist"),
        (("--json", "."), 2, "File '.' is a directory"),
    ],
)
def test_bad_input_is_one_line(
    run: Run,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[object, ...],
    code: int,
    message: str,
) -> None:
    assert run("--load_from", checkpoint, *options) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""  # before anything is scored


def test_a_video_that_gives_no_window_is_named(
    run: Run, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = data / "sequences/00001/0000"
    shutil.copytree(moving, tmp_path / "videos/moving")
    (tmp_path / "videos/still").mkdir()
    for number in range(1, 8):
        shutil.copy(moving / "im1.png", tmp_path / f"videos/still/im{number}.png")
    line = ("--dataset", "video", "--data-root", tmp_path / "videos", "--data-option", "val_fraction=0")
    assert run("--load-from", checkpoint, *line, "--split", "train") == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("note: still gives no window: too short, or nothing moves in it\n")
    assert "1 windows, 1 new frames" in printed.out


def test_bad_files_and_absent_providers_are_one_line(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    export(checkpoint, tmp_path / "model.onnx")
    for path, options, message in (
        (tmp_path / "broken.onnx", (), "cannot load"),
        (tmp_path / "nowhere.onnx", (), "does not exist; write one with flavr-export"),
        (tmp_path / "nowhere.pth", (), "does not exist"),
        (
            tmp_path / "model.onnx",
            ("--provider", "coreml"),
            "in this ONNX Runtime; pip install 'flavr[cpu]'",
        ),
        (tmp_path / "model.onnx", ("--precision", "bf16"), "an .onnx file has its precision"),
    ):
        assert run("--load-from", path, *options) != 0
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


@pytest.mark.parametrize("change", [{}, {"flavr.format": "99"}], ids=["another model", "a newer format"])
def test_a_file_that_is_not_understood_is_refused(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str]
) -> None:
    import onnx

    export(checkpoint, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    kept = {entry.key: entry.value for entry in model.metadata_props} if change else {}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept | change)
    onnx.save(model, tmp_path / "other.onnx")
    assert run("--load-from", tmp_path / "other.onnx") == 1
    assert "is no file that this version of flavr understands" in capsys.readouterr().err


def test_a_twin_beside_other_weights_is_refused(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be scored with numbers that lie elsewhere in the other file."""
    original = export(checkpoint, tmp_path / "model.onnx").path
    (twin,) = write_twins(original, checkpoint, [Twin("conv2d", "float")])
    assert run("--load-from", twin, "--max-windows", 1) == 0
    data = bytearray(original.read_bytes())
    data[len(data) // 2] ^= 1
    original.write_bytes(data)
    capsys.readouterr()
    assert run("--load-from", twin, "--max-windows", 1) == 1
    assert "was made for another model.onnx than that beside it" in capsys.readouterr().err


def test_a_provider_that_does_not_take_the_graph_is_refused(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """ONNX Runtime would run on the CPU instead, and the figures would carry the wrong name."""
    import onnxruntime

    export(checkpoint, tmp_path / "model.onnx")
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["AzureExecutionProvider"])
    assert run("--load-from", tmp_path / "model.onnx") == 1
    assert "ONNX Runtime placed it on AzureExecutionProvider" in capsys.readouterr().err


def test_help_is_quick_and_does_not_import_torch() -> None:
    from flavr.cli_test import _PRECISIONS, _PROVIDERS
    from flavr.predictors import PRECISIONS, PROVIDERS

    code = "import sys; from flavr.cli_test import main; sys.argv = ['flavr-test', '--help']; main()"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - started < 2  # 0.2 s on a quiet machine
    assert "| torch" not in done.stderr
    assert "Examples:" in done.stdout
    assert tuple(PROVIDERS) == _PROVIDERS  # written twice, so that --help need not import them
    assert tuple(PRECISIONS) == _PRECISIONS


def test_what_was_assumed_is_told_and_the_checkpoint_is_not_written_over(
    run: Run, tiny_checkpoint: MakeCheckpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "bare.pth"
    content = torch.load(tiny_checkpoint(FlavrConfig(width=4, join="none")), weights_only=True)
    torch.save(content["state_dict"], weights)
    before = weights.read_bytes()
    assert run("--load-from", weights, "--max-windows", 1, "--json", weights) == 2
    assert "is the file that --load-from names; choose another" in capsys.readouterr().err
    assert weights.read_bytes() == before
    assert run("--load-from", weights, "--max-windows", 1) == 0
    assert "note: joinType add is assumed" in capsys.readouterr().err
