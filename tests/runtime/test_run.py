"""flavr-run as people use it: real files in, real files out."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.packet import Packet
from click.testing import CliRunner, Result

from clips import planes_of, render_clip
from flavr_runtime import pipeline
from flavr_runtime.cli import command
from flavr_runtime.frames import Frame
from model_files import average_weights, write_blend_model


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def run_well(*arguments: object) -> str:
    result = run(*arguments, "--provider", "cpu")
    assert result.exit_code == 0, result.output
    return result.stderr


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def time_of(item: av.VideoFrame | Packet[AudioStream]) -> Fraction:
    assert item.pts is not None
    assert item.time_base is not None
    return item.pts * item.time_base


def textured(index: int, width: int, height: int) -> np.ndarray:
    """A still picture with fine structure and saturated edges in every channel."""
    del index
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 100 * np.sin(x / period) * np.cos(y / (period + 1)) for period in (2.5, 4.0, 9.0)]
    picture = np.stack(waves, -1)
    picture[height // 4 : height // 2, width // 4 : width // 2] = (255, 0, 0)
    return picture.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("factor", "model_factor"), [(2, 2), (4, 2), (8, 2), (4, 4), (2, 4)])
def test_n_frames_become_n_minus_1_times_k_plus_1_at_k_times_the_rate(
    factor: int, model_factor: int, clip_plain: Path, tmp_path: Path
) -> None:
    model = write_blend_model(tmp_path / "m.onnx", average_weights(model_factor))
    output = tmp_path / "out.mp4"
    run_well(clip_plain, "-o", output, "--model", model, "--factor", factor)
    with av.open(str(clip_plain)) as before, av.open(str(output)) as after:
        rate = before.streams.video[0].average_rate
        count = sum(1 for _ in before.decode(video=0))
        assert rate is not None
        stream = after.streams.video[0]
        times = [time_of(frame) for frame in after.decode(video=0)]
        assert stream.average_rate == rate * factor
    assert len(times) == (count - 1) * factor + 1
    assert times == [times[0] + Fraction(i) / (rate * factor) for i in range(len(times))]


def test_23_976_becomes_exactly_48000_1001(average: Path, clip_ntsc_mkv: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run_well(clip_ntsc_mkv, "-o", output, "--model", average)
    with av.open(str(output)) as after:
        assert after.streams.video[0].average_rate == Fraction(48000, 1001)


@pytest.mark.parametrize(("given", "exact"), [("60", Fraction(60)), ("59.94", Fraction(60000, 1001))])
def test_any_rate_is_exact_and_as_long_as_the_source(
    given: str, exact: Fraction, average: Path, clip_ntsc_mkv: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    run_well(clip_ntsc_mkv, "-o", output, "--model", average, "--fps", given)
    before, after = [time_of(frame) for frame in decoded(clip_ntsc_mkv)], [*map(time_of, decoded(output))]
    assert after == [after[0] + n / exact for n in range(len(after))]
    assert 0 <= (before[-1] - before[0]) - (after[-1] - after[0]) + Fraction(1, 1000) < 1 / exact
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == exact


def test_variable_rate_becomes_constant_when_a_rate_is_asked_for(
    average: Path, clip_vfr: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    run_well(clip_vfr, "-o", output, "--model", average, "--fps", 50)
    times = [time_of(frame) for frame in decoded(output)]
    assert times == [times[0] + Fraction(n, 50) for n in range(len(times))]


def test_slow_motion_lasts_longer_and_says_that_the_sound_is_gone(
    average: Path, clip_with_audio: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    printed = run_well(clip_with_audio, "-o", output, "--model", average, "--factor", 4, "--slowmo")
    assert "note: the sound is left out of slow motion" in printed
    with av.open(str(output)) as container:
        assert not container.streams.audio
        assert container.streams.video[0].average_rate == 25
        assert sum(1 for _ in container.decode(video=0)) == 97


def test_source_frames_arrive_bit_for_bit_in_their_own_place(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mkv"
    run_well(clip_plain, "-o", output, "--model", average, "--codec", "ffv1")  # lossless: any change shows
    before, after = decoded(clip_plain), decoded(output)
    assert {frame.format.name for frame in after} == {before[0].format.name}
    for source, passed in zip(before, after[::2], strict=True):
        for plane, same in zip(planes_of(source), planes_of(passed), strict=True):
            np.testing.assert_array_equal(plane, same)


@pytest.mark.parametrize("matrix_and_range", [(1, 1), (1, 2), (5, 1), (6, 2), (9, 1)])
@pytest.mark.parametrize("size", [(64, 48), (66, 50)])
def test_a_static_clip_interpolates_to_itself_within_1_code_value(
    matrix_and_range: tuple[int, int], size: tuple[int, int], tmp_path: Path
) -> None:
    matrix, colour_range = matrix_and_range

    # A grey corner that blinks keeps neighbours unequal, so that new frames go through RGB and back.
    def nearly_still(index: int, width: int, height: int) -> np.ndarray:
        picture = textured(index, width, height)
        picture[:8, :8] = 100 + 40 * (index % 2)
        return picture

    clip = render_clip(
        tmp_path / "still.mkv", frames=5, size=size, codec="ffv1",
        tags=(matrix, colour_range, 1, 1), picture=nearly_still,
    )  # fmt: skip
    same = write_blend_model(tmp_path / "same.onnx", [(0, 1, 0, 0)])  # an ideal network for a still scene
    output = tmp_path / "out.mkv"
    run_well(clip, "-o", output, "--model", same, "--codec", "ffv1")
    frames = decoded(output)
    assert len(frames) == 9
    for source, new in zip(frames[:-1:2], frames[1::2], strict=True):
        assert (new.colorspace, new.color_range) == (source.colorspace, source.color_range)
        for plane, other in zip(planes_of(source), planes_of(new), strict=True):
            difference = plane.astype(int) - other.astype(int)
            assert np.abs(difference).max() <= 1
            assert abs(difference.mean()) < 0.1  # and no drift of the whole picture


def test_held_frames_are_repeated_exactly_with_the_shipped_model(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "still.mkv", frames=4, codec="ffv1", picture=textured)
    output = tmp_path / "out.mkv"
    printed = run_well(clip, "-o", output, "--codec", "ffv1")
    assert "3 repeated where nothing moves" in printed
    first, *others = [np.concatenate([p.ravel() for p in planes_of(frame)]) for frame in decoded(output)]
    assert len(others) == 6
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_sound_is_copied_packet_for_packet(average: Path, clip_with_audio: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run_well(clip_with_audio, "-o", output, "--model", average, "--factor", 4)

    def packets(path: Path) -> list[tuple[Fraction, bytes]]:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            return [
                (p.pts * p.time_base, bytes(p))
                for p in container.demux(stream)
                if p.pts is not None and p.size
            ]

    assert packets(clip_with_audio)
    assert packets(output) == packets(clip_with_audio)


def test_rotation_flag_survives(average: Path, clip_rotated: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    run_well(clip_rotated, "-o", output, "--model", average)
    assert decoded(output)[0].rotation == decoded(clip_rotated)[0].rotation != 0


def test_odd_sizes_keep_their_size(average: Path, clip_odd_size: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    printed = run_well(clip_odd_size, "-o", output, "--model", average)
    before, after = decoded(clip_odd_size)[0], decoded(output)[0]
    assert (after.width, after.height) == (before.width, before.height)
    assert "note:" in printed  # H.264 has no odd 4:2:0, and that is said


def test_variable_rate_keeps_its_timing(average: Path, clip_vfr: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    run_well(clip_vfr, "-o", output, "--model", average)
    before = [time_of(frame) for frame in decoded(clip_vfr)]
    after = [time_of(frame) for frame in decoded(output)]
    assert len(after) == 2 * len(before) - 1
    tick = Fraction(1, 1000)  # Matroska's
    for (a, b), found in zip(pairwise(before), after[1::2], strict=True):
        assert abs((a + b) / 2 - found) <= tick


def test_folders_of_images_in_and_out(average: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, grey in ((1, 10), (2, 20), (10, 26)):  # natural order: 10 comes last
        cv2.imwrite(str(frames / f"f{number}.png"), np.full((9, 13, 3), grey, np.uint8))
    run_well(frames, "-o", tmp_path / "more", "--model", average)
    written = sorted((tmp_path / "more").iterdir())
    assert [path.name for path in written] == [f"{n:06d}.png" for n in range(1, 6)]
    assert [int(decoded(path)[0].to_ndarray(format="gray")[0, 0]) for path in written] == [
        10,
        15,
        20,
        23,
        26,
    ]
    assert written[0].read_bytes() == (frames / "f1.png").read_bytes()
    run_well(frames, "-o", tmp_path / "clip.mp4", "--model", average, "--framerate", "24000/1001")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(48000, 1001)


def test_the_plan_and_the_result_are_stated(average: Path, clip_plain: Path, tmp_path: Path) -> None:
    printed = run_well(clip_plain, "-o", tmp_path / "out.mp4", "--model", average)
    assert "provider: cpu (CPUExecutionProvider:" in printed
    assert "model: average.onnx (unet_18 2x" in printed
    assert "(12 from the source, 11 new; 0 cuts)" in printed
    assert run_well(clip_plain, "-o", tmp_path / "out2.mp4", "--model", average, "--quiet") == ""


def test_the_output_is_named_after_the_input(
    average: Path, clip_plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_well(clip_plain, "--model", average, "--factor", 4)
    assert [path.name for path in tmp_path.iterdir()] == [f"{clip_plain.stem}_4x{clip_plain.suffix}"]


def test_the_profile_says_what_each_stage_spent_its_time_on(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    printed = run_well(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--profile", "-q")
    rows = {tuple(line.split()[:2]) for line in printed.splitlines()}
    assert {("network", "session.run"), ("read", "convert"), ("write", "encode")} <= rows
    assert re.search(r"s in all, \d+\.\d% of it in session\.run", printed)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--factor", "3"], 2, "error: factor 3 cannot be made by a 2x model; it makes 2, 4, 8, 16\n"),
        (["--factor", "0"], 2, "error: factor 0 is out of range: 1 to 64\n"),
        (["--provider", "nope"], 2, "'nope' is not one of 'auto'"),
        (["--model", "none.onnx"], 1, "error: model none.onnx does not exist; write one with flavr-export"),
        (["--framerate", "fast"], 2, "'fast' is not a rate; write 25, 23.976 or 24000/1001"),
        (["--codec", "nope"], 2, "nope"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    arguments: list[str], code: int, message: str, average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    model = [] if "--model" in arguments else ["--model", average]
    result = run(clip_plain, "-o", tmp_path / "out.mp4", *model, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_absent_provider_is_refused_with_the_pip_line(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    result = run(clip_plain, "-o", tmp_path / "out.mp4", "--model", average, "--provider", "rocm")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: provider rocm does not work here: ")
    assert "pip install 'flavr[rocm]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_inputs_that_cannot_be_read_are_one_line(average: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no video in here")
    for path in (tmp_path / "absent.mp4", text):
        result = run(path, "-o", tmp_path / "out.mp4", "--model", average)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {path}")
        assert len(result.stderr.splitlines()) == 1


def test_an_existing_output_is_kept_unless_told_otherwise(
    average: Path, clip_plain: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"precious")
    result = run(clip_plain, "-o", output, "--model", average)
    assert result.exit_code == 1
    assert "out.mp4" in result.stderr
    assert output.read_bytes() == b"precious"
    run_well(clip_plain, "-o", output, "--model", average, "--overwrite")
    assert len(decoded(output)) == 23


def test_a_terminated_run_leaves_no_half_written_file(clip_with_audio: Path, tmp_path: Path) -> None:
    arguments = [clip_with_audio, "-o", tmp_path / "out.mp4", "--factor", "64", "--provider", "cpu"]
    code = "import sys; from flavr_runtime.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            if list(tmp_path.iterdir()):
                break
            time.sleep(0.05)
        assert list(tmp_path.iterdir()), "it never began to write"
        process.terminate()
        _, printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert b"interrupted" in printed
    assert list(tmp_path.iterdir()) == []


def test_sound_is_kept_where_slow_motion_slows_nothing(
    average: Path, clip_with_audio: Path, tmp_path: Path
) -> None:
    run_well(clip_with_audio, "-o", tmp_path / "out.mp4", "--model", average, "--factor", 1, "--slowmo")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_no_half_written_file(
    error: type[BaseException],
    average: Path,
    clip_plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = pipeline.Progress.count

    def interrupted(progress: pipeline.Progress, frame: Frame) -> None:
        complete(progress, frame)
        if progress.written == 5:
            raise error

    monkeypatch.setattr(pipeline.Progress, "count", interrupted)
    result = run(clip_plain, "-o", tmp_path / "out.mp4", "--model", average)
    assert result.exit_code == (130 if error is KeyboardInterrupt else 1)
    assert list(tmp_path.iterdir()) == []


def test_help_answers_without_loading_anything_heavy() -> None:
    code = (
        "import sys; from flavr_runtime.cli import command\n"
        "try: command(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'onnxruntime', 'av', 'cv2', 'numpy', 'torch', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Examples:" in result.stdout


def test_bad_usage_is_one_line_that_says_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(["--factor", "two", "clip.mp4"], prog_name="flavr-run")
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: Invalid value for '--factor': 'two' is not a valid integer; see flavr-run --help\n"
    )
