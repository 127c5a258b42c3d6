"""Reading, checking and writing image files. Imports no PyTorch."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr.errors import DataError

Rgb = NDArray[np.uint8]

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
# The mark that ends a complete file: decoders fill what is missing of a cut-off one with grey, in silence.
_END_MARKS = {".png": _PNG_END, ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
_PNG_LEVEL = 1  # zlib's fastest: a third larger than its best, ten times quicker


def read_rgb(path: Path) -> Rgb:
    """An image as uint8 RGB [H, W, 3]: deeper colours are reduced to 8 bits, transparency is ignored.

    Raises:
        DataError: it is missing, cut off, damaged or no image.
    """
    data = _content(path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # its header tells of more pixels than OpenCV takes
        image = None
    if image is None:
        raise DataError(f"{path} is not an image that can be read, or is damaged")
    return np.asarray(image, np.uint8)


def write_png(path: Path, image: Rgb) -> None:
    """Write RGB [H, W, 3]. Raises OSError."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # Not cv2.imwrite, which keeps silent about a full disk.
    path.write_bytes(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])[1].tobytes())


def _content(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    if not data:
        raise DataError(f"{path} is empty")
    # Half-way: a JPEG's thumbnail, in its first bytes, ends with the same mark.
    if data.find(_END_MARKS.get(path.suffix.lower(), b""), len(data) // 2) < 0:
        raise DataError(f"{path} is cut off")
    return data


def examine(path: Path, *, decode: bool) -> tuple[int, int] | str:
    """An image's height and width, or what is wrong with it; without `decode`, a PNG's header and end."""
    try:
        size = None if decode else _png_size(path)
        if size is None:
            height, width = read_rgb(path).shape[:2]
            size = height, width
            _check_png_sums(path)
    except DataError as error:
        return str(error)
    return size


def _png_size(path: Path) -> tuple[int, int] | None:
    """Height and width from a PNG's first 24 bytes, if that is what it is and its end is there."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64))
            tail = file.read()
    except OSError:
        return None  # to be named by the full reading
    if head[:8] != _PNG_START or len(head) < 24 or _PNG_END not in tail:
        return None
    return int.from_bytes(head[20:24]), int.from_bytes(head[16:20])


def _check_png_sums(path: Path) -> None:
    """A PNG carries a checksum for each of its parts, which OpenCV's decoder does not insist on."""
    data = path.read_bytes()
    if data[:8] != _PNG_START:
        return
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        part, stored = data[at + 4 : at + 8 + length], data[at + 8 + length : at + 12 + length]
        if zlib.crc32(part) != int.from_bytes(stored) or len(stored) < 4:
            raise DataError(f"{path} is damaged: a checksum in it is wrong")
        if part[:4] == _PNG_END:
            return
        at += 12 + length
