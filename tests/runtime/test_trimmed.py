"""Clips of which an edit list shows a part, as telephones and QuickTime cut them: the rest stays unseen."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from clips import Sound, render_clip
from flavr_runtime.reader import VideoReader
from test_tracks import copied

CUT = Fraction(1)  # seconds


def trimmed(codec: str, folder: Path) -> Path:
    """2 s of picture and sound, of which the first is cut off; MP4 keeps all that precedes its edit list."""
    whole = render_clip(
        folder / "whole.mp4",
        frames=50,
        sounds=[Sound(codec, length=94)],
        options={"g": "50"},
    )
    target = folder / "trimmed.mp4"
    with av.open(str(whole)) as before, av.open(str(target), "w") as after:
        copies: list[Any] = [after.add_stream_from_template(stream, opaque=True) for stream in before.streams]
        for packet in before.demux():
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts -= int(CUT / packet.time_base)
                packet.dts -= int(CUT / packet.time_base)
                packet.stream = copies[packet.stream_index]
                after.mux(packet)
    return target


def shown(path: Path) -> tuple[list[float], dict[bytes, float], list[float]]:
    """When pictures are shown, when each packet of sound begins, and the time of each decoded piece of it."""
    with av.open(str(path)) as container:
        pictures = [float(frame.time or 0) for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        sound = {bytes(each): float((each.pts or 0) * each.time_base) for each in packets}
    with av.open(str(path)) as container:
        heard = [float(frame.time or 0) for frame in container.decode(audio=0)]
    return pictures, sound, heard


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("aac", "out.mp4"), ("aac", "out.mkv"), ("libopus", "out.mp4"), ("libopus", "out.mkv"),
        ("libopus", "out.webm"), ("mp3", "out.mkv"), ("ac3", "out.mkv"),
    ],
)  # fmt: skip
def test_sound_that_was_cut_off_stays_off_and_the_rest_in_sync(tmp_path: Path, codec: str, name: str) -> None:
    source = trimmed(codec, tmp_path)
    copied(source, tmp_path / name)
    pictures, before, _ = shown(source)
    found, after, heard = shown(tmp_path / name)
    assert len(found) == len(pictures) == 25
    early = 0.065  # two of AC-3's pieces: the one that the cut goes through, and the one before it
    assert found[0] - pictures[0] <= early
    assert heard[0] == pytest.approx(found[0], abs=early)
    shifts = [after[data] - time - found[0] + pictures[0] for data, time in before.items() if time >= 0]
    assert max(map(abs, shifts)) <= 0.0011  # Matroska's clock
    kept = [time for data, time in before.items() if data in after]
    assert min(kept) >= -early


@pytest.mark.parametrize("rate", [Fraction(25), None])
def test_an_end_that_was_cut_off_stays_off_and_is_no_damage(tmp_path: Path, rate: Fraction | None) -> None:
    """As a phone cuts a video: the pictures are still there, but the edit list and the header end before."""
    times = None if rate else [Fraction(index, 25) + Fraction(index % 3, 100) for index in range(100)]
    # With several key frames: FFmpeg keeps what follows the last that is needed out of its index.
    clip = render_clip(tmp_path / "clip.mp4", frames=100, times=times, options={"g": "10"})
    data = bytearray(clip.read_bytes())
    for box, at in ((b"elst", 12), (b"mvhd", 20), (b"tkhd", 24)):  # where their duration is, version 0
        place = data.index(box) + at
        data[place : place + 4] = (int.from_bytes(data[place : place + 4]) // 2).to_bytes(4)
    clip.write_bytes(data)
    with VideoReader(clip) as reader:
        frames = list(reader.frames())
        assert len(frames) == pytest.approx(50, abs=2)
        assert reader.gaps == []
        assert not any("cut off" in notice for notice in reader.notices)
