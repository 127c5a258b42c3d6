"""Which encoders and containers `flavr-run` writes, as tables: a new one is a new row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error

from flavr_runtime._destination import STDOUT
from flavr_runtime.colour import bits_of, has_alpha, writable_formats
from flavr_runtime.errors import OutputError, UsageError

__all__ = [
    "CONTAINERS", "ENCODERS", "OUTPUT_FORMATS", "RAW_FORMATS", "Container", "EncodeOptions", "Encoder",
    "choose_pixel_format", "container_for", "encoder_for",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How the result is encoded; None takes the default of the container or of the encoder."""

    codec: str | None = None  # a key of ENCODERS
    crf: int | None = None  # the encoder's quality number: lower is better and larger
    preset: str | None = None
    pixel_format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """`crf` keeps source frames visually lossless: they are encoded a second time here, and every second or
    third frame of the result is one of them, so a loss would be seen as flicker between the two kinds."""

    name: str  # FFmpeg's
    crf: int | None = None  # None: lossless
    worst_crf: int = 51
    preset_option: str = "preset"
    preset: str | None = None  # the default, one of ...
    presets: tuple[str, ...] = ()
    odd_sizes: bool = True  # whether 4:2:0 of an odd width or height is taken
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # set unless it is set already


_X26_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


def _numbers(last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(last + 1))


ENCODERS = {
    # 17 is the crf at which x264 is commonly held to be indistinguishable from its source; "medium" costs
    # about 10 ms per 854x480 frame, 1 % of what the network takes on a CPU: a faster one would win nothing.
    "h264": Encoder(name="libx264", crf=17, preset="medium", presets=_X26_PRESETS, odd_sizes=False),
    "h265": Encoder(
        name="libx265",
        crf=19,
        preset="medium",
        presets=_X26_PRESETS,
        odd_sizes=False,
        options={"x265-params": "log-level=error"},
    ),
    "av1": Encoder(
        name="libsvtav1",
        crf=22,
        worst_crf=63,
        preset="6",
        presets=_numbers(13),
        odd_sizes=False,
        environment={"SVT_LOG": "1"},
    ),
    "vp9": Encoder(
        name="libvpx-vp9",
        crf=18,
        worst_crf=63,
        preset_option="cpu-used",
        preset="3",
        presets=_numbers(8),
        options={"row-mt": "1", "b": "0"},
    ),
    "ffv1": Encoder(name="ffv1", options={"level": "3", "slicecrc": "1"}),  # with checksums
}

_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})


@dataclass(frozen=True, slots=True)
class Container:
    """`audio` are the codecs that players expect in it, None for any: FFmpeg would also write Vorbis or PCM
    into MP4, which most players then do not play."""

    format: str
    codecs: tuple[str, ...]  # keys of ENCODERS, the default first
    audio: frozenset[str] | None
    pcm: bool = False  # whether uncompressed audio of any kind is at home in it
    streams: bool = False  # whether it can be written to a pipe, where nothing written can be changed
    options: Mapping[str, str] = field(default_factory=dict)


# faststart puts the index first, so that a browser shows the first frame before it has the whole file. The
# movie timescale is the unit of edit lists: FFmpeg's 1000 would move a late start by up to half a ms.
_ISO = {"movflags": "faststart", "movie_timescale": "90000"}
CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "h265", "av1", "vp9"), _MP4_AUDIO, options=_ISO),
    ".m4v": Container("mp4", ("h264", "h265", "av1"), _MP4_AUDIO, options=_ISO),
    ".mov": Container(
        "mov",
        ("h264", "h265"),
        frozenset({"aac", "mp3", "ac3", "eac3", "alac"}),
        pcm=True,
        options=_ISO,
    ),
    ".mkv": Container("matroska", ("h264", "h265", "av1", "vp9", "ffv1"), None, pcm=True, streams=True),
    ".webm": Container("webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), streams=True),
}


RAW_FORMATS = ("y4m", "rawvideo")
"""Formats of uncompressed pictures alone, which flavr_runtime.pipes reads and writes."""

OUTPUT_FORMATS = (*RAW_FORMATS, *dict.fromkeys(container.format for container in CONTAINERS.values()))


def container_for(path: Path, name: str | None = None) -> Container:
    """The container with FFmpeg's name `name`, else the one that a file's suffix asks for.

    Raises UsageError for an unknown name, OutputError for what cannot be written at `path`.
    """
    by_name = {container.format: container for container in reversed(CONTAINERS.values())}
    if name is not None:
        if name not in by_name:
            raise UsageError(f"unknown output format {name}; use one of {', '.join(OUTPUT_FORMATS)}")
        container = by_name[name]
        if str(path) == STDOUT and not container.streams:
            able = [each for each in OUTPUT_FORMATS if each in RAW_FORMATS or by_name[each].streams]
            raise OutputError(
                f"{name} cannot be written to standard output; use --output-format {' or '.join(able)}"
            )
        return container
    found = CONTAINERS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(CONTAINERS)
        raise OutputError(
            f"{path}: cannot write {path.suffix} files; use {known}, or a name without suffix for a folder "
            "of images"
        )
    return found


def encoder_for(path: Path, container: Container, options: EncodeOptions) -> tuple[Encoder, av.Codec]:
    """The encoder asked for, checked against the container and this FFmpeg build.

    Raises UsageError for an option that is never valid, OutputError for one that does not fit here.
    """
    key = options.codec or container.codecs[0]
    if key not in ENCODERS:
        raise UsageError(f"unknown codec {key}; use one of {', '.join(ENCODERS)}")
    if key not in container.codecs:
        fit = next(suffix for suffix, other in CONTAINERS.items() if key in other.codecs)
        raise OutputError(
            f"{path}: {path.suffix or container.format} does not hold {key}; "
            f"use {fit}, or one of {', '.join(container.codecs)}"
        )
    encoder = ENCODERS[key]
    _check_options(key, encoder, options)
    try:
        return encoder, av.Codec(encoder.name, "w")
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(
            f"this FFmpeg build has no {encoder.name} encoder; choose another codec than {key}"
        ) from error


def _check_options(key: str, encoder: Encoder, options: EncodeOptions) -> None:
    if options.crf is not None:
        if encoder.crf is None:
            raise UsageError(f"{key} is lossless: it takes no crf")
        if not 0 <= options.crf <= encoder.worst_crf:
            raise UsageError(f"crf {options.crf}: {key} takes 0 (best) to {encoder.worst_crf}")
    if options.preset is not None and options.preset not in encoder.presets:
        known = ", ".join(encoder.presets) or "none"
        raise UsageError(f"preset {options.preset}: {key} has {known}")


def choose_pixel_format(source: str, width: int, height: int, encoder: Encoder, taken: list[str]) -> str:
    """The format to encode in: the source's own where the encoder takes it, else the nearest that it takes.

    RGB becomes 4:2:0 where the size allows and the encoder is a lossy one, since few players show any other
    H.264. Depth is kept before layout, and more is taken than is needed rather than less. Alpha is left out
    (the reader has made sure that none is lost). Raises OutputError if nothing fits.
    """
    candidates: list[str] = [source]
    bits = bits_of(source)
    yuv = re.match(r"yuv[ja]?(4\d\d)p", source)
    if yuv:
        depths = _depths_from(bits)
        exact, others = (depths[:1], depths[1:])
        # yuvj is yuv with a tag that says full range, which the spec carries.
        candidates += [f"yuv{layout}p{each}" for each in exact for layout in (yuv[1], "444", "420")]
        candidates += [f"yuv{layout}p{each}" for each in others for layout in (yuv[1], "422", "444", "420")]
    elif source.startswith("gray"):
        depths = _depths_from(bits)
        candidates += [f"{kind}{each}" for each in depths for kind in ("gray", "yuv420p", "yuv444p")]
    elif source in _NEAREST:
        candidates += [*_NEAREST[source], "yuv420p", "yuv444p"]
    else:
        depths = _depths_from(bits)
        if encoder.crf is None:
            candidates += ["bgr0"] * (bits == 8) + [f"gbrp{each}" for each in _depths_from(bits)]
        candidates += [f"yuv{layout}p{each}" for each in depths for layout in ("420", "422", "444")]
    for name in candidates:
        if name not in taken or not writable_formats(name) or has_alpha(name):
            continue
        if encoder.odd_sizes or not _is_odd(name, width, height):
            return name
    raise OutputError(f"{encoder.name} takes neither {source} nor anything near it at {width}x{height}")


def _depths_from(bits: int) -> list[str]:
    """How pixel format names end: this depth first, then the next larger ones, then the next smaller ones."""
    known = (8, 9, 10, 12, 14, 16)
    below = [each for each in reversed(known) if each < bits]
    ranked = [each for each in known if each >= bits] + below
    return ["" if each == 8 else f"{each}le" for each in ranked]


_NEAREST = {
    "nv16": ["yuv422p"], "nv21": ["yuv420p"], "nv12": ["yuv420p"], "nv24": ["yuv444p"], "nv42": ["yuv444p"],
    "yuyv422": ["yuv422p"], "uyvy422": ["yuv422p"], "yvyu422": ["yuv422p"],
    "uyyvyy411": ["yuv411p", "yuv444p"],
    "p010le": ["yuv420p10le"], "p210le": ["yuv422p10le"], "p410le": ["yuv444p10le"],
}  # fmt: skip


def _is_odd(pixel_format: str, width: int, height: int) -> bool:
    layout = av.VideoFormat(pixel_format, width, height)
    across, down = 64 // layout.chroma_width(64), 64 // layout.chroma_height(64)
    return bool(width % across or height % down)
