from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import render_clip
from flavr_runtime.cli import command
from flavr_runtime.frames import Frame, Rgb, StreamInfo
from flavr_runtime.holds import LONGEST_HOLD
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.smoothing import distinct, smoothed
from flavr_runtime.timing_plan import plan_timing
from model_files import average_weights, write_blend_model

TWOS = [0, 0, 40, 40, 80, 80, 120, 120]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Interpolator]:
    """By factor: new frames fade evenly, so that a picture's value says which instant it is of."""
    folder = tmp_path_factory.mktemp("models")
    return {
        n: Interpolator(write_blend_model(folder / f"{n}.onnx", average_weights(n)), provider="cpu")
        for n in (2, 3, 4)
    }


def flat(value: float, size: tuple[int, int] = (4, 4)) -> Rgb:
    return np.full((*size, 3), value, np.uint8)


def film(values: Iterable[float], rate: Fraction | int = 24, cuts: Iterable[int] = ()) -> list[Frame]:
    return [Frame(flat(v), Fraction(n) / rate, starts_scene=n in set(cuts)) for n, v in enumerate(values)]


def smooth(
    frames: list[Frame],
    model: Interpolator,
    *,
    factor: int | None = None,
    fps: int | None = None,
    rate: int = 24,
    constant: bool = True,
) -> list[Frame]:
    info = StreamInfo(Path("c.mp4"), 4, 4, Fraction(rate), constant, len(frames), "h264")
    wanted = None if fps is None else Fraction(fps)
    timing = plan_timing(info, model.model.factor, factor=factor, fps=wanted, slowmo=False)
    return list(timing.stretched(smoothed(frames, timing, model.model.factor, model.expand)))


def values(frames: Iterable[Frame]) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in frames]


def test_animation_on_twos_moves_evenly_at_the_same_count_and_times(models: dict[int, Interpolator]) -> None:
    found = smooth(film(TWOS), models[2], factor=2)
    assert values(found) == [*range(0, 120, 10), 120, 120, 120]
    assert [frame.time for frame in found] == [Fraction(n, 48) for n in range(15)]
    assert [frame.origin for frame in found[:5]] == ["source", *["synthesised"] * 3, "source"]


def test_factor_1_only_smooths(models: dict[int, Interpolator]) -> None:
    found = smooth(film(TWOS), models[2], factor=1)
    assert values(found) == [0, 20, 40, 60, 80, 100, 120, 120]
    assert [frame.time for frame in found] == [Fraction(n, 24) for n in range(8)]


def test_on_threes_no_picture_is_further_off_than_a_quarter_of_its_time(
    models: dict[int, Interpolator],
) -> None:
    found = values(smooth(film([0, 0, 0, 96, 96, 96, 192]), models[2], factor=2))
    steps = 192 / (len(found) - 1)
    assert all(abs(value - n * steps) <= steps / 4 + 1 for n, value in enumerate(found))
    exact = values(smooth(film([0, 0, 0, 96, 96, 96, 192]), models[3], factor=1))
    assert exact == [0, 32, 64, 96, 128, 160, 192]


def test_film_with_every_fifth_frame_repeated_never_stands(models: dict[int, Interpolator]) -> None:
    frames = film([0, 20, 40, 60, 60, 80, 100, 120, 140, 140, 160], 30)
    assert values(smooth(frames, models[2], factor=1)) == [0, 20, 40, 60, 70, 80, 100, 120, 140, 150, 160]


def test_any_rate_can_be_asked_for(models: dict[int, Interpolator]) -> None:
    found = smooth(film(TWOS), models[2], fps=60)
    assert [frame.time for frame in found] == [Fraction(n, 60) for n in range(18)]
    moving = values(found)[:15]
    assert all(abs(value - 8 * n) <= 3 for n, value in enumerate(moving))


def test_a_variable_rate_keeps_its_instants(models: dict[int, Interpolator]) -> None:
    times = [Fraction(ms, 1000) for ms in (0, 33, 100, 133, 170)]
    frames = [Frame(flat(v), time) for v, time in zip((0, 0, 100, 100, 133), times, strict=True)]
    found = smooth(frames, models[2], factor=2, constant=False, rate=30)
    assert [frame.time for frame in found[::2]] == times
    assert [frame.time for frame in found[1::2]] == [(a + b) / 2 for a, b in pairwise(times)]
    assert all(abs(v - 1000 * float(f.time)) <= 5 for v, f in zip(values(found[:5]), found, strict=False))


def test_a_cut_stays_where_it_is_and_is_not_crossed(models: dict[int, Interpolator]) -> None:
    found = values(smooth(film([0, 0, 20, 20, 200, 200, 220, 220], cuts=[4]), models[2], factor=2))
    assert found == [0, 5, 10, 15, 20, 20, 20, 20, 200, 205, 210, 215, 220, 220, 220]


def test_a_still_is_no_held_frame(models: dict[int, Interpolator]) -> None:
    frames = film([0] * 8 + [40])
    found = smooth(frames, models[2], factor=2)
    assert values(found) == [0] * 15 + [20, 40]
    longest = int(LONGEST_HOLD * 24)
    assert values(smooth(film([0] * longest + [40, 80]), models[4], factor=1))[1] == 40 // longest
    assert values(smooth(film([0] * (longest + 1) + [40, 80]), models[4], factor=1))[1] == 0


def test_a_picture_held_for_minutes_takes_no_more_memory_than_one_held_briefly() -> None:
    alive, most = 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[Frame]:
        nonlocal alive
        for n in range(3000):
            picture = flat(7)
            weakref.finalize(picture, died)
            alive += 1
            yield Frame(picture, Fraction(n, 30))

    for _ in distinct(frames()):
        gc.collect(0)
        most = max(most, alive)
    assert 5 <= most <= int(LONGEST_HOLD * 30) + 3


def noisy(picture: Rgb, seed: int, amount: float = 2.0) -> Rgb:
    noise = np.random.default_rng(seed).normal(0, amount, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def textured(shift: float) -> Rgb:
    y, x = np.mgrid[0:64, 0:96]
    wave = 127 + 60 * np.sin((x + shift) / 4) * np.cos(y / 5)
    return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("deeper", [1, 257])
def test_a_repeat_that_was_encoded_again_is_recognised(deeper: int) -> None:
    pictures: list[Rgb] = [noisy(textured(3.0 * (n // 2)), seed=n) for n in range(12)]
    if deeper > 1:
        pictures = [picture.astype(np.uint16) * np.uint16(deeper) for picture in pictures]
    counts: list[int] = []
    kept = list(distinct([Frame(p, Fraction(n, 24)) for n, p in enumerate(pictures)], counts.append))
    assert [frame.time for frame in kept] == [Fraction(n, 24) for n in (0, 2, 4, 6, 8, 10, 11)]
    assert counts == [1] * 5


@pytest.mark.parametrize("speed", [0.02, 0.05, 0.1, 0.2, 0.5])
def test_slow_motion_is_not_taken_for_repeats(speed: float) -> None:
    frames = [Frame(noisy(textured(speed * n), seed=n), Fraction(n, 24)) for n in range(24)]
    assert list(distinct(frames)) == frames


@settings(max_examples=60, deadline=None)
@given(
    holds=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    factor=st.sampled_from([1, 2, 4]),
    cut=st.integers(0, 20),
)
def test_count_times_and_source_pictures_stay_whatever_is_held(
    models: dict[int, Interpolator], holds: list[int], factor: int, cut: int
) -> None:
    sequence = [30 * n for n, length in enumerate(holds) for _ in range(length)]
    frames = film(sequence, cuts=[cut] if cut else [])
    found = smooth(frames, models[2], factor=factor)
    step = Fraction(1, 24 * factor)
    assert [frame.time for frame in found] == [n * step for n in range((len(frames) - 1) * factor + 1)]
    shown = values(found)
    assert shown == sorted(shown)  # never backwards
    starts = [0, *[n for n in range(1, len(frames)) if sequence[n] != sequence[n - 1]]]
    assert [shown[n * factor] for n in starts] == [sequence[n] for n in starts]


def test_without_held_frames_the_result_is_the_same(models: dict[int, Interpolator]) -> None:
    frames = film([3, 50, 20, 90, 60, 61], cuts=[3])
    assert values(smooth(frames, models[2], factor=4)) == values(models[2].expand(frames, 4))


def test_flavr_run_smooths_and_says_how_much(tmp_path: Path) -> None:
    def on_twos(index: int, width: int, height: int) -> Rgb:
        return np.full((height, width, 3), 20 + 20 * (index // 2), np.uint8)

    clip = render_clip(tmp_path / "twos.mkv", frames=10, codec="ffv1", picture=on_twos)
    model = write_blend_model(tmp_path / "m.onnx")

    def run(*more: str) -> tuple[list[float], str]:
        output = tmp_path / "out.mkv"
        arguments = [str(clip), "-o", str(output), "--model", str(model), "--codec", "ffv1", "-y", *more]
        result = CliRunner().invoke(command, [*arguments, "--provider", "cpu"])
        assert result.exit_code == 0, result.output
        with av.open(str(output)) as container:
            return [f.to_ndarray(format="gray").mean() for f in container.decode(video=0)], result.stderr

    kept, printed = run()
    assert "smoothed" not in printed
    moved, printed = run("--duplicates", "smooth")
    assert "4 held frames smoothed" in printed
    assert len(moved) == len(kept) == 19
    assert sum(abs(np.diff(kept)) < 1) == 10
    assert sum(abs(np.diff(moved)) < 1) == 2  # the last picture stands
