"""The flavr-data command: the sets it makes, and what it says when it cannot."""

from __future__ import annotations

import csv
import errno
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from flavr import _septuplets, cli_data
from flavr._motion import MIN_MOTION
from flavr.cli_data import flavr_data
from flavr.datasets import DATASETS, open_dataset
from flavr.errors import DataError

TINY = ["--train", "2", "--test", "1", "--size", "32x48"]


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(flavr_data, [str(argument) for argument in arguments])
    if code == 0 and result.exception:
        raise result.exception
    return result


def fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str]:
    """Exit code and standard error of the program."""
    monkeypatch.setattr(sys, "argv", ["flavr-data", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli_data.main()
    return int(stop.value.code or 0), capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def panning(count: int, seed: int, size: tuple[int, int] = (40, 56)) -> NDArray[np.uint8]:
    """A texture in motion; frame k's pixels are those of frame 0 moved 2k to the left."""
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 4, borderType=cv2.BORDER_WRAP)
    texture = cv2.normalize(texture, texture, 40, 200, cv2.NORM_MINMAX)
    return np.stack([np.roll(texture, -2 * number, axis=1) for number in range(count)])


def write_video(path: Path, frames: NDArray[np.uint8]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def listed(folder: Path, split: str) -> list[str]:
    return (folder / f"sep_{split}list.txt").read_text().split()


class TestRender:
    def test_set_can_be_trained_on(self, tmp_path: Path) -> None:
        result = run("render", "-o", tmp_path / "mini", *TINY)
        assert "2 sequences to train on, 1 to test" in result.stdout
        assert f"flavr-train --dataset vimeo90K_septuplet --data_root {tmp_path / 'mini'}" in result.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["mini"]
        for split, count in (("train", 2), ("test", 1)):
            dataset = open_dataset("vimeo90K_septuplet", tmp_path / "mini", split)  # type: ignore[arg-type]
            assert len(dataset) == count
            assert dataset.check(decode=True) == []
            assert dataset[0].inputs.shape == (4, 3, 32, 48)

    def test_same_options_same_bytes_and_another_seed_other_scenes(self, tmp_path: Path) -> None:
        for name, seed in (("one", 0), ("same", 0), ("other", 1)):
            run("render", "-o", tmp_path / name, *TINY, "--seed", seed)
        assert contents(tmp_path / "one") == contents(tmp_path / "same")
        pictures = [path for path in contents(tmp_path / "one") if path.endswith(".png")]
        assert len(pictures) == 21
        assert all(
            contents(tmp_path / "one")[path] != contents(tmp_path / "other")[path] for path in pictures
        )

    def test_scenes_move_smoothly_and_show_something(self) -> None:
        from flavr.rendering import RenderSpec, render_sequence

        spec = RenderSpec(height=96, width=128)
        for number in range(8):
            frames = np.stack(render_sequence(spec, number)).astype(float)
            steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
            assert frames.std() > 10
            assert steps.min() > 0.1
            assert steps.max() < 4 * steps.min() + 5
            average = np.abs((frames[2] + frames[4]) / 2 - frames[3]).mean()
            assert average < np.abs(frames[4] - frames[2]).mean()

    def test_existing_folder_is_left_alone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "precious").touch()
        code, text = fail(capsys, monkeypatch, "render", "-o", tmp_path, *TINY)
        assert (code, text) == (1, f"error: {tmp_path} exists already; remove it or choose another name\n")

    def test_an_empty_folder_that_is_there_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "mini").symlink_to("elsewhere")
        run("render", "-o", tmp_path / "mini", *TINY)
        assert (tmp_path / "mini").is_symlink()
        assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == [
            "sep_testlist.txt", "sep_trainlist.txt", "sequences"
        ]  # fmt: skip
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "mini"]

    def test_the_folder_one_is_in_is_not_replaced(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shell would stand in a folder that is no longer there."""
        monkeypatch.chdir(tmp_path)
        for name in (".", tmp_path):
            code, text = fail(capsys, monkeypatch, "render", "-o", name, *TINY)
            assert (code, text) == (1, f"error: {name} is the folder you are in; name one to make in it\n")
        assert not [*tmp_path.iterdir()]

    def test_a_set_without_tests_is_not_sent_to_a_training_that_refuses_it(self, tmp_path: Path) -> None:
        result = run("render", "-o", tmp_path / "mini", "--train", 1, "--test", 0, "--size", "32x48")
        with pytest.raises(DataError, match="names no sequence for the test split"):
            open_dataset("vimeo90K_septuplet", tmp_path / "mini", "test")
        assert "flavr-train --" not in result.stdout
        assert result.stdout.endswith("Its test list is empty: flavr-train needs one to validate on\n")

    def test_the_next_command_can_be_pasted(self, tmp_path: Path) -> None:
        result = run("render", "-o", tmp_path / "my set", *TINY)
        words = shlex.split(result.stdout.splitlines()[-1])
        assert words[-2:] == ["--data_root", str(tmp_path / "my set")]

    def test_full_disk_leaves_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_space(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(_septuplets, "write_png", no_space)
        code, text = fail(capsys, monkeypatch, "render", "-o", tmp_path / "mini", *TINY)
        assert (code, text) == (
            1,
            f"error: {tmp_path / 'mini'}: the disk is full; free some space and run again\n",
        )
        assert not [*tmp_path.iterdir()]


class TestCut:
    CUT = ("cut", "--size", "32x48")

    @pytest.fixture
    def clips(self, tmp_path: Path) -> Path:
        folder = tmp_path / "clips"
        folder.mkdir()
        for number in range(4):
            write_video(folder / f"clip{number}.mkv", panning(15 + 7 * number, seed=number))
        return folder

    def test_no_video_is_in_both_splits(self, clips: Path, tmp_path: Path) -> None:
        shutil.copy(clips / "clip0.mkv", clips / "copy of clip0.mkv")
        output = tmp_path / "mine"
        result = run(*self.CUT, clips, clips / "clip1.mkv", "-o", output, "--val-fraction", 0.5)
        assert result.stdout.startswith(f"{output}: ")
        groups = [{name.split("/")[0] for name in listed(output, split)} for split in ("train", "test")]
        assert [len(group) for group in groups] == [2, 2]
        assert not groups[0] & groups[1]
        with (output / "videos.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(row["video"], row["sequences"]) for row in rows] == [
            ("clip0.mkv", "2"), ("clip1.mkv", "3"), ("clip2.mkv", "4"), ("clip3.mkv", "5")
        ]  # fmt: skip
        assert {row["folder"] for row in rows if row["split"] == "test"} == groups[1]
        for split in ("train", "test"):
            dataset = open_dataset("vimeo90K_septuplet", output, split)
            assert dataset.check(decode=True) == []
            assert dataset[0].inputs.shape == (4, 3, 32, 48)

    def test_sequences_are_consecutive_frames_that_no_other_sequence_has(
        self, clips: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "mine"
        run("cut", clips / "clip1.mkv", "-o", output, "--size", "40x56", "--val-fraction", 0)
        source = panning(22, seed=1)
        assert listed(output, "test") == []
        for number, name in enumerate(listed(output, "train")):
            for place in range(7):
                image = cv2.imread(str(output / "sequences" / name / f"im{place + 1}.png"))
                assert image is not None
                assert (image[..., ::-1] == source[7 * number + place]).all()

    def test_cuts_stills_and_repetitions_are_skipped(self, tmp_path: Path) -> None:
        one, other = panning(16, seed=5), panning(9, seed=6)
        parts = [one[:8], one[7:8], one[7:8], one[8:], other]
        write_video(tmp_path / "clip.mkv", np.concatenate(parts))
        output = tmp_path / "mine"
        run(*self.CUT, tmp_path / "clip.mkv", "-o", output, "--val-fraction", 0)
        # Frames 0-7 move, 7-9 are the same, 9-17 move, 18 begins another scene.
        assert len(listed(output, "train")) == 3

    def test_stride_size_and_limits(self, clips: Path, tmp_path: Path) -> None:
        source = write_video(tmp_path / "large.mkv", panning(60, seed=9, size=(80, 100)))
        run(
            *self.CUT,
            source,
            "-o",
            tmp_path / "two",
            "--val-fraction",
            0,
            "--max-per-video",
            2,
            "--stride",
            2,
        )
        names = listed(tmp_path / "two", "train")
        assert len(names) == 2
        frames = [
            cv2.imread(str(tmp_path / "two" / "sequences" / names[0] / f"im{k}.png")) for k in range(1, 8)
        ]
        assert all(frame is not None and frame.shape == (32, 48, 3) for frame in frames)
        result = run(
            *self.CUT,
            source,
            clips,
            "-o",
            tmp_path / "calm",
            "--max-motion",
            0.31,
            "--val-fraction",
            0,
            code=1,
        )
        assert re.search(
            r"moves by \d+(\.\d+)? at least, more than 0\.31 \(--max-motion\)", str(result.exception)
        )

    def test_videos_that_give_nothing_are_named(self, clips: Path, tmp_path: Path) -> None:
        small = write_video(tmp_path / "small.mkv", panning(9, seed=1, size=(24, 32)))
        still = write_video(tmp_path / "still.mkv", panning(1, seed=1).repeat(9, axis=0))
        result = run(*self.CUT, clips, small, still, "-o", tmp_path / "mine")
        assert f"{small} is left out: it is 32x24, smaller than 48x32 (--size)" in result.stderr
        assert f"{still} is left out: it has no 7 frames in a row in which something moves" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nowhere.mp4"], "nowhere.mp4 does not exist"),
            (["clip0.mkv"], "clip0.mkv is the only usable video, and train and test need one each: add "
             "another, or leave the test split empty with --val-fraction 0"),
            (["clip0.mkv", "text.mp4"], "text.mp4: not a video, or damaged"),
            (["empty"], "empty holds no video"),
            (["clip0.mkv", "clip1.mkv", "--size", "64x64"], "nothing to cut in 2 videos"),
        ],
    )  # fmt: skip
    def test_errors_are_one_line_and_leave_nothing(
        self,
        clips: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        arguments: list[str],
        message: str,
    ) -> None:
        (clips / "text.mp4").write_text("not a video " * 50)
        (clips / "empty").mkdir()
        monkeypatch.chdir(clips)
        before = sorted(clips.rglob("*"))
        code, text = fail(capsys, monkeypatch, *self.CUT, "-o", "mine", *arguments)
        assert code == 1
        assert text.startswith(f"error: {message}")
        assert text.count("\n") == 1
        assert sorted(clips.rglob("*")) == before
        assert not [*tmp_path.glob("*partial*")]

    def test_default_motion_is_that_of_the_library(self) -> None:
        (option,) = (o for o in flavr_data.commands["cut"].params if o.name == "min_motion")
        assert option.default == MIN_MOTION


def test_help_comes_without_torch() -> None:
    code = "import sys; from flavr.cli_data import main; main()"
    guard = "import sys; sys.modules['torch'] = sys.modules['cv2'] = None; "
    for command in ([], ["cut"], ["render"], ["layouts"]):
        done = subprocess.run(
            [sys.executable, "-c", guard + code, *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("Usage:")
        assert command == ["layouts"] or "Examples:" in done.stdout


def test_layouts_of_all_sets_are_shown() -> None:
    shown = run("layouts").stdout
    assert all(f"{name}: {kind.summary}" in shown for name, kind in DATASETS.items())
    assert "sep_trainlist.txt" in run("layouts", "vimeo90k-septuplet").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render"], "Missing option '-o'"),
        (["render", "-o", "x", "--size", "8x8"], "write height x width"),
        (["cut", "-o", "x"], "Missing argument 'VIDEO...'"),
        (["cut", "a.mp4", "-o", "x", "--min-motion", "5", "--max-motion", "1"], "1 is below --min-motion 5"),
        (["layouts", "vimo"], "no data set is called 'vimo'"),
    ],
)
def test_bad_usage_exits_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    code, text = fail(capsys, monkeypatch, *arguments)
    assert code == 2
    assert message in text


def test_every_command_has_a_help_line_for_every_option() -> None:
    for command, option in itertools.chain.from_iterable(
        ((command, p) for p in command.params) for command in flavr_data.commands.values()
    ):
        if option.param_type_name == "option":
            assert getattr(option, "help", None), (command.name, option.name)
