"""What people ask flavr-run for now and then, and name their files."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from clips import planes_of, render_clip
from flavr_runtime._sequences import NumberPattern, image_files, is_glob
from flavr_runtime.cli import command
from flavr_runtime.frames import Frame
from flavr_runtime.scenes import ListedCuts
from model_files import write_blend_model


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--provider", "cpu"])


def rate_of(path: Path) -> Fraction | None:
    with av.open(str(path)) as container:
        return container.streams.video[0].average_rate


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        ("23.976023976", Fraction(24000, 1001)),
        ("59.94005994", Fraction(60000, 1001)),
        ("7.9999999999", Fraction(8)),
        ("12.5", Fraction(25, 2)),
        ("47.95", Fraction(48000, 1001)),
    ],
)
def test_decimals_of_a_rate_are_what_they_are_meant_to_be(
    given: str, exact: Fraction, average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    result = run(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--fps", given)
    assert result.exit_code == 0, result.output
    assert rate_of(tmp_path / "out.mp4") == exact


@pytest.mark.parametrize("given", ["99999999999", "0", "-25", "1e-9"])
def test_rates_that_no_file_can_hold_are_one_line(given: str, clip_plain: Path, tmp_path: Path) -> None:
    result = run(clip_plain, "-o", tmp_path / "out.mp4", "--fps", given)
    assert result.exit_code == 2
    assert "is not a rate; write 25, 23.976 or 24000/1001" in result.output


@pytest.mark.parametrize("given", ["bogus", "vaapi"])
@pytest.mark.parametrize("suffix", ["mp4", "y4m"])
def test_a_pixel_format_that_is_none_is_one_line(
    given: str, suffix: str, average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    result = run(clip_plain, "-o", tmp_path / f"o.{suffix}", "--model", average, "--pixel-format", given)
    assert result.exit_code != 0
    assert f"{given} is no pixel format of pictures; use yuv420p" in result.output
    assert not list(tmp_path.iterdir())


def test_yuvj_is_full_range_whatever_the_source_was(average: Path, tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=2, tags=(1, 1, 1, 1))
    options = ("--pixel-format", "yuvj420p", "--crf", 1, "--model", average)
    result = run(clip, "-o", tmp_path / "out.mkv", *options)
    assert result.exit_code == 0, result.output
    with av.open(str(clip)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        limited, full = next(before.decode(video=0)), next(after.decode(video=0))
    luma = (planes_of(limited)[0].astype(float) - 16) * 255 / 219
    assert np.abs(planes_of(full)[0] - luma.clip(0, 255)).mean() < 1.5
    assert np.abs(planes_of(limited)[0] - luma).mean() > 3  # the two ranges are told apart


def test_chapters_from_before_the_first_picture_begin_with_it(average: Path, tmp_path: Path) -> None:
    tick = Fraction(1, 1000)
    chapters = [
        {"id": n, "start": start, "end": end, "time_base": tick, "metadata": {"title": title}}
        for n, (start, end, title) in enumerate([(0, 100, "None"), (100, 300, "One"), (300, 600, "Two")])
    ]
    times = [Fraction(200 + 40 * n, 1000) for n in range(8)]
    clip = render_clip(tmp_path / "in.mkv", frames=8, chapters=chapters, times=times)
    result = run(clip, "-o", tmp_path / "out.mkv", "--model", average)
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "out.mkv")) as container:
        found = [
            (c["metadata"]["title"], c["start"] * (c["time_base"] or tick)) for c in container.chapters()
        ]
    assert found == [("One", 0), ("Two", Fraction(100, 1000))]


def test_a_percent_sign_in_a_videos_name_is_no_pattern(
    average: Path, clip_plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "100%done.mp4"
    clip.write_bytes(clip_plain.read_bytes())
    result = run(clip, "--model", average)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "100%done_2x.mp4").is_file()
    assert NumberPattern.of("100%done.png") is not None


def test_a_video_without_a_suffix_becomes_one_with(
    average: Path, clip_with_audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").write_bytes(clip_with_audio.read_bytes())
    result = run("clip", "--model", average)
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "clip_2x.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


@pytest.mark.parametrize(("name", "folder"), [(".", "empty"), ("frames.v1/", ""), ("link", "")])
def test_any_name_of_a_folder_will_do(
    name: str, folder: str, average: Path, clip_plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / folder)
    result = run(clip_plain, "-o", name, "--model", average)
    assert result.exit_code == 0, result.output
    written = {".": "empty", "frames.v1/": "frames.v1", "link": "real"}[name]
    assert len(list((tmp_path / written).iterdir())) == 23


def test_an_input_that_cannot_be_written_again_becomes_mp4(
    average: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = render_clip(tmp_path / "old.avi", codec="mpeg4")
    monkeypatch.chdir(tmp_path)
    result = run(clip, "--model", average)
    assert result.exit_code == 0, result.output
    assert rate_of(tmp_path / "old_2x.mp4") == 50


def test_brackets_in_a_folders_name_are_no_wildcard(tmp_path: Path) -> None:
    folder = tmp_path / "Shot [v2]"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.zeros((8, 8, 3), np.uint8))
    expected = sorted(folder.iterdir())
    assert not is_glob(folder / "%04d.png")
    for name in ("%04d.png", "*.png", "000[0-2].png"):
        assert image_files(folder / name) == expected
    assert image_files(tmp_path / "Shot*" / "*.png") == expected


@pytest.mark.parametrize(
    ("written", "number"),
    [("0.67", 16), ("0.667", 16), ("0.66", 16), ("0.7", 17), ("0.6876", 17), ("0:00:01", 24), ("1.0", 24)],
)
def test_a_listed_time_is_rounded_to_its_frame_and_no_further(
    written: str, number: int, tmp_path: Path
) -> None:
    (tmp_path / "cuts.txt").write_text(written)
    picture = np.zeros((4, 4, 3), np.uint8)
    frames = (Frame(picture, Fraction(n, 24)) for n in range(30))
    marked = ListedCuts(tmp_path / "cuts.txt")(frames)
    assert [n for n, frame in enumerate(marked) if frame.starts_scene] == [number]


def test_pictures_larger_than_ffmpeg_holds_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "huge.y4m").write_bytes(b"YUV4MPEG2 W60000 H60000 F25:1\nFRAME\n")
    result = run(tmp_path / "huge.y4m", "-o", tmp_path / "out.mp4")
    assert result.exit_code == 1
    assert "huge.y4m: pictures of 60000x60000 are larger than can be handled" in result.output


def test_a_name_that_is_no_utf8_can_be_printed(clip_plain: Path, tmp_path: Path) -> None:
    clip = tmp_path / "caf\udce9.mp4"
    clip.write_bytes(clip_plain.read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", "from flavr_runtime.cli import main; main()", clip, "--dry-run"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert rb"would write caf\udce9_2x.mp4" in done.stdout
