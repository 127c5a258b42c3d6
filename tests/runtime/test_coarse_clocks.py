"""Clocks with hardly more than one tick per frame: a frame left out is no rounding."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from clips import Sound, moving_square, render_clip
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.media import open_sink
from flavr_runtime.reader import VideoReader
from flavr_runtime.timing import Timeline, read_timeline

MS = Fraction(1, 1000)
HUNDREDTH = Fraction(1, 100)


def judged(ticks: Iterable[int], tick: Fraction, *declared: Fraction) -> Timeline:
    stamps = np.array(list(ticks), np.int64)
    return read_timeline(stamps, tick, count=len(stamps), declared=declared)


def rounded(rate: Fraction, tick: Fraction, count: int = 300) -> list[int]:
    return [round(index / rate / tick) for index in range(count)]


def gappy(path: Path, codec: str, rate: int, left_out: set[int], options: dict[str, str]) -> Path:
    """A clip on a clock of one tick per frame."""
    with av.open(str(path), "w", options={"video_track_timescale": str(rate)}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            if index not in left_out:
                frame = av.VideoFrame.from_ndarray(moving_square(index, 64, 48), "rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, rate)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("left_out", [[12], [12, 13], [12, 30], [3, 20, 40]])
@pytest.mark.parametrize("count", [48, 2000])
@pytest.mark.parametrize(
    ("rate", "tick"),
    [(Fraction(24), Fraction(1, 24)), (Fraction(480), MS), (Fraction(30), HUNDREDTH), (Fraction(144), MS)],
)
def test_frames_left_out_make_the_rate_variable_on_any_clock(
    rate: Fraction, tick: Fraction, count: int, left_out: list[int]
) -> None:
    ticks = np.delete(rounded(rate, tick, count), left_out)
    average = Fraction(len(ticks) - 1) / (int(ticks[-1] - ticks[0]) * tick)  # MP4 claims this one too
    for declared in ([rate], [average, rate], []):
        assert not judged(ticks, tick, *declared).constant


@pytest.mark.parametrize(
    ("rate", "tick"),
    [
        *((Fraction(rate), MS) for rate in ("30000/1001", "60", "120", "144", "240", "480", "1000")),
        *((Fraction(rate), Fraction(1, 90_000)) for rate in ("24000/1001", "60", "240")),
        *((Fraction(rate), HUNDREDTH) for rate in (10, 24, 30, 50, 60)),  # GIF
        (Fraction(24), Fraction(1, 24)),
        (Fraction(24000, 1001), Fraction(1001, 24000)),
    ],
)
def test_rates_stay_constant_however_coarse_the_clock(rate: Fraction, tick: Fraction) -> None:
    line = judged(rounded(rate, tick), tick, rate)
    assert (line.rate, line.constant) == (rate, True)
    line = judged(rounded(rate, tick), tick)
    assert line.constant
    assert abs(line.rate / rate - 1) < Fraction(1, 1000)


def test_times_rounded_twice_are_let_through_only_on_a_fine_clock() -> None:
    twice = [0, 42, 83, 126, 167, 208, 249, 291, 334, 375]  # 24 fps: two of them off by one more
    assert judged(twice, MS, Fraction(24)) == judged(rounded(Fraction(24), MS, 10), MS, Fraction(24))
    # Half a frame late, twice: at 24 fps the end would be a frame early.
    late = [*range(0, 40, 2), *range(41, 80, 2), *range(82, 120, 2)]
    assert abs(judged(late, Fraction(1, 48), Fraction(24)).end - Fraction(120, 48)) < Fraction(1, 48)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("in.avi", "mpeg4", {}),
        ("in.avi", "mpeg4", {"bf": "2"}),
        ("in.avi", "libx264", {"bf": "2"}),
        ("in.mp4", "libx264", {"bf": "0"}),
        ("in.mp4", "libx264", {"bf": "2"}),
    ],
)
@pytest.mark.parametrize("left_out", [{9}, {9, 10}])
def test_what_follows_frames_left_out_stays_in_time(
    name: str, codec: str, options: dict[str, str], left_out: set[int], tmp_path: Path
) -> None:
    clip = gappy(tmp_path / name, codec, 10, left_out, options)
    with VideoReader(clip) as reader:
        frames = list(reader.frames())
    assert (reader.info.rate, reader.info.constant_rate) == (Fraction(10), False)
    assert [frame.time for frame in frames] == [Fraction(k, 10) for k in range(20) if k not in left_out]


@pytest.mark.parametrize("codec", ["mpeg4", "ffv1"])
@pytest.mark.parametrize("late", [Fraction(71, 1000), Fraction(1, 100), Fraction(3, 100)])  # 2 are halfway
def test_avi_begins_on_its_own_grid(late: Fraction, codec: str, tmp_path: Path) -> None:
    times = [late + Fraction(index, 25) for index in range(12)]
    clip = render_clip(tmp_path / "late.mkv", times=times, sounds=[Sound("mp2")])
    target = tmp_path / "late.avi"
    with VideoReader(clip) as source:
        assert source.traits.start == late
        with open_sink(target, source, Fraction(50), EncodeOptions(codec=codec)) as sink:
            for frame in source.frames():
                for half in (0, 1):
                    sink.write(frame.repeated(frame.time + Fraction(half, 50)))
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == stream.base_rate == 50
        shown = [packet.dts for packet in container.demux(stream) if packet.size]
    first = round(late * 50)
    assert shown == [0, *range(first + 1, first + 24)]  # an AVI shows its first frame from the beginning
