"""Subtitles and stretched sound: what goes beside the pictures arrives whole and in time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import AttachmentStream
from numpy.typing import NDArray

from clips import Sound, render_clip
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter
from model_files import write_blend_model
from test_run import run_well

TITLES = [(100, 200, "Hello <i>world</i>"), (320, 120, "zwei Zeilen\nhier \u00e4\u00f6\u00fc")]  # ms
PICTURE = [(100, 200, "Hello world"), (320, 120, "zwei Zeilen\nhier \u00e4\u00f6\u00fc")]


def srt(path: Path, titles: Sequence[tuple[int, int, str]] = TITLES) -> Path:
    parts = [
        f"{n}\n00:00:00,{start:03d} --> 00:00:00,{start + length:03d}\n{text}\n\n"
        for n, (start, length, text) in enumerate(titles, 1)
    ]
    path.write_text("".join(parts), "utf-8")
    return path


def ass(path: Path) -> Path:
    path.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
        "Style: Default,Arial,20\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, "
        "MarginV, Effect, Text\nDialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{\\b1}Loud\n"
    )
    return path


def titled(clip: Path, titles: Path, target: Path, language: str = "ger") -> Path:
    """The clip with the titles as a further track."""
    with av.open(str(target), "w") as out, contextlib.ExitStack() as stack:
        pairs: list[tuple[Any, Any]] = []
        with av.open(str(clip)) as counted:
            numbers = [(clip, stream.index) for stream in counted.streams]
        for path, index in [*numbers, (titles, 0)]:
            container = stack.enter_context(av.open(str(path)))
            pairs.append((container, container.streams[index]))
        copies = [out.add_stream_from_template(stream, opaque=True) for _, stream in pairs]
        copies[-1].metadata["language"] = language
        for copy, (container, stream) in zip(copies, pairs, strict=True):
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    return target


def copied(source: Path, target: Path, **settings: Any) -> VideoWriter:
    stretch = settings.get("stretch", Fraction(1))
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, reader.info.rate / stretch, **settings) as writer,
    ):
        for frame in reader.frames():
            writer.write(frame.shown_at(frame.time * stretch))
    return writer


def subtitles_of(path: Path) -> list[tuple[str, str, list[tuple[int, int, str]]]]:
    """Codec, language, and (start, length, text) of every track of text."""
    found = []
    with av.open(str(path)) as container:
        for stream in container.streams.subtitles:
            container.seek(0)
            titles = []
            for packet in container.demux(stream):
                assert packet.time_base is not None
                if not packet.size:
                    continue
                start, length = (
                    round((value or 0) * packet.time_base * 1000) for value in (packet.pts, packet.duration)
                )
                text = bytes(packet)
                if stream.codec_context.name == "mov_text":
                    text = text[2 : 2 + int.from_bytes(text[:2], "big")]
                if text:
                    titles.append((start, length, text.decode()))
            found.append((stream.codec_context.name, stream.metadata.get("language", ""), titles))
    return found


@pytest.mark.parametrize(
    ("name", "codec", "titles"),
    [("out.mkv", "srt", TITLES), ("out.mp4", "mov_text", PICTURE), ("out.webm", "webvtt", TITLES)],
)
def test_subtitles_arrive_in_every_container_that_holds_text(
    tmp_path: Path, clip_plain: Path, name: str, codec: str, titles: list[tuple[int, int, str]]
) -> None:
    source = titled(clip_plain, srt(tmp_path / "a.srt"), tmp_path / "in.mkv")
    writer = copied(source, tmp_path / name)
    assert subtitles_of(tmp_path / name) == [(codec, "ger", titles)]
    expected = [] if codec == "srt" else [f"subtitle track 1 (subrip) is converted to {codec}"]
    assert writer.notices == expected


def test_mp4_subtitles_come_back_from_mp4_and_go_to_matroska(tmp_path: Path, clip_with_audio: Path) -> None:
    source = titled(clip_with_audio, srt(tmp_path / "a.srt"), tmp_path / "in.mkv")
    copied(source, tmp_path / "one.mp4")
    copied(tmp_path / "one.mp4", tmp_path / "two.mp4")
    copied(tmp_path / "two.mp4", tmp_path / "three.mkv")
    ((_, _, before),) = subtitles_of(source)  # later than in the text file: AAC begins before the picture
    times = [title[:2] for title in before]
    for name, codec, texts in (("two.mp4", "mov_text", PICTURE), ("three.mkv", "srt", TITLES)):
        ((found, language, after),) = subtitles_of(tmp_path / name)
        assert (found, language, [title[:2] for title in after]) == (codec, "ger", times)
        assert [title[2] for title in after] == [title[2] for title in texts]
    with av.open(str(tmp_path / "three.mkv")) as container:
        assert len(container.streams.audio) == 1


def test_styled_subtitles_stay_styled_or_say_so(tmp_path: Path, clip_plain: Path) -> None:
    source = titled(clip_plain, ass(tmp_path / "a.ass"), tmp_path / "in.mkv")
    assert copied(source, tmp_path / "out.mkv").notices == []
    (codec, _, [(start, length, text)]) = subtitles_of(tmp_path / "out.mkv")[0]
    assert (codec, start, length) == ("ssa", 100, 200)  # what FFmpeg calls its decoder of ASS
    assert text.endswith("{\\b1}Loud")
    notices = copied(source, tmp_path / "out.mp4").notices
    assert notices == ["subtitle track 1 (ass) is converted to mov_text, without its styling"]


def test_fonts_stay_attached_or_are_named(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.add_attachment("Sans.ttf", "application/x-truetype-font", b"letters")
        for index in range(2):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert copied(source, tmp_path / "out.mkv").notices == []
    with av.open(str(tmp_path / "out.mkv")) as found:
        fonts = [stream for stream in found.streams if isinstance(stream, AttachmentStream)]
        assert [(font.name, font.data) for font in fonts] == [("Sans.ttf", b"letters")]
    assert copied(source, tmp_path / "out.mp4").notices == ["not carried over: attached file Sans.ttf"]


def test_subtitles_follow_slow_motion_and_a_shifted_clock(tmp_path: Path, clip_late_video: Path) -> None:
    source = titled(clip_late_video, srt(tmp_path / "a.srt"), tmp_path / "in.mkv")
    copied(source, tmp_path / "slow.mkv", audio=False, stretch=Fraction(4))
    ((_, _, titles),) = subtitles_of(tmp_path / "slow.mkv")
    ((_, _, before),) = subtitles_of(source)
    assert [title[:2] for title in titles] == [(4 * start, 4 * length) for start, length, _ in before]


def test_subtitles_that_no_place_is_for_are_named(tmp_path: Path, clip_plain: Path) -> None:
    source = titled(clip_plain, srt(tmp_path / "a.srt"), tmp_path / "in.mkv")
    notices = copied(source, tmp_path / "out.avi").notices
    assert "not carried over: subtitle track 1 (subrip); .mkv holds it" in notices
    assert subtitles_of(tmp_path / "out.avi") == []


def left_of(frame: av.AudioFrame) -> NDArray[np.float64]:
    values, channels = frame.to_ndarray().astype(float), frame.layout.nb_channels
    return np.asarray(values[0] if frame.format.is_planar else values[0][::channels])


def heard(path: Path) -> tuple[float, float, float]:
    """Start and length in seconds of the first track of sound, and its loudest frequency."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[0]))
    samples = np.concatenate([left_of(frame) for frame in frames])
    rate = frames[0].sample_rate
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(frames[0].time or 0), len(samples) / rate, float(spectrum.argmax() * rate / len(middle))


@pytest.mark.parametrize("stretch", [Fraction(3, 2), Fraction(2), Fraction(8)])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm"])
def test_stretched_sound_is_as_long_as_the_picture_at_its_own_pitch(
    tmp_path: Path, clip_with_audio: Path, name: str, stretch: Fraction
) -> None:
    copied(clip_with_audio, tmp_path / name, stretch=stretch)
    _, before, tone = heard(clip_with_audio)
    start, after, stretched_tone = heard(tmp_path / name)
    one_frame = 1024 / 48_000
    assert abs(start) <= one_frame
    assert abs(after - before * stretch) <= one_frame
    assert tone == pytest.approx(440, abs=3)
    assert stretched_tone == pytest.approx(440, abs=3)


def test_stretched_sound_begins_and_pauses_where_the_picture_does(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mkv", frames=25, sounds=[Sound("pcm_s16le", start=0.25, length=20)])
    copied(clip, tmp_path / "out.mkv", stretch=Fraction(2))
    start, length, _ = heard(tmp_path / "out.mkv")
    assert start == pytest.approx(0.5, abs=0.03)
    assert length == pytest.approx(2 * 20 * 1024 / 48_000, abs=0.03)


def test_flavr_run_stretches_sound_when_asked(tmp_path: Path, clip_with_audio: Path) -> None:
    model = write_blend_model(tmp_path / "m.onnx")
    arguments = ["--model", model, "--slowmo", "--factor", 2, "--slowmo-audio", "stretch"]
    printed = run_well(clip_with_audio, "-o", tmp_path / "out.mp4", *arguments)
    assert "note:" not in printed
    assert heard(tmp_path / "out.mp4")[1] == pytest.approx(2 * heard(clip_with_audio)[1], abs=0.03)


def tone(path: Path, layout: str, frames: int = 30) -> bytes:
    """AC-3 of `frames` times 1536 samples, without a container."""
    with av.open(str(path), "w", format="ac3") as container:
        stream: Any = container.add_stream("ac3", rate=48_000)
        stream.layout = layout
        for number in range(frames):
            wave = 0.2 * np.sin(2 * np.pi * 440 * (np.arange(1536) + 1536 * number) / 48_000)
            planes = np.tile(wave.astype(np.float32), (stream.codec_context.layout.nb_channels, 1))
            frame = av.AudioFrame.from_ndarray(planes, "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 1536 * number, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def test_stretched_sound_goes_on_where_its_layout_changes(tmp_path: Path) -> None:
    """As a broadcast goes over from the news to a film."""
    clip, sound = render_clip(tmp_path / "clip.mp4", frames=48), tmp_path / "sound.ac3"
    sound.write_bytes(b"".join(tone(tmp_path / "part.ac3", layout) for layout in ("stereo", "5.1(side)")))
    source, target = tmp_path / "in.mkv", tmp_path / "slow.mkv"
    with av.open(str(clip)) as first, av.open(str(sound)) as second, av.open(str(source), "w") as joined:
        streams = [
            joined.add_stream_from_template(each)
            for each in (first.streams.video[0], second.streams.audio[0])
        ]
        packets = [(0, each) for each in first.demux(video=0)] + [(1, each) for each in second.demux(audio=0)]
        for number, packet in sorted(packets, key=lambda pair: float((pair[1].dts or 0) * pair[1].time_base)):
            if packet.size:
                packet.stream = streams[number]
                joined.mux(packet)
    writer = copied(source, target, stretch=Fraction(2))
    assert writer.damage == []
    with av.open(str(target)) as container:
        heard_last = [left_of(frame) for frame in container.decode(audio=0)][-60:]
    with av.open(str(target)) as container:
        end = max(float(frame.time or 0) for frame in container.decode(audio=0))
    assert end == pytest.approx(2 * 60 * 1536 / 48_000, abs=0.1)
    assert np.abs(np.concatenate(heard_last)).max() > 0.05
