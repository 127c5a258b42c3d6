"""Images as a source of frames: a folder, a glob or a numbered sequence of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from flavr_runtime._icc import decode, decode_with_profile
from flavr_runtime._image_tags import ImageTags, read_tags
from flavr_runtime._sequences import NumberPattern, image_files
from flavr_runtime.damage import Gap
from flavr_runtime.errors import InputError
from flavr_runtime.frames import Frame, Rgb, StreamInfo
from flavr_runtime.traits import SourceTraits

__all__ = ["ImageReader", "read_image"]

# The mark that ends a complete file: some decoders fill what is missing of a cut-off one with grey.
_END_MARKS = {".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9", ".png": b"IEND"}


class ImageReader:
    """Images in natural order (frame2 before frame10), shown at `rate` frames per second.

    They are those of a folder, of a glob (shots/*.png) or of a pattern (shots/%06d.png). The constructor
    decodes every image once (about 10 ms each at 854x480, against a second in the network), so that a broken,
    odd-sized or (unless `drop_alpha`) transparent one is named before the first slow step. Hidden files and
    those without an image suffix are passed over. Raises InputError.
    """

    def __init__(self, path: Path | str, rate: Fraction, *, drop_alpha: bool = False) -> None:
        self._path = Path(path)
        self._drop_alpha = drop_alpha
        if rate <= 0:
            raise InputError(f"{self._path}: {rate} frames per second is no rate to show images at")
        self._files = image_files(self._path)
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(self._look_at, self._files))
        (height, width), bits = found[0].shape, found[0].bits
        for file, other in zip(self._files, found, strict=True):
            if other.shape != (height, width):
                raise InputError(
                    f"{file}: {other.shape[1]}x{other.shape[0]}, but {self._files[0].name} is "
                    f"{width}x{height}; all images must have one size"
                )
            if other.bits != bits:
                raise InputError(
                    f"{file}: {other.bits} bits per colour, but {self._files[0].name} has {bits}; "
                    "all images must have one depth"
                )
        self._digest = found[0].icc if len({look.icc for look in found}) == 1 else None
        self._notices = _notices(self._files, found, self._digest)
        kinds = " and ".join(sorted({path.suffix.lower()[1:] for path in self._files}))
        count = len(self._files)
        self._info = StreamInfo(self._path, width, height, rate, True, count, f"{count} {kinds} images", bits)
        pattern = NumberPattern.of(self._path)
        self._traits = SourceTraits(
            pixel_format="rgb24" if bits == 8 else "rgb48le",
            end=count / rate,
            tick=1 / rate,
            icc_profile=None if self._digest is None else _read(self._files[0], drop_alpha=drop_alpha).icc,
            start_number=None if pattern is None else pattern.number(self._files[0].name),
        )

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def traits(self) -> SourceTraits:
        return self._traits

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def gaps(self) -> list[Gap]:
        """A broken one is refused instead."""
        return []

    def frames(self) -> Iterator[Frame]:
        """Every image in order. Raises InputError if one has changed meanwhile.

        Frame.source is the path of an image that holds just what is shown. One that is turned, grey, has an
        opaque alpha channel or a profile that others have not would stick out among new images.
        """
        for index, path in enumerate(self._files):
            image = _read(path, drop_alpha=self._drop_alpha)
            rgb = image.rgb
            if rgb.shape[:2] != (self._info.height, self._info.width) or _bits(rgb) != self._info.bits:
                raise InputError(f"{path}: changed its size or depth while it was being read")
            yield Frame(rgb, index / self._info.rate, path if image.as_shown(self._digest) else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _look_at(self, path: Path) -> _Look:
        image = _read(path, drop_alpha=self._drop_alpha)
        shape = (image.rgb.shape[0], image.rgb.shape[1])
        return _Look(shape, _bits(image.rgb), image.transparent, image.tags.profile, image.digest)


def read_image(path: Path) -> Rgb:
    """An image of 8 or 16 bits as RGB [H, W, 3], turned as its EXIF orientation says.

    Raises InputError for a file that is unreadable, cut off, of another depth, or transparent anywhere (an
    alpha channel that is opaque throughout has nothing to lose and is left out).
    """
    return _read(path).rgb


@dataclass(frozen=True, slots=True)
class _Image:
    rgb: Rgb
    channels: int  # as stored
    transparent: bool  # anywhere
    tags: ImageTags
    icc: bytes | None  # a profile that new images can be given

    @property
    def digest(self) -> bytes | None:
        return None if self.icc is None else hashlib.blake2b(self.icc).digest()

    def as_shown(self, carried: bytes | None) -> bool:
        """Whether the file holds these samples and says nothing else of them than the profile carried."""
        has_it = carried is not None and self.digest == carried
        return self.channels == 3 and self.tags == ImageTags(profile=has_it)


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of an image that was looked at."""

    shape: tuple[int, int]
    bits: int
    transparent: bool
    profile: bool
    icc: bytes | None  # its digest: some profiles are larger than their images


def _read(path: Path, *, drop_alpha: bool = False) -> _Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    mark = _END_MARKS.get(path.suffix.lower(), b"")
    # Half-way: a JPEG's thumbnail, in its first bytes, ends with the same mark.
    if data.find(mark, len(data) // 2) < 0:
        raise InputError(f"{path}: the image is cut off")
    buffer = np.frombuffer(data, np.uint8)
    raw, icc = decode_with_profile(buffer) if data else (None, None)
    if raw is None:
        raise InputError(f"{path}: not an image that can be read, or damaged")
    if raw.dtype not in (np.uint8, np.uint16):
        kind = f"{8 * raw.dtype.itemsize}-bit {'float' if raw.dtype.kind == 'f' else 'integer'}"
        raise InputError(f"{path}: {kind} samples; images of 8 and 16 bits per colour are supported")
    opaque = (1 << 8 * raw.dtype.itemsize) - 1
    transparent = raw.ndim == 3 and raw.shape[2] in (2, 4) and bool(raw[..., -1].min() < opaque)
    if transparent and not drop_alpha:
        raise InputError(
            f"{path}: has transparent pixels, which would be lost; --drop-alpha goes on without them"
        )
    deep = raw.dtype == np.uint16
    # Not IMREAD_COLOR_RGB for deep images: OpenCV 5.0 gives noise for 16-bit TIFF.
    colour = decode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_COLOR_RGB)
    if colour is None:
        raise InputError(f"{path}: not an image that can be read, or damaged")
    rgb = np.ascontiguousarray(colour[..., ::-1], np.uint16) if deep else np.asarray(colour, np.uint8)
    tags = read_tags(data)
    return _Image(rgb, 1 if raw.ndim == 2 else raw.shape[2], transparent, tags, None if tags.coded else icc)


def _notices(files: list[Path], found: list[_Look], carried: bytes | None) -> list[str]:
    looks = list(zip(files, found, strict=True))
    lost = (
        (
            "the transparency of {} is dropped, as asked",
            [file.name for file, look in looks if look.transparent],
        ),
        (
            "not carried over: the colour profile of {}",
            [file.name for file, look in looks if look.profile and carried is None],
        ),
    )
    return [
        text.format(names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else ""))
        for text, names in lost
        if names
    ]


def _bits(rgb: Rgb) -> int:
    return 8 * rgb.dtype.itemsize
