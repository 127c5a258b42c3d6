"""The baselines on motion with a known middle, and the scores of right and wrong frames."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flavr.rendering import RenderSpec, render_sequence
from flavr_benchmarks import datasets
from flavr_benchmarks.baselines import BASELINES, DisFlow, Minterpolate, average
from flavr_benchmarks.datasets import QualityWindow
from flavr_benchmarks.errors import UsageError
from flavr_benchmarks.quality import codes, compare_to_reference, mean_over_videos, score
from flavr_benchmarks.workload import UnsupportedError, unrounded
from flavr_runtime.frames import Rgb

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def psnr(picture: Rgb, truth: Rgb) -> float:
    return float(10 * np.log10(255**2 / np.square(picture.astype(float) - truth).mean()))


@pytest.fixture(scope="module")
def scene() -> Sequence[Rgb]:
    """Thirteen frames: a window of factor 4, its inputs at 0, 4, 8 and 12."""
    return render_sequence(RenderSpec(1, 0, 256, 320, seed=3), 0, frames=13)


def window_of(scene: Sequence[Rgb]) -> list[Rgb]:
    return [scene[0], scene[4], scene[8], scene[12]]


@pytest.mark.parametrize("name", ["dis-flow", pytest.param("minterpolate", marks=needs_ffmpeg)])
def test_motion_is_followed_and_every_frame_is_at_its_instant(name: str, scene: Sequence[Rgb]) -> None:
    made = BASELINES[name].open(1)(window_of(scene), 4)
    faded = average(window_of(scene), 4)
    assert len(made) == 3
    for n in range(3):
        scores = [psnr(made[n], frame) for frame in scene[4:9]]
        assert int(np.argmax(scores)) == n + 1, scores
        assert scores[n + 1] > psnr(faded[n], scene[5 + n]) + 2


def test_averaging_fades_in_order() -> None:
    frames = [np.full((16, 16, 3), value, np.uint8) for value in (0, 100, 200, 0)]
    assert [int(made[0, 0, 0]) for made in average(frames, 4)] == [125, 150, 175]


def test_flow_leaves_a_still_picture_alone(scene: Sequence[Rgb]) -> None:
    made = DisFlow(1)([scene[0]] * 4, 2)[0]
    assert np.abs(made.astype(int) - scene[0]).max() <= 1


def test_pictures_too_small_for_flow_are_refused() -> None:
    with pytest.raises(ValueError, match="32x32 or more, not 20x16"):
        DisFlow(1)([np.zeros((16, 20, 3), np.uint8)] * 4, 2)


def test_a_missing_ffmpeg_is_said_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="ffmpeg is not installed; apt-get install ffmpeg"):
        Minterpolate(None)


def fake_ffmpeg(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'No such filter: minterpolate' >&2; exit 1", "No such filter: minterpolate"),
        ("head -c 100 /dev/zero", "gave 0 frames; 8 were needed"),
    ],
)
def test_an_ffmpeg_that_cannot_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    fake_ffmpeg(tmp_path, script, monkeypatch)
    with pytest.raises(ValueError, match=words):
        Minterpolate(1)([np.zeros((16, 16, 3), np.uint8)] * 4, 2)


@pytest.fixture(scope="module")
def windows() -> list[QualityWindow]:
    return datasets.open_set("mini", 2, 2, {}, (48, 64)).windows


def test_the_rendered_set_moves_and_has_its_truth_in_the_middle(windows: list[QualityWindow]) -> None:
    assert len(windows) == 2
    for window in windows:
        assert len(window.inputs) == 4
        assert len(window.truth) == 1
        assert not np.array_equal(window.inputs[1], window.inputs[2])
        assert window.truth[0].std() > 5


def test_the_rendered_set_serves_any_factor() -> None:
    window = datasets.open_set("mini", 1, 4, {}, (48, 64)).windows[0]
    assert len(window.truth) == 3
    steps = [window.inputs[1], *window.truth, window.inputs[2]]
    near = np.abs(steps[1].astype(int) - steps[0]).mean()
    assert near < np.abs(steps[4].astype(int) - steps[0]).mean()


def test_timed_windows_are_neither_black_nor_uniform_nor_alike() -> None:
    timed = datasets.timed_windows((32, 48), 2)
    assert timed.shape == (2, 4, 32, 48, 3)
    assert timed.dtype == np.uint8
    assert all(frame.std() > 5 for window in timed for frame in window)
    assert not np.array_equal(timed[0], timed[1])
    assert not np.array_equal(timed[0][0], timed[0][3])


def test_the_truth_scores_best_and_is_told_from_wrong_frames(windows: list[QualityWindow]) -> None:
    right = [unrounded(window.truth) for window in windows]
    wrong = [unrounded(window.truth)[..., ::-1].copy() for window in windows]  # red and blue swapped
    perfect, bad = (score(windows, frames, quantised=False) for frames in (right, wrong))
    assert perfect.psnr == pytest.approx(80)
    assert perfect.psnr_uint8 == pytest.approx(100)
    assert perfect.ssim == pytest.approx(1, abs=1e-4)
    assert bad.psnr_uint8 < 30
    compare_to_reference(bad, wrong, perfect, right)
    assert bad.loss_db == pytest.approx(100 - bad.psnr_uint8)
    assert bad.max_code_error is not None
    assert bad.max_code_error > 20


def test_frames_that_are_no_pictures_are_refused(windows: list[QualityWindow]) -> None:
    right = [unrounded(window.truth) for window in windows]
    with pytest.raises(ValueError, match="1 results for 2 windows"):
        score(windows, right[:1], quantised=False)
    with pytest.raises(ValueError, match="where the truth is"):
        score(windows, [frames[:, :-1] for frames in right], quantised=False)
    with pytest.raises(ValueError, match="none that is a number"):
        score(windows, [frames * np.nan for frames in right], quantised=False)


def test_codes_are_what_a_viewer_gets() -> None:
    pictures = np.array([-0.1, 0.5 / 255, 1.5 / 255, 254.4 / 255, 1.2], np.float32)
    assert codes(pictures).tolist() == [0, 0, 2, 254, 255]


def test_every_video_weighs_the_same(windows: list[QualityWindow]) -> None:
    quality = score(windows, [unrounded(window.truth) for window in windows], quantised=False)
    quality.psnr_by_window = {"a.mp4:0": 30.0, "a.mp4:9": 32.0, "b.mp4:0": 40.0}
    assert mean_over_videos(quality) == (35.5, 2)


def test_data_is_recognised_by_what_is_in_the_folder(tmp_path: Path) -> None:
    assert datasets.split_data(str(tmp_path)) == ("video", tmp_path)
    (tmp_path / "sep_testlist.txt").touch()
    assert datasets.split_data(str(tmp_path)) == ("vimeo90K_septuplet", tmp_path)
    assert datasets.split_data(f"gopro:{tmp_path}") == ("gopro", tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        datasets.split_data(str(tmp_path / "nowhere"))
