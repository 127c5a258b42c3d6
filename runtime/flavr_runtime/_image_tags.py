"""What an image file says of its samples that is lost where only the picture is kept."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["ImageTags", "read_tags"]

_UPRIGHT = 1
_ORIENTATION, _TIFF_PROFILE = 274, 34675  # TIFF's, and EXIF is a TIFF without pictures
_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_EXIF = {b"Exif", b"eXIf", b"EXIF"}  # JPEG's, PNG's and WebP's
_PROFILES = {b"ICC_PROFILE", b"iCCP", b"gAMA", b"cHRM", b"cICP", b"ICCP"}
# What many programs write into every PNG: that it is sRGB, as it would be without.
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
# Where a block says how a colour is made of samples, and what stands there for three of R, G and B (in JPEG:
# of Y, Cb and Cr). Others are palettes, greys, CMYK.
_COLOURS = {b"IHDR": (9, 2), b"SOF": (5, 3)}
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOS = 0xDA


@dataclass(frozen=True, slots=True)
class ImageTags:
    turned: bool = False  # shown otherwise than stored
    profile: bool = False  # its numbers mean other colours than usual
    coded: bool = False  # which numbers say (cICP), and those come before any profile
    plain: bool = True  # as far as the file says it: R, G and B for every pixel, and nothing else


def read_tags(data: bytes) -> ImageTags:
    """The tags of a PNG, JPEG, WebP or TIFF file, whose damaged parts are passed over."""
    turned = profile = coded = False
    plain = True
    for name, content in _blocks(data):
        if name in _EXIF:
            turned |= _tiff_tags(content.removeprefix(b"Exif\0\0")).get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
        profile |= name in _PROFILES and content != _SRGB.get(name)
        coded |= name == b"cICP"
        place, usual = _COLOURS.get(name, (0, None))
        plain &= usual is None or content[place : place + 1] == bytes([usual])
    tags = _tiff_tags(data)
    turned |= tags.get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
    return ImageTags(turned, profile or _TIFF_PROFILE in tags, coded, plain)


def _blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the blocks that a file consists of."""
    for start, blocks in ((b"\xff\xd8", _jpeg_blocks), (b"\x89PNG", _png_blocks), (b"RIFF", _webp_blocks)):
        if data.startswith(start):
            yield from blocks(data)


def _jpeg_blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SOS:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        content = data[at + 4 : at + 2 + length]
        if marker in _SOF:
            yield b"SOF", content
        elif 0xE0 <= marker <= 0xEF:  # an application's, which begins with its name
            name = content.partition(b"\0")[0]
            yield name, content[len(name) + 2 :]
        at += 2 + length


def _png_blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _webp_blocks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The 16-bit values of the first directory of a TIFF; nothing for what is none, or broken."""
    order = _TIFF_ORDERS.get(data[:4])
    if order is None:
        return {}
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        rows = (struct.unpack_from(f"{order}HHIH", data, start + 2 + 12 * row) for row in range(count))
        return {tag: value for tag, _, _, value in rows}
    except struct.error:
        return {}
