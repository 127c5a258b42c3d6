"""Pictures too large for memory, a part at a time: tiles of one size that overlap and fade into each other.

A tile is not the same part of the whole picture computed at once: FLAVR's gates look at the mean of each
feature over everything that they are shown. benchmarks/tiling_cost.py measures what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from flavr_runtime.frames import Rgb

__all__ = ["OVERLAP", "Tiling", "fewest_tiles", "run_tiled", "tiles_of_side", "tiles_of_size"]

OVERLAP = 64
"""Pixels that neighbouring tiles share at least, see docs/memory.md for how it was chosen."""

MULTIPLE = 8  # of which the network wants sides to be: anything else is padded in the graph
SMALLEST_SIDE = 2 * OVERLAP + 64  # smaller tiles are mostly overlap
_MOST_PER_AXIS = 64


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a picture is cut. Every tile has the same size, so that an engine is compiled once."""

    height: int  # of the picture
    width: int
    tile_height: int
    tile_width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.tops) * len(self.lefts)

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    @property
    def pixels(self) -> int:
        """Pixels computed for one window, those that are shared more than once."""
        return self.count * self.tile_height * self.tile_width

    def __str__(self) -> str:
        if self.is_whole:
            return f"whole {self.width}x{self.height} pictures"
        return f"{self.count} tiles of {self.tile_width}x{self.tile_height}"


def tiles_of_size(
    height: int, width: int, tile_height: int, tile_width: int, overlap: int = OVERLAP
) -> Tiling:
    """Tiles of that size or the picture's, whichever is smaller, at even distances."""
    tile_height, tile_width = min(tile_height, height), min(tile_width, width)
    return Tiling(
        height,
        width,
        tile_height,
        tile_width,
        _starts(height, tile_height, overlap),
        _starts(width, tile_width, overlap),
    )


def tiles_of_side(height: int, width: int, side: int, overlap: int = OVERLAP) -> Tiling:
    """The fewest tiles whose sides are no longer than `side`, no larger than they need to be."""
    rows, columns = (len(_starts(length, min(side, length), overlap)) for length in (height, width))
    return _grid(height, width, rows, columns, overlap)


def fewest_tiles(
    height: int, width: int, fits: Callable[[int, int], bool], overlap: int = OVERLAP
) -> Tiling | None:
    """The tiling with the least to compute whose tiles fit, given their height and width; None if none do."""
    grids = [
        _grid(height, width, rows, columns, overlap)
        for rows, columns in product(_counts(height), _counts(width))
    ]
    fitting = [each for each in grids if fits(each.tile_height, each.tile_width)]
    return min(fitting, key=lambda each: (each.pixels, each.count), default=None)


def run_tiled(run: Callable[[Sequence[Rgb]], list[Rgb]], tiling: Tiling, frames: Sequence[Rgb]) -> list[Rgb]:
    """What `run` makes of a window, tile by tile."""
    if tiling.is_whole:
        return run(frames)
    sums: list[NDArray[np.float32]] = []
    dtype: np.dtype[np.uint8 | np.uint16] = frames[0].dtype
    down = _weights(tiling.tops, tiling.tile_height)
    across = _weights(tiling.lefts, tiling.tile_width)
    for (top, rows), (left, columns) in product(
        zip(tiling.tops, down, strict=True), zip(tiling.lefts, across, strict=True)
    ):
        place = slice(top, top + tiling.tile_height), slice(left, left + tiling.tile_width)
        pictures = run([np.ascontiguousarray(frame[place]) for frame in frames])
        if not sums:
            dtype = pictures[0].dtype
            sums = [np.zeros((tiling.height, tiling.width, 3), np.float32) for _ in pictures]
        share = rows[:, None, None] * columns[None, :, None]
        for total, picture in zip(sums, pictures, strict=True):
            total[place] += picture * share
    return [np.rint(total, out=total).astype(dtype) for total in sums]


def _grid(height: int, width: int, rows: int, columns: int, overlap: int) -> Tiling:
    return tiles_of_size(height, width, _side(height, rows, overlap), _side(width, columns, overlap), overlap)


def _side(length: int, count: int, overlap: int) -> int:
    """Of `count` tiles that cover `length` with that overlap."""
    if count == 1:
        return length
    return math.ceil((length + (count - 1) * overlap) / count / MULTIPLE) * MULTIPLE


def _counts(length: int) -> Iterator[int]:
    yield 1
    for count in range(2, _MOST_PER_AXIS + 1):
        if _side(length, count, OVERLAP) < SMALLEST_SIDE:
            return
        yield count


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if tile >= length:
        return (0,)
    count = max(2, math.ceil((length - overlap) / (tile - overlap)))
    return tuple(round((length - tile) * n / (count - 1)) for n in range(count))


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
