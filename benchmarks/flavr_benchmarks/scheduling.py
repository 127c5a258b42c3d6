"""Who is measured when: cells take turns, in rounds, until each is settled.

A machine that slows down for a while slows every cell then alive, so that comparisons hold even where
absolute times do not. A cell leaves when the confidence interval of its median is narrow or its time is up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from flavr_benchmarks.machine import Machine
from flavr_benchmarks.process import CellError, Turn
from flavr_benchmarks.schema import Failure, Round
from flavr_benchmarks.statistics import Interval, median, median_interval

Name = TypeVar("Name", bound=Hashable)


class Measurable(Protocol):
    """What takes turns."""

    def measure(self, seconds: float) -> Turn:
        """Raises CellError."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop measuring a cell."""

    budget: float = 30.0  # seconds of its own turns
    narrow: float = 0.02  # half the interval's width, as a share of the median
    least_rounds: int = 10
    turn: float = 0.25  # seconds, and at least one window


@dataclass(slots=True)
class Course:
    """What was measured of one cell, round by round."""

    turns: list[Turn] = field(default_factory=list)
    others: list[float | None] = field(default_factory=list)  # cores kept busy by other programs meanwhile
    spans: list[tuple[float, float]] = field(default_factory=list)  # time.monotonic of what a turn measured
    failure: Failure | None = None
    alone: bool = False  # no other cell took turns with it

    @property
    def spent(self) -> float:
        return sum(turn.seconds for turn in self.turns)

    @property
    def medians(self) -> list[float]:
        """Of each round, in milliseconds: the unit of evidence."""
        return [median(turn.milliseconds) for turn in self.turns]

    @property
    def cpu_medians(self) -> list[float]:
        """CPU time of a window in each round, in milliseconds."""
        return [1000 * turn.cpu_seconds / len(turn.phases) for turn in self.turns]

    @property
    def interval(self) -> Interval:
        return median_interval(self.medians)

    def settled(self, limits: Limits) -> bool:
        if len(self.turns) < limits.least_rounds:
            return False
        medians = self.medians
        return median_interval(medians).relative_half_width(median(medians)) <= limits.narrow


def take_turns(
    cells: Mapping[Name, Measurable],
    limits: Limits,
    machine: Machine,
    size: str,
    on_round: Callable[[int, int], None] = lambda _round, _live: None,
) -> tuple[dict[Name, Course], list[Round]]:
    """Measure cells in rounds, in another order each time, until all are settled.

    Args:
        size: what the rounds are called in the report.
        on_round: called after each, with its number and the cells that are still live.
    """
    courses = {name: Course(alone=len(cells) == 1) for name in cells}
    live, rounds, order = list(cells), list[Round](), random.Random(0)
    while live:
        order.shuffle(live)
        busy = [_turn(cells[name], courses[name], limits, machine) for name in live]
        known = [others for others in busy if others is not None]
        rounds.append(
            Round(
                size=size,
                canary_ms=machine.canary(),
                others=sum(known) / len(known) if known else None,
                cpu_mhz=machine.mhz(),
            )
        )
        live = [name for name in live if not _done(courses[name], limits)]
        on_round(len(rounds), len(live))
    return courses, rounds


def _turn(cell: Measurable, course: Course, limits: Limits, machine: Machine) -> float | None:
    before, started = machine.busy_seconds(), time.monotonic()
    try:
        turn = cell.measure(limits.turn)
    except CellError as failed:
        course.failure = failed.failure
        return None
    ended, after = time.monotonic(), machine.busy_seconds()
    others = None
    if before is not None and after is not None and ended > started:
        others = max(after - before - turn.all_cpu_seconds, 0) / (ended - started)
    course.turns.append(turn)
    course.others.append(others)
    course.spans.append((ended - turn.seconds, ended))
    return others


def _done(course: Course, limits: Limits) -> bool:
    return course.failure is not None or course.spent >= limits.budget or course.settled(limits)
