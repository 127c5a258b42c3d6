"""The mean over several views of a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from clips import render_clip
from flavr_runtime import InputError, Interpolator, UsageError
from flavr_runtime.cli import command
from flavr_runtime.ensemble import SIZES, VIEWS, mean_over
from flavr_runtime.frames import Rgb
from model_files import write_blend_model


def noise(seed: int, kind: type[np.uint8 | np.uint16] = np.uint8) -> list[Rgb]:
    random = np.random.default_rng(seed)
    return [random.integers(0, np.iinfo(kind).max + 1, (7, 10, 3), kind) for _ in range(4)]


def lopsided(frames: Sequence[Rgb]) -> list[Rgb]:
    """Two new frames from a model that looks up, to the left and back."""
    return [np.roll(frames[0], 1, axis=0), np.roll(frames[1], 2, axis=1)]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", SIZES)
def test_the_mean_over_a_group_of_views_treats_them_alike(
    size: int, kind: type[np.uint8 | np.uint16]
) -> None:
    frames, views = noise(0, kind), VIEWS[:size]
    means = mean_over(views, lopsided, frames)
    assert [mean.dtype for mean in means] == [kind] * 2
    for view in views:
        seen = [view.of(picture) for picture in frames][:: -1 if view.reverse else 1]
        made = mean_over(views, lopsided, seen)[:: -1 if view.reverse else 1]
        for picture, mean in zip(made, means, strict=True):
            np.testing.assert_array_equal(view.of(picture), mean)


def test_the_mean_of_the_brightest_is_the_brightest() -> None:
    for kind in (np.uint8, np.uint16):
        white = np.full((4, 6, 3), np.iinfo(kind).max, kind)
        (mean,) = mean_over(VIEWS, lambda frames: [frames[1]], [white] * 4)
        np.testing.assert_array_equal(mean, white)


def test_new_frames_stay_in_time_order(tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "m.onnx", [(0, 1, 0, 0), (0, 0, 0, 1)])
    window = [np.full((6, 5, 3), value, np.uint8) for value in (10, 20, 30, 41)]
    for size, expected in ((1, [20, 41]), (2, [15, 36]), (8, [15, 36])):  # run backwards: 30 and 10
        interpolator = Interpolator(model, provider="cpu", ensemble=size)
        assert interpolator.ensemble == size
        assert [int(mid[0, 0, 0]) for mid in interpolator.between(*window)] == expected


def test_the_shipped_model_is_nearer_to_the_truth_over_several_views() -> None:
    rows, columns = np.mgrid[0:96, 0:128]
    truth = []
    for t in range(7):  # 3 pixels a step
        disc = np.array([200.0, 90.0, 60.0])
        inside = np.clip(20.5 - np.hypot(columns - 46 - 3 * t, rows - 48), 0, 1)[..., None]
        ground = np.stack([columns, rows, 128 - columns], axis=2) * 0.8 + 40
        truth.append((ground * (1 - inside) + disc * inside).round().astype(np.uint8))

    def error(ensemble: int) -> float:
        (made,) = Interpolator(provider="cpu", ensemble=ensemble).between(*truth[::2])
        return float(np.square(made.astype(float) - truth[3]).mean())

    assert error(4) < 0.97 * error(1)


@pytest.mark.parametrize("size", [0, 3, 16, -1])
def test_another_number_of_views_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=rf"^an ensemble of {size} is none that is known: give one of 1, 2"):
        Interpolator(provider="cpu", ensemble=size)


@pytest.mark.parametrize("wrong", [None, np.zeros(5, np.uint8), np.zeros((6, 5, 3), np.float32)])
def test_what_is_no_picture_is_refused_before_it_is_turned(wrong: Any, tmp_path: Path) -> None:
    interpolator = Interpolator(write_blend_model(tmp_path / "m.onnx"), provider="cpu", ensemble=2)
    picture = np.zeros((6, 5, 3), np.uint8)
    with pytest.raises(InputError, match="frame 1"):
        interpolator.between(picture, wrong, picture, picture)


def test_flavr_run_says_it_and_makes_it(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mkv", frames=4, size=(64, 48))
    model = write_blend_model(tmp_path / "first.onnx", [(1, 0, 0, 0)])

    def run(*more: str) -> tuple[int, str]:
        line = [str(clip), "-o", str(tmp_path / "out"), "-y", "--provider", "cpu", "--model", str(model)]
        done = CliRunner().invoke(command, [*line, "--manifest", *more])
        return done.exit_code, done.output

    code, said = run("--ensemble", "2")
    assert code == 0, said
    assert "conv2d fp32), the mean over 2 views" in said
    assert '"--ensemble": 2' in next(tmp_path.glob("out*.json")).read_text()
    code, said = run()
    assert code == 0, said
    assert "views" not in said
    assert run("--ensemble", "3")[0] == 2
