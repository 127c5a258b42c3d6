"""ICC profiles of images: what colours their numbers mean. A photo from a phone is often in Display P3."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr_runtime.errors import OutputError

if TYPE_CHECKING:
    from cv2.typing import MatLike

__all__ = ["decode", "decode_with_profile", "encode_with_profile", "holds", "usable"]

_HEADER = 128  # bytes, ICC.1:2022 section 7.2: size at 0, colour space at 16, a signature at 36
_HELD = hasattr(cv2, "IMAGE_METADATA_ICCP")  # OpenCV 4.11 knows of none


def usable(profile: bytes) -> bool:
    """Whether it is whole, as far as its header tells, and of R, G and B, as all new images are."""
    return (
        len(profile) > _HEADER
        and int.from_bytes(profile[:4]) == len(profile)
        and profile[16:20] == b"RGB "
        and profile[36:40] == b"acsp"
    )


def decode(data: NDArray[np.uint8], flags: int) -> NDArray[np.generic] | None:
    """The image, None where it is none, or one of more pixels than OpenCV takes."""
    try:
        return cv2.imdecode(data, flags)
    except cv2.error:
        return None


def decode_with_profile(
    data: NDArray[np.uint8],
) -> tuple[NDArray[np.generic] | None, bytes | None]:
    """`decode` as it is stored, and its profile, None without one that is usable."""
    if not _HELD:
        return decode(data, cv2.IMREAD_UNCHANGED), None
    try:
        image, kinds, contents = cv2.imdecodeWithMetadata(data, flags=cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None, None
    for kind, content in zip(np.ravel(kinds), contents, strict=True):
        profile = np.asarray(content).tobytes()
        if kind == cv2.IMAGE_METADATA_ICCP and usable(profile):
            return image, profile
    return image, None


def encode_with_profile(suffix: str, bgr: MatLike, settings: Sequence[int], profile: bytes | None) -> bytes:
    """An image file of that kind.

    Raises:
        OutputError: that picture, or profile, cannot be written into one.
    """
    if profile is None:
        done, data = cv2.imencode(suffix, bgr, list(settings))
    else:
        metadata = [np.frombuffer(profile, np.uint8)]
        done, data = cv2.imencodeWithMetadata(
            suffix, bgr, [cv2.IMAGE_METADATA_ICCP], metadata, list(settings)
        )
    if not done:  # what has been written so far is no image
        raise OutputError(f"OpenCV cannot write this picture as {suffix}")
    return data.tobytes()


def holds(suffix: str, profile: bytes) -> bool:
    """Whether that kind of images comes back with it: libpng refuses profiles in which it finds mistakes."""
    tried = np.zeros((8, 8, 3), np.uint8)
    with contextlib.suppress(OutputError):
        data = encode_with_profile(suffix, tried, (), profile)
        return decode_with_profile(np.frombuffer(data, np.uint8))[1] == profile
    return False
