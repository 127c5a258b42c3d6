"""Turns: fair under noise, over when settled, and doubted where something was wrong."""

from __future__ import annotations

import itertools
import os
import time
from collections import namedtuple
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from flavr_benchmarks.machine import Machine
from flavr_benchmarks.process import CellError, Turn
from flavr_benchmarks.run import latency_of
from flavr_benchmarks.scheduling import Course, Limits, take_turns
from flavr_benchmarks.schema import Round
from flavr_benchmarks.stability import doubts
from flavr_benchmarks.statistics import median
from flavr_benchmarks.workload import Phases


class QuietMachine(Machine):
    """Nobody else is there."""

    def busy_seconds(self) -> float | None:
        return 0.0

    def canary(self) -> float:
        return 1.0

    def mhz(self) -> float | None:
        return 2600.0


class Pretend:
    """A cell whose windows take what a function says; no time passes."""

    def __init__(self, seconds: Callable[[], float], log: list[str] | None = None, name: str = "") -> None:
        self._seconds = seconds
        self._log = log if log is not None else []
        self._name = name

    def measure(self, seconds: float) -> Turn:
        self._log.append(self._name)
        taken = self._seconds()
        phases = [Phases(0.0, taken, 0.0)] * max(int(seconds / taken), 1)
        return Turn(phases, taken * len(phases), taken * len(phases), taken * len(phases))


class Failing:
    def measure(self, seconds: float) -> Turn:
        raise CellError("crash", f"it fell over within {seconds} s")


def course_of(*milliseconds: float, others: float | None = 0.0) -> Course:
    turns = [
        Turn([Phases(0.0, value / 1000, 0.0)], value / 1000, value / 1000, value / 1000)
        for value in milliseconds
    ]
    return Course(turns, [others] * len(turns), [(0.0, 1.0)] * len(turns))


def rounds_of(*canaries: float) -> list[Round]:
    return [Round(size="", canary_ms=value, others=None, cpu_mhz=None) for value in canaries]


QUIET = rounds_of(*[1.0] * 20)


def test_a_steady_cell_is_settled_as_soon_as_there_are_enough_rounds() -> None:
    courses, rounds = take_turns({"a": Pretend(lambda: 0.1)}, Limits(), QuietMachine(), "64x64")
    assert len(courses["a"].turns) == len(rounds) == Limits().least_rounds
    assert courses["a"].interval.low == courses["a"].interval.high == pytest.approx(100)


def test_a_noisy_cell_stops_when_its_time_is_up() -> None:
    random = np.random.default_rng(0)
    noisy = Pretend(lambda: float(random.uniform(0.5, 1.5)))
    courses, _ = take_turns({"a": noisy}, Limits(budget=20), QuietMachine(), "64x64")
    assert 20 <= courses["a"].spent < 22


def test_settled_cells_leave_and_the_others_go_on() -> None:
    random = np.random.default_rng(0)
    cells = {"steady": Pretend(lambda: 0.3), "noisy": Pretend(lambda: float(random.uniform(0.2, 0.6)))}
    courses, _ = take_turns(cells, Limits(budget=15), QuietMachine(), "64x64")
    assert len(courses["steady"].turns) == 10
    assert len(courses["noisy"].turns) > 20


def test_a_machine_that_slows_down_for_a_while_does_not_change_who_is_faster() -> None:
    clock: Iterator[int] = itertools.count()

    def taking(seconds: float) -> Callable[[], float]:
        # ten turns in every forty cost three times as much, whoever has them
        return lambda: seconds * (3 if next(clock) % 40 < 10 else 1)

    cells = {"a": Pretend(taking(0.30)), "b": Pretend(taking(0.33))}
    courses, _ = take_turns(cells, Limits(budget=12, turn=0.01), QuietMachine(), "64x64")
    shared = zip(courses["b"].medians, courses["a"].medians, strict=False)
    assert median([b / a for b, a in shared]) == pytest.approx(1.1)


def test_no_cell_always_follows_the_same_other() -> None:
    log: list[str] = []
    cells = {name: Pretend(lambda: 0.3, log, name) for name in "abc"}
    take_turns(cells, Limits(least_rounds=12), QuietMachine(), "64x64")
    orders = {"".join(log[i : i + 3]) for i in range(0, 36, 3)}
    assert len(orders) > 2
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_a_cell_that_fails_leaves_the_others_to_finish() -> None:
    courses, _ = take_turns(
        {"bad": Failing(), "good": Pretend(lambda: 0.1)}, Limits(), QuietMachine(), "64x64"
    )
    assert courses["bad"].failure is not None
    assert courses["bad"].failure.kind == "crash"
    assert courses["good"].settled(Limits())


def test_a_quiet_measurement_raises_no_doubt() -> None:
    course = course_of(*[100, 101, 99, 100, 100.5, 99.5] * 3)
    assert doubts(course, QUIET, Limits(), threads=1, cores=2) == []


@pytest.mark.parametrize(
    ("course", "rounds", "threads", "words"),
    [
        (course_of(100, 101), QUIET, 1, "too few samples: 2 rounds"),
        (course_of(*[80, 120] * 10), QUIET, 1, "the interval is ±20.0%"),
        (course_of(*[100] * 10, *[120] * 10), QUIET, 1, "drift: the second half was 20% slower"),
        (course_of(*[100] * 12, others=1.0), QUIET, 2, "load: other programs kept 1.0 of 2 cores busy"),
        (
            course_of(*[100] * 12),
            rounds_of(*[1.0] * 10, *[1.5] * 2),
            1,
            "clock drift: fixed work took up to 50%",
        ),
    ],
)
def test_a_doubtful_figure_says_why(course: Course, rounds: list[Round], threads: int, words: str) -> None:
    found = doubts(course, rounds, Limits(), threads=threads, cores=2)
    assert any(words in doubt for doubt in found), found


def test_what_happens_after_a_cell_has_left_is_no_doubt_of_it() -> None:
    steady, later = course_of(*[10.0] * 10), rounds_of(*[1.0] * 10, *[2.0] * 10)
    assert doubts(steady, later, Limits(), threads=1, cores=2) == []


def test_the_window_that_warms_up_is_neither_others_load_nor_measured_time() -> None:
    class Busy(QuietMachine):
        seconds = 0.0

        def busy_seconds(self) -> float | None:
            return self.seconds

    class WarmsUp:
        def measure(self, _seconds: float) -> Turn:
            time.sleep(0.02)
            machine.seconds += 3.0
            return Turn([Phases(0.0, 0.01, 0.0)], 0.01, 2.0, 3.0)

    machine = Busy()
    courses, _ = take_turns({"a": WarmsUp()}, Limits(), machine, "64x64")
    assert set(courses["a"].others) == {0.0}
    assert [end - start for start, end in courses["a"].spans] == pytest.approx([0.01] * Limits().least_rounds)


def test_other_programs_on_free_cores_do_no_harm() -> None:
    course = course_of(*[100] * 12, others=1.0)
    assert doubts(course, QUIET, Limits(), threads=1, cores=2) == []


def test_the_figures_of_a_row_are_those_of_its_windows() -> None:
    course = course_of(*range(1, 101))
    figures = latency_of(course, [], split=True)
    assert figures.p50 == pytest.approx(50.5)
    assert figures.p90 == pytest.approx(np.percentile(range(1, 101), 90))
    assert figures.p99 == pytest.approx(np.percentile(range(1, 101), 99))
    assert figures.low < 50.5 < figures.high
    assert figures.windows == 100
    assert figures.cpu == pytest.approx(50.5)


def test_the_machine_says_how_busy_it_is() -> None:
    machine = Machine()
    before = machine.busy_seconds()
    assert machine.canary() > 0
    after = machine.busy_seconds()
    assert before is not None
    assert after is not None
    assert after >= before


def test_a_machine_that_idles_is_not_busier_or_less_busy_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0})
    kinds = namedtuple("kinds", "user system idle iowait steal guest")
    now = kinds(51234.56, 30123.45, 1.1, 0.7, 7055.27, 12.5)
    found = set()
    for tick in range(1000):
        idling = now._replace(idle=now.idle + tick / 100, iowait=now.iowait + tick / 300)
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu, times=idling: [times] if percpu else times)
        found.add(Machine().busy_seconds())
    assert found == {51234.56 + 30123.45 + 7055.27}


def test_cores_that_it_may_not_use_are_nobodys_load(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = namedtuple("kinds", "user system idle")
    cores = [kinds(1.0, 2.0, 50.0), kinds(100.0, 200.0, 5.0), kinds(4.0, 8.0, 50.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores if percpu else None)
    for allowed, busy in (({0, 2}, 15.0), ({0, 4}, 315.0)):  # the second list leaves out what is switched off
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process, allowed=allowed: allowed)
        assert Machine().busy_seconds() == busy
