"""Pictures too large for memory, a part at a time: tiles of one size that overlap and fade into each other.

A tile is not the same part of the whole picture computed at once: FLAVR's gates look at the mean of each
feature over everything that they are shown. benchmarks/tiling_cost.py measures what that costs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from flavr_runtime._joining import joined
from flavr_runtime.errors import InputError, ModelError, OutOfMemoryError, UsageError
from flavr_runtime.frames import Rgb
from flavr_runtime.memory import window_bytes
from flavr_runtime.model_info import ModelInfo, check_size
from flavr_runtime.session import Prepared, Session, check_picture, check_window

__all__ = [
    "OVERLAP",
    "PreparedTiles",
    "TileSetting",
    "TiledSession",
    "Tiling",
    "check_tiles",
    "choose_tiling",
    "fewest_tiles",
    "run_tiled",
    "tiles_of_side",
    "tiles_of_size",
]

TileSetting = Literal["auto", "off"] | int
"""Tiles where a picture does not fit, never, or of at most so many pixels a side."""

OVERLAP = 32
"""Pixels that neighbouring tiles share at least. Less shows first at the seams, more wins nothing: what is
left comes from the gates (docs/memory.md)."""

MULTIPLE = 8  # of which the network wants sides to be: anything else is padded in the graph
SMALLEST_SIDE = 4 * OVERLAP  # smaller tiles are mostly overlap
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

    def places(self) -> list[tuple[slice, slice]]:
        """Of each tile, row by row."""
        return [
            (slice(top, top + self.tile_height), slice(left, left + self.tile_width))
            for top, left in product(self.tops, self.lefts)
        ]

    def parts(self, picture: Rgb) -> list[Rgb]:
        """The picture's tiles, row by row."""
        return [picture] if self.is_whole else [picture[place].copy() for place in self.places()]

    def __str__(self) -> str:
        if self.is_whole:
            return f"whole {self.width}x{self.height} pictures"
        return f"{self.count} tiles of {self.tile_width}x{self.tile_height}"


@dataclass(slots=True)
class PreparedTiles:
    """A picture as one session takes it, tile by tile."""

    session: Session
    tiling: Tiling
    picture: Rgb
    parts: list[Prepared]


class TiledSession:
    """A session for pictures of any size: they are cut where they do not fit, or as they are told to be."""

    def __init__(
        self,
        model: ModelInfo,
        make: Callable[[tuple[int, int] | None], Session],
        setting: TileSetting = "auto",
        budget: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Make a session.

        Args:
            make: a session for pictures of that (height, width), of a tile that is; for None, for any.
            budget: the bytes that one window may take; where it is not known, pictures are cut only once they
                have not fitted.
            size: (height, width) of all pictures, where known: others are refused then.

        Raises:
            UsageError: no such setting.
            InputError, UsageError: a model of fixed size cannot take such pictures.
        """
        if setting not in ("auto", "off") and not (isinstance(setting, int) and setting >= SMALLEST_SIDE):
            raise UsageError(
                f"tile {setting!r} is no setting: give auto, off, or a whole number of pixels from "
                f"{SMALLEST_SIDE}"
            )
        self.notices: list[str] = []
        self._model, self._make, self._setting, self._budget, self._size = model, make, setting, budget, size
        self._tiling = None if size is None else self._chosen(*size)
        self._lock = threading.RLock()  # session and tiling are changed together
        self.session = make(self._tile_size())

    def tiling(self, height: int, width: int) -> Tiling:
        """How pictures of that size are cut; it stays so until one does not fit.

        Raises:
            InputError, UsageError: they cannot be taken.
        """
        if self._size not in (None, (height, width)):
            raise InputError(
                f"the session was made for {self._size[1]}x{self._size[0]} pictures, "
                f"these are {width}x{height}"
            )
        with self._lock:
            known = self._tiling
            if known is None or (known.height, known.width) != (height, width):
                known = self._tiling = self._chosen(height, width)
            return known

    def prepare(self, picture: Rgb) -> PreparedTiles:
        """Convert a picture, and upload it, once for all the windows that it is in.

        Raises:
            InputError: wrong type, shape or size.
            OutOfMemoryError: the device refuses it.
        """
        check_picture(picture, 0)
        return _prepared(picture, *self._as_it_is(*picture.shape[:2]))

    def takes(self, prepared: PreparedTiles) -> bool:
        """Whether that picture is prepared as it is needed now."""
        return prepared.session is self.session and prepared.tiling == self._tiling

    def run(self, frames: Sequence[Rgb | PreparedTiles]) -> list[Rgb]:
        """The new frames between the middle two of four, as `Session.run`.

        Raises:
            OutOfMemoryError: not even small tiles fit, or there are to be none.
        """
        pictures = [each.picture if isinstance(each, PreparedTiles) else each for each in frames]
        check_window(pictures)
        height, width = pictures[0].shape[:2]
        while True:
            session, tiling = self._as_it_is(height, width)
            try:
                return _made(frames, session, tiling)
            except OutOfMemoryError as error:
                failed = str(error)
            except MemoryError as error:  # while pictures were converted, cut or joined
                failed = f"a {width}x{height} picture in {tiling.count} parts: {str(error) or 'no memory'}"
            except ModelError:
                if session is self.session:
                    raise
                continue  # closed by another thread, whose window did not fit
            # out here, where the error no longer holds what was computed
            self._shrink(session, tiling, failed)

    def warm_up(self) -> None:
        """`Session.warm_up`, in smaller tiles where it does not fit.

        Raises:
            OutOfMemoryError: as for `run`.
        """
        while True:
            try:
                return self.session.warm_up()
            except OutOfMemoryError as error:
                if self._tiling is None:
                    raise
                failed = str(error)
            self._shrink(self.session, self._tiling, failed)

    def _as_it_is(self, height: int, width: int) -> tuple[Session, Tiling]:
        """What belongs together, whatever other threads do meanwhile."""
        with self._lock:
            tiling = self.tiling(height, width)
            return self.session, tiling

    def _shrink(self, session: Session, tiling: Tiling, failed: str) -> None:
        with self._lock:
            if session is not self.session:
                return  # another thread has done so
            smaller = self._smaller(tiling)
            if smaller is None:
                cure = "--tile auto cuts it" if self._setting == "off" else "free some, or take a smaller one"
                raise OutOfMemoryError(f"{failed}: there is not enough memory; {cure}")
            self.notices.append(f"{tiling} did not fit into memory: {smaller} from here on")
            self._tiling = smaller
            # A new one also where the old one takes any size: its arena keeps what the failed window had
            # taken, and leaves nothing to convert and join pictures in, nor to load a second one beside it.
            session.close()
            self.session = self._make(self._tile_size() if self._size is not None else None)

    def _chosen(self, height: int, width: int) -> Tiling:
        check_tiles(self._model, height, width, self._setting)
        return choose_tiling(self._model, height, width, self._setting, self._budget)

    def _tile_size(self) -> tuple[int, int] | None:
        tiling = self._tiling
        return None if tiling is None else (tiling.tile_height, tiling.tile_width)

    def _smaller(self, tiling: Tiling) -> Tiling | None:
        """Tiles of half the pixels, or of fewer where there are none so small."""
        if self._setting == "off" or self._model.size is not None:
            return None
        pixels = tiling.tile_height * tiling.tile_width

        def of_at_most(most: int) -> Tiling | None:
            return fewest_tiles(tiling.height, tiling.width, lambda *size: math.prod(size) <= most)

        return of_at_most(pixels // 2) or of_at_most(pixels - 1)


def _prepared(picture: Rgb, session: Session, tiling: Tiling) -> PreparedTiles:
    return PreparedTiles(session, tiling, picture, [session.prepare(part) for part in tiling.parts(picture)])


def _made(frames: Sequence[Rgb | PreparedTiles], session: Session, tiling: Tiling) -> list[Rgb]:
    """The new frames of a window, of which pictures that were prepared otherwise are prepared again."""
    ready = [_ready(each, session, tiling) for each in frames]
    return joined(tiling, lambda n: session.run([each.parts[n] for each in ready]))


def _ready(frame: Rgb | PreparedTiles, session: Session, tiling: Tiling) -> PreparedTiles:
    if not isinstance(frame, PreparedTiles):
        return _prepared(frame, session, tiling)
    fits = frame.session is session and frame.tiling == tiling
    return frame if fits else _prepared(frame.picture, session, tiling)


def check_tiles(model: ModelInfo, height: int, width: int, setting: TileSetting) -> None:
    """Refuse pictures that a model of fixed size cannot take, in tiles neither.

    Raises:
        InputError: naming both sizes and the export option that helps.
        UsageError: tiles of another size are asked for.
    """
    if model.size in (None, (height, width)):
        return
    if isinstance(setting, int):
        raise UsageError(
            f"--tile {setting}: {model.path.name} takes {model.size[1]}x{model.size[0]} pictures only; leave "
            "the tiles to it, or export it without --size"
        )
    if setting == "off" or model.size[0] > height or model.size[1] > width:
        check_size(model, width, height)
    sides = zip(model.size, (height, width), strict=True)
    if any(side <= OVERLAP and side < length for side, length in sides):  # no way to the next tile
        raise InputError(
            f"{model.path.name} takes {model.size[1]}x{model.size[0]} pictures, too small to be tiles of "
            f"{width}x{height} ones, which share {OVERLAP} pixels; export it with --size {height}x{width}, "
            "or without --size"
        )


def choose_tiling(
    model: ModelInfo, height: int, width: int, setting: TileSetting, budget: int | None
) -> Tiling:
    """The whole picture where it may be and one window of it takes no more than `budget` bytes, else tiles.

    Where the smallest tiles take more as well, they are taken: what fits is a prediction.
    """
    if model.size is not None:
        return tiles_of_size(height, width, *model.size)
    if isinstance(setting, int):
        return tiles_of_side(height, width, setting)
    if setting == "off" or budget is None:
        return tiles_of_side(height, width, max(height, width))
    fitting = fewest_tiles(height, width, lambda *size: window_bytes(model, *size) <= budget)
    return fitting or tiles_of_side(height, width, SMALLEST_SIDE)


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
    whole = side // MULTIPLE * MULTIPLE  # tiles of cut pictures are no other sizes
    rows, columns = (
        1 if length <= side else len(_starts(length, whole, overlap)) for length in (height, width)
    )
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
    parts = [tiling.parts(frame) for frame in frames]
    return joined(tiling, lambda n: run([each[n] for each in parts]))


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
