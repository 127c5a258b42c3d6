"""The network that ships: which of its files runs, and how a user sees and chooses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from clips import render_clip
from flavr_runtime.cli import command
from flavr_runtime.engine_cache import engine_key
from flavr_runtime.errors import ModelError
from flavr_runtime.frames import Rgb
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.memory import loaded_bytes
from flavr_runtime.model_info import read_model_info
from flavr_runtime.providers import PROVIDERS, Selected, select
from flavr_runtime.shipped import DEFAULT_MODEL, SHIPPED
from model_files import write_blend_model

CPU = select("cpu")
ELSEWHERE = Selected("openvino", "CPUExecutionProvider")
"""A provider for which nothing but conv2d was measured, on a machine that does not have it."""


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result


def windows(dtype: type[np.uint8 | np.uint16] = np.uint8) -> list[Rgb]:
    rows, columns = np.mgrid[0:48, 0:64]
    scene = [0.5 + 0.4 * np.sin(columns / 4 + t / 3) * np.cos(rows / 5) for t in range(4)]
    white = np.iinfo(dtype).max
    return [np.repeat((picture * white).astype(dtype)[..., None], 3, axis=2) for picture in scene]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clip(tmp_path_factory.mktemp("clips") / "in.mkv", frames=3)


def test_a_cpu_gets_the_form_that_is_fastest_there_and_the_user_sees_it(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    printed = run(clip, "-o", output, "--provider", "cpu", "--threads", 1, "--manifest").stderr
    assert "model: flavr_lite_2x_winograd.onnx (unet_18 2x, width 16, winograd fp32)" in printed
    told = json.loads(Path(f"{output}.json").read_text())["model"]
    assert (told["graph"], told["path"]) == ("winograd", str(SHIPPED["winograd", False]))
    assert told["weights"] == str(DEFAULT_MODEL)
    assert len({told["sha256"], told["weights_sha256"]}) == 2


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("provider", [CPU, ELSEWHERE], ids=["cpu", "elsewhere"])
def test_every_provider_gets_its_form_and_depth(provider: Selected, deep: bool) -> None:
    interpolator = Interpolator(provider=provider, deep=deep, threads=1)
    graph = "winograd" if provider is CPU else "conv2d"
    assert PROVIDERS[provider.name].graph == graph
    assert interpolator.model.path == SHIPPED[graph, deep]
    (made,) = interpolator.between(*windows(np.uint16 if deep else np.uint8))
    assert made.dtype == (np.uint16 if deep else np.uint8)
    if deep:
        assert len(np.unique(made)) > 256


def test_the_same_picture_comes_out_of_all_four_files() -> None:
    made = [Interpolator(path, provider="cpu", threads=1).between(*windows())[0] for path in SHIPPED.values()]
    for other in made[1:]:
        assert np.abs(other.astype(int) - made[0]).max() <= 1


def test_a_file_that_ships_is_known_by_its_name_anywhere(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = [clip, "-o", "out.mkv", "--provider", "cpu", "--threads", 1, "--dry-run"]
    asked += ["--model", "flavr_lite_2x.onnx"]
    assert "model: flavr_lite_2x.onnx (unet_18 2x, width 16, conv2d fp32)" in run(*asked).stderr
    own = write_blend_model(tmp_path / "flavr_lite_2x.onnx", metadata={"width": "3"})
    assert "model: flavr_lite_2x.onnx (unet_18 2x, width 3," in run(*asked).stderr  # one's own goes first
    own.unlink()
    with pytest.raises(ModelError, match=r"model .*flavr_lite_2x\.onnx does not exist"):
        read_model_info(tmp_path / "flavr_lite_2x.onnx")  # a path means that place


def test_weights_in_another_file_count_for_what_a_model_takes_and_is(tmp_path: Path) -> None:
    plain, quick = (read_model_info(SHIPPED[graph, False]) for graph in ("conv2d", "winograd"))
    assert loaded_bytes(read_model_info(SHIPPED["conv2d", True])) == loaded_bytes(plain)
    assert loaded_bytes(quick) > 1.5 * loaded_bytes(plain) > 5 * DEFAULT_MODEL.stat().st_size
    # Its hash stands for its weights too, since it is refused with others: no engine is taken for another's.
    for path in (DEFAULT_MODEL, quick.path):
        shutil.copy(path, tmp_path)
    data = bytearray((tmp_path / DEFAULT_MODEL.name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / DEFAULT_MODEL.name).write_bytes(data)
    with pytest.raises(
        ModelError, match=r"takes its weights from flavr_lite_2x\.onnx, but was made for another"
    ):
        read_model_info(tmp_path / quick.path.name)
    assert engine_key(quick, CPU, None) != engine_key(plain, CPU, None)


@pytest.mark.parametrize("name", ["", "..", "sub/weights.onnx", "/etc/passwd", "none.onnx"])
def test_weights_are_looked_for_beside_the_model_only(tmp_path: Path, name: str) -> None:
    model = write_blend_model(tmp_path / "m.onnx", metadata={"weights": name, "weights_sha256": "0"})
    with pytest.raises(ModelError, match=r"m\.onnx takes its weights from .*, which is no file beside it"):
        read_model_info(model)
