"""Sources of variable rate made constant with --fps: how many frames, and how far from their instants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import render_clip
from flavr_runtime.dry_run import uneven_window_count
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.reader import VideoReader
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


@pytest.fixture(scope="module")
def clip_with_hold(clip_folder: Path) -> Path:
    """4 frames at 30 fps, one at 1 s, and one at 1.1 s that is shown for 3 s: a screen recording."""
    times = [*(Fraction(index, USUAL) for index in range(4)), Fraction(1), Fraction(11, 10)]
    short = render_clip(
        clip_folder / "short.mp4", times=times, frames=6, rate=Fraction(USUAL), options={"bf": "0"}
    )
    return remuxed(short, clip_folder / "hold.mp4", held=3)


def remuxed(source: Path, target: Path, *, held: int = 0, options: dict[str, str] | None = None) -> Path:
    """The same frames, the last of them shown for `held` seconds; `options` are the container's."""
    with av.open(str(source)) as before, av.open(str(target), "w", options=options) as after:
        track = after.add_stream_from_template(before.streams.video[0])
        packets = [packet for packet in before.demux() if packet.size]
        if held:
            packets[-1].duration = int(held / packets[-1].time_base)
        for packet in packets:
            packet.stream = track
            after.mux(packet)
    return target


def evenly_shown(gaps: list[int], native: int = 2, held: int = 0) -> tuple[list[Frame], list[Frame]]:
    """What can be made of frames so many milliseconds apart, and what of it is shown at FPS.

    The last one is shown for `held` milliseconds.
    """
    times = list(accumulate((Fraction(gap, 1000) for gap in gaps), initial=Fraction(0)))
    intervals = tuple((Fraction(gap, 1000), gaps.count(gap)) for gap in set(gaps))
    shown_until = times[-1] + Fraction(held, 1000)
    info = StreamInfo(
        Path("c.mkv"), 2, 2, Fraction(USUAL), False, len(times), "",
        intervals=intervals, shown=(times[0], shown_until),
    )  # fmt: skip
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
    assert Fraction(len(shown), FPS) > times[-1]
    assert Fraction(len(shown), FPS) >= shown_until - Fraction(1, 2 * FPS)
    return made, shown


def furthest(made: list[Frame], shown: list[Frame]) -> Fraction:
    """By how many frames of the result something is shown too early or too late."""
    origins = [next(each for each in made if each.same_picture(frame)) for frame in shown]
    return max(abs(each.time - frame.time) for each, frame in zip(origins, shown, strict=True)) * FPS


@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.integers(1, 530), min_size=1, max_size=5))
def test_at_a_variable_rate_too_no_frame_is_more_than_a_quarter_off(gaps: list[int]) -> None:
    assert furthest(*evenly_shown(gaps)) <= Fraction(1, 4)


@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.integers(1, 100), min_size=1, max_size=3), held=st.integers(0, 300))
def test_the_last_frame_is_repeated_to_the_end_and_no_further(gaps: list[int], held: int) -> None:
    made, shown = evenly_shown(gaps, held=held)
    last, end = made[-1].time, made[-1].time + Fraction(held, 1000)
    late = [frame for frame in shown if frame.time >= last]
    assert all(frame.same_picture(made[-1]) for frame in late)
    assert all(frame.origin == "repeated" for frame in late[1:])
    assert all(frame.time + Fraction(1, 2 * FPS) <= end for frame in late if frame.time > last)


def test_in_a_long_pause_the_nearest_of_64_steps_is_held() -> None:
    made, shown = evenly_shown([33, 5000, 33])
    assert len(shown) == 304  # up to the last frame, for which no time is left here
    changes = sum(not after.same_picture(before) for before, after in pairwise(shown))
    assert changes == pytest.approx(64 + 3, abs=3)
    assert furthest(made, shown) <= Fraction(5, 128) * FPS


def test_progress_and_result_of_a_clip_with_a_pause_count_all_its_frames(
    average: Path, clip_with_pause: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    printed = run_well(clip_with_pause, "-o", output, "--model", average, "--fps", FPS, "--cuts", "off")
    assert "64x48, usually 30 fps, variable rate, 20 frames, " in printed
    assert "out.mp4: 60 fps, 340 frames" in printed
    times = [time_of(frame) for frame in decoded(output)]
    assert times == [Fraction(n, FPS) for n in range(340)]


@pytest.mark.parametrize("options", [[], ["--duplicates", "smooth"], ["--slowmo"]])
def test_at_a_stated_rate_too_the_last_frame_is_held_as_long_as_the_source_holds_it(
    average: Path, clip_with_hold: Path, tmp_path: Path, options: list[str]
) -> None:
    with VideoReader(clip_with_hold) as source:
        assert source.traits.end == Fraction(41, 10)
    output = tmp_path / "out.mp4"
    printed = run_well(
        clip_with_hold, "-o", output, "--model", average, "--fps", FPS, "--cuts", "off", *options
    )
    count = FPS * 41 // 10
    assert f" fps, {count} frames" in printed
    rate = USUAL if options == ["--slowmo"] else FPS
    assert [time_of(frame) for frame in decoded(output)] == [Fraction(n, rate) for n in range(count)]


@pytest.mark.parametrize(
    ("flags", "surely"), [("faststart", True), ("frag_keyframe+dash+global_sidx", False)]
)
def test_what_is_missing_of_a_file_that_is_cut_off_is_not_held(
    tmp_path: Path, flags: str, surely: bool
) -> None:
    times = [Fraction(index, USUAL) + Fraction(index % 3, 100) for index in range(90)]
    clip = render_clip(
        tmp_path / "clip.mp4", times=times, frames=90, rate=Fraction(USUAL), options={"g": "5"}
    )
    whole = remuxed(clip, tmp_path / "whole.mp4", options={"movflags": flags}).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    with VideoReader(tmp_path / "half.mp4") as reader:
        last = [frame.time for frame in reader.frames()][-1]
        assert any(f"it {'is' if surely else 'may be'} cut off" in notice for notice in reader.notices)
        if surely:
            assert reader.gaps[-1].end >= 3
        assert reader.info.shown is not None
        assert last < reader.info.shown[1] < last + Fraction(1, 4)


@pytest.mark.parametrize("options", [[], ["--compare", "side"], ["--slowmo"]])
def test_images_do_not_promise_the_times_that_they_cannot_keep(
    average: Path, clip_vfr: Path, tmp_path: Path, options: list[str]
) -> None:
    drift = (
        "note: images carry no times, and vfr.mkv has a variable rate: at any constant one they drift from "
        "it; state --fps for even ones\n"
    )
    run_images = [clip_vfr, "-o", tmp_path / "frames", "--model", average, "--cuts", "off", *options]
    printed = run_well(*run_images)
    assert "fps, variable rate, 8 frames" in printed
    assert drift in printed
    assert "images carry no times" not in run_well(*run_images, "--fps", FPS, "-y")
    assert "images carry no times" not in run_well(clip_vfr, "-o", tmp_path / "out.mkv", "--model", average)


@pytest.mark.parametrize(
    ("options", "source", "result"),
    [
        (["--fps", FPS], "usually 30 fps, variable rate, ", "60 fps, 340 frames, 5.67 s"),
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
