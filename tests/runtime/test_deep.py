"""Sources of more than 8 bits: their new frames have as many."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from clips import planes_of
from flavr_runtime.frames import Frame
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.scenes import detected_cuts
from model_files import write_blend_model
from test_run import run_well


def ramp(index: int, width: int, height: int, bits: int) -> NDArray[np.uint16]:
    """A sky: grey, one code every two pixels, drifting by one code per frame."""
    start = 300 << (bits - 10)
    return np.broadcast_to(start + index * 2 + np.arange(width) // 2, (height, width)).astype(np.uint16)


def render_ramp(path: Path, pixel_format: str, frames: int = 6, size: tuple[int, int] = (128, 16)) -> Path:
    """FFV1, so that every code is known; chroma is neutral."""
    bits = av.VideoFormat(pixel_format).components[0].bits
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        for index in range(frames):
            frame = av.VideoFrame(*size, pixel_format)
            for number, plane in enumerate(frame.planes):
                rows = np.frombuffer(memoryview(plane), "<u2").reshape(plane.height, -1)
                rows[:] = 1 << (bits - 1)
                if number == 0:
                    rows[:, : size[0]] = ramp(index, *size, bits)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def luma(path: Path) -> list[NDArray[Any]]:
    with av.open(str(path)) as container:
        return [planes_of(frame)[0] for frame in container.decode(video=0)]


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv444p12le", "gray16le"])
def test_gradients_of_new_frames_do_not_band(tmp_path: Path, pixel_format: str) -> None:
    model = write_blend_model(tmp_path / "float.onnx", io="float")
    clip = render_ramp(tmp_path / "in.mkv", pixel_format)
    printed = run_well(clip, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--model", model)
    assert "note:" not in printed
    before, after = luma(clip), luma(tmp_path / "out.mkv")
    assert len(after) == 11
    for index, made in enumerate(after[1::2]):
        np.testing.assert_array_equal(after[2 * index], before[index])
        expected = before[index].astype(int) + 1  # half-way between two frames that differ by 2
        assert np.abs(made.astype(int) - expected).max() <= 1
        assert len(np.unique(made)) >= 0.9 * len(np.unique(before[index]))
        assert np.diff(made[0].astype(int)).max() <= 2  # 8 bits would step by 4, 16 or 256


def test_the_network_that_ships_has_all_the_bits_too(tmp_path: Path) -> None:
    clip = render_ramp(tmp_path / "in.mkv", "yuv420p10le", frames=3, size=(256, 128))
    printed = run_well(clip, "-o", tmp_path / "out.mkv", "--codec", "ffv1")
    assert "model: flavr_lite_2x_winograd_float.onnx" in printed
    made = luma(tmp_path / "out.mkv")[1]
    assert np.abs(made.astype(int) - ramp(0, 256, 128, 10) - 1).mean() < 4
    assert len(np.unique(made)) > 0.75 * 128


def test_a_model_of_8_bits_is_said_to_be_one(tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "bytes.onnx")
    clip = render_ramp(tmp_path / "in.mkv", "yuv420p10le")
    printed = run_well(clip, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--model", model)
    note = "its own frames keep their 10 bits, new ones have 8: bytes.onnx takes no more; export it with --io"
    assert note in printed
    made = luma(tmp_path / "out.mkv")[1]
    assert np.abs(made.astype(int) - ramp(0, 128, 16, 10) - 1).max() <= 3


def test_api_keeps_16_bits_through_passes_cuts_and_fades(tmp_path: Path) -> None:
    model = Interpolator(write_blend_model(tmp_path / "float.onnx", io="float"), provider="cpu")
    pictures = [np.full((8, 8, 3), code, np.uint16) for code in (1000, 1003, 1009)]
    made = list(model.stream(pictures, factor=4))
    values = np.array([int(picture[0, 0, 0]) for picture in made])
    assert abs(values - [1000, 1000.75, 1001.5, 1002.25, 1003, 1004.5, 1006, 1007.5, 1009]).max() <= 1
    assert list(values[::4]) == [1000, 1003, 1009]
    assert {picture.dtype for picture in made} == {np.dtype(np.uint16)}
    frames = [Frame(picture, Fraction(index)) for index, picture in enumerate(pictures)]
    frames[1].starts_scene = True
    fade = list(model.expand(frames, 2, cut_mode="blend"))[1].rgb
    assert fade.dtype == np.uint16
    assert int(fade[0, 0, 0]) in (1001, 1002)


def test_cuts_are_found_in_deep_video() -> None:
    rng = np.random.default_rng(2)
    scenes = [(rng.integers(0, 256, (16, 16, 3)).astype(np.uint16) * 257) for _ in range(2)]
    frames = (Frame(scenes[index >= 6], Fraction(index)) for index in range(12))
    assert [index for index, frame in enumerate(detected_cuts(frames)) if frame.starts_scene] == [6]
