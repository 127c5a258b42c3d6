"""A folder of images as a source of frames, and as a sink."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from flavr_runtime.errors import InputError, OutputError
from flavr_runtime.frames import Frame, Rgb, StreamInfo
from flavr_runtime.traits import MediaSource, SourceTraits
from flavr_runtime.workfolder import DISK_FULL, WorkFolder, write_durably

__all__ = ["ImageFolderReader", "ImageFolderWriter", "read_image"]

# The mark that ends a complete file: some decoders fill what is missing of a cut-off one with grey.
_END_MARKS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}
_SUFFIXES = frozenset({*_END_MARKS, ".bmp", ".tif", ".tiff", ".webp"})
_NUMBERED = re.compile(r"\d{6,}\.png")
# zlib's fastest: 13 ms for an 854x480 frame.
_PNG_LEVEL = 1


class ImageFolderReader:
    """The images of a folder in natural order (frame2 before frame10), shown at `rate` frames per second.

    The constructor decodes every image once (about 10 ms each at 854x480, against a second in the network),
    so that a broken, odd-sized, 16-bit or transparent one is named before the first slow step. Hidden files
    and those without an image suffix are passed over. Raises InputError.
    """

    def __init__(self, folder: Path | str, rate: Fraction) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(f"{self._folder}: no such folder")
        if rate <= 0:
            raise InputError(f"{self._folder}: {rate} frames per second is no rate to show images at")
        self._files = sorted(
            (
                path
                for path in self._folder.iterdir()
                if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
            ),
            key=_natural,
        )
        if not self._files:
            kinds = ", ".join(sorted(suffix[1:] for suffix in _SUFFIXES))
            raise InputError(f"{self._folder}: no images in it ({kinds})")
        with ThreadPoolExecutor() as pool:
            sizes = list(pool.map(lambda path: read_image(path).shape[:2], self._files))
        height, width = sizes[0]
        for path, size in zip(self._files, sizes, strict=True):
            if size != (height, width):
                raise InputError(
                    f"{path}: {size[1]}x{size[0]}, but {self._files[0].name} is {width}x{height}; "
                    "all images must have one size"
                )
        kinds = " and ".join(sorted({path.suffix.lower()[1:] for path in self._files}))
        count = len(self._files)
        self._info = StreamInfo(self._folder, width, height, rate, True, count, f"{count} {kinds} images")
        self._traits = SourceTraits(end=count / rate, tick=1 / rate)

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def traits(self) -> SourceTraits:
        return self._traits

    @property
    def notices(self) -> list[str]:
        return []

    def frames(self) -> Iterator[Frame]:
        """Every image in order; Frame.source is its path. Raises InputError if one has changed meanwhile."""
        for index, path in enumerate(self._files):
            rgb = read_image(path)
            if rgb.shape[:2] != (self._info.height, self._info.width):
                raise InputError(f"{path}: changed its size while it was being read")
            yield Frame(rgb, index / self._info.rate, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ImageFolderWriter:
    """A folder of 000001.png, 000002.png, ... that appears under its name when the `with` block ends well.

    A source image that is a PNG already is copied byte for byte; every other frame is written as an 8-bit RGB
    PNG. Until all are there they are kept in `work`. Raises OutputError, from the constructor for all that
    can be known there.
    """

    def __init__(
        self,
        folder: Path | str,
        source: MediaSource,
        *,
        overwrite: bool = False,
        work: WorkFolder | None = None,
    ) -> None:
        self._folder = Path(folder).resolve()  # "." and links have no name that could be given at the end
        parent = self._folder.parent
        if not parent.is_dir():
            raise OutputError(f"{folder}: the folder {parent} does not exist; create it first")
        if self._folder.exists():
            _check_replaceable(self._folder, source.info.path, overwrite)
        if not os.access(parent, os.W_OK):
            raise OutputError(f"{self._folder}: no permission to write in {parent}")
        self._work = work or WorkFolder(self._folder)
        self._partial = self._work.path / "images"
        self._count = self._kept = self._continued_at = 0
        self._notices: list[str] = []
        if source.traits.audio:
            self._notices.append("a folder of images has no sound: the audio is left out")
        if source.traits.display_matrix is not None:
            self._notices.append("the images are stored as filmed: the video's rotation flag is left out")

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def kept(self) -> int:
        """Images that are whole on the disk."""
        return self._kept

    def write(self, frame: Frame) -> None:
        self._count += 1
        if self._count <= self._continued_at:
            return
        with self._mapped_errors():
            if isinstance(frame.source, Path) and frame.source.suffix.lower() == ".png":
                data = frame.source.read_bytes()
            else:
                bgr = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR)
                data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])[1].tobytes()
            write_durably(self._image(self._count), data)
        self._kept = self._count

    def __enter__(self) -> Self:
        with self._mapped_errors():
            self._work.open()
            self._partial.mkdir(exist_ok=True)
            while self._image(self._kept + 1).exists():
                self._kept += 1
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

    def _image(self, number: int) -> Path:
        return self._partial / f"{number:06d}.png"

    def _publish(self) -> None:
        if self._count == 0:
            raise OutputError(f"{self._folder}: no frame was written")
        with self._mapped_errors():
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


def read_image(path: Path) -> Rgb:
    """An 8-bit image as RGB [H, W, 3], turned as its EXIF orientation says.

    Raises InputError for a file that is unreadable, cut off, deeper than 8 bits, or transparent anywhere (an
    alpha channel that is opaque throughout has nothing to lose and is left out).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    mark = _END_MARKS.get(path.suffix.lower(), b"")
    # Half-way: a JPEG's thumbnail, in its first bytes, ends with the same mark.
    if data.find(mark, len(data) // 2) < 0:
        raise InputError(f"{path}: the image is cut off")
    buffer = np.frombuffer(data, np.uint8)
    raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if data else None
    if raw is None:
        raise InputError(f"{path}: not an image that can be read, or damaged")
    if raw.dtype != np.uint8:
        raise InputError(f"{path}: {8 * raw.dtype.itemsize} bits per colour; only 8-bit images are supported")
    if raw.ndim == 3 and raw.shape[2] in (2, 4) and raw[..., -1].min() < 255:
        raise InputError(f"{path}: has transparent pixels, which would be lost; flatten it first")
    colour = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    if colour is None:
        raise InputError(f"{path}: not an image that can be read, or damaged")
    return np.asarray(colour, np.uint8)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Digits compare as numbers: "frame2" before "frame10"."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts] + [(2, 0, path.name)]


def _check_replaceable(folder: Path, source: Path, overwrite: bool) -> None:
    if not folder.is_dir():
        raise OutputError(f"{folder}: a file of that name exists; choose another name")
    if source.exists() and folder.samefile(source):
        raise OutputError(f"{folder}: the output is the input; choose another name")
    held = list(folder.iterdir())
    if held and not overwrite:
        raise OutputError(f"{folder}: the folder is not empty; use --overwrite, or choose another name")
    # --overwrite removes the folder, so it must hold nothing but what this class writes.
    stranger = next((path.name for path in held if not _NUMBERED.fullmatch(path.name)), None)
    if stranger is not None:
        raise OutputError(f"{folder}: holds other files ({stranger}), which --overwrite would delete")
