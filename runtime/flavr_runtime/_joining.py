"""A whole picture from the tiles that it was cut into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flavr_runtime.frames import Rgb

if TYPE_CHECKING:
    from flavr_runtime.tiles import Tiling

__all__ = ["joined"]


def joined(tiling: Tiling, make: Callable[[int], list[Rgb]]) -> list[Rgb]:
    """Pictures from those of the tiles, which are made one after the other."""
    if tiling.is_whole:
        return make(0)
    sums: list[NDArray[np.float32]] = []
    deep = False
    down = _weights(tiling.tops, tiling.tile_height)
    across = _weights(tiling.lefts, tiling.tile_width)
    for n, (place, (rows, columns)) in enumerate(zip(tiling.places(), product(down, across), strict=True)):
        pictures = make(n)
        if not sums:
            deep = pictures[0].dtype == np.uint16
            sums = [np.zeros((tiling.height, tiling.width, 3), np.float32) for _ in pictures]
        share = rows[:, None, None] * columns[None, :, None]
        for total, picture in zip(sums, pictures, strict=True):
            total[place] += picture * share
    return [_rounded(total, deep=deep) for total in sums]


def _rounded(picture: NDArray[np.float32], *, deep: bool) -> Rgb:
    codes = np.rint(picture, out=picture)
    return codes.astype(np.uint16) if deep else codes.astype(np.uint8)


def _weights(starts: Sequence[int], tile: int) -> list[NDArray[np.float32]]:
    """The share of each tile in the result, along one axis: they add up to 1 everywhere.

    From one tile to the next it goes over evenly within the middle half of what they share. The outer
    quarters are left to the tile that sees further there.
    """
    length = starts[-1] + tile
    raw = np.zeros((len(starts), length), np.float64)
    for n, start in enumerate(starts):
        raw[n, start : start + tile] = 1
        if n:
            rise = _ramp(starts[n - 1] + tile - start)
            raw[n, start : start + len(rise)] *= rise
        if n + 1 < len(starts):
            fall = _ramp(start + tile - starts[n + 1])[::-1]
            raw[n, start + tile - len(fall) : start + tile] *= fall
    raw /= raw.sum(axis=0)
    return [raw[n, start : start + tile].astype(np.float32) for n, start in enumerate(starts)]


def _ramp(shared: int) -> NDArray[np.float64]:
    return np.clip((np.arange(shared) + 0.5 - shared / 4) / max(shared / 2, 1), 0, 1)
