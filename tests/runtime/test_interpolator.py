from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flavr_runtime import Frame, InputError, Interpolator, OutOfMemoryError, UsageError
from flavr_runtime.frames import Rgb
from flavr_runtime.session import Prepared, Session
from model_files import average_weights, write_blend_model


def flat(value: int, size: tuple[int, int] = (6, 5)) -> Rgb:
    return np.full((*size, 3), value, np.uint8)


def values(frames: list[Rgb]) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def average_2x(folder: Path) -> Interpolator:
    return Interpolator(write_blend_model(folder / "a2.onnx"), provider="cpu")


@pytest.fixture(scope="module")
def average_4x(folder: Path) -> Interpolator:
    return Interpolator(write_blend_model(folder / "a4.onnx", average_weights(4)), provider="cpu")


def test_a_native_factor_gives_its_frames_in_time_order(average_4x: Interpolator) -> None:
    mids = average_4x.between(flat(0), flat(100), flat(200), flat(0))
    assert values(mids) == [125, 150, 175]


def test_the_window_is_in_time_order_and_extended_at_both_ends(folder: Path) -> None:
    first = Interpolator(write_blend_model(folder / "first.onnx", [(1, 0, 0, 0)]), provider="cpu")
    last = Interpolator(write_blend_model(folder / "last.onnx", [(0, 0, 0, 1)]), provider="cpu")
    frames = [flat(v) for v in (10, 20, 30, 40)]
    assert values(list(first.stream(frames))) == [10, 10, 20, 10, 30, 20, 40]
    assert values(list(last.stream(frames))) == [10, 30, 20, 40, 30, 40, 40]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(count=st.integers(1, 7), factor=st.sampled_from([2, 4, 8]))
def test_n_frames_become_n_minus_1_times_factor_plus_1(
    average_2x: Interpolator, count: int, factor: int
) -> None:
    frames = [Frame(flat(32 * i), Fraction(i, 25)) for i in range(count)]
    result = list(average_2x.expand(frames, factor))
    assert len(result) == (count - 1) * factor + 1
    assert [frame.time for frame in result] == [Fraction(i, 25 * factor) for i in range(len(result))]
    assert values([frame.rgb for frame in result]) == [32 * i // factor for i in range(len(result))]
    assert all(result[i * factor].same_picture(frame) for i, frame in enumerate(frames))


def test_a_cascade_agrees_with_the_native_factor_where_both_are_exact(
    average_2x: Interpolator, average_4x: Interpolator
) -> None:
    frames = [flat(v) for v in (0, 40, 80, 0)]
    assert values(list(average_2x.stream(frames, factor=4))) == values(list(average_4x.stream(frames)))


def test_a_4x_model_makes_2x_by_its_middle_frame(average_4x: Interpolator) -> None:
    assert values(list(average_4x.stream([flat(0), flat(100)], factor=2))) == [0, 50, 100]


def test_variable_rate_keeps_new_frames_midway_in_their_own_interval(average_2x: Interpolator) -> None:
    times = [Fraction(0), Fraction(1, 10), Fraction(5, 10)]
    frames = [Frame(flat(10 * i), time) for i, time in enumerate(times)]
    found = [frame.time for frame in average_2x.expand(frames, 2)]
    assert found == [Fraction(0), Fraction(1, 20), Fraction(1, 10), Fraction(3, 10), Fraction(1, 2)]


def test_equal_neighbours_are_repeated_exactly_and_not_synthesised(folder: Path) -> None:
    wrong = Interpolator(write_blend_model(folder / "black.onnx", [(0, 0, 0, 0)]), provider="cpu")
    names = [Path(name) for name in ("a.png", "b.png", "c.png")]
    frames = [Frame(flat(v), Fraction(i), names[i]) for i, v in enumerate((7, 7, 9))]
    result = list(wrong.expand(frames, 2))
    assert values([frame.rgb for frame in result]) == [7, 7, 7, 0, 9]
    assert [frame.source for frame in result] == [names[0], names[0], names[1], None, names[2]]
    assert [frame.origin for frame in result] == ["source", "repeated", "source", "synthesised", "source"]


def test_a_new_frame_knows_the_source_frames_around_it(average_2x: Interpolator) -> None:
    frames = [Frame(flat(40 * i), Fraction(i)) for i in range(3)]
    result = list(average_2x.expand(frames, 4))
    for position in (1, 2, 3, 5, 6, 7):
        assert result[position].between == (frames[position // 4], frames[position // 4 + 1])


def test_pictures_that_nobody_looks_at_are_not_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Interpolator(write_blend_model(folder / "lazy.onnx"), provider="cpu")
    calls = []
    complete = Session.run

    def counted(session: Session, frames: Sequence[Rgb | Prepared]) -> list[Rgb]:
        calls.append(1)
        return complete(session, frames)

    monkeypatch.setattr(Session, "run", counted)
    frames = [Frame(flat(20 * i), Fraction(i)) for i in range(9)]
    result = list(model.expand(frames, 8))
    assert calls == []
    assert int(result[4].rgb[0, 0, 0]) == 10  # midway in the first interval: one window
    assert len(calls) == 1
    assert int(result[10].rgb[0, 0, 0]) == 25  # its window: that one, the next interval's and two sources
    assert len(calls) == 3


def test_an_empty_stream_gives_nothing_and_one_frame_itself(average_2x: Interpolator) -> None:
    assert list(average_2x.stream([])) == []
    assert values(list(average_2x.stream([flat(5)], factor=8))) == [5]


def test_an_impossible_factor_is_refused_before_the_first_frame_is_pulled(average_2x: Interpolator) -> None:
    def never() -> Iterator[Rgb]:
        yield pytest.fail("pulled")

    with pytest.raises(UsageError, match="factor 5 cannot be made by a 2x model"):
        average_2x.stream(never(), factor=5)
    with pytest.raises(UsageError, match="factor 0 is out of range: 1 to 64"):
        average_2x.stream(never(), factor=0)


def test_a_picture_of_another_size_is_named_by_its_index(average_2x: Interpolator) -> None:
    frames = [flat(1), flat(2), flat(3, (6, 7))]
    with pytest.raises(InputError, match=r"changes from 5x6 to 7x6 at frame 2; one size is needed"):
        list(average_2x.stream(frames))


@pytest.mark.parametrize("bad", [None, [[1, 2, 3]], np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_what_is_no_picture_is_named(bad: object, average_2x: Interpolator) -> None:
    with pytest.raises(InputError, match=r"^frame 1 is .*uint8 \[H, W, 3\]"):
        list(average_2x.stream([flat(1), bad]))  # type: ignore[list-item]


def test_memory_does_not_grow_with_the_length_of_the_stream(average_2x: Interpolator) -> None:
    alive, most = 0, 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def frames() -> Iterator[Rgb]:
        nonlocal alive
        for i in range(120):
            frame = flat(i)
            weakref.finalize(frame, died)
            alive += 1
            yield frame

    for _ in average_2x.stream(frames(), factor=4):
        gc.collect(0)
        most = max(most, alive)
    assert 4 <= most <= 8  # four per window, and those on their way


def test_the_interpolator_tells_what_it_runs(average_2x: Interpolator) -> None:
    assert average_2x.provider == "cpu"
    assert average_2x.execution_provider == "CPUExecutionProvider"
    assert average_2x.model.factor == 2
    assert average_2x.notices == []
    assert "CPUExecutionProvider" in average_2x.placement


def test_the_default_model_needs_no_file() -> None:
    (middle,) = Interpolator(provider="cpu").between(*[flat(90, (9, 11))] * 4)
    assert middle.shape == (9, 11, 3)
    assert middle.dtype == np.uint8


def test_a_picture_held_after_a_cut_is_repeated_and_not_faded_into_itself(average_2x: Interpolator) -> None:
    frames = [Frame(flat(value), Fraction(index)) for index, value in enumerate((10, 100, 100, 120))]
    frames[1].starts_scene = True
    made = list(average_2x.expand(frames, 4, cut_mode="blend"))
    assert [frame.origin for frame in made[4:9]] == ["source", *["repeated"] * 3, "source"]
    assert all(frame.same_picture(made[4]) for frame in made[5:9])


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(threads: int) -> None:
    with pytest.raises(UsageError, match=rf"^threads {threads}: one is needed at least"):
        Interpolator(provider="cpu", threads=threads)


def test_a_stream_whose_pictures_cannot_be_uploaded_whole_is_cut(
    average_2x: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `between`: the first window of a stream may find the device as full as any other."""
    prepare = Session.prepare

    def crowded(session: Session, picture: Rgb) -> Prepared:
        if picture.shape[:2] == (300, 400):
            raise OutOfMemoryError("CUDA takes no more frames")
        return prepare(session, picture)

    monkeypatch.setattr(Session, "prepare", crowded)
    interpolator = Interpolator(average_2x.model, provider="cpu")
    made = list(interpolator.stream([flat(value, (300, 400)) for value in (0, 40, 80, 120, 160)]))
    assert values(made) == [0, 20, 40, 60, 80, 100, 120, 140, 160]
    assert len(interpolator.late_notices) == 1
