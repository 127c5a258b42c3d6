"""What is read from a video: every frame once, at its time, and every damage by name."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from clips import Sound, moving_square, render_clip
from flavr_runtime.errors import InputError
from flavr_runtime.reader import VideoReader
from flavr_runtime.timing import read_timeline

MS = Fraction(1, 1000)


def message_of(path: Path) -> str:
    """The one line that reading `path` to its end fails with."""
    with pytest.raises(InputError) as caught, VideoReader(path) as reader:
        list(reader.frames())
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text.replace(str(path), "FILE")


def test_every_frame_is_read_once_and_in_order(clip_plain: Path) -> None:
    with VideoReader(clip_plain) as reader:
        frames = list(reader.frames())
    assert reader.info.frame_count == len(frames) == 12
    assert (reader.info.width, reader.info.height) == (64, 48)
    assert reader.info.description == "h264 yuv420p bt709 limited range"
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(12)]
    for index, frame in enumerate(frames):
        assert np.abs(frame.rgb.astype(int) - moving_square(index, 64, 48)).mean() < 4
    assert reader.notices == []


def test_ntsc_rate_is_exact_on_a_millisecond_clock(clip_ntsc_mkv: Path) -> None:
    with VideoReader(clip_ntsc_mkv) as reader:
        times = [frame.time for frame in reader.frames()]
    assert reader.info.rate == Fraction(24000, 1001)
    assert reader.info.constant_rate
    assert times == [Fraction(1001 * index, 24000) for index in range(48)]


def test_variable_rate_keeps_its_own_times(clip_vfr: Path) -> None:
    with VideoReader(clip_vfr) as reader:
        times = [frame.time for frame in reader.frames()]
    assert not reader.info.constant_rate
    assert reader.info.rate == 30
    assert times == [MS * ms for ms in (0, 33, 67, 150, 183, 217, 300, 333)]


def test_sound_that_begins_first_does_not_pull_the_picture_forward(clip_late_video: Path) -> None:
    with VideoReader(clip_late_video) as reader:
        assert next(reader.frames()).time == reader.traits.start == Fraction(1, 5)


def test_transport_stream_clock_starts_at_zero(tmp_path: Path) -> None:
    path = render_clip(tmp_path / "clip.ts", options={"muxdelay": "0"}, frames=6)
    with VideoReader(path) as reader:
        assert next(reader.frames()).time == 0
        assert reader.traits.origin > 0


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_frames_are_in_time_order(tmp_path: Path, codec: str) -> None:
    path = render_clip(tmp_path / "clip.avi", codec=codec, options={"bf": "2"}, frames=20)
    with VideoReader(path) as reader:
        assert [frame.time for frame in reader.frames()] == [Fraction(index, 25) for index in range(20)]


def test_stream_without_timestamps_is_read_at_its_declared_rate(tmp_path: Path) -> None:
    path = render_clip(tmp_path / "clip.h264", rate=Fraction(24), frames=6)
    with VideoReader(path) as reader:
        assert [frame.time for frame in reader.frames()] == [Fraction(index, 24) for index in range(6)]


def test_invisible_vp8_frames_are_not_counted(tmp_path: Path) -> None:
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200000"}
    path = render_clip(tmp_path / "clip.webm", codec="libvpx", options=options, frames=60)
    with VideoReader(path) as reader:
        assert reader.info.frame_count == len(list(reader.frames())) == 60
        assert reader.info.constant_rate


def test_cover_picture_is_not_the_video(tmp_path: Path, clip_with_audio: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(clip_with_audio)) as source, av.open(str(path), "w", format="mp4") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        cover = target.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(moving_square(0, 64, 48), "rgb24").reformat(
            format="yuvj420p", dst_color_range=2
        )
        target.mux(cover.encode(picture))
        target.mux(cover.encode(None))
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                target.mux(packet)
    assert message_of(path) == "FILE: it has no video track"


def test_rotation_aspect_tags_and_chapters_are_known(tmp_path: Path, clip_rotated: Path) -> None:
    with VideoReader(clip_rotated) as reader:
        assert reader.traits.display_matrix is not None
    chapter = {"id": 1, "start": 0, "end": 200, "time_base": MS, "metadata": {"title": "One"}}
    path = render_clip(
        tmp_path / "tagged.mkv",
        sample_aspect_ratio=Fraction(4, 3),
        metadata={"title": "Trip"},
        chapters=[chapter],
        sounds=[Sound()],
    )
    with VideoReader(path) as reader:
        traits = reader.traits
    assert traits.display_matrix is None
    assert traits.sample_aspect_ratio == Fraction(4, 3)
    assert traits.metadata["title"] == "Trip"
    assert traits.chapters[0]["metadata"]["title"] == "One"
    assert [track.codec for track in traits.audio] == ["aac"]


def test_10bit_source_is_read_with_all_its_bits(clip_10bit: Path) -> None:
    with VideoReader(clip_10bit) as reader:
        assert next(reader.frames()).rgb.dtype == np.uint16
        assert reader.info.bits == 10
        assert reader.notices == []


def test_interlaced_video_is_announced(tmp_path: Path) -> None:
    path = render_clip(tmp_path / "tv.mkv", options={"x264-params": "interlaced=1", "flags": "+ildct"})
    assert VideoReader(path).notices == [
        f"{path} is interlaced, and the combing would be interpolated too; deinterlace it first: "
        f"ffmpeg -i {path} -vf bwdif -f yuv4mpegpipe - | flavr-run - -o OUTPUT"
    ]


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    assert message_of(tmp_path / "nothing.mp4") == "FILE: no such file"
    assert message_of(tmp_path) == "FILE: a folder, not a video"


@pytest.mark.parametrize("content", [b"", b"hello, this is a text\n" * 50])
def test_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    assert message_of(path).startswith("FILE: not a media file, or cut off before its index was written (")


def test_sound_without_picture_is_named(tmp_path: Path, clip_with_audio: Path) -> None:
    path = tmp_path / "sound.mka"
    with av.open(str(clip_with_audio)) as source, av.open(str(path), "w", format="matroska") as target:
        sound = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                target.mux(packet)
    assert message_of(path) == "FILE: it has no video track"


def test_cut_off_mp4_is_refused_before_the_first_frame(clip_cut_off: Path) -> None:
    with pytest.raises(InputError, match="cut off before its index was written"):
        VideoReader(clip_cut_off)


def test_cut_off_matroska_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = render_clip(tmp_path / "whole.mkv", frames=100).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    with VideoReader(path) as reader:
        frames = list(reader.frames())
    assert 20 < len(frames) < 80
    assert re.match(
        r"cut.mkv ends at [12].\d\d s, though its header promises 4.00 s: it is cut off", reader.notices[0]
    )
    assert len(frames) + reader.gaps[-1].frames == 100
    assert reader.gaps[-1].end == 4


def test_picture_that_changes_size_names_the_time(tmp_path: Path) -> None:
    path = tmp_path / "joined.h264"
    small = render_clip(tmp_path / "small.h264", frames=10).read_bytes()
    large = render_clip(tmp_path / "large.h264", size=(96, 64), frames=10).read_bytes()
    path.write_bytes(small + large)
    assert "the picture changes from 64x48 to 96x64 at " in message_of(path)


def test_transparent_video_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "clear.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        for alpha in (255, 255, 100):
            picture = np.dstack([moving_square(0, 64, 48), np.full((48, 64), alpha, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgba").reformat(format="bgra")))
        container.mux(stream.encode(None))
    cure = "which would be lost; --drop-alpha goes on without it"
    assert message_of(path) == f"FILE: the video becomes transparent at 0.08 s, {cure}"
    with VideoReader(path, drop_alpha=True) as reader:
        assert len(list(reader.frames())) == 3
    assert reader.notices == ["the transparency of clear.mkv is dropped, as asked"]


def test_webm_with_hidden_alpha_is_refused(tmp_path: Path) -> None:
    path = render_clip(tmp_path / "clear.webm", codec="libvpx-vp9", stream_metadata={"alpha_mode": "1"})
    assert message_of(path) == (
        "FILE: the video has a transparency channel (alpha_mode), which would be lost; "
        "--drop-alpha goes on without it"
    )


def test_opaque_screen_recording_is_read(tmp_path: Path) -> None:
    path = render_clip(
        tmp_path / "screen.mkv", codec="ffv1", pixel_format="bgra", tags=(0, 2, 1, 1), frames=3
    )
    with VideoReader(path) as reader:
        frames = list(reader.frames())
    assert np.array_equal(frames[2].rgb, moving_square(2, 64, 48))


def test_names_that_look_like_addresses_are_files(tmp_path: Path, clip_plain: Path) -> None:
    path = tmp_path / "take:2 100%03d é.mp4"
    shutil.copy(clip_plain, path)
    assert VideoReader(path).info.frame_count == 12


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "50", "60000/1001", "60", "25/2", "144"])
@pytest.mark.parametrize("rounding", [np.floor, np.rint, np.ceil])
def test_rate_survives_a_millisecond_clock_however_it_rounds(rate: str, rounding: np.ufunc) -> None:
    exact = Fraction(rate)
    ticks = rounding(np.arange(2000) * 1000.0 / float(exact)).astype(np.int64)
    line = read_timeline(ticks, MS, count=2000, declared=[exact])
    assert (line.rate, line.constant) == (exact, True)
    assert read_timeline(ticks, MS, count=2000, declared=[]).rate == exact


def test_claimed_rate_that_the_timestamps_deny_is_not_believed() -> None:
    ticks = np.arange(300) * 3003
    line = read_timeline(ticks, Fraction(1, 90_000), count=300, declared=[Fraction(30), Fraction(25)])
    assert (line.rate, line.constant) == (Fraction(30000, 1001), True)


def test_one_missing_frame_makes_the_rate_variable() -> None:
    ticks = np.delete(np.arange(100) * 40, 50)
    line = read_timeline(ticks, MS, count=99, declared=[Fraction(25)], last_duration=40)
    assert (line.rate, line.constant, line.end) == (Fraction(25), False, Fraction(4))


def test_repeated_timestamps_come_out_increasing(tmp_path: Path) -> None:
    path = tmp_path / "doubled.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, ms in enumerate((0, 40, 40, 80, 200)):
            frame = av.VideoFrame.from_ndarray(moving_square(index, 64, 48), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts = index
            for packet in stream.encode(frame):
                packet.time_base = MS
                packet.pts = packet.dts = ms
                container.mux(packet)
    with VideoReader(path) as reader:
        times = [frame.time for frame in reader.frames()]
    assert len(times) == 5
    assert all(earlier < later for earlier, later in pairwise(times))
    assert abs(times[-1] - Fraction(1, 5)) <= MS
