"""YUV -> RGB -> YUV must give back what went in, or new frames differ in colour from their neighbours."""

from __future__ import annotations

import re
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from flavr_runtime.colour import (
    ColourSpec,
    at_depth,
    convert,
    from_rgb,
    is_opaque,
    plane_of,
    planes_of,
    to_rgb,
    writable_formats,
)
from flavr_runtime.errors import InputError
from flavr_runtime.residue import give_back, residue_of

MATRICES = {"bt601": (6, 0.299, 0.114), "bt709": (1, 0.2126, 0.0722), "bt2020": (9, 0.2627, 0.0593)}
YUV_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12", "gray")
SUBSAMPLING = {"yuv420p": (2, 2), "yuvj420p": (2, 2), "nv12": (2, 2), "yuv422p": (2, 1)}


def in_gamut_frame(
    pixel_format: str, width: int, height: int, matrix: str, full: bool, content: str, depth: int = 8
) -> av.VideoFrame:
    """Every sample at random, or in stripes with chroma edges, as far as the colour exists in RGB."""
    rng = np.random.default_rng(5)
    tag, kr, kb = MATRICES[matrix]
    kg = 1 - kr - kb
    sx, sy = SUBSAMPLING.get(re.sub(r"1\dle$", "", pixel_format), (1, 1))
    h, w = -(-height // sy), -(-width // sx)
    y, x = np.mgrid[0:h, 0:w]
    edges = 0.1 + 0.8 * np.stack([x // 5 % 2, y // 7 % 2, (x + y) // 9 % 2], -1)
    colours = rng.random((h, w, 3)) if content == "random" else edges
    luma = colours @ [kr, kg, kb]
    scale = 1 << (depth - 8)
    black, luma_span, chroma_span = (0, 255, 255) if full else (16 * scale, 219 * scale, 224 * scale)
    limit, neutral = (1 << depth) - 1, 1 << (depth - 1)
    u = np.clip(np.rint((colours[..., 2] - luma) / (2 * (1 - kb)) * chroma_span) + neutral, 0, limit)
    v = np.clip(np.rint((colours[..., 0] - luma) / (2 * (1 - kr)) * chroma_span) + neutral, 0, limit)

    red, blue = 2 * (1 - kr) * (v - neutral) / chroma_span, 2 * (1 - kb) * (u - neutral) / chroma_span
    offsets = np.stack([red, -(kr * red + kb * blue) / kg, blue], -1).repeat(sy, 0).repeat(sx, 1)
    if pixel_format.startswith("gray"):
        offsets = np.zeros_like(offsets)
    offsets = offsets[:height, :width]
    lowest = np.ceil(np.maximum(0, -offsets.min(-1)) * luma_span)
    highest = np.maximum(lowest, np.floor(np.minimum(1, 1 - offsets.max(-1)) * luma_span))
    place = (
        rng.random((height, width)) if content == "random" else np.indices((height, width)).sum(0) % 16 / 15
    )
    frame = av.VideoFrame(width, height, pixel_format)
    frame.colorspace, frame.color_range = tag, 2 if full else 1
    views = plane_views(frame)
    views[0][...] = np.rint(lowest + place * (highest - lowest)) + black
    if pixel_format == "nv12":
        views[1][:, 0::2], views[1][:, 1::2] = u, v
    elif not pixel_format.startswith("gray"):
        views[1][...], views[2][...] = u, v
    return frame


def plane_views(frame: av.VideoFrame) -> list[NDArray[Any]]:
    dtype = np.uint16 if frame.format.name.endswith("le") else np.uint8
    views = []
    for index, plane in enumerate(frame.planes):
        rows = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
        views.append(rows[:, : plane.width * (2 if frame.format.name == "nv12" and index == 1 else 1)])
    return views


def differences(one: av.VideoFrame, other: av.VideoFrame) -> list[NDArray[np.int64]]:
    pairs = zip(plane_views(one), plane_views(other), strict=True)
    return [after.astype(np.int64) - before.astype(np.int64) for before, after in pairs]


@pytest.mark.parametrize("content", ["random", "edges"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_new_frames_have_the_colours_of_their_neighbours(
    pixel_format: str, matrix: str, full: bool, content: str
) -> None:
    for size in ((320, 180), (65, 49)):
        full = full or pixel_format == "yuvj420p"
        frame = in_gamut_frame(pixel_format, *size, matrix, full, content)
        spec = ColourSpec.of(frame)
        assert spec.matrix == matrix
        back = from_rgb(to_rgb(frame, spec), pixel_format, spec)
        for plane in differences(frame, back):
            assert abs(plane).max() <= 1
            assert abs(plane.mean()) < 0.1


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(
    "pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p16le", "gray12le"]
)
def test_deep_video_comes_back_to_one_code_of_its_own_depth(
    pixel_format: str, matrix: str, full: bool
) -> None:
    depth = av.VideoFormat(pixel_format).components[0].bits
    frame = in_gamut_frame(pixel_format, 160, 90, matrix, full, "random", depth=depth)
    spec = ColourSpec.of(frame)
    rgb = to_rgb(frame, spec)
    assert rgb.dtype == np.uint16
    most = 1 if depth <= 12 else 4  # RGB has 16 bits itself, and limited range fewer codes
    for plane in differences(frame, from_rgb(rgb, pixel_format, spec)):
        assert abs(plane).max() <= most
        assert abs(plane.mean()) < 0.1 * most


@pytest.mark.parametrize("pixel_format", ["gbrp10le", "gbrp12le", "gbrp16le", "rgb48le"])
def test_deep_rgb_formats_lose_nothing(pixel_format: str) -> None:
    depth = av.VideoFormat(pixel_format).components[0].bits
    codes = np.random.default_rng(1).integers(0, 1 << depth, (9, 15, 3)).astype(np.uint16)
    frame = av.VideoFrame(15, 9, pixel_format)
    if pixel_format == "rgb48le":
        planes_of(frame)[0][...] = codes
    else:
        for plane, channel in zip(planes_of(frame), (1, 2, 0), strict=True):
            plane[...] = codes[..., channel]
    spec = ColourSpec("rgb", True)
    rgb = to_rgb(frame, spec)
    assert rgb.dtype == np.uint16
    assert np.array_equal(rgb, np.rint(codes * (65535 / ((1 << depth) - 1))))
    back = from_rgb(rgb, pixel_format, spec)
    for plane, other in zip(planes_of(frame), planes_of(back), strict=True):
        np.testing.assert_array_equal(plane, other)


def test_black_and_white_are_the_same_at_every_depth() -> None:
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert at_depth(ends, 8) is ends
    assert np.array_equal(at_depth(ends, 16), ends * np.uint16(257))
    assert np.array_equal(at_depth(at_depth(ends, 16), 8), ends)
    spec = ColourSpec()
    for pixel_format in ("yuv444p10le", "yuv444p", "gbrp10le"):
        shallow, deep = (from_rgb(rgb, pixel_format, spec) for rgb in (ends, at_depth(ends, 16)))
        for plane, other in zip(planes_of(shallow), planes_of(deep), strict=True):
            np.testing.assert_array_equal(plane, other)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "gbrp", "bgra", "rgba", "argb", "abgr", "bgr0"])
def test_rgb_formats_lose_nothing(pixel_format: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (49, 65, 3), dtype=np.uint8)
    spec = ColourSpec("rgb", True)
    frame = from_rgb(rgb, pixel_format, spec)
    assert np.array_equal(to_rgb(frame, spec), rgb)
    assert np.array_equal(frame.to_ndarray(format="rgb24"), rgb)  # channels where FFmpeg expects them


@pytest.mark.parametrize("pixel_format", ["yuyv422", "uyvy422", "nv12", "nv21", "nv16", "nv24"])
def test_reordered_formats_are_read_as_their_planar_twins(pixel_format: str) -> None:
    planar = {"nv12": "yuv420p", "nv21": "yuv420p", "nv24": "yuv444p"}.get(pixel_format, "yuv422p")
    frame = in_gamut_frame(planar, 64, 48, "bt709", False, "edges")
    other = frame.reformat(format=pixel_format)
    spec = ColourSpec.of(frame)
    assert np.array_equal(to_rgb(other, spec), to_rgb(frame, spec))


@pytest.mark.parametrize(
    ("matrix", "code", "expected"),
    [
        # Y, U, V of 75 % red, green and blue bars as BT.601 and BT.709 publish them.
        (6, (65, 100, 212), (191, 0, 0)),
        (1, (51, 109, 212), (191, 0, 0)),
        (1, (133, 63, 52), (0, 191, 0)),
        (1, (28, 212, 120), (0, 0, 191)),
    ],
)
def test_colour_bars_have_the_published_colours(
    matrix: int, code: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    frame = av.VideoFrame(16, 16, "yuv444p")
    frame.colorspace, frame.color_range = matrix, 1
    for view, value in zip(plane_views(frame), code, strict=True):
        view[...] = value
    assert np.abs(to_rgb(frame, ColourSpec.of(frame))[0, 0].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("size", "matrix"), [((720, 576), "bt601"), ((1280, 720), "bt709"), ((1280, 534), "bt709")]
)
def test_untagged_video_is_read_as_players_read_it(size: tuple[int, int], matrix: str) -> None:
    frame = av.VideoFrame(*size, "yuv420p")
    assert ColourSpec.of(frame).matrix == matrix
    assert not ColourSpec.of(frame).full_range
    assert ColourSpec.of(av.VideoFrame(*size, "yuvj420p")).full_range


def test_untagged_video_stays_untagged() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    made = from_rgb(np.zeros((48, 64, 3), np.uint8), "yuv420p", ColourSpec.of(frame))
    tags = (made.colorspace, made.color_range, made.color_primaries, made.color_trc)
    assert tags == (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)


def test_matrix_that_cannot_be_undone_is_refused_by_name() -> None:
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.colorspace = 10
    with pytest.raises(InputError, match=r"^the colour matrix BT.2020 constant luminance is not supported"):
        ColourSpec.of(frame)


@pytest.mark.parametrize("size", [(64, 48), (65, 49)])
def test_source_frame_keeps_its_samples_in_444(size: tuple[int, int]) -> None:
    frame = in_gamut_frame("yuv420p", *size, "bt709", False, "random")
    spec = ColourSpec.of(frame)
    wide = convert(frame, "yuv444p", spec, spec)
    assert np.array_equal(plane_views(wide)[0], plane_views(frame)[0])
    assert np.array_equal(plane_views(wide)[1][::2, ::2], plane_views(frame)[1])
    back = convert(wide, "yuv420p", spec, spec)
    assert all(not plane.any() for plane in differences(frame, back))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("pixel_format", "v_first"), [("nv12", False), ("nv21", True)])
def test_interleaved_chroma_keeps_its_samples_in_planes(pixel_format: str, v_first: bool, full: bool) -> None:
    rng = np.random.default_rng(5)
    frame = av.VideoFrame(65, 49, "yuv420p")
    frame.color_range = 2 if full else 1
    for plane in plane_views(frame):  # any code, most of them outside the RGB cube
        plane[...] = rng.integers(0, 256, plane.shape)
    other = av.VideoFrame(65, 49, pixel_format)
    other.color_range = frame.color_range
    luma, u, v = plane_views(frame)
    pairs = np.frombuffer(memoryview(other.planes[1]), np.uint8).reshape(25, -1)
    plane_views(other)[0][...] = luma
    pairs[:, int(v_first) : 66 : 2], pairs[:, int(not v_first) : 66 : 2] = u, v
    spec = ColourSpec.of(other)
    assert all(not plane.any() for plane in differences(frame, convert(other, "yuv420p", spec, spec)))
    wide = convert(other, "yuv444p", spec, spec)
    assert all(not plane.any() for plane in differences(convert(frame, "yuv444p", spec, spec), wide))


def test_frame_in_the_right_format_is_passed_on_itself() -> None:
    frame = in_gamut_frame("yuv420p", 64, 48, "bt709", False, "edges")
    spec = ColourSpec.of(frame)
    assert convert(frame, "yuv420p", spec, spec) is frame


def test_transparency_is_noticed() -> None:
    frame = from_rgb(np.zeros((8, 8, 3), np.uint8), "bgra", ColourSpec("rgb", True))
    assert is_opaque(frame)
    plane_views(frame)[0][0, :8] = 0
    np.frombuffer(memoryview(frame.planes[0]), np.uint8)[3] = 254
    assert not is_opaque(frame)


def test_format_that_cannot_be_made_is_named() -> None:
    assert not writable_formats("yuyv422")
    with pytest.raises(ValueError, match=r"^cannot write yuyv422 from RGB$"):
        from_rgb(np.zeros((8, 8, 3), np.uint8), "yuyv422", ColourSpec())


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "nv12", "gray", "yuv420p10le"])
def test_colours_that_rgb_cannot_hold_come_back_where_nothing_moves(pixel_format: str) -> None:
    rng = np.random.default_rng(5)
    spec = ColourSpec()
    wild = av.VideoFrame(32, 24, pixel_format)
    spec.tag(wild)
    for index in range(len(wild.planes)):
        plane = plane_of(wild, index)  # any code, most of them outside the RGB cube
        plane[...] = rng.integers(0, 1 << wild.format.components[0].bits, plane.shape)
    rgb = to_rgb(wild, spec)
    lost = residue_of(wild, rgb, spec)
    still = from_rgb(rgb, pixel_format, spec)
    assert any(np.any(part) for part in lost)
    give_back(still, lost, lost)
    for index in range(len(wild.planes)):
        np.testing.assert_array_equal(plane_of(still, index), plane_of(wild, index))
    # What only one of the two neighbours has lost stays lost: something moves there.
    opposite = [-part for part in lost]
    moving = from_rgb(rgb, pixel_format, spec)
    give_back(moving, lost, opposite)
    for index in range(len(wild.planes)):
        np.testing.assert_array_equal(
            plane_of(moving, index), plane_of(from_rgb(rgb, pixel_format, spec), index)
        )


def test_rgb_formats_lose_nothing_in_rgb() -> None:
    frame = from_rgb(np.full((4, 4, 3), 77, np.uint8), "bgra", ColourSpec())
    assert residue_of(frame, to_rgb(frame, ColourSpec()), ColourSpec()) == []
