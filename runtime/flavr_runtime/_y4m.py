"""The text header of YUV4MPEG2 streams, read and written.

Parsed here and not by FFmpeg, whose demuxer takes a stream that is cut off in the middle of a frame for one
that ends there: in a pipe, a program that died would look like one that has finished.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from flavr_runtime.errors import InputError
from flavr_runtime.traits import ChromaSite

__all__ = ["PIXEL_FORMATS", "Y4mHeader", "chroma_sites", "format_header", "parse_header"]

_MAGIC = "YUV4MPEG2"
_DEPTHS = (9, 10, 12, 14, 16)
_LAYOUTS = {"420": "yuv420p", "422": "yuv422p", "444": "yuv444p", "mono": "gray"}
_DEEP = {
    f"{layout}{bits}" if layout == "mono" else f"{layout}p{bits}": f"{name}{bits}le"
    for layout, name in _LAYOUTS.items()
    for bits in _DEPTHS
}
# Tag -> FFmpeg's pixel format; 4:2:0 of 8 bits also says where its chroma samples lie.
_TAGS = {**_LAYOUTS, **_DEEP, "411": "yuv411p", "444alpha": "yuva444p"}
_SITES: dict[str, ChromaSite] = {"420jpeg": "center", "420mpeg2": "left", "420paldv": "topleft"}
_TAGS |= dict.fromkeys(_SITES, "yuv420p")

PIXEL_FORMATS = tuple(dict.fromkeys(name for tag, name in _TAGS.items() if tag != "444alpha"))
"""Those that a stream without alpha can have."""


@dataclass(frozen=True, slots=True)
class Y4mHeader:
    width: int
    height: int
    pixel_format: str = "yuv420p"
    rate: Fraction | None = None  # None: the stream does not say
    interlaced: bool = False
    sample_aspect_ratio: Fraction | None = None
    full_range: bool | None = None  # None: the stream does not say
    chroma_site: ChromaSite | None = None  # of 8-bit 4:2:0; None: the stream does not say


def chroma_sites(pixel_format: str) -> Collection[ChromaSite]:
    """Those that a header can tell from left, which is taken for granted."""
    return _SITES.values() if pixel_format == "yuv420p" else ()


def parse_header(line: bytes, name: str) -> Y4mHeader:
    """Read the first line of a stream; `name` is what errors call it. Raises InputError."""
    words = line.decode("ascii", "replace").split()
    if not line.endswith(b"\n") or words[:1] != [_MAGIC]:
        raise InputError(
            f"{name}: no y4m stream; write one with ffmpeg -f yuv4mpegpipe, or use --input-format rawvideo"
        )
    values = {word[0]: word[1:] for word in words[1:] if word[0] != "X"}
    extensions = dict(word[1:].partition("=")[::2] for word in words[1:] if word[0] == "X")
    sides = [values.get(tag, "") for tag in "WH"]
    if not all(re.fullmatch(r"[1-9]\d{0,4}", side) for side in sides):
        raise InputError(f"{name}: the y4m header gives no picture size ({' '.join(words)[:80]})")
    chroma = values.get("C", "420jpeg")
    if chroma not in _TAGS:
        raise InputError(f"{name}: y4m with the colour layout {chroma[:20]} is not supported")
    return Y4mHeader(
        width=int(sides[0]),
        height=int(sides[1]),
        pixel_format=_TAGS[chroma],
        rate=_ratio(values.get("F")),
        interlaced=values.get("I", "p") not in ("p", "?"),
        sample_aspect_ratio=_ratio(values.get("A")),
        full_range={"FULL": True, "LIMITED": False}.get(extensions.get("COLORRANGE", "")),
        chroma_site=_SITES.get(chroma),
    )


def format_header(header: Y4mHeader) -> bytes:
    """The line that `parse_header` reads."""
    rate, aspect = header.rate or Fraction(0), header.sample_aspect_ratio
    chroma = next(tag for tag, name in _TAGS.items() if name == header.pixel_format)
    if header.pixel_format == "yuv420p":
        chroma = next(tag for tag, site in _SITES.items() if site == (header.chroma_site or "left"))
    words = [
        _MAGIC, f"W{header.width}", f"H{header.height}", f"F{rate.numerator}:{rate.denominator}", "Ip",
        f"A{aspect.numerator}:{aspect.denominator}" if aspect else "A0:0", f"C{chroma}",
    ]  # fmt: skip
    if chroma in _DEEP:
        words.append(f"XYSCSS={chroma.upper()}")  # the older tag for the same, which some readers go by
    if header.full_range is not None:
        words.append(f"XCOLORRANGE={'FULL' if header.full_range else 'LIMITED'}")
    return " ".join(words).encode() + b"\n"


def _ratio(text: str | None) -> Fraction | None:
    """None for a value that is unknown, which is written 0:0."""
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text or "")
    if match is None or not int(match[1]) or not int(match[2]):
        return None
    return Fraction(int(match[1]), int(match[2]))
