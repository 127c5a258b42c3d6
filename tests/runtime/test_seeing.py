"""What is told of a run: --dry-run before it, --compare in it, --manifest after it."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from clips import Picture, render_clip
from flavr_runtime._console import time_text
from flavr_runtime.cli import command
from flavr_runtime.compare import DIVIDER, side_by_side, wiped
from flavr_runtime.dry_run import window_count
from flavr_runtime.reader import VideoReader
from flavr_runtime.timing_plan import Timing
from model_files import write_blend_model


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """Images of one grey each: 0, 10, 20, 30, then from a new scene on 200, 210, 220."""
    folder = tmp_path / "steps"
    folder.mkdir()
    for index, grey in enumerate((0, 10, 20, 30, 200, 210, 220)):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 12, 3), grey, np.uint8))
    return folder


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, [*map(str, arguments), "--provider", "cpu"])
    assert result.exit_code == 0, result.output
    return result


def images(folder: Path) -> list[Picture]:
    return [np.asarray(cv2.imread(str(path))) for path in sorted(folder.glob("*.png"))]


def test_side_by_side_shows_what_a_viewer_of_the_source_would_see(
    average: Path, steps: Path, tmp_path: Path
) -> None:
    cuts = tmp_path / "cuts.txt"
    cuts.write_text("4")
    run(steps, "-o", tmp_path / "out", "--model", average, "--factor", 4, "--cuts", cuts, "--compare", "side")
    shown = images(tmp_path / "out")
    assert len(shown) == 25
    assert shown[0].shape == (8, 26, 3)
    assert all((picture[:, 12:14] == 255).all() for picture in shown)
    assert [int(picture[0, 0, 0]) for picture in shown] == [
        *[0] * 4, *[10] * 4, *[20] * 4, *[30] * 4, *[200] * 4, *[210] * 4, 220,
    ]  # fmt: skip
    right = [int(picture[0, -1, 0]) for picture in shown]
    assert right[:5] == [0, 2, 5, 8, 10] or right[:5] == [0, 3, 5, 8, 10]
    assert right[12:17] == [30, 30, 30, 200, 200]  # the nearer one around the cut


def test_the_source_is_held_at_its_own_rate_when_the_result_has_another(
    average: Path, steps: Path, tmp_path: Path
) -> None:
    run(steps, "-o", tmp_path / "out", "--model", average, "--fps", 60, "--compare", "wipe", "--cuts", "off")
    shown = images(tmp_path / "out")
    assert shown[0].shape == (8, 12, 3)
    left = [int(picture[0, 0, 0]) for picture in shown]
    greys = (0, 10, 20, 30, 200, 210, 220)
    for number, grey in enumerate(left):
        place = number * 25 / 60
        # Made frames are taken up to an eighth of an interval early or late.
        assert grey in {greys[min(6, max(0, math.floor(place + off)))] for off in (-1 / 8, 1 / 8)}
    assert all((picture[:, 5:7] == 255).all() for picture in shown)


def test_a_comparison_can_be_written_as_video(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    run(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--compare", "side")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].width, frames[0].height) == (23, 130, 48)


def test_the_manifest_says_what_was_made_of_what(average: Path, tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "clip.mkv", rate=Fraction(24000, 1001), frames=13)
    cuts = tmp_path / "cuts.txt"
    cuts.write_text("6\n600\n")
    run(clip, "-o", tmp_path / "out.mkv", "--model", average, "--cuts", cuts, "--manifest", "--crf", 20)
    found = json.loads((tmp_path / "out.mkv.json").read_text())
    assert found["input"]["rate"] == "24000/1001"
    assert found["output"]["rate"] == "48000/1001"
    assert len(found["model"]["sha256"]) == 64
    assert found["provider"]["execution_provider"] == "CPUExecutionProvider"
    assert sum(found["provider"]["nodes"].values()) > 5
    assert {"av", "numpy", "ONNX Runtime"} <= set(found["versions"])
    assert (found["options"]["--crf"], found["options"]["--resume"]) == (20, False)
    frames = found["frames"]
    assert (frames["in"], frames["out"], frames["from_source"]) == (13, 25, 13)
    assert frames["made"] == 11
    assert frames["repeated"] == 1
    assert found["cuts"] == ["1001/4000"]
    assert found["gaps"] == []
    assert found["warnings"] == [f"the cut at 600 lies past the last frame; see {cuts}"]
    assert found["tiles"] == "whole 64x48 pictures"
    assert found["precision"] == "fp32"
    assert found["seconds"] > 0


def test_a_file_that_is_in_the_place_of_the_manifest_is_kept(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "out.mp4.json"
    precious.write_text("precious")
    arguments = [
        clip_plain,
        "-o",
        tmp_path / "out.mp4",
        "--model",
        average,
        "--manifest",
        "--provider",
        "cpu",
    ]
    result = CliRunner().invoke(command, [str(each) for each in arguments])
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {precious}: the file exists; use --overwrite, or leave --manifest out\n"
    )
    assert precious.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [precious]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    result = run(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--factor", 4, "--dry-run")
    lines = result.stdout.splitlines()
    assert lines[0] == f"would write {tmp_path / 'out.mp4'}: 100 fps, 45 frames, 0.45 s"
    memory = re.match(r"memory: about ([\d.]+) (MB|GB) at most", lines[1])
    assert memory is not None
    assert float(memory[1]) * {"MB": 1, "GB": 1000}[memory[2]] > 20
    assert "(33 windows at most, " in lines[2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("factor", "native", "resampled", "frames", "windows"),
    [
        (2, 2, False, 21, 10),
        (4, 2, False, 41, 30),
        (8, 2, False, 81, 70),
        (8, 4, False, 81, 30),  # a pass of 2 and one of 4
        (4, 2, True, 12, 24),
        (4, 2, True, 30, 30),
        (1, 2, True, 5, 0),
    ],
)
def test_windows_are_counted_over_all_passes(
    factor: int, native: int, resampled: bool, frames: int, windows: int
) -> None:
    timing = Timing(factor, Fraction(25), resampled, Fraction(1))
    assert window_count(timing, native, 11, frames) == windows


def test_times_are_given_as_people_say_them() -> None:
    said = [time_text(each) for each in (0.2, 59.9, 61, 7290)]
    assert said == ["1 s", "1 min 0 s", "1 min 1 s", "2 h 1 min"]


@pytest.mark.parametrize("width", [1, 2])
def test_the_narrowest_pictures_are_compared_too(width: int) -> None:
    picture = np.zeros((4, width, 3), np.uint8)
    assert side_by_side(picture, picture).shape == (4, 2 * width + DIVIDER, 3)
    assert wiped(picture, picture).shape == picture.shape


def test_a_dry_run_does_not_call_a_number_the_most_that_smoothing_exceeds(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    arguments = [clip_plain, "-o", tmp_path / "o.mp4", "--model", average, "--factor", 1, "--dry-run"]
    assert "(0 windows at most, " in run(*arguments).stdout
    assert (
        "(0 windows, more where held frames are smoothed, "
        in run(*arguments, "--duplicates", "smooth").stdout
    )


@pytest.mark.parametrize("mode", ["side", "wipe"])
def test_deep_video_is_compared_with_new_pictures_of_8_bits(
    average: Path, clip_10bit: Path, tmp_path: Path, mode: str
) -> None:
    run(clip_10bit, "-o", tmp_path / "out.mkv", "--model", average, "--codec", "ffv1", "--compare", mode)
    with av.open(str(tmp_path / "out.mkv")) as container:
        shown = [frame.to_ndarray(format="gray16le") for frame in container.decode(video=0)]
    means = [float(picture[:, picture.shape[1] * 3 // 4 :].mean()) for picture in shown]
    assert len(means) == 7
    assert max(means) < 1.1 * min(means)  # no half that is black


@pytest.mark.parametrize(("mode", "tag"), [("side", 6), ("wipe", 2)])
def test_untagged_video_keeps_its_colours_beside_its_result(
    average: Path, tmp_path: Path, mode: str, tag: int
) -> None:
    # Two of them are wide enough to be taken for HD, which one is not.
    clip = render_clip(tmp_path / "in.mkv", codec="ffv1", size=(640, 16), frames=2, tags=(2, 0, 2, 2))
    run(clip, "-o", tmp_path / "out.mkv", "--model", average, "--codec", "ffv1", "--compare", mode)
    with VideoReader(clip) as source, VideoReader(tmp_path / "out.mkv") as compared:
        assert source.traits.colour.tag_matrix == 2
        assert (compared.traits.colour.matrix, compared.traits.colour.tag_matrix) == ("bt601", tag)
        before, after = next(source.frames()).rgb, next(compared.frames()).rgb
    assert np.abs(after[:, :300].astype(int) - before[:, :300]).max() <= 2
