"""Finding a data set's folder below the one that was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flavr.errors import DataError

# Where each set's own archives put it, below the folder people keep their data sets in.
_BELOW = {
    "vimeo90K_septuplet": ("vimeo90K_septuplet", "vimeo_septuplet"),
    "gopro": ("gopro", "GoPro", "GOPRO", "GOPRO_Large_all"),
    "ucf101": ("ucf101", "ucf101_interp_ours", "ucf101_extracted"),
    "davis": ("JPEGImages/480p", "davis", "DAVIS/JPEGImages/480p", "davis/JPEGImages/480p"),
    "middlebury": ("middlebury", "Middlebury"),
}


def find_root(root: Path, name: str, holds: Callable[[Path], bool], lacking: str) -> Path:
    """`root`, or the first of the usual folders below it, of which `holds` is true.

    Raises:
        DataError: none is; `lacking` says what was looked for in vain.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist; --data_root must be the folder of the data set")
    if not root.is_dir():
        raise DataError(f"{root} is a file; --data_root must be the folder of the data set")
    for folder in (root, *(root / below for below in _BELOW[name])):
        if folder.is_dir() and holds(folder):
            return folder
    raise DataError(
        f"{root} is no {name} data set: {lacking} in it; `flavr-data layouts {name}` shows how it looks"
    )
