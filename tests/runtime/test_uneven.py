"""Sources of variable rate made constant with --fps: how many frames, and how far from their instants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import render_clip
from flavr_runtime.dry_run import uneven_window_count
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.smoothing import evened
from flavr_runtime.timing_plan import plan_timing
from model_files import write_blend_model
from test_run import decoded, run, run_well, time_of

FPS = 60
USUAL = 30


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


@pytest.fixture(scope="module")
def clip_with_pause(clip_folder: Path) -> Path:
    """20 frames at 30 fps, with 5 s between the 10th and the 11th."""
    times = [Fraction(index, USUAL) + 5 * (index > 9) for index in range(20)]
    return render_clip(clip_folder / "pause.mkv", times=times, frames=20, rate=Fraction(USUAL))


def evenly_shown(gaps: list[int], native: int = 2) -> tuple[list[Frame], list[Frame]]:
    """What can be made of frames so many milliseconds apart, and what of it is shown at FPS."""
    times = list(accumulate((Fraction(gap, 1000) for gap in gaps), initial=Fraction(0)))
    intervals = tuple((Fraction(gap, 1000), gaps.count(gap)) for gap in set(gaps))
    info = StreamInfo(Path("c.mkv"), 2, 2, Fraction(USUAL), False, len(times), "", intervals=intervals)
    made: list[Frame] = []

    def expand(frames: Iterable[Frame], factor: int) -> Iterator[Frame]:
        before: Frame | None = None
        for frame in frames:
            steps = range(1, factor + 1) if before is not None else [factor]
            start = frame.time if before is None else before.time
            for step in steps:
                made.append(Frame(frame.rgb, start + (frame.time - start) * Fraction(step, factor)))
                yield made[-1]
            before = frame

    timing = plan_timing(info, native, factor=None, fps=Fraction(FPS), slowmo=False)
    source = [Frame(np.zeros((2, 2, 3), np.uint8), time) for time in times]
    shown = list(evened(source, timing, native, expand))
    assert len(shown) == timing.frame_count(info)
    assert [frame.time for frame in shown] == [Fraction(n, FPS) for n in range(len(shown))]
    return made, shown


def furthest(made: list[Frame], shown: list[Frame]) -> Fraction:
    """By how many frames of the result something is shown too early or too late."""
    origins = [next(each for each in made if each.same_picture(frame)) for frame in shown]
    return max(abs(each.time - frame.time) for each, frame in zip(origins, shown, strict=True)) * FPS


@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.integers(1, 530), min_size=1, max_size=5))
def test_at_a_variable_rate_too_no_frame_is_more_than_a_quarter_off(gaps: list[int]) -> None:
    assert furthest(*evenly_shown(gaps)) <= Fraction(1, 4)


def test_in_a_long_pause_the_nearest_of_64_steps_is_held() -> None:
    made, shown = evenly_shown([33, 5000, 33])
    assert len(shown) == 304
    changes = sum(not after.same_picture(before) for before, after in pairwise(shown))
    assert changes == pytest.approx(64 + 3, abs=3)
    assert furthest(made, shown) <= Fraction(5, 128) * FPS


def test_progress_and_result_of_a_clip_with_a_pause_count_all_its_frames(
    average: Path, clip_with_pause: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    printed = run_well(clip_with_pause, "-o", output, "--model", average, "--fps", FPS, "--cuts", "off")
    assert "64x48, usually 30 fps, variable rate, 20 frames, " in printed
    assert "out.mp4: 60 fps, 338 frames" in printed
    times = [time_of(frame) for frame in decoded(output)]
    assert times == [Fraction(n, FPS) for n in range(338)]


@pytest.mark.parametrize(
    ("options", "source", "result"),
    [
        (["--fps", FPS], "usually 30 fps, variable rate, ", "60 fps, 338 frames, 5.63 s"),
        (["--factor", 2], "usually 30 fps, variable rate kept, ", "usually 60 fps, 39 frames, 5.67 s"),
    ],
)
def test_a_dry_run_states_how_long_a_clip_of_variable_rate_lasts(
    average: Path, clip_with_pause: Path, tmp_path: Path, options: list[object], source: str, result: str
) -> None:
    output = tmp_path / "out.mp4"
    said = run(clip_with_pause, "-o", output, "--model", average, "--provider", "cpu", "--dry-run", *options)
    assert said.exit_code == 0, said.output
    assert source in said.stderr
    assert said.stdout.splitlines()[0] == f"would write {output}: {result}"


def test_windows_are_counted_interval_by_interval() -> None:
    info = StreamInfo(Path("c.mkv"), 2, 2, Fraction(USUAL), False, 5, "")
    timing = plan_timing(info, 2, factor=None, fps=Fraction(FPS), slowmo=False)
    usual, short, pause = Fraction(1, 30), Fraction(1, 200), Fraction(5)
    assert uneven_window_count(timing, 2, [(usual, 2), (short, 1), (pause, 1)]) == 2 * 3 + 0 + 63
