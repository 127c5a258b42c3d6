"""Stages overlap; everything else is as if they ran one after the other."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from flavr_runtime.errors import InputError
from flavr_runtime.profile import profiled, spent, spent_on_each
from flavr_runtime.stages import Stages


class Picture:
    """Something whose life can be watched."""


def live_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("flavr-")]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_items_arrive_complete_and_in_order(limit: int) -> None:
    with Stages() as stages:
        first = stages.ahead(range(50), "a", limit=limit)
        assert list(stages.ahead((2 * n for n in first), "b", limit=limit)) == list(range(0, 100, 2))
    assert live_threads() == []


def test_a_stage_runs_while_its_items_are_used() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        made.set()
        yield 2

    with Stages() as stages:
        frames = stages.ahead(items(), "a", limit=1)
        assert next(frames) == 1
        assert made.wait(10), "the second item was not begun before it was asked for"


def test_memory_does_not_grow_however_slow_the_consumer_is() -> None:
    alive = most = 0

    def died() -> None:
        nonlocal alive
        alive -= 1

    def pictures() -> Iterator[Picture]:
        nonlocal alive, most
        for _ in range(60):
            picture = Picture()
            weakref.finalize(picture, died)
            alive += 1
            most = max(most, alive)
            yield picture
            del picture

    with Stages() as stages:
        for item in stages.ahead(stages.ahead(pictures(), "a", limit=2), "b", limit=2):
            time.sleep(0.001)
            del item
    gc.collect()
    # Two wait behind each stage, one is in each hand: of the reader, the second stage and the consumer.
    assert 4 <= most <= 7
    assert alive == 0


@pytest.mark.parametrize("error", [InputError("damaged at 3.20 s"), KeyboardInterrupt(), MemoryError()])
def test_an_error_keeps_its_type_through_every_stage(error: BaseException) -> None:
    def damaged() -> Iterator[int]:
        yield 1
        raise error

    taken = []
    with pytest.raises(type(error)) as caught, Stages() as stages:  # noqa: PT012 - what came before it counts
        for item in stages.ahead(stages.ahead(damaged(), "a", limit=2), "b", limit=2):
            taken.append(item)  # noqa: PERF402
    assert caught.value is error
    assert taken == [1]
    assert live_threads() == []


def test_an_interrupt_does_not_wait_for_more_items() -> None:
    begun = []

    def endless() -> Iterator[int]:
        while True:
            begun.append(1)
            yield len(begun)

    with pytest.raises(KeyboardInterrupt), Stages() as stages:  # noqa: PT012 - it has to be under way
        next(stages.ahead(stages.ahead(endless(), "a", limit=2), "b", limit=2))
        raise KeyboardInterrupt
    assert live_threads() == []
    count = len(begun)
    time.sleep(0.02)
    assert len(begun) == count <= 8


def test_long_work_is_cut_short_and_what_is_stuck_is_left_behind() -> None:
    cut, never = threading.Event(), threading.Event()

    def working() -> Iterator[int]:
        yield 1
        cut.wait(30)

    def stuck() -> Iterator[int]:
        never.wait(30)
        yield 1

    started = time.monotonic()
    with Stages(cut.set, patience=0.05) as stages:
        next(stages.ahead(working(), "a", limit=1))
        stages.ahead(stuck(), "b", limit=1)
    assert time.monotonic() - started < 10
    assert cut.is_set()
    never.set()


def test_nothing_is_cut_short_when_all_is_done() -> None:
    def interrupt() -> None:
        pytest.fail("interrupted")

    with Stages(interrupt) as stages:
        assert list(stages.ahead(range(3), "a", limit=2)) == [0, 1, 2]


def test_a_profile_splits_the_time_of_each_stage_without_gap_or_overlap() -> None:
    def slowly(n: int) -> int:
        with spent("outer"):
            time.sleep(0.001)
            with spent("inner"):
                time.sleep(0.002)
        return n

    with profiled() as profile, Stages() as stages:
        for _ in stages.ahead(spent_on_each(map(slowly, range(10)), "items"), "a", limit=2):
            with spent("use"):
                time.sleep(0.001)
    assert profile.stages()["a"].keys() == {"other", "items", "outer", "inner", "waiting"}
    assert profile.total("inner") >= 0.02
    assert profile.total("use") >= 0.01
    assert 0 < profile.share("inner") < 1
    for activities in profile.stages().values():
        assert sum(activities.values()) == pytest.approx(profile.wall, rel=0.2)


def test_without_a_profile_nothing_is_booked() -> None:
    with spent("anything"):
        pass
    with profiled() as profile:
        pass
    assert profile.total("anything") == 0
