"""What the operating system refuses is one line as well, whatever was asked of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flavr_runtime.errors import InputError
from flavr_runtime.reader import VideoReader
from model_files import write_blend_model
from test_run import run, run_well


@pytest.fixture
def average(tmp_path: Path) -> Path:
    return write_blend_model(tmp_path / "average.onnx")


@pytest.fixture
def locked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing may be looked at, for root neither."""
    folder, look = tmp_path / "locked", os.stat
    folder.mkdir()

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if isinstance(path, str | os.PathLike) and folder in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    return folder


def said(*arguments: object) -> str:
    """The one line of a run that fails."""
    result = run(*arguments, "--provider", "cpu")
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()


def test_a_folder_without_permission_is_one_line(
    average: Path, locked_folder: Path, clip_plain: Path, tmp_path: Path
) -> None:
    inside = locked_folder / "clip.mp4"
    refused = f"{inside}: no permission; change the rights of the file or of the folders that it is in"
    assert said(inside, "-o", tmp_path / "out.mp4", "--model", average) == refused
    assert said(clip_plain, "-o", inside, "--model", average) == refused
    assert said(clip_plain, "-o", tmp_path / "out.mp4", "--model", locked_folder / "clip.mp4") == refused
    with pytest.raises(InputError, match="no permission"):
        VideoReader(inside)


def test_a_name_that_is_too_long_is_one_line(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    name = tmp_path / f"{'n' * 300}.mp4"
    assert said(clip_plain, "-o", name, "--model", average) == f"{name}: the name is too long; shorten it"
    assert said(name, "-o", tmp_path / "out.mp4") == f"{name}: the name is too long; shorten it"


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_manifest_holds_names_that_are_no_text(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    named = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    try:
        named.write_bytes(clip_plain.read_bytes())
    except OSError:
        pytest.skip("this file system takes text only")
    output = tmp_path / os.fsdecode(b"caf\xe9_2x.mp4")
    run_well(named, "-o", output, "--model", average, "--manifest")
    manifest = json.loads((tmp_path / os.fsdecode(b"caf\xe9_2x.mp4.json")).read_text("utf-8"))
    assert os.fsencode(manifest["input"]["path"]) == os.fsencode(named)
    assert os.fsencode(manifest["output"]["path"]) == os.fsencode(output)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_images_may_have_names_that_are_no_text(average: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    try:
        for name in (b"\xe91.png", b"\xe92.png"):
            (folder / os.fsdecode(name)).write_bytes(png)
    except OSError:
        pytest.skip("this file system takes text only")
    run_well(folder, "-o", tmp_path / "out.mkv", "--model", average, "--framerate", 5)
