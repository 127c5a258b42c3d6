"""Sound for many loudspeakers in slow motion: encoders name their places differently, or have fewer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flavr_runtime._layouts import encodable_layout
from test_tracks import copied


@pytest.fixture(scope="module")
def clip_surround(clip_folder: Path) -> Path:
    """10 frames with AC-3 as on DVDs: 5.1(side), a tone at the left in front and one at the right side."""
    path = clip_folder / "surround.mkv"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream("ac3", rate=48_000)
        sound.layout = "5.1(side)"
        for index in range(10):
            picture: Any = av.VideoFrame(64, 48, "yuv420p")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for index in range(12):
            phase = np.arange(1536 * index, 1536 * (index + 1)) / 48_000 * 2 * np.pi * 440
            values = np.zeros((6, 1536), np.float32)
            values[0] = values[5] = 0.3 * np.sin(phase)
            frame: Any = av.AudioFrame.from_ndarray(values, "fltp", "5.1(side)")
            frame.sample_rate, frame.pts = 48_000, 1536 * index
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "layout", "loud"),
    [
        ("out.webm", "5.1", [0, 5]),
        ("out.mkv", "5.1", [0, 5]),
        ("out.mp4", "5.1", [0, 5]),
        ("out.avi", "stereo", [0, 1]),
    ],
)
def test_surround_sound_of_a_dvd_is_stretched_into_every_container(
    tmp_path: Path, clip_surround: Path, name: str, layout: str, loud: list[int]
) -> None:
    writer = copied(clip_surround, tmp_path / name, stretch=Fraction(2))
    mixed = ["audio track 1 (5.1(side)) is mixed down to stereo: libmp3lame takes no more channels"]
    assert [notice for notice in writer.notices if "audio" in notice] == (mixed if layout == "stereo" else [])
    with av.open(str(tmp_path / name)) as container:
        frames = list(container.decode(container.streams.audio[0]))
    assert frames[0].layout.name == layout
    levels = np.concatenate([frame.to_ndarray() for frame in frames if frame.format.is_planar], 1).std(1)
    assert [index for index, level in enumerate(levels) if level > levels.max() / 3] == loud
    seconds = sum(frame.samples for frame in frames) / frames[0].sample_rate
    assert seconds == pytest.approx(2 * 12 * 1536 / 48_000, abs=0.06)


@pytest.mark.parametrize(
    ("name", "encoder", "made"),
    [
        ("5.1(side)", "libopus", "5.1"), ("5.0(side)", "aac", "5.0"), ("2.1", "libopus", "5.1"),
        ("4.0", "libopus", "6.1"), ("7.1", "libopus", "7.1"), ("octagonal", "aac", "7.1"),
        ("mono", "libmp3lame", "mono"), ("3.0", "libmp3lame", "stereo"), ("quad", "flac", "quad"),
    ],
)  # fmt: skip
def test_the_smallest_layout_that_has_every_channel_is_taken(name: str, encoder: str, made: str) -> None:
    assert encodable_layout(name, encoder) == made
