"""Between a video's own pixel format and the RGB the network sees, as exact inverses of each other.

swscale is not used for the arithmetic. Measured (POINT, AREA and BILINEAR, each with ACCURATE_RND |
FULL_CHR_H_INT | FULL_CHR_H_INP | BITEXACT) on YUV -> RGB -> YUV of content inside the RGB gamut: a mean
drift of 0.5 code value in every format even at 4:4:4, and errors up to 49 code values at 4:2:0 chroma edges
(POINT keeps one chroma sample in four; AREA also smooths on the way up). Every second frame of a result
would be off in colour, which is seen as flicker. Here chroma goes up by replication and comes down by
averaging the same pixels, the matrices are applied in float32, and there is one rounding each way: within
1 code value, no drift.
"""

from __future__ import annotations

import re
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from flavr_runtime._colour_spec import WEIGHTS, ColourSpec, is_rgb
from flavr_runtime.frames import Rgb
from flavr_runtime.profile import spending

__all__ = [
    "ColourSpec", "Plane", "at_depth", "bits_of", "convert", "from_rgb", "has_alpha", "is_420", "is_opaque",
    "plane_of", "planes_of", "reordered", "to_rgb", "writable_formats",
]  # fmt: skip

Plane = NDArray[Any]
"""One plane of a frame, uint8 or uint16 [h, w], a view of the frame's memory."""

# The place of R, G and B in each pixel of the packed formats.
_PACKED = {
    "rgb24": (0, 1, 2), "bgr24": (2, 1, 0),
    "rgba": (0, 1, 2), "bgra": (2, 1, 0), "argb": (1, 2, 3), "abgr": (3, 2, 1),
    "rgb0": (0, 1, 2), "bgr0": (2, 1, 0), "0rgb": (1, 2, 3), "0bgr": (3, 2, 1),
}  # fmt: skip
_ALPHA_AT = {"rgba": 3, "bgra": 3, "argb": 0, "abgr": 0}
_PLANAR = re.compile(r"(?:yuv[ja]?4\d\dp|gray)(?:(\d+)le)?$")
_PLANAR_RGB = re.compile(r"gbrp(?:(\d+)le)?$")
# Same samples in another order: swscale only moves them, which loses nothing.
_REORDERED = {
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "uyyvyy411": "yuv411p",
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "nv42": "yuv444p",
    "ya8": "gray",
    "p010le": "yuv420p10le", "p210le": "yuv422p10le", "p410le": "yuv444p10le", "nv20le": "yuv422p10le",
}  # fmt: skip


@spending("convert to RGB")
def to_rgb(frame: av.VideoFrame, spec: ColourSpec) -> Rgb:
    """The frame as RGB [H, W, 3], full range; alpha, where there is any, is left out.

    uint8, or uint16 where a sample has more than 8 bits.
    """
    name = frame.format.name
    if name == "rgb48le":
        return np.ascontiguousarray(_packed_pixels(frame))
    if name in _PACKED:
        pixels = _packed_pixels(frame)
        return np.ascontiguousarray(pixels[..., list(_PACKED[name])])
    if _PLANAR_RGB.match(name):
        green, blue, red = (plane_of(frame, index) for index in range(3))
        merged: Plane = np.asarray(cv2.merge([red, green, blue]))
        highest = (1 << _depth(name)) - 1
        return merged if highest in _WHITES else _round(merged * np.float32(65535 / highest), 16)
    if not (_PLANAR.match(name) or name == "nv12"):
        rgb_like = is_rgb(frame.format) or name not in _REORDERED
        rgb_name = "rgb48le" if bits_of(name) > 8 else "rgb24"
        other = frame.reformat(format=rgb_name if rgb_like else _REORDERED[name], interpolation=_POINT)
        return to_rgb(other, spec)
    depth = _depth(name)
    target_depth = 8 if depth == 8 else 16
    white = (1 << target_depth) - 1

    luma = plane_of(frame, 0)
    H, W = luma.shape
    if name.startswith("gray"):
        black, span, _ = _levels(spec, depth)
        grey = _round((luma.astype(np.float32) - black) * np.float32(white / span), target_depth)
        same: Plane = np.asarray(cv2.merge([grey, grey, grey]))
        return same
    chroma = (
        [plane_of(frame, index) for index in (1, 2)] if name != "nv12" else _split_pairs(plane_of(frame, 1))
    )
    sx, sy = _subsampling(frame.format)
    if (sx, sy) != (1, 1):
        chroma = [_spread_out(plane, sx, sy)[:H, :W] for plane in chroma]
    yuv = np.asarray(cv2.merge([luma, *chroma]), np.float32)
    return _round(np.asarray(cv2.transform(yuv, _to_rgb_matrix(spec, depth, white))), target_depth)


@spending("convert back")
def from_rgb(rgb: Rgb, pixel_format: str, spec: ColourSpec) -> av.VideoFrame:
    """uint8 or uint16 RGB [H, W, 3] as a new frame of `pixel_format` with the stream's tags.

    `pixel_format` is one that `writable_formats` says yes to: planar YUV, RGB and gray of 8 to 16 bits, nv12,
    packed 8-bit RGB and rgb48le. The alpha of a format that has one is opaque. Raises ValueError for any
    other.
    """
    H, W = rgb.shape[:2]
    white = np.iinfo(rgb.dtype).max
    frame = av.VideoFrame(W, H, pixel_format)
    spec.tag(frame)
    if pixel_format in _PACKED:
        pixels = _packed_pixels(frame)
        if pixels.shape[2] == 4:
            pixels[...] = 255
        pixels[..., list(_PACKED[pixel_format])] = at_depth(rgb, 8)
        return frame
    if pixel_format == "rgb48le":
        _packed_pixels(frame)[...] = at_depth(rgb, 16)
        return frame
    if _PLANAR_RGB.match(pixel_format):
        codes = at_depth(rgb, _depth(pixel_format))
        for index, channel in enumerate((1, 2, 0)):
            plane_of(frame, index)[...] = codes[..., channel]
        return frame
    if not writable_formats(pixel_format):
        raise ValueError(f"cannot write {pixel_format} from RGB")

    depth = _depth(pixel_format)
    matrix = np.linalg.inv(np.vstack([_to_rgb_matrix(spec, depth, white), [0, 0, 0, 1]]))[:3]
    pixels_f = np.asarray(rgb, np.float32)
    plane_of(frame, 0)[...] = _round(np.asarray(cv2.transform(pixels_f, matrix[:1])), depth)
    if pixel_format.startswith("gray"):
        return frame
    pixels_f = _averaged(pixels_f, *_subsampling(frame.format))
    chroma = _round(np.asarray(cv2.transform(pixels_f, matrix[1:])), depth)
    if pixel_format == "nv12":
        plane_of(frame, 1)[...] = chroma.reshape(chroma.shape[0], -1)
    else:
        for index in (1, 2):
            plane_of(frame, index)[...] = chroma[..., index - 1]
    if pixel_format.startswith("yuva"):
        plane_of(frame, 3)[...] = (1 << depth) - 1
    return frame


@spending("convert back")
def convert(frame: av.VideoFrame, pixel_format: str, spec: ColourSpec, target: ColourSpec) -> av.VideoFrame:
    """`frame` in `pixel_format`, itself if it is in that format already.

    Between planar YUV formats the samples are kept: chroma is replicated or averaged, depths are shifted.
    """
    name = frame.format.name
    if name == pixel_format:
        return frame
    if name in _REORDERED and _PLANAR.match(pixel_format):
        return convert(
            frame.reformat(format=_REORDERED[name], interpolation=_POINT), pixel_format, spec, target
        )
    alike = (spec.matrix, spec.full_range) == (target.matrix, target.full_range)
    if not (alike and _PLANAR.match(name) and _PLANAR.match(pixel_format)):
        return from_rgb(to_rgb(frame, spec), pixel_format, target)
    result = av.VideoFrame(frame.width, frame.height, pixel_format)
    target.tag(result)
    depths = _depth(name), _depth(pixel_format)
    H, W = frame.height, frame.width
    sx, sy = _subsampling(frame.format)
    tx, ty = _subsampling(result.format)
    for index in range(1 if pixel_format.startswith("gray") else 3):
        if index and name.startswith("gray"):
            plane_of(result, index)[...] = 1 << (depths[1] - 1)
            continue
        samples = plane_of(frame, index)
        if index and (sx, sy) != (tx, ty):
            samples = _spread_out(samples, sx, sy)[:H, :W]
            samples = _averaged(samples.astype(np.float32), tx, ty)
        plane_of(result, index)[...] = _at_depth(samples, *depths)
    return result


def reordered(frame: av.VideoFrame, pixel_format: str) -> av.VideoFrame:
    """The same samples in the order of another format."""
    return frame.reformat(format=pixel_format, interpolation=_POINT)


def writable_formats(pixel_format: str) -> bool:
    """Whether `from_rgb` can make this pixel format."""
    return (
        pixel_format in _PACKED
        or pixel_format in ("nv12", "rgb48le")
        or any(kind.match(pixel_format) for kind in (_PLANAR, _PLANAR_RGB))
    )


def bits_of(pixel_format: str) -> int:
    """Bits per sample of the deepest component."""
    return max(component.bits for component in av.VideoFormat(pixel_format).components)


def at_depth(rgb: Rgb, bits: int) -> Rgb:
    """RGB with white at 2 ** bits - 1, rounded; itself where it is that already."""
    white, wanted = np.iinfo(rgb.dtype).max, (1 << bits) - 1
    return rgb if white == wanted else _round(rgb * np.float32(wanted / white), bits)


def has_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in av.VideoFormat(pixel_format).components)


def is_420(pixel_format: str) -> bool:
    """Whether each of its chroma samples belongs to 2x2 pixels."""
    chroma = [each for each in av.VideoFormat(pixel_format, 4, 4).components if each.is_chroma]
    return bool(chroma) and all((each.width, each.height) == (2, 2) for each in chroma)


def is_opaque(frame: av.VideoFrame) -> bool:
    """Whether a frame of a format with alpha hides everything behind it."""
    name = frame.format.name
    if name in _ALPHA_AT:
        return bool(_packed_pixels(frame)[..., _ALPHA_AT[name]].min() == 255)
    if _PLANAR.match(name) and name.startswith("yuva"):
        return bool(plane_of(frame, 3).min() == (1 << _depth(name)) - 1)
    return is_opaque(frame.reformat(format="rgba", interpolation=_POINT))


_WHITES = (255, 65535)
_POINT = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def _depth(pixel_format: str) -> int:
    match = _PLANAR.match(pixel_format) or _PLANAR_RGB.match(pixel_format)
    return int(match[1]) if match and match[1] else 8


def plane_of(frame: av.VideoFrame, index: int) -> Plane:
    """A view of one plane of a planar format (or of nv12), without the padding of its rows."""
    plane = frame.planes[index]
    name = frame.format.name
    dtype = np.dtype(np.uint8 if _depth(name) == 8 else "<u2")
    width = plane.width * (2 if name == "nv12" and index == 1 else 1)
    rows: Plane = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
    return rows[:, :width]


def planes_of(frame: av.VideoFrame) -> list[Plane]:
    """Views of all samples of a format that `writable_formats` knows, in the order of raw video."""
    if frame.format.name in _PACKED or frame.format.name == "rgb48le":
        return [_packed_pixels(frame)]
    return [plane_of(frame, index) for index in range(len(frame.planes))]


def _packed_pixels(frame: av.VideoFrame) -> Plane:
    plane = frame.planes[0]
    name = frame.format.name
    step = 3 if name in ("rgb24", "bgr24", "rgb48le") else 4
    dtype = np.dtype("<u2" if name == "rgb48le" else np.uint8)
    rows: Plane = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
    return rows[:, : plane.width * step].reshape(plane.height, plane.width, step)


def _split_pairs(pairs: Plane) -> list[Plane]:
    return [np.ascontiguousarray(pairs[:, offset::2]) for offset in (0, 1)]


def _subsampling(pixel_format: av.VideoFormat) -> tuple[int, int]:
    """Luma pixels per chroma sample, across and down; taken at a size that every ratio divides."""
    return 64 // pixel_format.chroma_width(64), 64 // pixel_format.chroma_height(64)


def _spread_out(samples: Plane, sx: int, sy: int) -> Plane:
    """[h, w] -> [h * sy, w * sx], every sample repeated."""
    if (sx, sy) == (1, 1):
        return samples
    h, w = samples.shape
    return np.asarray(cv2.resize(samples, (w * sx, h * sy), interpolation=cv2.INTER_NEAREST))


def _averaged(values: Plane, sx: int, sy: int) -> Plane:
    """float32 [H, W, ...] -> the means of blocks of sy x sx, rounded up in number at the last edges."""
    if (sx, sy) == (1, 1):
        return values
    H, W = values.shape[:2]
    # The last column or row of an odd size has a chroma sample to itself: repeated, it keeps it.
    edges = (0, -H % sy, 0, -W % sx)
    if any(edges):
        values = np.asarray(cv2.copyMakeBorder(values, *edges, cv2.BORDER_REPLICATE))
    small = (values.shape[1] // sx, values.shape[0] // sy)
    return np.asarray(cv2.resize(values, small, interpolation=cv2.INTER_AREA))


def _at_depth(samples: Plane, old: int, new: int) -> Plane:
    if old == new and samples.dtype != np.float32:
        return samples
    scaled = samples.astype(np.float32) * np.float32(2.0 ** (new - old))
    return _round(scaled, new)


def _levels(spec: ColourSpec, depth: int) -> tuple[int, int, int]:
    """The code of black, and the spans of luma and chroma in codes of `depth` bits."""
    scale = 1 << (depth - 8)
    if spec.full_range:
        return 0, 256 * scale - 1, 256 * scale - 1
    return 16 * scale, 219 * scale, 224 * scale


def _to_rgb_matrix(spec: ColourSpec, depth: int, white: int) -> NDArray[np.float64]:
    """[3, 4]: codes (Y, U, V, 1) of `depth` bits -> R, G, B in 0..`white`."""
    kr, kb = WEIGHTS[spec.matrix]
    kg = 1.0 - kr - kb
    black, luma, chroma = _levels(spec, depth)
    neutral = 1 << (depth - 1)
    red_v, blue_u = 2 * (1 - kr), 2 * (1 - kb)
    unit = np.array([[1, 0, red_v], [1, -kb * blue_u / kg, -kr * red_v / kg], [1, blue_u, 0]])
    scaled = white * unit / np.array([luma, chroma, chroma])
    return np.hstack([scaled, -scaled @ np.array([[black], [neutral], [neutral]])])


def _round(values: Plane, depth: int = 8) -> Plane:
    """float32 to the nearest uint8 or uint16 code of `depth` bits, out-of-range values clamped."""
    if depth in (8, 16):
        zero = np.zeros(4)  # OpenCV's scalar: this is its one-pass rounding and clamping cast
        return np.asarray(cv2.add(values, zero, dtype=cv2.CV_8U if depth == 8 else cv2.CV_16U))
    return np.clip(np.rint(values), 0, (1 << depth) - 1).astype(np.uint16)
