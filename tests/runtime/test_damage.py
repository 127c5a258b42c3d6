"""Files that are broken in places: what is readable stays in time, and what is lost is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from clips import Picture, Sound, moving_square, render_clip
from flavr_runtime.cli import command
from flavr_runtime.damage import Gap, GapBridge
from flavr_runtime.frames import Frame
from flavr_runtime.reader import VideoReader
from flavr_runtime.timing import Timeline, without_holes
from model_files import write_blend_model

RATE = Fraction(25)


def textured(index: int, width: int, height: int) -> Picture:
    """Enough detail that frames have some hundred bytes, and brighter by 2 with every frame."""
    y, x = np.mgrid[0:height, 0:width]
    waves = 30 * np.sin(x / 3 + index / 5) * np.cos(y / 4)
    picture = moving_square(0, width, height) * 0.2 + waves[..., None] + 40 + 2 * index
    result: Picture = np.asarray(picture).clip(0, 255).astype(np.uint8)
    return result


def frame_bytes(path: Path, index: int) -> tuple[int, int]:
    """Where the packet of a video frame lies in the file, and its length."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    packet = sorted(packets, key=lambda each: each.pts or 0)[index]
    assert packet.pos is not None
    return packet.pos, packet.size


def damaged(path: Path, *, at: int, length: int) -> Path:
    """The file with zeros from the packet of frame `at` on."""
    data = bytearray(path.read_bytes())
    start, _ = frame_bytes(path, at)
    data[start : start + length] = bytes(length)
    broken = path.with_stem("broken")
    broken.write_bytes(data)
    return broken


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


@pytest.fixture(scope="module", params=[".mp4", ".mkv", ".ts"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames with a key frame every 20, and sound."""
    path = tmp_path_factory.mktemp("whole") / f"whole{request.param}"
    options = {"g": "20", "sc_threshold": "0"}
    return render_clip(path, frames=60, options=options, picture=textured, sounds=[Sound(length=112)])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--provider", "cpu"])


def times_of_sound(path: Path) -> list[float]:
    """In milliseconds since the first packet."""
    with av.open(str(path)) as container:
        found = [p.pts * p.time_base for p in container.demux(audio=0) if p.size and p.pts is not None]
    return [float(time - found[0]) * 1000 for time in found]


def test_a_lost_key_frame_is_held_over_and_everything_after_it_stays_in_time(whole: Path) -> None:
    broken = damaged(whole, at=20, length=300)
    with VideoReader(whole) as reader:
        good = list(reader.frames())
    with VideoReader(broken) as reader:
        frames = list(reader.frames())
    assert [frame.time for frame in frames] == [frame.time for frame in good]
    (gap,) = reader.gaps
    first = round((gap.start - good[0].time) * RATE)
    assert 17 <= first <= 20  # B frames before the lost one may refer to it
    # A transport stream loses the whole packet, so that nobody knows that it was a key frame.
    last = first + 1 if whole.suffix == ".ts" else 40
    assert (gap.end - good[0].time, gap.frames) == (last / RATE, last - first)
    assert gap.clean_from == (good[40].time if whole.suffix == ".ts" else None)
    for index, (frame, original) in enumerate(zip(frames, good, strict=True)):
        lost = first <= index < last
        shown = good[first - 1] if lost else original
        assert np.array_equal(frame.rgb, shown.rgb) or last <= index < 40
        assert frame.origin == ("repeated" if lost else "source")
    starts = [index for index, frame in enumerate(frames) if frame.starts_scene]
    assert starts == ([] if whole.suffix == ".ts" else [40])


def test_a_broken_file_is_completed_in_sync_reported_and_exits_3(
    whole: Path, average: Path, tmp_path: Path
) -> None:
    broken, output = damaged(whole, at=20, length=300), tmp_path / "out.mkv"
    result = run(broken, "-o", output, "--model", average, "--codec", "ffv1", "--cuts", "off", "--quiet")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"damage: {broken.name}: ")
    with av.open(str(output)) as container:
        shown = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    assert len(shown) == 119
    usual = [shown[0] + index for index in range(119)]  # brighter by 1 with every frame of the result
    assert np.abs(np.subtract(shown, usual))[[*range(33), *range(80, 119)]].max() < 3
    if whole.suffix != ".ts":
        assert "s are lost: the one before them is held, and nothing is interpolated across" in result.stderr
        assert max(shown[40:79]) - min(shown[40:79]) < 1  # held ...
        assert min(abs(shown[79] - shown[78]), abs(shown[79] - shown[80])) < 1  # ... and no blend
    before, after = times_of_sound(whole), times_of_sound(output)
    assert len(after) > 0.6 * len(before)  # Matroska loses the sound beside the picture as well
    assert all(min(abs(time - known) for known in before) <= 1 for time in after)
    assert after[-1] == pytest.approx(before[-1], abs=1)


def test_a_single_lost_frame_is_stepped_over(tmp_path: Path) -> None:
    path = render_clip(
        tmp_path / "whole.mp4", frames=20, codec="mjpeg", pixel_format="yuvj420p", picture=textured
    )
    broken = damaged(path, at=7, length=700)
    with VideoReader(broken) as reader:
        frames = list(reader.frames())
    assert len(frames) == 20
    assert not any(frame.starts_scene for frame in frames)
    assert [str(gap) for gap in reader.gaps] == ["1 frame at 0.28 s is lost: the one before it is held"]


def test_a_file_without_a_readable_frame_is_an_error(average: Path, tmp_path: Path) -> None:
    path = render_clip(tmp_path / "whole.mp4", frames=6, options={"g": "50"}, picture=textured)
    data = bytearray(path.read_bytes())
    for index in range(6):
        start, size = frame_bytes(path, index)
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    result = run(path, "-o", tmp_path / "out.mp4", "--model", average)
    assert result.exit_code == 1
    assert result.stderr == f"error: {path}: no frame could be decoded; the file is damaged\n"


def test_a_whole_file_has_no_gaps(whole: Path) -> None:
    with VideoReader(whole) as reader:
        assert len(list(reader.frames())) == 60
    assert reader.gaps == []
    assert reader.notices == []


def test_a_cut_off_download_is_completed_as_far_as_it_goes(average: Path, tmp_path: Path) -> None:
    whole = render_clip(tmp_path / "whole.mp4", frames=60, picture=textured, sounds=[Sound(length=112)])
    path = tmp_path / "half.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        copies = {each.index: target.add_stream_from_template(each) for each in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run(path, "-o", tmp_path / "out.mp4", "--model", average)
    assert result.exit_code == 3
    assert "note: half.mp4 ends at " in result.stderr
    assert "damage: half.mp4: cut off at " in result.stderr
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20


def bridged(times: list[int], complaints: list[int], *, constant: bool) -> tuple[list[Frame], list[Gap]]:
    """Frames at these places of 10, the decoder complaining before some of them."""
    gaps: list[Gap] = []
    bridge = GapBridge(Timeline(RATE, constant, 10, Fraction(0), 10 / RATE), Fraction(0), gaps)
    frames: list[Frame] = []
    for place in times:
        if place in complaints:
            bridge.complain(place / RATE)
        frames += bridge.follow(Frame(np.zeros((2, 2, 3), np.uint8), place / RATE), is_key=place == 8)
    frames += bridge.finish()
    return frames, gaps


def test_pauses_of_a_variable_rate_are_no_damage() -> None:
    frames, gaps = bridged([0, 1, 5, 6, 9], [6], constant=False)
    assert len(frames) == 5
    assert [gap.frames for gap in gaps] == [2]
    assert gaps[0].start == 7 / RATE
    frames, gaps = bridged([0, 1, 5, 6, 9], [], constant=False)
    assert (len(frames), gaps) == (5, [])


def test_frames_lost_at_either_end_are_counted() -> None:
    frames, gaps = bridged([3, 4, 5], [3], constant=True)
    assert [frame.time * RATE for frame in frames] == [3, 4, 5, 6, 7, 8, 9]
    assert [(gap.start, gap.end, gap.frames) for gap in gaps] == [
        (0 / RATE, 3 / RATE, 3),
        (6 / RATE, 10 / RATE, 4),
    ]


def test_damage_without_a_lost_frame_is_said_too() -> None:
    frames, gaps = bridged(list(range(10)), [4], constant=True)
    assert len(frames) == 10
    assert [str(gap) for gap in gaps] == ["damaged near 0.16 s, though no frame is lost"]


def test_traces_of_damage_end_at_the_next_key_frame() -> None:
    _, gaps = bridged([0, 1, 3, 4, 5, 6, 7, 8, 9], [3], constant=True)
    assert [gap.clean_from for gap in gaps] == [8 / RATE]


def test_holes_are_filled_on_a_rounded_clock() -> None:
    exact = np.rint(np.arange(100) * 1001 * 1000 / 24000).astype(np.int64)
    holed = np.delete(exact, [10, 40, 41, 42, 80])
    assert np.abs(without_holes(holed) - exact).max() <= 1
