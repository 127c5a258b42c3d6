"""y4m and rawvideo through pipes: nothing lost, nothing added, nothing waited for."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import Sound, render_clip
from flavr_runtime._y4m import Y4mHeader, format_header, parse_header
from flavr_runtime.colour import planes_of
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.errors import FlavrRuntimeError, InputError, OutputError, UsageError
from flavr_runtime.frames import Frame
from flavr_runtime.media import ReadOptions, open_sink, open_source
from flavr_runtime.pipes import PipeReader, RawVideo
from flavr_runtime.reader import VideoReader
from model_files import write_blend_model

DEPTHS = ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le"]


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


def y4m_of(path: Path, target: Path, pixel_format: str = "yuv420p") -> Path:
    """What `ffmpeg -i PATH -pix_fmt PIXEL_FORMAT -strict -1 -f yuv4mpegpipe TARGET` writes."""
    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", format="yuv4mpegpipe", container_options={"strict": "-1"}) as container,
    ):
        video = source.streams.video[0]
        stream: Any = container.add_stream("wrapped_avframe", rate=video.average_rate)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, pixel_format
        for index, frame in enumerate(source.decode(video)):
            other = frame.reformat(format=pixel_format)
            other.pts, other.time_base = index, 1 / (video.average_rate or Fraction(25))
            container.mux(stream.encode(other))
    return target


def written(source: Path, target: Path, read: ReadOptions | None = None, **settings: Any) -> Path:
    with (
        open_source(source, read) as reader,
        open_sink(target, reader, reader.info.rate, **settings) as sink,
    ):
        for frame in reader.frames():
            sink.write(frame)
    return target


def samples(frame: av.VideoFrame) -> bytes:
    return b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes_of(frame))


def original(frame: Frame) -> av.VideoFrame:
    assert isinstance(frame.source, av.VideoFrame)
    return frame.source


def piped(arguments: list[object], data: bytes | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    code = "from flavr_runtime.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--provider", "cpu"],
        stdin=subprocess.PIPE if isinstance(data, bytes) else data,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("pixel_format", DEPTHS)
@pytest.mark.parametrize("size", [(64, 48), (33, 17)])
def test_y4m_is_read_and_written_without_changing_a_sample(
    tmp_path: Path, pixel_format: str, size: tuple[int, int]
) -> None:
    clip = render_clip(tmp_path / "in.mkv", codec="ffv1", pixel_format=pixel_format, size=size, frames=3)
    target = written(clip, tmp_path / "out.y4m")
    with av.open(str(clip)) as before, av.open(str(target)) as after, PipeReader(target) as ours:
        frames = [list(container.decode(video=0)) for container in (before, after)]
        read_back = [samples(original(frame)) for frame in ours.frames()]
        assert after.streams.video[0].average_rate == 25
    assert {frame.format.name for frame in frames[1]} == {pixel_format}
    expected = [samples(frame) for frame in frames[0]]
    assert len(expected) == 3
    assert [samples(frame) for frame in frames[1]] == expected  # FFmpeg reads what we write
    assert read_back == expected


def test_ffmpegs_own_y4m_is_understood(clip_plain: Path, tmp_path: Path) -> None:
    for pixel_format in ("yuv420p", "yuv444p10le"):
        stream = y4m_of(clip_plain, tmp_path / f"{pixel_format}.y4m", pixel_format)
        with av.open(str(stream)) as container, open_source(stream) as ours:
            expected = [samples(frame) for frame in container.decode(video=0)]
            assert ours.info.rate == 25
            assert ours.info.frame_count == 12
            assert ours.traits.pixel_format == pixel_format
            assert [samples(original(frame)) for frame in ours.frames()] == expected


@pytest.mark.parametrize(
    "header",
    [
        Y4mHeader(64, 48, "yuv420p", Fraction(24000, 1001), chroma_site="center"),
        Y4mHeader(64, 48, "yuv420p", Fraction(25), chroma_site="topleft", full_range=True),
        Y4mHeader(1, 99999, "gray12le", Fraction(1), sample_aspect_ratio=Fraction(4, 3), full_range=False),
        Y4mHeader(720, 576, "yuv411p", None),
    ],
)
def test_headers_come_back_as_they_were(header: Y4mHeader) -> None:
    assert parse_header(format_header(header), "it") == header


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"RIFF....AVI LIST", "no y4m stream; write one with ffmpeg -f yuv4mpegpipe, or use --input-format"),
        (b"YUV4MPEG2 W64 H0 F25:1\n", "the y4m header gives no picture size (YUV4MPEG2 W64 H0 F25:1)"),
        (b"YUV4MPEG2 W64 H48 C4:9:9\n", "y4m with the colour layout 4:9:9 is not supported"),
        (b"YUV4MPEG2 W64 H48 F0:0 C420\n", "the y4m header gives no frame rate; state it with --framerate"),
        (b"", "it is empty; the program before it has written nothing"),
        (b"YUV4MPEG2 W4 H2 F25:1 Cmono\n", "there is no frame in it"),
        (b"YUV4MPEG2 W4 H2 F25:1 Cmono\nFRAME\n01234567FRUME\n", "no frame where frame 1 should begin"),
        (
            b"YUV4MPEG2 W4 H2 F25:1 Cmono\nFRAME\n01234567FRAME\n01",
            "cut off in frame 1 (counted from 0)",
        ),
    ],
)
def test_streams_that_are_wrong_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "in.y4m"
    path.write_bytes(line)
    with pytest.raises(InputError) as caught, PipeReader(path) as reader:
        list(reader.frames())
    assert str(caught.value).startswith(f"{path}: {message}")


def test_interlaced_and_transparent_streams_are_said(tmp_path: Path) -> None:
    path = tmp_path / "in.y4m"
    path.write_bytes(b"YUV4MPEG2 W2 H1 F25:1 It C444alpha\nFRAME\n" + b"\x80" * 6 + b"\xff\x10")
    with PipeReader(path) as reader:
        assert "interlaced" in reader.notices[0]
        with pytest.raises(InputError, match=r"frame 0 is transparent in places.*--drop-alpha"):
            list(reader.frames())
    with PipeReader(path, drop_alpha=True) as reader:
        assert len(list(reader.frames())) == 1


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "rgb24", "bgra", "gbrp", "yuv422p10le"])
def test_raw_samples_go_in_and_out_unchanged(tmp_path: Path, pixel_format: str) -> None:
    blank = av.VideoFrame(18, 10, pixel_format)
    size = sum(plane.nbytes for plane in planes_of(blank))
    rng = np.random.default_rng(1)
    data = (rng.integers(0, 1024, 3 * size // 2).astype("<u2") if "10le" in pixel_format else rng.integers(
        0, 256, 3 * size).astype(np.uint8)).tobytes()  # fmt: skip
    if pixel_format == "bgra":
        data = bytes(255 if index % 4 == 3 else value for index, value in enumerate(data))
    source = tmp_path / "in.raw"
    source.write_bytes(data)
    read = ReadOptions("rawvideo", (18, 10), pixel_format, Fraction(25))
    # Alpha is not kept: opaque bgra comes back as 4:2:0, which test_images covers.
    if pixel_format == "bgra":
        with open_source(source, read) as reader:
            assert len(list(reader.frames())) == 3
        return
    target = written(source, tmp_path / "out.raw", read, container="rawvideo")
    assert target.read_bytes() == data


def test_raw_samples_that_do_not_fit_are_named(tmp_path: Path) -> None:
    source = tmp_path / "in.raw"
    source.write_bytes(b"0" * 100)
    with (
        PipeReader(source, RawVideo(8, 8, "gray", Fraction(25))) as reader,
        pytest.raises(InputError, match=r"cut off in frame 1 .*or the size or pixel format stated"),
    ):
        list(reader.frames())
    for read in (ReadOptions("rawvideo", (8, 8), "gray"), ReadOptions("rawvideo", None, "gray", Fraction(1))):
        with pytest.raises(UsageError, match="state --video-size WxH, --input-pixel-format and --framerate"):
            open_source(source, read)
    for name in ("nonsense", "yuyv422"):
        with pytest.raises(UsageError, match=f"--input-pixel-format {name} is not supported"):
            open_source(source, ReadOptions("rawvideo", (8, 8), name, Fraction(25)))
    with pytest.raises(UsageError, match="--video-size is for --input-format rawvideo"):
        open_source(source, ReadOptions(size=(8, 8)))


def test_what_a_raw_format_cannot_hold_is_said(tmp_path: Path, clip_vfr: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", sounds=[Sound()], rotation=90, frames=2)
    with VideoReader(clip) as reader:
        sink = open_sink("-", reader, Fraction(50))
        assert "y4m holds pictures only; left out: the sound, the rotation flag" in sink.notices
        assert any("-colorspace bt709 -color_primaries bt709 -color_trc bt709" in n for n in sink.notices)
        raw = open_sink("-", reader, Fraction(50), container="rawvideo")
        assert any("-video_size 64x48 -pixel_format yuv420p -framerate 50" in n for n in raw.notices)
        for settings, message in (
            ({"options": EncodeOptions(crf=3)}, "y4m is uncompressed: it takes no --crf"),
            (
                {"container": "mp4"},
                "mp4 cannot be written to standard output; use --output-format y4m or",
            ),
            ({"container": "xyz"}, "unknown output format xyz; use one of y4m, rawvideo, mp4"),
            ({"options": EncodeOptions(pixel_format="nv12")}, "y4m cannot hold nv12; try"),
        ):
            with pytest.raises(FlavrRuntimeError) as caught:
                open_sink("-", reader, Fraction(50), **settings)
            assert str(caught.value).startswith(message)
    with (
        VideoReader(clip_vfr) as reader,
        pytest.raises(OutputError, match="has a variable rate; state --fps"),
    ):
        open_sink("-", reader, Fraction(60))


def test_a_pipe_gives_what_a_file_gives(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    stream = y4m_of(clip_plain, tmp_path / "in.y4m")
    arguments = ["--model", average, "--factor", 4]
    process = piped(["-", "-o", "-", *arguments], b"")
    out, err = process.communicate(stream.read_bytes(), timeout=60)
    assert process.returncode == 0, err
    process = piped([stream, "-o", tmp_path / "out.y4m", *arguments])
    assert process.communicate(timeout=60)[0] == b""
    assert out == (tmp_path / "out.y4m").read_bytes()
    with av.open(io.BytesIO(out), "r", format="yuv4mpegpipe") as container:
        assert container.streams.video[0].average_rate == 100
        assert len(list(container.decode(video=0))) == 45
    assert b"-: 100 fps, 45 frames" in err


def test_a_container_can_be_piped_too(average: Path, clip_with_audio: Path) -> None:
    process = piped([clip_with_audio, "-o", "-", "--output-format", "matroska", "--model", average])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with av.open(io.BytesIO(out), "r") as container:
        assert len(container.streams.audio) == 1
        assert len(list(container.decode(video=0))) == 49


def test_first_frames_come_out_while_the_input_is_still_open(average: Path) -> None:
    """As live sources need it, and the proof that nothing is collected."""
    process = piped(["-", "-o", "-", "--model", average], b"")
    assert process.stdin is not None
    assert process.stdout is not None
    frame = b"FRAME\n" + bytes(8 * 6)
    process.stdin.write(b"YUV4MPEG2 W8 H6 F25:1 Cmono\n")
    for shade in range(8):
        process.stdin.write(frame[:-1] + bytes([shade]))
    process.stdin.flush()
    out = process.stdout
    assert out.readline().startswith(b"YUV4MPEG2 W8 H6 F50:1 ")
    for _ in range(7):
        assert out.read(len(frame)).startswith(b"FRAME\n")
    process.stdin.close()
    rest = out.read()
    assert (len(rest) % len(frame), len(rest) // len(frame)) == (0, 8)
    assert process.wait(60) == 0
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


@pytest.mark.parametrize("kind", ["y4m", "matroska"])
def test_a_reader_that_has_seen_enough_ends_the_run_quietly(
    average: Path, clip_plain: Path, kind: str
) -> None:
    process = piped(
        [clip_plain, "-o", "-", "--output-format", kind, "--model", average, "--quiet", "--factor", 64]
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_an_input_that_breaks_off_is_an_error(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    data = y4m_of(clip_plain, tmp_path / "in.y4m").read_bytes()
    process = piped(["-", "-o", tmp_path / "out.mkv", "--model", average, "--quiet"], b"")
    _, err = process.communicate(data[:-1000], timeout=60)
    assert process.returncode == 1
    assert err.startswith(b"error: standard input: cut off in frame 11 ")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_whose_input_has_stalled_can_be_ended(
    average: Path, clip_plain: Path, tmp_path: Path, number: signal.Signals
) -> None:
    data = y4m_of(clip_plain, tmp_path / "in.y4m").read_bytes()
    process = piped(["-", "-o", "-", "--output-format", "y4m", "--model", average, "--quiet"], b"")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(data[:-1000])
    process.stdin.flush()
    process.stdout.read(10_000)  # it has begun, and waits in the middle of the last frame
    process.send_signal(number)
    stdin, process.stdin = process.stdin, None  # communicate would close it, which ends the wait
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        stdin.close()
    assert err == b"interrupted\n"
    assert process.returncode == 128 + number


def test_a_named_pipe_is_read_as_y4m(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    data = y4m_of(clip_plain, tmp_path / "in.y4m").read_bytes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = piped([fifo, "-o", tmp_path / "out.mkv", "--model", average])
    fifo.write_bytes(data)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert len(list(reader.frames())) == 23


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "error: what comes from a pipe has no name to give the result: name it with -o\n"),
        (["-", "-o", "-"], "error: standard input: it is empty; the program before it has written nothing\n"),
        (["-", "-o", "-", "--video-size", "64"], "'64' is not a size; write WIDTHxHEIGHT, such as 1920x1080"),
    ],
)
def test_bad_usage_of_pipes_is_one_line(arguments: list[object], message: str) -> None:
    process = piped(arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert out == b""
    assert message in err.decode()
