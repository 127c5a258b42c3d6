"""A disk that fills up leaves every file whole or absent, and is one line: whoever wrote it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from flavr import CheckpointError, Flavr, FlavrConfig, save_checkpoint
from flavr._files import complete
from flavr._image_saver import image_saver
from flavr.datasets.scenes import write_result
from flavr.errors import DataError, FlavrError, TrainingError
from flavr.validate import WindowBatch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the limit on file sizes is Unix's")

TINY = FlavrConfig(width=4)
SIDE = 160  # of noise, which a PNG does not make smaller


def _noise() -> torch.Tensor:
    return torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8)


def _write_frame(folder: Path) -> None:
    pictures = torch.zeros(1, 5, 3, 8, 8, dtype=torch.uint8)
    batch = WindowBatch(pictures[:, :4], pictures[:, 4:], ("clip:3",))
    image_saver(folder, "video", "FLAVR")(batch, {"FLAVR": _noise()[None, None] / 255})


WRITERS: Mapping[str, tuple[type[FlavrError], Callable[[Path], object]]] = {
    "checkpoint": (CheckpointError, lambda folder: save_checkpoint(folder / "model.pth", Flavr(TINY))),
    "frame": (TrainingError, _write_frame),
    "leaderboard": (DataError, lambda folder: write_result(folder, "Army", _noise())),
}


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Makes every file end, as on a full disk, after 50 kB; of the programs that are started, too."""

    @contextlib.contextmanager
    def fill() -> Iterator[None]:
        import resource

        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return fill


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("kind", "write"), WRITERS.values(), ids=WRITERS.keys())
def test_a_file_is_whole_or_absent(
    tmp_path: Path,
    full_disk: Callable[[], AbstractContextManager[None]],
    kind: type[FlavrError],
    write: Callable[[Path], object],
) -> None:
    with full_disk(), pytest.raises(kind, match=r"^cannot save \S+: File too large$"):
        write(tmp_path)
    assert not _contents(tmp_path)
    write(tmp_path)
    before = _contents(tmp_path)
    assert len(before) == 1
    with full_disk(), pytest.raises(kind, match="File too large; the previous one is untouched"):
        write(tmp_path)
    assert _contents(tmp_path) == before


def test_a_full_disk_is_one_line_of_the_programs_that_write_checkpoints(
    tmp_path: Path, full_disk: Callable[[], AbstractContextManager[None]]
) -> None:
    save_checkpoint(tmp_path / "a.pth", Flavr(TINY))
    line = [sys.executable, "-B", "-m", "flavr.average", "a.pth", "a.pth", "-o", "mean.pth"]
    with full_disk():
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: cannot save mean.pth: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"cannot save \S+picture\.png: Not a directory"),
        complete(tmp_path / "file" / "picture.png", DataError),
    ):
        pass
