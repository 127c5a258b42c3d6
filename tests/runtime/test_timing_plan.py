from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flavr_runtime.errors import UsageError
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.timing_plan import Timing, plan_timing, retimed

NTSC_FILM = Fraction(24000, 1001)


def info(rate: Fraction | int, *, count: int = 100, constant: bool = True) -> StreamInfo:
    return StreamInfo(Path("clip.mp4"), 64, 48, Fraction(rate), constant, count, "h264")


def grid(step: Fraction, count: int) -> list[Frame]:
    picture = np.zeros((2, 2, 3), np.uint8)
    return [Frame(picture, step * n) for n in range(count)]


@pytest.mark.parametrize(
    ("source", "fps", "factor", "resampled"),
    [
        (30, 60, 2, False), (30, 120, 4, False), (25, 60, 8, True), (24, 60, 8, True), (50, 60, 4, True),
        (NTSC_FILM, 60, 8, True), (NTSC_FILM, Fraction(48000, 1001), 2, False), (60, 30, 1, True),
        (60, 60, 1, False), (30, 45, 4, True), (20, 50, 8, True),
    ],
)  # fmt: skip
def test_the_grid_is_just_deep_enough(source: Fraction | int, fps: int, factor: int, resampled: bool) -> None:
    timing = plan_timing(info(source), 2, factor=None, fps=Fraction(fps), slowmo=False)
    assert timing == Timing(factor, Fraction(fps), resampled, Fraction(1))


def test_a_variable_rate_is_resampled_even_to_a_whole_multiple() -> None:
    assert plan_timing(info(30, constant=False), 2, factor=None, fps=Fraction(60), slowmo=False).resampled


def test_the_factor_is_the_models_own_unless_told() -> None:
    assert plan_timing(info(25), 4, factor=None, fps=None, slowmo=False).factor == 4
    assert plan_timing(info(25), 2, factor=8, fps=None, slowmo=False) == Timing(
        8, Fraction(200), False, Fraction(1)
    )


def test_slow_motion_keeps_the_rate_and_stretches_time() -> None:
    slow = plan_timing(info(NTSC_FILM), 2, factor=4, fps=None, slowmo=True)
    assert (slow.rate, slow.stretch, slow.frame_count(info(NTSC_FILM))) == (NTSC_FILM, Fraction(4), 397)
    times = [frame.time for frame in slow.apply(grid(1 / NTSC_FILM / 4, 9))]
    assert times == [n / NTSC_FILM for n in range(9)]
    by_rate = plan_timing(info(30), 2, factor=None, fps=Fraction(75), slowmo=True)
    assert (by_rate.rate, by_rate.stretch) == (Fraction(30), Fraction(5, 2))
    times = [frame.time for frame in by_rate.apply(grid(Fraction(1, 240), 81))]
    assert times == [Fraction(n, 30) for n in range(26)]


def test_slow_motion_to_a_rate_that_is_not_higher_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"^--fps 10 is no more than the source's 25: there is nothing to slow"
    ):
        plan_timing(info(25), 2, factor=None, fps=Fraction(10), slowmo=True)


def test_conflicting_and_excessive_wishes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--factor and --fps exclude each other: give one of them$"):
        plan_timing(info(25), 2, factor=2, fps=Fraction(50), slowmo=False)
    with pytest.raises(UsageError, match=r"^--fps 1000 is too much for a source of 5: .* up to 160$"):
        plan_timing(info(5), 2, factor=None, fps=Fraction(1000), slowmo=False)


@settings(max_examples=40, deadline=None)
@given(
    source=st.sampled_from([Fraction(12), Fraction(25), NTSC_FILM, Fraction(30), Fraction(45000, 1499)]),
    ratio=st.fractions(Fraction(1, 3), 12, max_denominator=12),
    count=st.integers(1, 9),
)
def test_every_instant_gets_the_nearest_frame_and_the_duration_is_kept(
    source: Fraction, ratio: Fraction, count: int
) -> None:
    rate = source * ratio
    timing = plan_timing(info(source, count=count), 2, factor=None, fps=rate, slowmo=False)
    frames = grid(1 / source / timing.factor, (count - 1) * timing.factor + 1)
    taken = list(timing.apply(frames))
    assert [frame.time for frame in taken] == [n / rate for n in range(len(taken))]
    assert len(taken) == timing.frame_count(info(source, count=count))
    lost = frames[-1].time - taken[-1].time
    assert 0 <= lost < 1 / rate  # the length changes by less than one frame of the result
    for frame in taken:
        distances = [abs(frame.time - each.time) for each in frames]
        chosen = next(abs(frame.time - each.time) for each in frames if frame.same_picture(each))
        assert chosen == min(distances)
        assert chosen <= 1 / rate / 4 or timing.factor == 1


def test_a_frame_shown_twice_counts_as_repeated() -> None:
    taken = list(retimed(grid(Fraction(1, 10), 3), Fraction(20)))
    assert [frame.origin for frame in taken] == ["source", "repeated", "source", "repeated", "source"]


def test_nothing_comes_of_nothing() -> None:
    assert list(retimed([], Fraction(25))) == []
