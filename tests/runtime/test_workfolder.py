"""The folder in which a run keeps what is done: what a signal or a refusal at the wrong moment would cost."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from clips import render_clip
from flavr_runtime.errors import OutputError
from flavr_runtime.media import ReadOptions, open_sink, open_source
from flavr_runtime.workfolder import WorkFolder
from flavr_runtime.writer import EncodeOptions


def interrupted(*_arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["out.mp4", "out"], ids=["video", "images"])
@pytest.mark.parametrize("step", ["WorkFolder._take", "_lock_file", "write_durably"])
def test_a_signal_while_the_folder_is_taken_leaves_nothing(
    name: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = render_clip(tmp_path / "in.mp4")
    monkeypatch.setattr(f"flavr_runtime.workfolder.{step}", interrupted)
    with open_source(clip, ReadOptions(rate=None)) as source:
        sink = open_sink(tmp_path / name, source, Fraction(24), EncodeOptions())
        with pytest.raises(KeyboardInterrupt), sink:
            pass
    assert [each.name for each in tmp_path.iterdir()] == ["in.mp4"]


def test_a_refused_resume_leaves_what_another_may_continue(tmp_path: Path) -> None:
    first = WorkFolder(tmp_path / "out.mp4", identity={"the model": "a"})
    first.open()
    (first.path / "000000.segment").write_bytes(b"done")
    first.close(remove=False)
    second = WorkFolder(tmp_path / "out.mp4", resume=True)
    second._identity["the model"] = "b"  # as if it had changed after the first look
    with pytest.raises(OutputError, match="cannot be resumed: the model was a, now it is b"):
        second.open()
    second.close(remove=True)  # as writers do
    assert (first.path / "000000.segment").read_bytes() == b"done"
    third = WorkFolder(tmp_path / "out.mp4", resume=True, identity={"the model": "a"})
    third.open()  # nobody holds it
    third.close(remove=True)
    assert not first.path.exists()
