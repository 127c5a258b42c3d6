"""Writing sets in the Vimeo-90K septuplet layout. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flavr._images import Rgb, write_png

SEPTUPLET = 7
LISTS = {"train": "sep_trainlist.txt", "test": "sep_testlist.txt"}


def write_septuplet(folder: Path, name: str, frames: Sequence[Rgb]) -> None:
    """Write seven frames as sequences/NAME/im1.png to im7.png. Raises OSError."""
    home = folder / "sequences" / name
    home.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        write_png(home / f"im{number}.png", frame)


def write_lists(folder: Path, train: Iterable[str], test: Iterable[str]) -> None:
    """Write both lists of sequence names. Raises OSError."""
    for split, names in (("train", train), ("test", test)):
        (folder / LISTS[split]).write_text("".join(f"{name}\n" for name in names), encoding="ascii")
