"""Finding files for people: natural order, and a result that appears under its name only when complete."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from flavr.errors import DataError, UsageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".y4m", ".gif"}
)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A sorting key under which frame2 comes before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts] + [(2, 0, path.name)]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders of a folder, in natural order."""
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural)


def images_in(folder: Path) -> list[Path]:
    """The visible images of a folder, in natural order."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    return sorted(found, key=natural)


def check_writable(file: Path) -> None:
    """Refuse what could not be written hours later. Raises DataError."""
    folder = file.parent
    if not folder.is_dir():
        raise DataError(f"{file}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{file}: no permission to write in {folder}")


def check_new_checkpoint(file: Path) -> None:
    """Refuse a name under which no new PyTorch checkpoint can be written. Raises UsageError or DataError."""
    if file.exists():
        raise UsageError(f"{file} exists; choose another name")
    if file.suffix.lower() == ".safetensors":  # by which it would be read
        raise UsageError(f"{file}: a PyTorch checkpoint is written; give it a name such as {file.stem}.pth")
    check_writable(file)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill that gets its final name when the block ends well, and goes away when it does not.

    Raises:
        DataError: something of that name is there already, or it is the working folder, or it cannot be
            written; the disk is full.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists already; remove it or choose another name")
    place = folder.resolve()  # a link to an empty folder stays one
    if place == Path.cwd():  # replaced, a shell would be left in a folder that is gone
        raise DataError(f"{folder} is the folder you are in; name one to make in it")
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(place)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DataError(f"{folder}: the disk is full; free some space and run again") from error
        raise DataError(f"{folder} cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_outside(images: Path, data_root: Path) -> None:
    """Refuse to write results among the data: they could replace it, such as Middlebury's truth.

    Raises:
        UsageError: `images` is `data_root` or in it, links followed.
    """
    if Path(os.path.realpath(images)).is_relative_to(os.path.realpath(data_root)):
        raise UsageError(f"--save-images {images} is in --data-root {data_root}; name a folder outside it")
