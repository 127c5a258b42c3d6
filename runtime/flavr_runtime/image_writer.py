"""Images as a sink of frames: a folder, or numbered files in one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from flavr_runtime._icc import encode_with_profile, holds
from flavr_runtime._sequences import NumberPattern, is_sequence
from flavr_runtime.colour import at_depth
from flavr_runtime.errors import OutputError
from flavr_runtime.frames import Frame
from flavr_runtime.traits import MediaSource, SourceTraits
from flavr_runtime.workfolder import DISK_FULL, WorkFolder, write_durably

__all__ = ["IMAGE_KINDS", "ImageKind", "ImageWriter", "work_place"]


@dataclass(frozen=True, slots=True)
class ImageKind:
    """How images of one kind are written."""

    bits: int = 8  # the most that it holds
    lossless: bool = True
    profile: int = 0  # bytes of the largest colour profile that OpenCV puts into it
    settings: Sequence[int] = ()  # OpenCV's


# JPEG: full chroma and a quality at which the loss is not seen: every other image is a source image, whose
# bytes are copied, and a visible loss would flicker. PNG: zlib's fastest, 13 ms for an 854x480 frame.
# A profile must fit into one JPEG segment, 65,533 bytes with 14 of its own; libpng reads none above 8 MB.
_PNG = ImageKind(16, profile=8_000_000, settings=(cv2.IMWRITE_PNG_COMPRESSION, 1))
_JPEG = ImageKind(
    lossless=False,
    profile=65_519,
    settings=(
        cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ),
)  # fmt: skip
_TIFF = ImageKind(16, settings=(cv2.IMWRITE_TIFF_COMPRESSION, cv2.IMWRITE_TIFF_COMPRESSION_LZW))
IMAGE_KINDS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": ImageKind(),
    ".webp": ImageKind(profile=8_000_000, settings=(cv2.IMWRITE_WEBP_QUALITY, 101)),  # above 100: lossless
}
_IN_FOLDER = NumberPattern(Path(), "", 6, ".png")
_NUMBERED = re.compile(r"\d{6,}\.png")


class ImageWriter:
    """Numbered images that appear under their names when the `with` block ends well.

    A folder is filled with 000001.png, 000002.png, ...; a pattern (shots/%04d.tif) names each file and, by
    its suffix, its kind. Numbers begin with that of the source's first image where it has one, else with 1. A
    source image of the same kind is copied byte for byte where it holds just what is shown; others are
    written with 16 bits per colour where they have more than 8 and the kind holds them. Until all are there
    they are kept in `work`. Raises OutputError, from the constructor for all that can be known there.
    """

    def __init__(
        self,
        path: Path | str,
        source: MediaSource,
        *,
        overwrite: bool = False,
        constant_rate: bool | None = None,
        work: WorkFolder | None = None,
    ) -> None:
        """`constant_rate` is the result's; by default the source's."""
        pattern = NumberPattern.of(path)
        self._work = work or WorkFolder(work_place(path))
        self._partial = self._work.path / "images"
        self._publishing = self._work.path / "publishing"  # their count, from when on they are moved
        # "." and links have no name that could be given at the end
        self._folder = (Path(path) if pattern is None else pattern.folder).resolve()
        self._names = pattern or _IN_FOLDER
        self._kind = _kind_of(path, self._names)
        parent = self._folder.parent
        if not parent.is_dir():
            raise OutputError(f"{path}: the folder {parent} does not exist; create it first")
        if self._folder.exists():
            if not self._folder.is_dir():
                raise OutputError(f"{self._folder}: a file of that name exists; choose another name")
            if pattern is None:
                _check_replaceable(self._folder, source.info.path, overwrite)
            else:
                ours = self._work.resume and self._publishing.exists()  # those that have their names already
                names = replace(pattern, folder=self._folder)
                _check_names(path, names, source.info.path, overwrite or ours)
        if not os.access(parent, os.W_OK):
            raise OutputError(f"{self._folder}: no permission to write in {parent}")
        self._keeps_others = pattern is not None
        self._number = 1 if source.traits.start_number is None else source.traits.start_number
        self._count = self._kept = self._continued_at = 0
        profile = source.traits.icc_profile
        self._profile = None
        if (
            profile is not None
            and len(profile) <= self._kind.profile
            and holds(self._image(0).suffix, profile)
        ):
            self._profile = profile
        self._copies = self._profile == profile  # else those would be the only ones that have it
        self._notices = _lost(source.traits, profile=profile != self._profile)
        if source.traits.display_matrix is not None:
            self._notices.append("the images are stored as filmed: the video's rotation flag is left out")
        if not (source.info.constant_rate if constant_rate is None else constant_rate):
            self._notices.append(
                f"images carry no times, and {source.info.path.name} has a variable rate: at any constant "
                "one they drift from it; state --fps for even ones"
            )
        if source.info.bits > self._kind.bits:
            self._notices.append(f"{self._names.after} images have 8 bits per colour: the rest is rounded")

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def damage(self) -> list[str]:
        """Pictures are all there is."""
        return []

    @property
    def kept(self) -> int:
        """Images that are whole on the disk."""
        return self._kept

    def write(self, frame: Frame) -> None:
        target = self._image(self._count)
        self._count += 1
        if self._count <= self._continued_at:
            return
        with self._mapped_errors():
            if self._copies and isinstance(frame.source, Path) and _same_kind(frame.source, target):
                data = frame.source.read_bytes()
            else:
                rgb = frame.rgb if frame.rgb.dtype.itemsize * 8 <= self._kind.bits else at_depth(frame.rgb, 8)
                bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
                data = encode_with_profile(target.suffix, bgr, self._kind.settings, self._profile)
            write_durably(target, data)
        self._kept = self._count

    def __enter__(self) -> Self:
        try:
            with self._mapped_errors():
                self._work.open()
                self._partial.mkdir(exist_ok=True)
                moved = int(self._publishing.read_text()) if self._publishing.exists() else 0
                while self._is_whole(self._kept, moved):
                    self._kept += 1
        except BaseException:
            self._work.close(remove=self._kept == 0)
            raise
        self._continued_at = self._kept
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._publish()
                self._kept = 0
        finally:
            self._work.close(remove=self._kept == 0)

    def _image(self, index: int) -> Path:
        return self._partial / self._names.name(self._number + index)

    def _is_whole(self, index: int, moved: int) -> bool:
        """Whether that image is there; of the first `moved` ones some have their names already."""
        image = self._image(index)
        return image.exists() or (index < moved and (self._folder / image.name).exists())

    def _publish(self) -> None:
        if self._count == 0:
            raise OutputError(f"{self._folder}: no frame was written")
        with self._mapped_errors():
            if self._folder.exists() and self._keeps_others:
                write_durably(self._publishing, str(self._count).encode())
                ours = [self._image(index) for index in range(self._count)]
                for path in ours:
                    if path.exists():  # else an earlier run has moved it
                        path.replace(self._folder / path.name)
                names = replace(self._names, folder=self._folder)
                former = {names.name(number) for number in names.numbers()} - {path.name for path in ours}
                for name in former:  # a former, longer result may not end this one
                    (self._folder / name).unlink()
                return
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._partial.replace(self._folder)

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in DISK_FULL:
                raise OutputError(
                    f"{self._folder}: the disk is full; free some space, then --resume"
                ) from error
            raise OutputError(f"{self._folder}: cannot write it ({error.strerror or error})") from error


def work_place(path: Path | str) -> Path:
    """The name beside which the work folder of an output lies: of a pattern's folder, until that exists."""
    pattern = NumberPattern.of(path)
    return Path(path) if pattern is None or pattern.folder.is_dir() else pattern.folder


def _kind_of(path: Path | str, names: NumberPattern) -> ImageKind:
    suffix = Path(names.name(1)).suffix.lower()
    if suffix not in IMAGE_KINDS:
        raise OutputError(f"{path}: cannot write {suffix or 'such'} images; use {', '.join(IMAGE_KINDS)}")
    return IMAGE_KINDS[suffix]


def _lost(traits: SourceTraits, *, profile: bool) -> list[str]:
    aspect = traits.sample_aspect_ratio or Fraction(1)
    shape = f"the shape of its pixels, {aspect.numerator}:{aspect.denominator} (images have square ones)"
    parts = {
        "the chapters": traits.chapters,
        **dict.fromkeys([*map(str, traits.subtitles), *traits.other_streams], True),
        str(traits.hdr): traits.hdr,
        shape: aspect != 1,
        "the colour profile": profile,
    }
    others = [name for name, present in parts.items() if present]
    return [
        *(["a folder of images has no sound: the audio is left out"] if traits.audio else []),
        *([f"not carried over: {', '.join(others)}"] if others else []),
        *traits.colour.srgb_notice(),
    ]


def _same_kind(path: Path, other: Path) -> bool:
    return IMAGE_KINDS.get(path.suffix.lower()) is IMAGE_KINDS[other.suffix.lower()]


def _check_replaceable(folder: Path, source: Path, overwrite: bool) -> None:
    if source.exists() and folder.samefile(source):
        raise OutputError(f"{folder}: the output is the input; choose another name")
    held = list(folder.iterdir())
    if held and not overwrite:
        raise OutputError(f"{folder}: the folder is not empty; use --overwrite, or choose another name")
    # --overwrite removes the folder, so it must hold nothing but what this class writes.
    stranger = next((path.name for path in held if not _NUMBERED.fullmatch(path.name)), None)
    if stranger is not None:
        raise OutputError(f"{folder}: holds other files ({stranger}), which --overwrite would delete")
    if is_sequence(source) and _folder_of(source) == folder:
        raise OutputError(f"{folder}: holds the input; choose another name")


def _check_names(path: Path | str, pattern: NumberPattern, source: Path, overwrite: bool) -> None:
    taken = pattern.numbers()
    if not taken:
        return
    if is_sequence(source) and _folder_of(source) == pattern.folder:
        raise OutputError(f"{path}: files of such names lie in the input's folder; choose another name")
    if not overwrite:
        raise OutputError(f"{path}: {pattern.name(taken[0])} exists; use --overwrite, or choose another name")


def _folder_of(sequence: Path) -> Path:
    return (sequence if sequence.is_dir() else sequence.parent).resolve()
