"""What a written video keeps of its source: pictures, times, sound, and everything that is neither."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest
from av.stream import Disposition

from clips import Sound, moving_square, planes_of, render_clip
from flavr_runtime.encoders import CONTAINERS, ENCODERS, EncodeOptions
from flavr_runtime.frames import Frame
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter
from rewritten import run

LOSSLESS = EncodeOptions(codec="ffv1")


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in decoded(path)]  # type: ignore[operator, misc]


def sound_of(path: Path, track: int = 0) -> tuple[list[bytes], list[float], int]:
    """Packets, the times of the decoded frames in seconds, and the count of samples that are heard."""
    with av.open(str(path)) as container:
        packets = [bytes(each) for each in container.demux(container.streams.audio[track]) if each.size]
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[track]))
    return packets, [float(frame.time or 0) for frame in frames], sum(frame.samples for frame in frames)


def seconds_of(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


@pytest.mark.parametrize("clip", ["clip_plain", "clip_10bit", "clip_full_range", "clip_odd_size"])
def test_source_frames_are_passed_on_bit_for_bit(
    tmp_path: Path, request: pytest.FixtureRequest, clip: str
) -> None:
    source, target = request.getfixturevalue(clip), tmp_path / "out.mkv"
    run(source, target, options=LOSSLESS)
    before, after = decoded(source), decoded(target)[::2]
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        assert one.format.name.replace("j", "") == other.format.name.replace("j", "")
        assert one.color_range == other.color_range
        assert all(np.array_equal(p, q) for p, q in zip(planes_of(one), planes_of(other), strict=True))


@pytest.mark.parametrize("clip", ["clip_plain", "clip_full_range", "clip_10bit"])
def test_new_frames_have_the_brightness_and_colour_of_source_frames(
    tmp_path: Path, request: pytest.FixtureRequest, clip: str
) -> None:
    source, target = request.getfixturevalue(clip), tmp_path / "out.mkv"
    with VideoReader(source) as reader, VideoWriter(target, reader, Fraction(50), LOSSLESS) as writer:
        frame = next(reader.frames())
        writer.write(frame)
        writer.write(Frame(frame.rgb, frame.time + Fraction(1, 50)))  # the same picture, by way of RGB
    shown, computed = decoded(target)
    scale = 4 if clip == "clip_10bit" else 1
    for one, other in zip(planes_of(shown), planes_of(computed), strict=True):
        difference = other.astype(int) - one
        assert abs(difference).max() <= 2 * scale  # x264's own noise is not all inside the RGB gamut
        assert abs(difference.mean()) < 0.1 * scale
    assert (shown.colorspace, shown.color_range) == (computed.colorspace, computed.color_range)


def test_h264_result_looks_like_its_source(tmp_path: Path, clip_plain: Path) -> None:
    run(clip_plain, tmp_path / "out.mp4")
    for index, frame in enumerate(decoded(tmp_path / "out.mp4")[::2]):
        error = frame.to_ndarray(format="rgb24").astype(float) - moving_square(index, 64, 48)
        assert abs(error).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_ntsc_video_does_not_drift(tmp_path: Path, clip_ntsc_mkv: Path, suffix: str, factor: int) -> None:
    target = tmp_path / f"out{suffix}"
    run(clip_ntsc_mkv, target, factor)
    rate = Fraction(24000, 1001) * factor
    tick = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
    times = times_of(target)
    assert len(times) == 47 * factor + 1
    for index, time in enumerate(times):
        assert abs(time - index / rate) <= tick
    assert VideoReader(target).info.rate == rate


def test_uneven_frame_times_are_kept(tmp_path: Path, clip_vfr: Path) -> None:
    run(clip_vfr, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4")[::2] == times_of(clip_vfr)


def test_variable_rate_can_be_written_as_a_constant_one(tmp_path: Path, clip_vfr: Path) -> None:
    target = tmp_path / "out.mp4"
    with VideoReader(clip_vfr) as reader:
        pictures = list(reader.frames())
        with VideoWriter(target, reader, Fraction(30), constant_rate=True) as writer:
            for index in range(10):
                writer.write(Frame(pictures[0].rgb, Fraction(index, 30)))
    assert times_of(target) == [Fraction(index, 30) for index in range(10)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_last_frame_of_variable_rate_is_held_so_that_the_film_is_not_shorter(
    tmp_path: Path, clip_vfr: Path, suffix: str
) -> None:
    run(clip_vfr, tmp_path / f"out{suffix}")
    assert seconds_of(tmp_path / f"out{suffix}") == pytest.approx(seconds_of(clip_vfr), abs=0.0011)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("clip", ["clip_plain", "clip_ntsc_mkv"])
def test_every_frame_of_constant_rate_lasts_as_long_and_the_rate_is_exact(
    tmp_path: Path, request: pytest.FixtureRequest, clip: str, suffix: str
) -> None:
    source, target = request.getfixturevalue(clip), tmp_path / f"out{suffix}"
    run(source, target)
    with av.open(str(source)) as before, av.open(str(target)) as after:
        rate = before.streams.video[0].average_rate
        assert rate is not None
        found = after.streams.video[0].average_rate
        assert found is not None
        # Matroska stores the duration of a frame in whole nanoseconds.
        assert abs(found - 2 * rate) <= (Fraction(1, 10_000) if suffix in (".mkv", ".webm") else 0)
    # n frames become 2 n - 1: one frame of the result is missing at the end.
    assert seconds_of(target) == pytest.approx(seconds_of(source) - 1 / (2 * rate), abs=0.0011)


def test_audio_is_the_same_bytes_at_the_same_time(tmp_path: Path, clip_with_audio: Path) -> None:
    run(clip_with_audio, tmp_path / "out.mp4", factor=4)
    assert sound_of(tmp_path / "out.mp4") == sound_of(clip_with_audio)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_and_picture_keep_their_distance(tmp_path: Path, clip_late_video: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    run(clip_late_video, target)

    def picture_after_first_packet(path: Path) -> float:
        with av.open(str(path)) as container:
            first = next(container.demux(container.streams.audio[0]))
            assert first.pts is not None
            return float(times_of(path)[0] - first.pts * first.time_base)

    assert sound_of(target)[0] == sound_of(clip_late_video)[0]
    assert picture_after_first_packet(target) == pytest.approx(
        picture_after_first_packet(clip_late_video), abs=0.0006
    )


def test_sound_that_begins_late_stays_late(tmp_path: Path) -> None:
    source = render_clip(tmp_path / "late_sound.mp4", sounds=[Sound(start=0.3)])
    run(source, tmp_path / "out.mp4")
    assert sound_of(tmp_path / "out.mp4") == sound_of(source)


def test_every_audio_track_is_carried(tmp_path: Path) -> None:
    source = render_clip(tmp_path / "two.mkv", sounds=[Sound("aac"), Sound("pcm_s16le", length=30)])
    run(source, tmp_path / "out.mkv")
    for track in (0, 1):
        assert sound_of(tmp_path / "out.mkv", track)[0] == sound_of(source, track)[0]


def test_sound_can_be_left_out(tmp_path: Path, clip_with_audio: Path) -> None:
    run(clip_with_audio, tmp_path / "out.mp4", audio=False)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert not container.streams.audio


def test_sound_and_picture_are_interleaved(tmp_path: Path) -> None:
    """A player that streams the file must not have to fetch its end to hear its beginning."""
    source = render_clip(tmp_path / "long.mp4", frames=250, sounds=[Sound(length=460)])
    run(source, tmp_path / "out.mkv", factor=1, options=EncodeOptions(preset="ultrafast"))
    with av.open(str(tmp_path / "out.mkv")) as container:
        latest = {"audio": 0.0, "video": 0.0}
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                latest[packet.stream.type] = float(packet.pts * packet.time_base)
                assert abs(latest["audio"] - latest["video"]) < 1


def test_upright_video_stays_upright(tmp_path: Path, clip_rotated: Path) -> None:
    for suffix in (".mp4", ".mov", ".mkv"):
        run(clip_rotated, tmp_path / f"out{suffix}")
        assert decoded(tmp_path / f"out{suffix}")[0].rotation == -90
        assert VideoReader(tmp_path / f"out{suffix}").traits.display_matrix is not None


def test_wide_pixels_title_and_chapters_are_carried(tmp_path: Path) -> None:
    chapter = {
        "id": 1,
        "start": 100,
        "end": 400,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": "One"},
    }
    source = render_clip(
        tmp_path / "in.mkv",
        sample_aspect_ratio=Fraction(4, 3),
        metadata={"title": "Trip", "comment": "by train"},
        stream_metadata={"language": "fra"},
        chapters=[chapter],
        sounds=[Sound()],
    )
    run(source, tmp_path / "out.mkv")
    run(source, tmp_path / "slow.mkv", audio=False, stretch=Fraction(2))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        assert container.metadata["title"] == "Trip"
        assert container.streams.video[0].metadata["language"] == "fra"
        (carried,) = container.chapters()
        assert carried["metadata"] == {"title": "One"}
        assert carried["start"] * (carried["time_base"] or 0) == Fraction(1, 10)
    with av.open(str(tmp_path / "slow.mkv")) as container:
        (carried,) = container.chapters()
        assert carried["end"] * (carried["time_base"] or 0) == Fraction(8, 10)


def test_odd_size_is_kept_and_the_change_is_said(tmp_path: Path, clip_odd_size: Path) -> None:
    writer = run(clip_odd_size, tmp_path / "out.mp4")
    frame = decoded(tmp_path / "out.mp4")[0]
    assert (frame.width, frame.height, frame.format.name) == (65, 49, "yuv444p")
    assert writer.notices == [
        "yuv420p is encoded as yuv444p: libx264 needs even sizes for yuv420p, and this is 65x49"
    ]


def test_rgb_source_is_converted_tagged_and_said(tmp_path: Path) -> None:
    source = render_clip(tmp_path / "screen.mkv", codec="ffv1", pixel_format="bgr0", tags=(0, 2, 1, 1))
    writer = run(source, tmp_path / "out.mp4", options=EncodeOptions(crf=4))
    frame = decoded(tmp_path / "out.mp4")[0]
    assert frame.format.name == "yuv420p"
    assert (frame.colorspace, frame.color_range) == (6, 1)  # BT.601, which is what it is at this size
    assert writer.notices == ["bgr0 is encoded as yuv420p: libx264 does not take bgr0"]
    shown = next(VideoReader(tmp_path / "out.mp4").frames()).rgb
    assert np.abs(shown[30:] - moving_square(0, 64, 48)[30:].astype(int)).mean() < 4


@pytest.mark.parametrize("codec", ENCODERS)
def test_every_encoder_writes_into_every_container_that_lists_it(
    tmp_path: Path, clip_plain: Path, codec: str
) -> None:
    for suffix, container in CONTAINERS.items():
        if codec in container.codecs:
            target = tmp_path / f"out{suffix}"
            run(clip_plain, target, options=EncodeOptions(codec=codec))
            assert VideoReader(target).info.frame_count == 23


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_the_picture_is_the_track_that_players_choose(tmp_path: Path, clip_plain: Path, name: str) -> None:
    run(clip_plain, tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        assert container.streams.video[0].disposition & Disposition.default
