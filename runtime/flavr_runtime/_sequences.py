"""Names of image sequences: folders, globs such as shots/*.png, patterns such as shots/%06d.png."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flavr_runtime.encoders import CONTAINERS
from flavr_runtime.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "NumberPattern", "image_files", "is_glob", "is_sequence"]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_NUMBER = re.compile(r"%(0?)(\d*)d")


@dataclass(frozen=True, slots=True)
class NumberPattern:
    """A file name with one number in it, as printf and ffmpeg write it: frame_%04d.png."""

    folder: Path
    before: str
    digits: int  # filled up with zeros; 0: as many as the number has
    after: str

    @classmethod
    def of(cls, path: Path | str) -> NumberPattern | None:
        """None for a path whose last part is no pattern, or names a video: 100%done.mp4."""
        path = Path(path)
        if path.suffix.lower() in CONTAINERS:
            return None
        parts = _NUMBER.split(path.name)
        if len(parts) != 4:
            return None
        before, zero, digits, after = parts
        return cls(path.parent, before, int(digits or 0) if zero else 0, after)

    def name(self, number: int) -> str:
        return f"{self.before}{number:0{self.digits}d}{self.after}"

    def number(self, name: str) -> int | None:
        """The number in a name that this pattern makes, else None."""
        match = re.fullmatch(f"{re.escape(self.before)}(\\d+){re.escape(self.after)}", name)
        return int(match[1]) if match and self.name(int(match[1])) == name else None

    def numbers(self) -> list[int]:
        """Those of the files in the folder, in order."""
        found = (self.number(path.name) for path in self.folder.iterdir() if path.is_file())
        return sorted(number for number in found if number is not None)


def is_glob(path: Path | str) -> bool:
    """Whether a path is a wildcard. What exists under this very name is none, a folder neither."""
    path = Path(path)
    wild = path.name if path.parent.is_dir() else str(path)  # a folder may be called Shot [v2]
    return any(sign in wild for sign in "*?[") and not path.exists()


def is_sequence(path: Path | str) -> bool:
    """Whether a path stands for images."""
    if Path(path).exists():
        return Path(path).is_dir()
    return is_glob(path) or NumberPattern.of(path) is not None


def image_files(path: Path) -> list[Path]:
    """The images that a path stands for: numbered ones by their number, others in natural order.

    Raises InputError if there are none, or if a number of a pattern is missing.
    """
    kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
    if path.is_dir():
        found = _images(path.iterdir())
        if not found:
            raise InputError(f"{path}: no images in it ({kinds})")
        return found
    if is_glob(path):
        root = path.parent if path.parent.is_dir() else Path(path.anchor or ".")
        found = _images(root.glob(str(path.relative_to(root))))
        if not found:
            raise InputError(f"{path}: no image has a name like that ({kinds})")
        return found
    pattern = NumberPattern.of(path)
    if pattern is None or not pattern.folder.is_dir():
        raise InputError(f"{path}: no such folder")
    numbers = pattern.numbers()
    if not numbers:
        raise InputError(f"{path}: no file has a name like that")
    present = set(numbers)
    missing = next((number for number in range(numbers[0], numbers[-1]) if number not in present), None)
    if missing is not None:
        raise InputError(
            f"{path}: {pattern.name(missing)} is missing between {pattern.name(numbers[0])} and "
            f"{pattern.name(numbers[-1])}; without it the motion would jump"
        )
    return [pattern.folder / pattern.name(number) for number in numbers]


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        (
            path
            for path in paths
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        ),
        key=_natural,
    )


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Digits compare as numbers: "frame2" before "frame10"."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts] + [(2, 0, str(path))]
