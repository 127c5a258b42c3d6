"""What `flavr-run` can be told: one dataclass per subject, in the order of --help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from flavr_runtime._option_groups import option
from flavr_runtime.providers import PROVIDER_CHOICES

# What people type for the NTSC rates, which are exactly 1000/1001 of a whole number.
_NTSC = {"23.976": 24, "23.98": 24, "29.97": 30, "47.952": 48, "47.95": 48, "59.94": 60, "119.88": 120}

_SAME_RATE = Fraction(1, 10**8)  # a millisecond a day
_LARGEST_DENOMINATOR, _LARGEST_NUMERATOR = 10**6, 2**31 // 64  # FFmpeg's end at 2**31


class _Rate(click.ParamType[Fraction]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if str(value) in _NTSC:
            return Fraction(_NTSC[str(value)] * 1000, 1001)
        try:
            rate = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        near = _nearest(rate)
        if rate <= 0 or near is None:
            self.fail(f"{value!r} is not a rate; write 25, 23.976 or 24000/1001", param, ctx)
        return near


def _nearest(rate: Fraction) -> Fraction | None:
    """What a rate in decimals is meant to be, in numbers that files can hold; None where nothing is near."""
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    near = ntsc if abs(rate - ntsc) <= rate * _SAME_RATE else rate.limit_denominator(_LARGEST_DENOMINATOR)
    return near if abs(rate - near) <= rate * _SAME_RATE and near.numerator <= _LARGEST_NUMERATOR else None


class _Size(click.ParamType[tuple[int, int]]):
    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; write WIDTHxHEIGHT, such as 1920x1080", param, ctx)
        return int(match[1]), int(match[2])


def _key_values(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    for each in given:
        if not each.partition("=")[0] or "=" not in each:
            raise click.BadParameter(f"{each!r} is not of the form NAME=VALUE")
    return {name: value for name, _, value in (each.partition("=") for each in given)}


# Smaller tiles are mostly overlap; larger pictures are typing errors.
SMALLEST_TILE, LARGEST_TILE = 128, 16384


class _Tile(click.ParamType["Literal['auto', 'off'] | int"]):
    name = "tile"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Literal["auto", "off"] | int:
        text = str(value)
        if text in ("auto", "off"):
            return "auto" if text == "auto" else "off"
        if not text.isdecimal() or not SMALLEST_TILE <= int(text) <= LARGEST_TILE:
            self.fail(
                f"{value!r} is no size of tiles; write auto, off, or a number of pixels from "
                f"{SMALLEST_TILE} to {LARGEST_TILE}",
                param,
                ctx,
            )
        return int(text)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Which network, on what."""

    model: Path | None = option(
        "--model",
        shapes_result=False,  # its contents do
        type=click.Path(path_type=Path),
        metavar="M.onnx",
        help="A file written by flavr-export, or the name of one that ships, such as flavr_lite_2x.onnx. "
        "[default: the small 2x network that ships, in the form that is fastest on the provider]",
    )
    ensemble: int = option(
        "--ensemble",
        type=click.Choice(["1", "2", "4", "8"]),
        callback=lambda _context, _parameter, value: int(value),
        default="1",
        metavar="N",
        help="Make new frames the mean over N views of their window (as it is, run backwards, upside down, "
        "mirrored): 2, 4 or 8 times the arithmetic, nearer to the truth. Elsewhere called TTA.",
    )
    provider: str = option(
        "--provider",
        shapes_result=False,  # the one that is taken does
        type=click.Choice(PROVIDER_CHOICES),
        default="auto",
        show_default=True,
        help="What to run on; auto takes the first that works of cuda, rocm, directml, coreml, "
        "openvino and cpu. See flavr-providers.",
    )
    threads: int | None = option(
        "--threads",
        shapes_result=False,
        type=click.IntRange(1, 256),
        metavar="N",
        help="CPU threads for the network. [default: one per physical core that it may use]",
    )
    provider_options: Mapping[str, str] = option(
        "--provider-option",
        multiple=True,
        metavar="K=V",
        callback=_key_values,
        help="An option of the provider, by ONNX Runtime's name: device_id=1. May be given several times; an "
        "unknown one is answered with those that there are.",
    )
    strict: bool = option(
        "--strict", is_flag=True, help="Refuse to start where the provider leaves work to the CPU."
    )
    cache_dir: Path | None = option(
        "--cache-dir",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Where providers keep what they compile. [default: $FLAVR_CACHE_DIR, or the system's own]",
    )
    tile: Literal["auto", "off"] | int = option(
        "--tile",
        shapes_result=False,  # the tiles that are taken do
        type=_Tile(),
        default="auto",
        show_default=True,
        metavar="auto|off|N",
        help="Cut pictures into tiles that overlap: those that do not fit into memory, none, or all, into "
        "tiles of at most NxN pixels.",
    )


@dataclass(frozen=True, slots=True)
class TimingOptions:
    """How many frames, and when."""

    factor: int | None = option(
        "--factor",
        type=int,
        metavar="N",
        help="Multiply the frames by this, in several passes where the model's own factor is smaller. "
        "[default: the model's own factor]",
    )
    fps: Fraction | None = option(
        "--fps",
        type=_Rate(),
        metavar="R",
        help="Frames per second of the result instead of --factor: 60, 59.94 or 60000/1001. Each is the "
        "nearest to its instant of what the model makes; only those are computed.",
    )
    slowmo: bool = option("--slowmo", is_flag=True, help="Keep the rate and let the result last longer.")
    slowmo_audio: Literal["drop", "stretch"] | None = option(
        "--slowmo-audio",
        type=click.Choice(["drop", "stretch"]),
        help="The sound of slow motion: none, or as slow as the picture at its own pitch, encoded anew. "
        "[default: drop]",
    )


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """Where nothing may be interpolated, or across what."""

    cuts: str = option(
        "--cuts",
        default="auto",
        show_default=True,
        metavar="auto|off|FILE",
        help="Where scenes begin: found, nowhere, or listed in FILE, a frame number (from 0) or time a line.",
    )
    cut_mode: Literal["repeat", "blend"] = option(
        "--cut-mode",
        type=click.Choice(["repeat", "blend"]),
        default="repeat",
        show_default=True,
        help="What is shown between the two frames around a cut: the nearer one, or a fade.",
    )
    duplicates: Literal["keep", "smooth"] = option(
        "--duplicates",
        type=click.Choice(["keep", "smooth"]),
        default="keep",
        show_default=True,
        help="Frames that the source repeats for up to a fifth of a second (animation on twos, film at a "
        "video rate): repeat them, or let the motion go on across them.",
    )


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How the input is read."""

    framerate: Fraction | None = option(
        "--framerate",
        type=_Rate(),
        metavar="R",
        help="Frames per second of images and of rawvideo; of y4m, instead of what it says. "
        "[default for images: 25]",
    )
    input_format: Literal["y4m", "rawvideo"] | None = option(
        "--input-format",
        type=click.Choice(["y4m", "rawvideo"]),
        help="What is read from a pipe, or from a file without a header. [default for -: y4m]",
    )
    video_size: tuple[int, int] | None = option(
        "--video-size", type=_Size(), metavar="WxH", help="Picture size of rawvideo input."
    )
    input_pixel_format: str | None = option(
        "--input-pixel-format",
        metavar="NAME",
        help="Pixel format of rawvideo input, by FFmpeg's name. [default: that of --pixel-format]",
    )
    drop_alpha: bool = option(
        "--drop-alpha", is_flag=True, help="Go on with an input that has transparency, without it."
    )


@dataclass(frozen=True, slots=True)
class EncodingOptions:
    """How the result is written."""

    codec: str | None = option(
        "--codec",
        metavar="NAME",
        help="Video codec: h264, h265 (hevc), av1, vp9, ffv1, prores, mpeg4, gif. On a graphics card: h264, "
        "h265 or av1 with _nvenc, _qsv, _amf or _videotoolbox. [default: the container's usual one]",
    )
    output_format: str | None = option(
        "--output-format",
        metavar="NAME",
        help="Instead of what OUTPUT's suffix says: y4m, rawvideo, matroska, webm, mp4, mov, avi, gif. "
        "[default for -: y4m]",
    )
    pixel_format: str | None = option(
        "--pixel-format",
        metavar="NAME",
        help="Pixel format of the result, by FFmpeg's name. [default: the source's own, or the nearest that "
        "the codec takes]",
    )
    crf: int | None = option(
        "--crf", type=int, help="Quality: lower is better and larger. [default: visually lossless]"
    )
    preset: str | None = option("--preset", metavar="NAME", help="The encoder's speed preset.")
    encoder_option: tuple[str, ...] = option(
        "--encoder-option",
        multiple=True,
        metavar="K=V",
        help="An option of the encoder itself, by FFmpeg's name, such as tune=film; may be repeated.",
    )
    audio: bool = option(
        "--audio/--no-audio", default=True, show_default=True, help="Copy the sound, without re-encoding."
    )
    overwrite: bool = option(
        "-y", "--overwrite", is_flag=True, shapes_result=False, help="Replace an output that exists."
    )
    resume: bool = option(
        "--resume",
        is_flag=True,
        shapes_result=False,
        help="Go on where a run with the same options was interrupted; the result is the same.",
    )


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is told of the run."""

    compare: Literal["side", "wipe"] | None = option(
        "--compare",
        type=click.Choice(["side", "wipe"]),
        help="Write source and result in one picture instead: side by side, or as its left and right half.",
    )
    manifest: bool = option(
        "--manifest",
        is_flag=True,
        shapes_result=False,
        help="Also write OUTPUT.json: model, provider, versions, options, exact rates, counts, cuts, gaps.",
    )
    dry_run: bool = option(
        "--dry-run",
        is_flag=True,
        shapes_result=False,
        help="Say what would be made, with what memory and in what time, from two windows; write no result.",
    )
    quiet: bool = option("-q", "--quiet", is_flag=True, shapes_result=False, help="Print errors only.")
    profile: bool = option(
        "--profile",
        is_flag=True,
        shapes_result=False,
        help="Print at the end what the time went to, stage by stage, and the network's share of it.",
    )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of `flavr-run` but for its input and output, parsed."""

    engine: EngineOptions
    timing: TimingOptions
    scenes: SceneOptions
    source: SourceOptions
    encoding: EncodingOptions
    report: ReportOptions
