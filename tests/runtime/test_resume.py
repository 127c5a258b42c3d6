"""What an interrupted run leaves, and what --resume makes of it: the same file as without interruption."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from clips import Picture, Sound, moving_square, render_clip
from flavr_runtime import pipeline, segmented
from flavr_runtime.cli import command
from flavr_runtime.frames import Frame, Rgb
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.segments import Segment
from flavr_runtime.session import Session
from flavr_runtime.tiles import Tiling
from flavr_runtime.workfolder import WorkFolder
from model_files import write_blend_model

LENGTH = 7  # frames per segment here

STEADY = ["--encoder-option", "x264-params=asm=AVX2"]
"""libx264's AVX-512 code wrote other bytes in 5 of 270 runs of the same pictures; without it in 0 of 300."""


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmented, "SEGMENT_FRAMES", LENGTH)


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


def awkward_picture(index: int, width: int, height: int) -> Picture:
    """Two scenes, each with a frame that is held."""
    picture = moving_square(index - (index in (6, 17)), width, height)
    return picture if index < 12 else np.ascontiguousarray(255 - picture)


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 frames at uneven times with a cut, held frames and sound."""
    steps = [40, 40, 33, 50, 40, 80, 20]
    times = [Fraction(sum(steps[n % 7] for n in range(index)), 1000) for index in range(26)]
    folder = tmp_path_factory.mktemp("clips")
    return render_clip(
        folder / "awkward.mkv", frames=26, times=times, picture=awkward_picture, sounds=[Sound(length=50)]
    )


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--provider", "cpu"])


def run_well(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stderr


def contents(path: Path) -> list[tuple[Any, ...]]:
    """Everything a viewer gets: frames with their times, and the packets of the sound."""
    if path.is_dir():
        return [(each.name, each.read_bytes()) for each in sorted(path.iterdir())]
    found: list[tuple[Any, ...]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found.append((stream.average_rate, stream.duration, container.duration))
        found += [(frame.pts, frame.time_base, digest(frame)) for frame in container.decode(stream)]
    with av.open(str(path)) as container:
        found += [(p.pts, p.dts, p.duration, bytes(p)) for p in container.demux(container.streams.audio)]
    return found


def digest(frame: av.VideoFrame) -> bytes:
    return hashlib.sha256(frame.to_ndarray().tobytes()).digest()


def parts_of(output: Path) -> Path:
    return output.with_name(f".{output.name}.flavr-parts")


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Put a number of frames in, and the next run is interrupted when it has written as many."""
    ends: list[int] = []
    count = pipeline.Progress.count

    def counted(progress: pipeline.Progress, frame: Frame) -> None:
        count(progress, frame)
        if ends and progress.written == ends[0]:
            del ends[0]
            raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Progress, "count", counted)
    yield ends
    assert not ends


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.mp4", STEADY),
        ("out.mkv", ["--factor", 4, "--cut-mode", "blend", *STEADY]),
        ("out.mp4", ["--fps", "59.94", *STEADY]),
        ("out.mov", ["--slowmo", *STEADY]),
        ("out.mp4", ["--duplicates", "smooth", *STEADY]),
        ("out.mkv", ["--codec", "ffv1"]),
        ("out.mp4", ["--codec", "h265", "--preset", "ultrafast"]),
        ("out.mkv", ["--codec", "av1", "--preset", "12", "--cuts", "off"]),
        ("out.webm", ["--no-audio", "--preset", "8"]),
        ("out", ["--fps", "50"]),
    ],
)
def test_a_resumed_run_makes_the_same_file(
    name: str, options: list[object], average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int]
) -> None:
    (tmp_path / "whole").mkdir()
    whole, output = tmp_path / "whole" / name, tmp_path / name
    run_well(awkward, "-o", whole, "--model", average, *options)
    seed = random.Random(str(options))
    for end in sorted(seed.sample(range(8, 50), 1 if "--preset" in options else 3)):
        interrupted_at.append(end)
        result = run(awkward, "-o", output, "--model", average, *options, "--resume")
        assert result.exit_code == 130
        assert not output.exists()
        kept = end if name == "out" else end - end % LENGTH
        assert f"note: {kept} of " in result.stderr
    printed = run_well(awkward, "-o", output, "--model", average, *options, "--resume")
    assert f"; {kept} kept from before) in" in printed
    assert contents(output) == contents(whole)
    assert not parts_of(output).exists()


def test_segments_are_joined_without_a_seam(average: Path, awkward: Path, tmp_path: Path) -> None:
    run_well(awkward, "-o", tmp_path / "out.mkv", "--model", average, "--codec", "ffv1")
    with av.open(str(tmp_path / "out.mkv")) as container:
        lossless = [(frame.time, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]
    run_well(awkward, "-o", tmp_path / "out.mp4", "--model", average, "--crf", 1)
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert [n for n, p in enumerate(packets) if p.is_keyframe] == list(range(0, 51, LENGTH))
        stamps = [packet.dts for packet in packets]
        assert stamps == sorted(set(stamps))  # type: ignore[type-var]
        assert all(p.pts >= p.dts for p in packets if p.pts is not None and p.dts is not None)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == len(lossless) == 51
    for frame, (time, data) in zip(frames, lossless, strict=True):
        assert frame.time == pytest.approx(time, abs=0.001)  # Matroska's clock
        difference = frame.to_ndarray().astype(int).ravel() - np.frombuffer(data, np.uint8)
        assert abs(difference).mean() < 2


# Counts what a run does to the file system, and dies at the event it is told.
_DYING = """
import os, signal, sys
left = int(sys.argv.pop(1))
def count(event, arguments):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and "flavr-parts" in str(arguments):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
from flavr_runtime import segmented
from flavr_runtime.cli import main
segmented.SEGMENT_FRAMES = 7
sys.addaudithook(count)
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_run_killed_at_random_points_makes_the_same_file(
    name: str, average: Path, awkward: Path, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    whole, output = tmp_path / "whole" / name, tmp_path / name
    run_well(awkward, "-o", whole, "--model", average)
    seed = random.Random(name)
    arguments = [awkward, "-o", output, "--model", average, "--provider", "cpu", "--resume", "--quiet"]
    killed = 0
    for _round in range(4):
        # A whole run makes about 60 such events for the file and 220 for the folder.
        left = seed.randrange(10, 30 if name == "out.mp4" else 70)
        process = subprocess.run([sys.executable, "-c", _DYING, str(left), *map(str, arguments)], check=False)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        assert not output.exists()
        killed += 1
    assert killed >= 3
    if not output.exists():
        run_well(*arguments[:-1])
    assert contents(output) == contents(whole)
    assert not parts_of(output).exists()


def test_what_has_changed_is_named_and_not_mixed(
    average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int]
) -> None:
    output, clip = tmp_path / "out.mp4", tmp_path / "clip.mkv"
    clip.write_bytes(awkward.read_bytes())
    interrupted_at.append(20)
    run(clip, "-o", output, "--model", average, "--crf", 20)
    state = {each.name: each.read_bytes() for each in parts_of(output).iterdir()}
    other = write_blend_model(tmp_path / "other.onnx", [(0.1, 0.4, 0.4, 0.1)])
    resumed = ["-o", output, "--resume"]

    def refusal(*arguments: object) -> str:
        result = run(*arguments)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        return result.stderr

    text = refusal(clip, *resumed, "--model", average, "--crf", 21)
    assert text == (
        f"error: {output}: cannot be resumed: --crf was 20, now it is 21; go back to what it was begun with, "
        "or start over without --resume\n"
    )
    assert "the model was " in refusal(clip, *resumed, "--model", other, "--crf", 20)
    os.utime(clip, ns=(0, 0))
    assert "the input was " in refusal(clip, *resumed, "--model", average, "--crf", 20)
    assert {each.name: each.read_bytes() for each in parts_of(output).iterdir()} == state


def test_the_network_that_ships_is_not_resumed_in_another_form(
    awkward: Path, tmp_path: Path, interrupted_at: list[int]
) -> None:
    """They differ by a code value here and there, which would show where one ends and the other begins."""
    output = tmp_path / "out.mp4"
    interrupted_at.append(20)
    run(awkward, "-o", output, "--threads", 1)
    assert any(parts_of(output).iterdir())
    resumed = run(awkward, "-o", output, "--threads", 1, "--resume", "--model", "flavr_lite_2x.onnx")
    assert resumed.exit_code == 1
    assert "cannot be resumed: the model was " in resumed.stderr


def test_without_resume_a_run_starts_over_and_says_so(
    average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int]
) -> None:
    output = tmp_path / "out.mp4"
    interrupted_at.append(20)
    run(awkward, "-o", output, "--model", average)
    assert (parts_of(output) / "000001.segment").exists()
    printed = run_well(awkward, "-o", output, "--model", average, "--crf", 30)
    assert "what an interrupted run to out.mp4 has left is thrown away; --resume would have" in printed
    assert "kept from before" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_resume_with_nothing_to_go_on_starts_at_the_beginning(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    printed = run_well(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--resume")
    assert "nothing is left of an earlier run to out.mp4: it starts at the beginning" in printed


def test_two_runs_do_not_write_one_output(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    held = WorkFolder(output)
    held.open()
    theirs = parts_of(output) / "joined.partial"
    theirs.write_bytes(b"nearly done")
    result = run(clip_plain, "-o", output, "--model", average)
    assert (result.exit_code, "out.mp4: another run is writing it; wait for" in result.stderr) == (1, True)
    assert theirs.read_bytes() == b"nearly done"
    held.close(remove=True)
    run_well(clip_plain, "-o", output, "--model", average)


def test_segments_of_another_encoder_are_refused_before_anything_is_computed(
    average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are the same, but not the header: another version of it, as on another machine."""
    output = tmp_path / "out.mkv"
    interrupted_at.append(30)
    run(awkward, "-o", output, "--model", average)
    kept = contents_of_folder(parts_of(output))

    def read(path: Path) -> Segment | None:
        segment = real_read(path)
        return segment and replace(segment, extradata=segment.extradata + b"\0")

    real_read = Segment.read
    monkeypatch.setattr(Segment, "read", read)
    monkeypatch.setattr(Session, "run", lambda *_: pytest.fail("a window was computed"))
    result = run(awkward, "-o", output, "--model", average, "--resume")
    assert result.exit_code == 1
    assert "out.mkv: cannot be resumed: libx264 encodes otherwise here than where" in result.stderr
    assert contents_of_folder(parts_of(output)) == kept


def contents_of_folder(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_frames_of_smaller_tiles_are_not_mixed_with_whole_ones(
    average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first run a window has not fitted after all, in the second one there is memory again."""
    output, tiling = tmp_path / "out.mkv", Interpolator.tiling
    with monkeypatch.context() as patched:
        began = Session.run

        def cut(interpolator: Interpolator, height: int, width: int) -> Tiling:
            found = tiling(interpolator, height, width)
            return replace(found, lefts=(0, 8)) if runs else found

        def counted(session: Session, frames: Sequence[Any]) -> list[Rgb]:
            runs.append(1)
            return began(session, frames)

        runs: list[int] = []
        patched.setattr(Interpolator, "tiling", cut)
        patched.setattr(Session, "run", counted)
        interrupted_at.append(30)
        run(awkward, "-o", output, "--model", average)
    result = run(awkward, "-o", output, "--model", average, "--resume")
    assert result.exit_code == 1
    assert "out.mkv: cannot be resumed: the tiles was " in result.stderr


def test_a_segment_that_the_disk_has_damaged_is_made_again(
    average: Path, awkward: Path, tmp_path: Path, interrupted_at: list[int]
) -> None:
    whole, output = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    run_well(awkward, "-o", whole, "--model", average)
    interrupted_at.append(30)
    run(awkward, "-o", output, "--model", average)
    second = parts_of(output) / "000001.segment"
    data = bytearray(second.read_bytes())
    data[len(data) // 3] ^= 1
    second.write_bytes(data)
    printed = run_well(awkward, "-o", output, "--model", average, "--resume")
    assert f"; {LENGTH} kept from before)" in printed
    assert contents(output) == contents(whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux'")
def test_a_full_disk_leaves_a_run_that_can_be_resumed(
    average: Path, awkward: Path, tmp_path: Path, small_disk: Path
) -> None:
    arguments = ["--model", average, "--codec", "ffv1"]
    run_well(awkward, "-o", tmp_path / "whole.mkv", *arguments)
    blocking = small_disk / "large"
    blocking.write_bytes(bytes(150_000))
    result = run(awkward, "-o", small_disk / "out.mkv", *arguments)
    assert result.exit_code == 1
    *_, note, error = result.stderr.splitlines()
    assert error == f"error: {small_disk / 'out.mkv'}: the disk is full; free some space, then --resume"
    assert "frames are kept: the same command with --resume goes on from there" in note
    blocking.unlink()
    run_well(awkward, "-o", small_disk / "out.mkv", *arguments, "--resume")
    assert contents(small_disk / "out.mkv") == contents(tmp_path / "whole.mkv")
