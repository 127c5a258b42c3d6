"""Which encoders and containers `flavr-run` writes, as tables: a new one is a new row."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error

from flavr_runtime._containers import CONTAINERS, Container
from flavr_runtime._destination import is_stdout, is_stream
from flavr_runtime.errors import OutputError, UsageError
from flavr_runtime.hdr import HDR_WRITERS, HdrMetadata
from flavr_runtime.traits import CHROMA_SITES, ChromaSite

__all__ = [
    "ALIASES", "CONTAINERS", "ENCODERS", "OUTPUT_FORMATS", "RAW_FORMATS", "SUFFIXES", "Container",
    "EncodeOptions", "Encoder", "container_for", "encoder_for", "encoder_options",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How the result is encoded; None takes the default of the container or of the encoder."""

    codec: str | None = None  # a key of ENCODERS
    crf: int | None = None  # the encoder's quality number: lower is better and larger
    preset: str | None = None
    pixel_format: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)  # options of the encoder itself, by FFmpeg's names

    def refuse(self, kind: str, *, but: Collection[str] = ()) -> None:
        """Raises UsageError, which says what `kind` is, for whatever is set but for those named."""
        options = {
            "codec": self.codec, "crf": self.crf, "preset": self.preset, "pixel-format": self.pixel_format,
            "encoder-option": self.more or None,
        }  # fmt: skip
        given = next((name for name, value in options.items() if value is not None and name not in but), None)
        if given is not None:
            raise UsageError(f"{kind}: it takes no --{given}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """`crf` keeps source frames visually lossless: they are encoded a second time here, and every second or
    third frame of the result is one of them, so a loss would be seen as flicker between the two kinds."""

    name: str  # FFmpeg's
    crf: int | None = None  # None: it has no such number
    best_crf: int = 0  # 1 where FFmpeg takes 0 for "not set"
    worst_crf: int = 51
    crf_options: tuple[str, ...] = ("crf",)  # what the encoder calls it
    lossless: bool = False
    hardware: bool = False  # needs a device and its driver
    palette: bool = False  # 256 colours per picture
    preset_option: str = "preset"
    preset: str | None = None  # the default, one of ...
    presets: tuple[str, ...] = ()
    odd_sizes: bool = True  # whether 4:2:0 of an odd width or height is taken
    chroma_sites: frozenset[ChromaSite] = frozenset()  # those that its stream can say, all tried
    parameters: str | None = None  # the option that takes the encoder's own list, a key of HDR_WRITERS
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)  # set unless it is set already


_X26_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


def _numbers(last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(last + 1))


_HARDWARE_CODECS = {"h264": "h264", "h265": "hevc", "av1": "av1"}
ENCODERS = {
    # 17 is the crf at which x264 is commonly held to be indistinguishable from its source; "medium" costs
    # about 10 ms per 854x480 frame, 1 % of what the network takes on a CPU: a faster one would win nothing.
    "h264": Encoder(
        name="libx264",
        crf=17,
        preset="medium",
        presets=_X26_PRESETS,
        odd_sizes=False,
        chroma_sites=CHROMA_SITES,
        parameters="x264-params",
    ),
    "h265": Encoder(
        name="libx265",
        crf=19,
        preset="medium",
        presets=_X26_PRESETS,
        odd_sizes=False,
        chroma_sites=CHROMA_SITES,
        parameters="x265-params",
        # Without a list of its settings, which names the CPU: a run may go on on another machine.
        options={"x265-params": "log-level=error:info=0"},
    ),
    "av1": Encoder(
        name="libsvtav1",
        crf=22,
        best_crf=1,
        worst_crf=63,
        preset="6",
        presets=_numbers(13),
        odd_sizes=False,
        chroma_sites=frozenset({"left", "topleft"}),
        parameters="svtav1-params",
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
    "ffv1": Encoder(name="ffv1", lossless=True, options={"level": "3", "slicecrc": "1"}),  # with checksums
    # Without a profile it takes HQ for 4:2:2 and 4444 for 4:4:4. Some editors accept Apple's name only.
    "prores": Encoder(
        name="prores_ks",
        preset_option="profile",
        presets=("proxy", "lt", "standard", "hq", "4444", "4444xq"),
        options={"vendor": "apl0"},
    ),
    "mpeg4": Encoder(
        name="mpeg4",
        crf=2,
        best_crf=1,
        worst_crf=31,
        crf_options=("qmin", "qmax"),  # a quantiser that is the same for all
        odd_sizes=False,
        options={"b": "200M"},
    ),
    # A palette in the file's head would belong to the first segment alone.
    "gif": Encoder(name="gif", palette=True, options={"global_palette": "0"}),
    **{
        f"{codec}_nvenc": Encoder(
            name=f"{ffmpeg}_nvenc",
            crf=19,
            best_crf=1,
            crf_options=("cq",),
            preset="p5",
            presets=tuple(f"p{number}" for number in range(1, 8)),
            odd_sizes=False,
            hardware=True,
            options={"rc": "vbr", "b": "0"},
        )
        for codec, ffmpeg in _HARDWARE_CODECS.items()
    },
    **{
        f"{codec}_qsv": Encoder(
            name=f"{ffmpeg}_qsv",
            crf=19,
            best_crf=1,
            crf_options=("global_quality",),
            preset="medium",
            presets=_X26_PRESETS[2:9],
            odd_sizes=False,
            hardware=True,
        )
        for codec, ffmpeg in _HARDWARE_CODECS.items()
    },
    **{
        f"{codec}_amf": Encoder(
            name=f"{ffmpeg}_amf",
            crf=19,
            crf_options=("qp_i", "qp_p"),
            preset_option="quality",
            preset="balanced",
            presets=("speed", "balanced", "quality"),
            odd_sizes=False,
            hardware=True,
            options={"rc": "cqp"},
        )
        for codec, ffmpeg in _HARDWARE_CODECS.items()
    },
    **{  # macOS only; the bit rate is the one control that every version of it has
        f"{codec}_videotoolbox": Encoder(
            name=f"{ffmpeg}_videotoolbox", odd_sizes=False, hardware=True, options={"b": "20M"}
        )
        for codec, ffmpeg in _HARDWARE_CODECS.items()
        if codec != "av1"
    },
}
ALIASES = {
    "hevc": "h265",
    **{f"hevc_{kind}": f"h265_{kind}" for kind in ("nvenc", "qsv", "amf", "videotoolbox")},
}
"""Other names that people use for keys of ENCODERS."""

RAW_FORMATS = ("y4m", "rawvideo")
"""Formats of uncompressed pictures alone, which flavr_runtime.pipes reads and writes."""

OUTPUT_FORMATS = (*RAW_FORMATS, *dict.fromkeys(container.format for container in CONTAINERS.values()))

SUFFIXES = {
    "y4m": ".y4m",
    "rawvideo": ".raw",
    **{container.format: suffix for suffix, container in reversed(CONTAINERS.items())},
}
"""What files of each of OUTPUT_FORMATS are called."""


def container_for(path: Path, name: str | None = None) -> Container:
    """The container with FFmpeg's name `name`, else the one that a file's suffix asks for.

    Raises UsageError for an unknown name, OutputError for what cannot be written at `path`.
    """
    by_name = {container.format: container for container in reversed(CONTAINERS.values())}
    if name is not None:
        if name not in by_name:
            raise UsageError(f"unknown output format {name}; use one of {', '.join(OUTPUT_FORMATS)}")
        found: Container | None = by_name[name]
    else:
        found = CONTAINERS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(CONTAINERS)
        raise OutputError(
            f"{path}: cannot write {path.suffix} files; use {known}, or a name without suffix for a folder "
            "of images"
        )
    if is_stream(path) and not found.streams:
        able = [each for each in OUTPUT_FORMATS if each in RAW_FORMATS or by_name[each].streams]
        target = "standard output" if is_stdout(path) else f"{path}, which cannot seek"
        raise OutputError(
            f"{found.format} cannot be written to {target}; use --output-format {' or '.join(able)}"
        )
    return found


def encoder_options(
    encoder: Encoder,
    options: EncodeOptions,
    hdr: HdrMetadata | None = None,
    chroma_site: ChromaSite | None = None,
) -> dict[str, str]:
    """What FFmpeg is given; the user's own come last, and lists of parameters are joined."""
    found = dict(encoder.options)
    crf = encoder.crf if options.crf is None else options.crf
    if crf is not None:
        found |= dict.fromkeys(encoder.crf_options, str(crf))
    preset = options.preset or encoder.preset
    if preset:
        found[encoder.preset_option] = preset
    if chroma_site is not None:
        found["chroma_sample_location"] = chroma_site
    more = dict(options.more)
    if hdr is not None and encoder.parameters is not None:
        theirs = more.get(encoder.parameters)
        more[encoder.parameters] = HDR_WRITERS[encoder.parameters](hdr) + (f":{theirs}" if theirs else "")
    for name, value in more.items():
        found[name] = f"{found[name]}:{value}" if name.endswith("-params") and name in found else value
    return found


def encoder_for(path: Path, container: Container, options: EncodeOptions) -> tuple[Encoder, av.Codec]:
    """The encoder asked for, checked against the container and this FFmpeg build.

    Raises UsageError for an option that is never valid, OutputError for one that does not fit here.
    """
    key = options.codec or container.codecs[0]
    key = ALIASES.get(key, key)
    if key not in ENCODERS:
        known = ", ".join(name for name, encoder in ENCODERS.items() if not encoder.hardware)
        raise UsageError(f"unknown codec {key}; use one of {known}, or see --help for hardware encoders")
    if key.partition("_")[0] not in container.codecs:
        codec = key.partition("_")[0]
        fit = next(suffix for suffix, other in CONTAINERS.items() if codec in other.codecs)
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
            why = "is lossless" if encoder.lossless else "has no such number"
            raise UsageError(f"{key} {why}: it takes no crf")
        if not encoder.best_crf <= options.crf <= encoder.worst_crf:
            raise UsageError(
                f"crf {options.crf}: {key} takes {encoder.best_crf} (best) to {encoder.worst_crf}"
            )
    if options.preset is not None and options.preset not in encoder.presets:
        known = ", ".join(encoder.presets) or "none"
        raise UsageError(f"preset {options.preset}: {key} has {known}")
