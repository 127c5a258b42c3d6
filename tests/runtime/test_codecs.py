"""Every codec and container that the tables promise, and what they refuse."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import Sound, moving_square, render_clip
from flavr_runtime.encoders import ALIASES, CONTAINERS, ENCODERS, EncodeOptions, encoder_options
from flavr_runtime.errors import FlavrRuntimeError
from flavr_runtime.frames import Frame
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter

HARDWARE = [key for key, encoder in ENCODERS.items() if encoder.hardware]


def written(source: Path, target: Path, rate: int = 50, **settings: Any) -> VideoWriter:
    """The source at twice its rate, each frame once more by way of RGB."""
    with VideoReader(source) as reader, VideoWriter(target, reader, Fraction(rate), **settings) as writer:
        for frame in reader.frames():
            writer.write(frame)
            writer.write(Frame(frame.rgb, frame.time + Fraction(1, rate)))
    return writer


def message_of(source: Path, target: Path, rate: int = 50, **settings: Any) -> str:
    with pytest.raises(FlavrRuntimeError) as caught:
        written(source, target, rate, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert not target.exists()
    return text.replace(str(target), "FILE")


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("out.mov", "prores", "yuv422p10le"),
        ("out.mkv", "prores", "yuv422p10le"),
        ("out.avi", None, "yuv420p"),
        ("out.mp4", "hevc", "yuv420p"),
    ],
)
def test_pictures_survive_every_codec(
    tmp_path: Path, clip_plain: Path, name: str, codec: str | None, pixel_format: str
) -> None:
    writer = written(clip_plain, tmp_path / name, options=EncodeOptions(codec=codec))
    assert any("no colour tags" in notice for notice in writer.notices) == name.endswith("avi")
    with VideoReader(tmp_path / name) as reader:
        frames = list(reader.frames())
        assert reader.traits.pixel_format == pixel_format
        assert reader.info.rate == 50
        assert len(frames) == 24
    for index, frame in enumerate(frames):
        white = np.iinfo(frame.rgb.dtype).max
        error = frame.rgb.astype(float) * (255 / white) - moving_square(index // 2, 64, 48)
        # AVI has no colour tags, and BT.709 is taken for BT.601 at this size: that much is said.
        assert abs(error).mean() < (8 if name.endswith("avi") else 4)


@pytest.mark.parametrize("name", ["out.mp4", "out.m4v", "out.mov"])
def test_h265_plays_where_apple_made_the_player(
    tmp_path: Path, clip_plain: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flavr_runtime.segmented.SEGMENT_FRAMES", 7)  # each has an encoder of its own
    written(clip_plain, tmp_path / name, options=EncodeOptions(codec="h265"))
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
        # The tag promises that the parameter sets (32 to 34) are in the file's head and nowhere else.
        for packet in container.demux(video=0):
            data = bytes(packet)
            while data:
                size = int.from_bytes(data[:4], "big")
                assert data[4] >> 1 & 63 not in (32, 33, 34)
                data = data[4 + size :]


def test_gif_shows_every_frame_in_256_colours(tmp_path: Path, clip_with_audio: Path) -> None:
    writer = written(clip_with_audio, tmp_path / "out.gif")
    assert writer.notices == [
        "gif has no sound: the audio is left out",
        "yuv420p is encoded as rgb24: 256 colours per picture",
    ]
    with av.open(str(tmp_path / "out.gif")) as container:
        frames = list(container.decode(video=0))
        assert container.duration == 1_000_000
    assert len(frames) == 50
    for index, frame in enumerate(frames):
        error = frame.to_ndarray(format="rgb24").astype(float) - moving_square(index // 2, 64, 48)
        assert abs(error).mean() < 8
    assert message_of(clip_with_audio, tmp_path / "fast.gif", 100) == (
        "FILE: gif files play at no more than 50 frames per second, and this would have 100; state --fps 50"
    )


def test_gif_of_a_jittery_recording_has_times_that_it_can_say(tmp_path: Path) -> None:
    """Steps of 50 ms and some of 8: it counts hundredths of a second, which must rise."""
    times, time = [], Fraction(0)
    for index in range(20):
        times.append(time)
        time += Fraction(8 if index % 4 == 3 else 50, 1000)
    clip = render_clip(tmp_path / "in.mkv", frames=20, times=times)
    written(clip, tmp_path / "out.gif", 40)
    with av.open(str(tmp_path / "out.gif")) as container:
        shown = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert len(shown) == 40
    assert all(after - before > 0.009 for before, after in itertools.pairwise(shown))
    assert shown[-1] == pytest.approx(float(times[-1]) + 1 / 40, abs=0.03)


@pytest.mark.parametrize(("name", "codec"), [("out.gif", None), ("out.mov", "prores")])
def test_segments_of_pictures_on_their_own_join_without_a_trace(
    tmp_path: Path, clip_plain: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str | None
) -> None:
    pictures = []
    for length in (7, 1000):
        monkeypatch.setattr("flavr_runtime.segmented.SEGMENT_FRAMES", length)
        target = tmp_path / f"{length}_{name}"
        written(clip_plain, target, options=EncodeOptions(codec=codec))
        with av.open(str(target)) as container:
            pictures.append([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(pictures[0]) == len(pictures[1]) == 24
    for joined, alone in zip(*pictures, strict=True):
        np.testing.assert_array_equal(joined, alone)


def test_avi_has_no_variable_rate_and_carries_sound(tmp_path: Path, clip_vfr: Path) -> None:
    assert message_of(clip_vfr, tmp_path / "out.avi") == (
        "FILE: avi has no timestamps, and vfr.mkv has a variable rate; state --fps, or write .mkv or .mp4"
    )
    clip = render_clip(tmp_path / "in.mkv", sounds=[Sound("pcm_s16le")])
    written(clip, tmp_path / "out.avi")
    with av.open(str(tmp_path / "out.avi")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["mpeg4", "pcm_s16le"]


def test_encoder_options_are_passed_through(tmp_path: Path, clip_plain: Path) -> None:
    options = EncodeOptions(more={"g": "3", "x264-params": "bframes=0"})
    written(clip_plain, tmp_path / "out.mp4", options=options)
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [index % 3 == 0 for index in range(24)]
    unknown = EncodeOptions(more={"gopp": "3", "tune": "film", "qqq": "1"})
    assert message_of(clip_plain, tmp_path / "bad.mp4", options=unknown) == (
        "libx264 has no option gopp, qqq; ffmpeg -h encoder=libx264 lists those that it has"
    )
    wrong = EncodeOptions(more={"tune": "nonsense"})
    assert message_of(clip_plain, tmp_path / "bad.mp4", options=wrong).startswith(
        "FILE: libx264 cannot be used here: "
    )


def test_parameter_lists_are_joined_with_ours() -> None:
    found = encoder_options(ENCODERS["h265"], EncodeOptions(more={"x265-params": "aq-mode=3", "crf": "9"}))
    assert found == {"x265-params": "log-level=error:info=0:aq-mode=3", "crf": "9", "preset": "medium"}


def test_h265_does_not_name_the_processor_it_was_made_on() -> None:
    """Else what one machine has begun could not be joined to what another one adds."""
    headers = set()
    for threads in (1, 3):
        with av.open(io.BytesIO(), "w", format="matroska") as container:
            options = encoder_options(ENCODERS["h265"], EncodeOptions())
            context = container.add_stream("libx265", rate=25, options=options).codec_context
            context.width, context.height, context.pix_fmt, context.thread_count = 64, 48, "yuv420p", threads
            container.start_encoding()
            headers.add(context.extradata or b"")
    assert len(headers) == 1
    assert b"cpuid" not in headers.pop()


@pytest.mark.parametrize(
    ("key", "best"), [("av1", 1), ("mpeg4", 1), ("h264_nvenc", 1), ("h264", 0), ("vp9", 0)]
)
def test_the_best_crf_is_one_that_ffmpeg_does_not_take_for_none(
    tmp_path: Path, clip_plain: Path, key: str, best: int
) -> None:
    suffix = ".avi" if key == "mpeg4" else ".mkv"
    if best:
        worst = ENCODERS[key].worst_crf
        text = message_of(clip_plain, tmp_path / f"out{suffix}", options=EncodeOptions(key, crf=0))
        assert text == f"crf 0: {key} takes 1 (best) to {worst}"
    if not ENCODERS[key].hardware:
        sizes = []
        for crf in (best, 20):
            target = tmp_path / f"{crf}{suffix}"
            written(clip_plain, target, options=EncodeOptions(key, crf=crf))
            sizes.append(target.stat().st_size)
        assert sizes[0] > sizes[1]


@pytest.mark.parametrize("key", HARDWARE)
def test_hardware_that_is_not_there_is_named_with_its_own_reason(tmp_path: Path, key: str) -> None:
    clip = render_clip(tmp_path / "in.mkv", size=(256, 144), frames=2)
    target = tmp_path / "out.mkv"
    try:
        written(clip, target, options=EncodeOptions(codec=key))
    except FlavrRuntimeError as error:
        name = ENCODERS[key].name
        text = str(error).replace(str(target), "FILE")
        absent = f"this FFmpeg build has no {name} encoder; choose another codec than {key}"
        reasons = (absent, f"FILE: {name} cannot be used here: ", f"{name} takes neither yuv420p nor")
        assert text.startswith(reasons)
        assert text == absent or "choose a software codec, such as h264" in text
        assert not target.exists()
        assert "\n" not in text
    else:  # a machine that has it
        with VideoReader(target) as reader:
            assert len(list(reader.frames())) == 4


def test_every_row_of_the_tables_can_be_reached() -> None:
    code = "from flavr_runtime.cli import command; command(['--help'], terminal_width=200)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for key in [*ENCODERS, *ALIASES]:
        codec, _, kind = key.partition("_")
        assert codec in printed
        assert f"_{kind}" in printed
        assert any(ALIASES.get(codec, codec) in container.codecs for container in CONTAINERS.values())
    for container in CONTAINERS.values():
        assert container.format in printed
        assert set(container.codecs) <= set(ENCODERS)
