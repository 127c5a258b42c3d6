"""Options that have nothing to act on are refused: none is taken and then ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clips import moving_square, render_clip
from flavr_runtime.cli import command
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.errors import UsageError
from flavr_runtime.media import open_sink, open_source
from model_files import write_blend_model


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blend_model(tmp_path_factory.mktemp("models") / "average.onnx")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--provider", "cpu"])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (EncodeOptions(codec="h264"), "codec"),
        (EncodeOptions(codec="nonsense"), "codec"),
        (EncodeOptions(crf=0), "crf"),
        (EncodeOptions(preset="fast"), "preset"),
        (EncodeOptions(pixel_format="rgb24"), "pixel-format"),
        (EncodeOptions(more={"tune": "film"}), "encoder-option"),
    ],
)
def test_images_take_no_options_of_an_encoder(
    options: EncodeOptions, name: str, clip_plain: Path, tmp_path: Path
) -> None:
    with open_source(clip_plain) as source:
        for target in ("frames", "%d.jpg"):
            with pytest.raises(UsageError, match=f"without an encoder: it takes no --{name}$"):
                open_sink(tmp_path / target, source, source.info.rate, options)


def test_the_pixel_format_of_raw_input_is_no_wish_for_the_result(average: Path, tmp_path: Path) -> None:
    raw = tmp_path / "in.raw"
    raw.write_bytes(b"".join(moving_square(index, 64, 48).tobytes() for index in range(3)))
    result = run(
        raw, "-o", tmp_path / "frames", "--model", average, "--input-format", "rawvideo", "--video-size",
        "64x48", "--pixel-format", "rgb24", "--framerate", 25,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "frames").iterdir())) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--framerate", "30"], "--framerate is for images, y4m and rawvideo: in.mp4 has times of its own"),
        (["--slowmo-audio", "stretch"], "--slowmo-audio is for --slowmo"),
        (["--slowmo-audio", "drop"], "--slowmo-audio is for --slowmo"),
        (["--slowmo", "--slowmo-audio", "stretch", "--no-audio"], "--slowmo-audio stretch and --no-audio"),
    ],
)
def test_options_with_nothing_to_act_on_are_one_line(
    arguments: list[str], message: str, average: Path, tmp_path: Path
) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=3)
    result = run(clip, "-o", tmp_path / "out.mp4", "--model", average, *arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr.replace(f"{tmp_path}/", "")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("name", "suffix"), [("matroska", ".mkv"), ("mov", ".mov"), ("y4m", ".y4m"), ("rawvideo", ".raw")]
)
def test_a_result_without_a_name_ends_as_its_format_is_called(
    name: str, suffix: str, average: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    clip = render_clip(tmp_path / "in.mp4", frames=3)
    result = run(clip, "--model", average, "--output-format", name)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"in_2x{suffix}"]
    result = run(clip, "--model", average, "--output-format", "nonsense")
    assert "unknown output format nonsense; use one of" in result.stderr


@pytest.mark.parametrize(
    ("name", "more"), [("o.mp4", ["--no-audio"]), ("o.gif", []), ("o.y4m", []), ("frames", [])]
)
def test_slow_motion_is_not_promised_sound_that_the_result_cannot_have(
    name: str, more: list[str], average: Path, clip_with_audio: Path, tmp_path: Path
) -> None:
    result = run(clip_with_audio, "-o", tmp_path / name, "--model", average, "--slowmo", "--dry-run", *more)
    assert result.exit_code == 0, result.output
    assert "--slowmo-audio stretch keeps it" not in result.stderr
    assert result.stderr.count("the audio is left out") + result.stderr.count("left out: the sound") == (
        name != "o.mp4"
    )
