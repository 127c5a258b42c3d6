"""What a writer does not write: one line that says why, and nothing left under the result's name."""

from __future__ import annotations

import errno
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest

from clips import Sound, render_clip
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.errors import InputError, OutputError, UsageError
from flavr_runtime.frames import Frame
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter
from rewritten import leftovers, run


def message_of(target: Path, source: Path, kind: type[Exception] = OutputError, **settings: Any) -> str:
    with pytest.raises(kind) as caught, VideoReader(source) as reader:
        VideoWriter(target, reader, reader.info.rate * 2, **settings)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(target), "FILE")


def fail_halfway(source: Path, target: Path, error: BaseException) -> None:
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, Fraction(50), overwrite=True) as writer,
    ):
        writer.write(next(reader.frames()))
        assert leftovers(target.parent)[0] == ".out.mp4.flavr-parts"
        raise error


@pytest.mark.parametrize("error", [InputError("the input is damaged"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_run_that_stops_halfway(
    tmp_path: Path, clip_with_audio: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        fail_halfway(clip_with_audio, tmp_path / "out.mp4", error)
    assert leftovers(tmp_path) == []


def test_an_older_result_survives_a_failed_run(tmp_path: Path, clip_plain: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"the older result")
    with pytest.raises(InputError):
        fail_halfway(clip_plain, target, InputError("the input is damaged"))
    assert target.read_bytes() == b"the older result"


def test_empty_result_is_an_error(tmp_path: Path, clip_plain: Path) -> None:
    reader = VideoReader(clip_plain)
    with (
        pytest.raises(OutputError, match="no frame was written"),
        VideoWriter(tmp_path / "out.mp4", reader, Fraction(50)),
    ):
        pass
    assert leftovers(tmp_path) == []


def test_frame_of_another_size_is_not_scaled_silently(tmp_path: Path, clip_plain: Path) -> None:
    reader = VideoReader(clip_plain)
    with (
        pytest.raises(OutputError, match="a frame of 8x8 in a video of 64x48"),
        VideoWriter(tmp_path / "out.mp4", reader, Fraction(50)) as writer,
    ):
        writer.write(Frame(np.zeros((8, 8, 3), np.uint8), Fraction(0)))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "said", "told"),
    [
        (errno.ENOSPC, "No space left on device", "the disk is full; free some space, then --resume"),
        # It is not the encoder's fault.
        (errno.EIO, "Input/output error", "writing libx264 video as mp4 failed (Input/output error)"),
    ],
)
def test_what_the_disk_says_is_one_line_and_keeps_what_is_done(
    tmp_path: Path, clip_plain: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str, told: str
) -> None:
    class BadDisk:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def mux(self, _packet: object) -> None:
            raise av.error.OSError(number, said)

    real_open = av.open

    def open_bad(*args: Any, **settings: Any) -> Any:
        container = real_open(*args, **settings)
        return BadDisk(container) if settings.get("format") == "mp4" else container

    monkeypatch.setattr(av, "open", open_bad)
    with pytest.raises(OutputError, match=re.escape(f"out.mp4: {told}") + "$"):
        run(clip_plain, tmp_path / "out.mp4")
    assert leftovers(tmp_path) == [".out.mp4.flavr-parts"]
    assert leftovers(tmp_path / ".out.mp4.flavr-parts") == ["000000.segment", "lock", "state.json"]


def test_existing_output_is_not_replaced_unasked(tmp_path: Path, clip_plain: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    assert message_of(target, clip_plain) == "FILE: the file exists; use --overwrite, or choose another name"
    run(clip_plain, target, overwrite=True)
    assert VideoReader(target).info.frame_count == 23


def test_output_that_cannot_be_is_refused_before_any_work(tmp_path: Path, clip_plain: Path) -> None:
    text = message_of(clip_plain, clip_plain, overwrite=True)
    assert text == "FILE: the output is the input; choose another name"
    text = message_of(tmp_path / "no" / "out.mp4", clip_plain)
    assert text == f"FILE: the folder {tmp_path / 'no'} does not exist; create it first"
    text = message_of(tmp_path / "out.wmv", clip_plain)
    assert text.startswith(
        "FILE: cannot write .wmv files; use .mp4, .m4v, .mov, .avi, .gif, .mkv, .webm, or a name without"
    )
    text = message_of(tmp_path / "out.webm", clip_plain, options=EncodeOptions("h264"))
    assert text == "FILE: .webm does not hold h264; use .mp4, or one of vp9, av1"
    text = message_of(tmp_path / "out.mp4", clip_plain, options=EncodeOptions(pixel_format="rgb24"))
    assert text == "libx264 cannot write rgb24 at 64x48; try yuv420p"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            EncodeOptions("divx"),
            "unknown codec divx; use one of h264, h265, av1, vp9, ffv1, prores, mpeg4, gif, or see --help "
            "for hardware encoders",
        ),
        (EncodeOptions("h264", crf=99), "crf 99: h264 takes 0 (best) to 51"),
        (EncodeOptions("ffv1", crf=5), "ffv1 is lossless: it takes no crf"),
        (EncodeOptions("vp9", preset="slow"), "preset slow: vp9 has 0, 1, 2, 3, 4, 5, 6, 7, 8"),
    ],
)
def test_impossible_settings_are_named(
    tmp_path: Path, clip_plain: Path, options: EncodeOptions, text: str
) -> None:
    assert message_of(tmp_path / "out.mkv", clip_plain, UsageError, options=options) == text


def test_sound_that_does_not_fit_is_refused_with_the_cure(tmp_path: Path, clip_with_audio: Path) -> None:
    source = render_clip(tmp_path / "in.mkv", sounds=[Sound("pcm_s16le")])
    text = message_of(tmp_path / "out.mp4", source)
    assert text == "FILE: .mp4 does not hold pcm_s16le audio; write a .mkv file, or use --no-audio"
    text = message_of(tmp_path / "out.webm", clip_with_audio)
    assert text == "FILE: .webm does not hold aac audio; write a .mp4 file, or use --no-audio"
