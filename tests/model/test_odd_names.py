"""Files whose names are no UTF-8, as old archives bring them: what is made of them arrives, named so."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flavr import FlavrConfig
from flavr._cutting import CutSpec, cut_set
from tiny_vimeo import write_tiny_vimeo

ODD = "caf\udce9"  # the byte E9, Latin-1's é, as Python has it
SHOWN = r"caf\udce9"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three folders of seven moving images: one of an odd name, and another such one of images all alike."""
    septuplets = write_tiny_vimeo(tmp_path / "vimeo", train=3, test=1) / "sequences" / "00001"
    folder = tmp_path / "clips"
    folder.mkdir()
    try:
        (septuplets / "0000").rename(folder / ODD)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such names")
    (septuplets / "0001").rename(folder / "plain")
    (septuplets / "0002").rename(folder / "plain too")
    still = (septuplets / "0003").rename(folder / f"{ODD} still")
    for image in still.iterdir():
        image.write_bytes((folder / "plain/im1.png").read_bytes())
    return folder


def program(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs it with standard output as it is in most places: UTF-8, and strict."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_set_that_is_cut_says_which_video_it_is_from(clips: Path, tmp_path: Path) -> None:
    """It was deleted again when all had been written."""
    cut_set([clips], tmp_path / "set", CutSpec(height=32, width=48, val_fraction=0))
    with (tmp_path / "set/videos.csv").open(encoding="utf-8", newline="") as file:
        assert [row["video"] for row in csv.DictReader(file)] == [SHOWN, "plain", "plain too"]


def test_flavr_data_says_what_it_made_under_such_a_name(tmp_path: Path) -> None:
    options = ("--train", 1, "--test", 1, "--size", "32x48")
    done = program("flavr.cli_data", "render", "-o", tmp_path / ODD, *options)
    assert done.returncode == 0, done.stderr
    assert f"{SHOWN}: 1 sequences to train on, 1 to test" in done.stdout


def test_flavr_test_prints_and_writes_the_score_of_such_a_video(
    clips: Path, tmp_path: Path, tiny_checkpoint: Callable[[FlavrConfig], Path]
) -> None:
    scores = tmp_path / "scores.json"
    files = ("--load-from", tiny_checkpoint(FlavrConfig(width=4)), "--data-root", clips, "--json", scores)
    options = "--dataset video --split train --data-option val_fraction=0 --num-workers 0"
    done = program("flavr.cli_test", *files, *options.split())
    assert done.returncode == 0, done.stderr
    assert f"\n{SHOWN}: " in done.stdout
    assert list(json.loads(scores.read_text())["videos"]["FLAVR"]) == [ODD, "plain", "plain too"]


@pytest.mark.parametrize("processes", [1, 2])
def test_flavr_train_trains_on_such_videos(clips: Path, tmp_path: Path, processes: int) -> None:
    files = ("--data-root", clips, "--checkpoint-dir", tmp_path / "runs")
    options = f"--dataset video --val-fraction 0.4 --width 4 --crop 32 --batch-size {processes} "
    options += "--max-epoch 1 --steps-per-epoch 1 --no-tensorboard --num-gpu 0 --num-workers 0"
    done = program("flavr.train", *files, *options.split(), "--num-procs", processes)
    assert done.returncode == 0, done.stderr
    assert f"note: {SHOWN} still gives no window" in done.stdout
