"""Which four frames make which new frames, and how a small model makes a large factor."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from flavr_runtime.errors import UsageError

T = TypeVar("T")

LARGEST_FACTOR = 64  # beyond it a second of 30 fps video becomes over a minute: a typing error


def windows(frames: Iterable[T]) -> Iterator[tuple[T, T, T, T]]:
    """The window of each interval: its two frames with one neighbour at either side.

    The first and last interval have a neighbour at one side only; its place is taken by the end frame once
    more, so n frames give n - 1 windows. Holds at most four frames.
    """
    held: deque[T] = deque(maxlen=4)
    for frame in frames:
        if not held:
            held.append(frame)  # the first frame stands in for the one before it
        held.append(frame)
        if len(held) == 4:
            yield held[0], held[1], held[2], held[3]
    if len(held) == 3:  # two frames in all
        yield held[0], held[1], held[2], held[2]
    elif len(held) == 4:
        yield held[1], held[2], held[3], held[3]


def plan_stages(factor: int, native: int) -> tuple[int, ...]:
    """The passes, each over the result of the one before, by which a model of factor `native` makes `factor`.

    A pass multiplies the frames by a divisor of `native`: a 4x model makes 2x by keeping its middle frame,
    and 8x by a pass of 4 and one of 2.

    Raises:
        UsageError: no sequence of passes gives `factor`.
    """
    if factor < 1 or factor > LARGEST_FACTOR:
        raise UsageError(f"factor {factor} is out of range: 1 to {LARGEST_FACTOR}")
    divisors = [stage for stage in range(native, 1, -1) if native % stage == 0]
    shortest: dict[int, tuple[int, ...]] = {1: ()}
    for reached in range(1, factor):
        if reached in shortest:
            for stage in divisors:
                step = (*shortest[reached], stage)
                if len(step) < len(shortest.get(reached * stage, (*step, 0))):
                    shortest[reached * stage] = step
    if factor not in shortest:
        possible = ", ".join(map(str, sorted(_reachable(divisors, 16) - {1})))
        raise UsageError(f"factor {factor} cannot be made by a {native}x model; it makes {possible}")
    return shortest[factor]


def makeable_factors(native: int) -> list[int]:
    """Every factor that passes of a model of factor `native` make, 1 included."""
    return sorted(
        _reachable([stage for stage in range(2, native + 1) if native % stage == 0], LARGEST_FACTOR)
    )


def _reachable(divisors: list[int], limit: int) -> set[int]:
    """The factors up to `limit` that passes of these divisors make, 1 included."""
    found = fresh = {1}
    while fresh:
        fresh = {have * stage for have in fresh for stage in divisors if have * stage <= limit} - found
        found = found | fresh
    return found
