"""Where the wall time of a run goes: each stage's time, split without gap or overlap by what it did.

    with profiled() as profile:
        interpolate(...)
    profile.share("session.run")

Code says what it is doing with `spent("decode")`, which costs nothing worth naming where no profile is taken.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["Profile", "StageClock", "profiled", "spending", "spent", "spent_on_each", "stage_clock"]

StageClock = contextlib.AbstractContextManager[None]

T = TypeVar("T")
P = ParamSpec("P")

OTHER = "other"
MAIN_STAGE = "write"  # what the calling thread does, which pulls the others along


class Profile:
    """Seconds per stage and activity. Stages run at the same time: each one adds up to the wall time."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)

    def total(self, activity: str) -> float:
        """Seconds that the stages together have spent on it."""
        return sum(seconds for (_, each), seconds in self.seconds.items() if each == activity)

    def share(self, activity: str) -> float:
        """That, of the wall time: 0 to 1 for what only one stage does."""
        return self.total(activity) / self.wall if self.wall else 0.0

    def stages(self) -> dict[str, dict[str, float]]:
        """Stage -> activity -> seconds, in the order in which they began."""
        result: dict[str, dict[str, float]] = {}
        for (stage, activity), seconds in self.seconds.items():
            result.setdefault(stage, {})[activity] = seconds
        return result


class _Clock:
    """The time of one thread, always booked on exactly one activity."""

    def __init__(self, profile: Profile, stage: str) -> None:
        self.profile = profile
        self._stage = stage
        self._activity = OTHER
        self._since = time.perf_counter()

    def switch(self, activity: str) -> str:
        """Book the time since the last switch; returns what it was spent on."""
        now, before = time.perf_counter(), self._activity
        # Keys differ between threads, so no two of them write the same entry.
        self.profile.seconds[self._stage, before] += now - self._since
        self._since, self._activity = now, activity
        return before


_CLOCK: ContextVar[_Clock | None] = ContextVar("flavr_clock", default=None)


@contextlib.contextmanager
def profiled() -> Iterator[Profile]:
    """Take a profile of what happens in the block, in this thread and in the stages that it starts."""
    profile, started = Profile(), time.perf_counter()
    try:
        with _running(_Clock(profile, MAIN_STAGE)):
            yield profile
    finally:
        profile.wall = time.perf_counter() - started


@contextlib.contextmanager
def spent(activity: str) -> Iterator[None]:
    """Book this thread's time on `activity`, less that of blocks inside this one."""
    clock = _CLOCK.get()
    if clock is None:
        yield
        return
    before = clock.switch(activity)
    try:
        yield
    finally:
        clock.switch(before)


def spending(activity: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`spent` as a decorator."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with spent(activity):
                return function(*args, **kwargs)

        return timed

    return decorate


def spent_on_each(items: Iterable[T], activity: str) -> Iterator[T]:
    """The items; making them is booked on `activity`."""
    iterator = iter(items)
    end = object()
    while True:
        with spent(activity):
            item = next(iterator, end)
        if item is end:
            return
        yield item  # type: ignore[misc]


def stage_clock(stage: str) -> StageClock:
    """Enter it in the thread of a stage: books that thread's time on the profile of the one that asked."""
    clock = _CLOCK.get()
    return contextlib.nullcontext() if clock is None else _running(_Clock(clock.profile, stage))


@contextlib.contextmanager
def _running(clock: _Clock) -> Iterator[None]:
    token = _CLOCK.set(clock)
    clock.switch(OTHER)
    try:
        yield
    finally:
        clock.switch(OTHER)
        _CLOCK.reset(token)
