"""Which frames of a video make one window of FLAVR's, and in which role."""

from __future__ import annotations


def time_positions(n_outputs: int) -> list[int]:
    """The frames of a window, in time order: inputs n_outputs + 1 apart, and all between the middle two."""
    factor = n_outputs + 1
    return [0, *range(factor, 2 * factor + 1), 3 * factor]


def roles(count: int) -> tuple[list[int], list[int]]:
    """Which of the `count` frames of a window, in time order, are inputs and which are targets."""
    return [0, 1, count - 2, count - 1], list(range(2, count - 2))
