"""What is tested on must not be trained on, nor overwritten; and memory is counted while it is taken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from flavr import FlavrConfig
from flavr._images import Rgb
from flavr._video import Video, find_videos
from flavr.cli_test import main
from flavr.datasets import Split, open_dataset, video
from flavr.errors import DataError
from tiny_vimeo import write_tiny_vimeo

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs flavr-test; gives the exit code."""

    def call(*options: object) -> int:
        monkeypatch.setattr(sys, "argv", ["flavr-test", "--num-workers", "0", *map(str, options)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return call


def write_images(folder: Path, seed: int, suffix: str = ".png", first: Rgb | None = None) -> Path:
    """Nine numbered images of a texture that moves, and perhaps one before them."""
    texture = np.random.default_rng(seed).integers(0, 256, (40, 80, 3), np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 3)
    folder.mkdir(parents=True)
    pictures = [texture[:, 2 * k : 2 * k + 48] for k in range(9)]
    for number, picture in enumerate([first, *pictures] if first is not None else pictures):
        cv2.imwrite(str(folder / f"{number:03d}{suffix}"), picture)
    return folder


@pytest.mark.parametrize("place", [".", "other-gt-interp", "link/new"])
def test_results_are_not_written_among_the_data(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    root = tmp_path / "middlebury"
    root.mkdir()
    (root / "link").symlink_to(root)
    line = ("--dataset", "middlebury", "--data-root", root, "--load-from", tmp_path / "none.pth")
    assert run(*line, "--save-images", root / place) == 2
    error = capsys.readouterr().err
    assert f"is in --data-root {root}; name a folder outside it" in error
    assert len(error.splitlines()) == 1


def test_copies_of_image_folders_are_not_taken_twice(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_images(tmp_path / name, seed)
    black = np.zeros((40, 48, 3), np.uint8)
    for name, seed in (("d", 3), ("e", 4)):  # nothing but the pictures after the first differs
        write_images(tmp_path / name, seed, ".bmp", black)
    assert [found.name for found in find_videos([tmp_path])] == ["a", "c", "d", "e"]


def test_one_video_can_be_tested_on_as_the_error_says(
    run: Run,
    tmp_path: Path,
    tiny_checkpoint: Callable[[FlavrConfig], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_images(tmp_path / "clips" / "one", 1)
    line = ["--dataset", "video", "--data-root", tmp_path / "clips"]
    line += ["--load-from", tiny_checkpoint(FlavrConfig(width=4))]
    assert run(*line) == 1
    advice = "--split train --data-option val_fraction=0"
    assert capsys.readouterr().err.endswith(f"add another, or test on all of it with {advice}\n")
    monkeypatch.setattr(sys, "argv", ["flavr-test", *map(str, line), "--num-workers", "0", *advice.split()])
    main()
    assert "3 windows, 3 new frames" in capsys.readouterr().out


def test_memory_is_counted_while_a_video_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0

    def endless(*_given: object) -> Iterator[Rgb]:
        nonlocal decoded
        for _ in range(1000):
            decoded += 1
            yield np.zeros((10, 10, 3), np.uint8)

    monkeypatch.setattr(video, "_free_memory", lambda: 30_000)
    monkeypatch.setattr(video, "decode", endless)
    monkeypatch.setattr(video, "find_videos", lambda _: [Video(tmp_path, "endless")])
    with pytest.raises(DataError, match=r"memory that are free; use max_side"):
        open_dataset("video", tmp_path, "train", val_fraction=0)
    assert decoded == 91  # of 300 bytes each; nine tenths may be taken


@pytest.mark.parametrize("split", ["train", "test"])
def test_vimeo_lists_that_share_sequences_are_refused(tmp_path: Path, split: Split) -> None:
    root = write_tiny_vimeo(tmp_path, train=3, test=1)
    with (root / "sep_testlist.txt").open("a") as file:
        file.write("00001/0002 \n00001/0001\n")
    with pytest.raises(DataError, match=r"list\.txt share 2 sequences, the first 00001/0001: what is"):
        open_dataset("vimeo90K_septuplet", root, split)
