"""An export that cannot be is refused in one line with the cause and the cure; nothing is left."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from flavr import CheckpointError
from flavr_export import (
    TARGETS,
    ExportError,
    ExportSpec,
    MissingPackageError,
    UnsupportedError,
    export,
    opsets,
)
from flavr_export.opsets import newest_opset

Refusal = Callable[..., str]


@pytest.mark.parametrize("opset", [0, 9, 12])
def test_an_old_opset_is_refused_with_the_reason(
    opset: int, checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    spec = ExportSpec(opset=opset)
    assert refusal(UnsupportedError, tmp_path, checkpoint, tmp_path / "m.onnx", spec) == (
        f"opset {opset} cannot be written: before 13, Unsqueeze and other operators have other signatures; "
        f"use --opset 13 to {newest_opset()} (default 18)"
    )


def test_an_opset_of_the_future_is_refused_with_who_knows_what(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
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
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
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
    options: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path, refusal: Refusal
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


def test_an_output_of_another_kind_is_refused(checkpoint: Path, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "model.pt"
    message = refusal(UnsupportedError, tmp_path, checkpoint, path)
    assert message == f"output {path} must end in .onnx"


def test_a_missing_folder_is_named(checkpoint: Path, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "no" / "m.onnx"
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"cannot write {path}: the folder {path.parent} does not exist"


def test_a_folder_is_never_overwritten(checkpoint: Path, tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "m.onnx"
    path.mkdir()
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"{path} exists already; choose another name with -o"


def test_a_file_is_overwritten_only_where_that_is_wanted(
    checkpoint: Path, tmp_path: Path, refusal: Refusal
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"mine")
    message = refusal(ExportError, tmp_path, checkpoint, path, overwrite=False)
    assert message == f"{path} exists already; choose another name with -o"
    assert path.read_bytes() == b"mine"
    export(checkpoint, path, overwrite=True)
    onnx.checker.check_model(path)


def test_a_full_disk_leaves_the_old_file(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"the last good one")

    def full_disk(target: Path, _: bytes) -> None:
        with target.open("wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    message = refusal(ExportError, tmp_path, checkpoint, path)
    assert message == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"the last good one"


def test_a_link_stays_one_and_is_no_way_to_the_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    """It was replaced by a file, and what it named was left as it was."""
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far/real.onnx", tmp_path / "link.onnx"
    real.write_bytes(b"old")
    link.symlink_to(real)
    assert export(checkpoint, link).path == link
    assert link.is_symlink()
    onnx.checker.check_model(real)
    assert [path.name for path in real.parent.iterdir()] == ["real.onnx"]
    weights = tmp_path / "model.pth"
    weights.write_bytes(checkpoint.read_bytes())
    link.unlink()
    link.symlink_to(weights)
    with pytest.raises(ExportError, match="is the checkpoint"):
        export(weights, link)
    assert weights.read_bytes() == checkpoint.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all names are text")
def test_names_that_are_not_utf_8_are_written_and_read(checkpoint: Path, tmp_path: Path) -> None:
    """onnx and PyTorch cannot open them: a traceback, and a sound checkpoint called damaged."""
    weights, path = (tmp_path / os.fsdecode(name) for name in (b"w\xe9.pth", b"o\xe9.onnx"))
    weights.write_bytes(checkpoint.read_bytes())
    export(weights, path)
    onnx.checker.check_model(path.read_bytes())


def test_a_bad_checkpoint_leaves_no_file(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"nothing")
    message = refusal(CheckpointError, tmp_path, path, tmp_path / "m.onnx")
    assert message == f"{path} is not a PyTorch checkpoint, or is truncated or damaged"


def test_a_mistyped_checkpoint_is_what_the_error_is_about(tmp_path: Path, refusal: Refusal) -> None:
    path = tmp_path / "modles" / "model.pth"
    message = refusal(CheckpointError, tmp_path, path, path.with_suffix(".onnx"))
    assert message.startswith(f"{path} does not exist")


def test_onnx_runtime_that_is_not_installed_is_named_with_its_cure(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refusal(MissingPackageError, tmp_path, checkpoint, tmp_path / "m.onnx") == (
        "exports are verified with ONNX Runtime, which is not installed: pip install 'flavr[export,cpu]'"
    )


def test_a_size_that_is_a_typing_error_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"^size 1000000x720: height and width can be 16384 at most$"):
        ExportSpec(size=(1_000_000, 720))
