"""benchmarks/rivals.py, on a network that takes no time."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from flavr import Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr_benchmarks import ceiling
from flavr_export import ExportSpec, export

SIZE = (32, 40)
SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def rival_files(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("rival_files")


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setenv("PYTHONPATH", "")  # the script adds what its workers import; put back afterwards
    monkeypatch.setattr(ceiling, "measure", lambda *_: {"fp32": 100.0, "int8": 200.0})
    return importlib.import_module("rivals")


@pytest.fixture
def files(rival_files: ModuleType, tmp_path: Path) -> Path:
    """What the script would write, but for the export that takes PyTorch half a minute."""
    folder = tmp_path / "files"
    folder.mkdir()
    save_checkpoint(folder / "random-w2.pth", Flavr(FlavrConfig(width=2)).eval())
    sha256 = load_checkpoint(folder / "random-w2.pth").sha256
    plain = folder / rival_files.file_name("plain", sha256, SIZE)
    export(folder / "random-w2.pth", plain, ExportSpec(graph="conv3d", io="float", size=SIZE))
    return folder


def test_rivals_are_measured_side_by_side_and_a_missing_engine_is_a_row_with_the_reason(
    rivals: ModuleType, files: Path, tmp_path: Path
) -> None:
    output = tmp_path / "r.json"
    engineless = tmp_path / "python"
    engineless.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'raise SystemExit(\"no engine here\")'\n")
    engineless.chmod(0o755)
    names = ["ort winograd fp32", "torch-eager fp32", "openvino conv2d fp32"]
    arguments = [
        "--size",
        "32x40",
        "--width",
        "2",
        "--rounds",
        "3",
        "--threads",
        "1",
        "--keep",
        str(files),
        "--json",
        str(output),
    ]
    arguments += [
        "--python",
        f"openvino={engineless}",
        *(word for name in names for word in ("--only", name)),
    ]
    result = CliRunner().invoke(rivals.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    rows = report["rivals"]
    assert list(rows) == ["ort plain fp32", "ort winograd fp32", "torch-eager fp32", "openvino conv2d fp32"]
    assert "no engine here" in rows["openvino conv2d fp32"]["failure"]
    base, ours = rows["ort plain fp32"], rows["ort winograd fp32"]
    assert base["speedup"] == 1
    ratios = sorted(b / o for b, o in zip(base["round_seconds"], ours["round_seconds"], strict=True))
    assert ours["speedup"] == pytest.approx(ratios[1])
    assert ours["gflop_per_second"] == pytest.approx(report["useful_gflop"] / ours["seconds"], rel=1e-3)
    assert ours["psnr_to_eager_db"] > 100
    assert ours["peak_bytes"] > ours["file_bytes"] > 0
    assert output.with_suffix(".md").read_text() == rivals.markdown(report)
    assert "| openvino conv2d fp32 | crash: " in result.output


def test_a_precision_without_instructions_is_not_emulated_for_minutes(
    rivals: ModuleType, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flavr_benchmarks import environment

    examined = environment.examine()
    examined.cpu_flags[:] = ["avx2"]
    monkeypatch.setattr(rivals, "examine", lambda: examined)
    (tmp_path / "scratch").mkdir()
    chosen = [rivals.RIVALS["ort plain fp32"], rivals.RIVALS["openvino plain bf16"]]
    paths = {"checkpoint": files / "random-w2.pth", "plain": next(files.glob("plain-*.onnx"))}
    rows, _ = rivals._measure(chosen, paths, SIZE, 1, 1, {}, tmp_path / "scratch")
    assert rows["openvino plain bf16"]["failure"].startswith("not measured: this CPU has none of avx512_bf16")
    assert rows["ort plain fp32"]["speedup"] == 1


def test_a_kept_file_is_not_taken_for_another_network_size_or_clip(
    rival_files: ModuleType, files: Path, tmp_path: Path
) -> None:
    def written(width: int, size: tuple[int, int]) -> Path:
        path = rival_files.write_files(files, {"conv2d"}, None, width, size, None)["conv2d"]
        assert isinstance(path, Path)
        return path

    first = written(2, SIZE)
    stamp = first.stat().st_mtime_ns
    assert written(2, SIZE) == first
    assert first.stat().st_mtime_ns == stamp, "it was there"
    others = {written(2, (40, 32)), written(3, SIZE)}
    assert len(others - {first}) == 2
    clips = [
        None,
        tmp_path / "clips",
        tmp_path / "others" / "clips",
        tmp_path / "clips.mp4",
        tmp_path / "drawn",
    ]
    assert len({rival_files.file_name("conv2d-int8", "0" * 64, SIZE, clip) for clip in clips}) == 5
