"""Which pixel format a result is written in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import av

from flavr_runtime._pictures import PLANAR_TWINS
from flavr_runtime.colour import bits_of, has_alpha, writable_formats
from flavr_runtime.errors import OutputError

if TYPE_CHECKING:
    from flavr_runtime.encoders import Encoder

__all__ = ["choose_pixel_format"]


def choose_pixel_format(source: str, width: int, height: int, encoder: Encoder, taken: list[str]) -> str:
    """The format to encode in: the source's own where the encoder takes it, else the nearest that it takes.

    RGB becomes 4:2:0 where the size allows and the encoder is a lossy one, since few players show any other
    H.264. Depth is kept before layout, and more is taken than is needed rather than less. Alpha is left out
    (the reader has made sure that none is lost). Raises OutputError if nothing fits.
    """
    if not _has_pictures(source):
        raise OutputError(f"{source} is no pixel format of pictures; use yuv420p, yuv422p10le, rgb24, ...")
    candidates: list[str] = [source]
    bits = bits_of(source)
    yuv = re.match(r"yuv[ja]?(4\d\d)p", source)
    if yuv:
        depths = _depths_from(bits)
        exact, others = (depths[:1], depths[1:])
        # yuvj is yuv with a tag that says full range, which the spec carries.
        candidates += [f"yuv{layout}p{each}" for each in exact for layout in (yuv[1], "444", "420")]
        candidates += [f"yuv{layout}p{each}" for each in others for layout in (yuv[1], "422", "444", "420")]
    elif source.startswith("gray"):
        depths = _depths_from(bits)
        candidates += [f"{kind}{each}" for each in depths for kind in ("gray", "yuv420p", "yuv444p")]
    elif source in _NEAREST:
        candidates += [*_NEAREST[source], "yuv420p", "yuv444p"]
    else:
        depths = _depths_from(bits)
        if encoder.lossless:
            candidates += ["bgr0"] * (bits == 8) + [f"gbrp{each}" for each in _depths_from(bits)]
        candidates += [f"yuv{layout}p{each}" for each in depths for layout in ("420", "422", "444")]
    if encoder.palette:
        return "rgb24"
    widened = [each for name in candidates for each in (name, *_SEMIPLANAR.get(name, ()))]
    for name in widened:
        if name not in taken or not (writable_formats(name) or name in PLANAR_TWINS) or has_alpha(name):
            continue
        if encoder.odd_sizes or not _is_odd(name, width, height):
            return str(name)
    raise OutputError(f"{encoder.name} takes neither {source} nor anything near it at {width}x{height}")


def _has_pictures(pixel_format: str) -> bool:
    """Not so of what is unknown, and of what stays on a GPU."""
    try:
        return bool(av.VideoFormat(pixel_format).components)
    except ValueError:
        return False


def _depths_from(bits: int) -> list[str]:
    """How pixel format names end: this depth first, then the next larger ones, then the next smaller ones."""
    known = (8, 9, 10, 12, 14, 16)
    below = [each for each in reversed(known) if each < bits]
    ranked = [each for each in known if each >= bits] + below
    return ["" if each == 8 else f"{each}le" for each in ranked]


_SEMIPLANAR = {"yuv420p": ("nv12",), "yuv420p10le": ("p010le",)}
_NEAREST = {
    "nv16": ["yuv422p"], "nv21": ["yuv420p"], "nv12": ["yuv420p"], "nv24": ["yuv444p"], "nv42": ["yuv444p"],
    "yuyv422": ["yuv422p"], "uyvy422": ["yuv422p"], "yvyu422": ["yuv422p"],
    "uyyvyy411": ["yuv411p", "yuv444p"],
    "p010le": ["yuv420p10le"], "p210le": ["yuv422p10le"], "p410le": ["yuv444p10le"],
}  # fmt: skip


def _is_odd(pixel_format: str, width: int, height: int) -> bool:
    layout = av.VideoFormat(pixel_format, width, height)
    across, down = 64 // layout.chroma_width(64), 64 // layout.chroma_height(64)
    return bool(width % across or height % down)
