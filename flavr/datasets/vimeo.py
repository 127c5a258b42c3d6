"""Vimeo-90K septuplets (http://toflow.csail.mit.edu), and every set in their layout."""

from __future__ import annotations

import re
from pathlib import Path

from flavr.datasets._roots import find_root
from flavr.datasets.base import DatasetKind, Split
from flavr.datasets.images import ImageWindows, Window
from flavr.errors import DataError

_LISTS: dict[Split, str] = {"train": "sep_trainlist.txt", "test": "sep_testlist.txt"}
_INPUTS = ("im1.png", "im3.png", "im5.png", "im7.png")
_TARGETS = ("im4.png",)
_LINE = re.compile(r"[\w-]+(?:/[\w-]+)+")
_LAYOUT = """\
ROOT/sequences/00001/0001/im1.png .. im7.png     seven consecutive frames
ROOT/sep_trainlist.txt, ROOT/sep_testlist.txt    one line per sequence, such as 00001/0001
ROOT may also be the folder that holds vimeo_septuplet or vimeo90K_septuplet.
Inputs are im1, im3, im5 and im7, the target is im4."""


def open_vimeo(root: Path, split: Split, *, n_outputs: int) -> ImageWindows:
    """The sequences that a split's list names.

    Raises:
        DataError: the list is broken or empty, or shares a sequence with that of the other split.
    """
    del n_outputs  # 1, as VIMEO says
    name = _LISTS[split]
    root = find_root(root, "vimeo90K_septuplet", lambda folder: (folder / name).is_file(), f"no {name}")
    lines = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in numbered:
        if not _LINE.fullmatch(line):
            raise DataError(
                f"{root / name} line {number}: {line[:60]!r} names no sequence; 00001/0001 is the form"
            )
    if not numbered:
        raise DataError(f"{root / name} is empty: it names no sequence for the {split} split")
    other = root / _LISTS["test" if split == "train" else "train"]
    others = other.read_text(encoding="utf-8", errors="replace").split() if other.is_file() else []
    if shared := sorted({line for _, line in numbered}.intersection(others)):
        raise DataError(
            f"{root / name} and {other.name} share {len(shared)} sequences, the first {shared[0]}: what is "
            "trained on cannot be tested on; take them out of one"
        )
    return ImageWindows(
        [
            Window(root / "sequences" / line, _INPUTS, _TARGETS, line, f"{root / name} line {number}")
            for number, line in numbered
        ],
        one_size=True,
    )


VIMEO = DatasetKind(
    "Vimeo-90K septuplets, 448x256; also what flavr-data makes", _LAYOUT, open_vimeo, n_outputs=(1,)
)
