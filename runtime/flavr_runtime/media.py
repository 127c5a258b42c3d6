"""Open whatever a path stands for: a video file, a folder of images, or a pipe."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from flavr_runtime._destination import is_stream
from flavr_runtime._sequences import NumberPattern, is_sequence
from flavr_runtime.colour import writable_formats
from flavr_runtime.encoders import CONTAINERS, OUTPUT_FORMATS, RAW_FORMATS
from flavr_runtime.errors import InputError, OutputError, UsageError, system_errors
from flavr_runtime.frames import FrameSink
from flavr_runtime.image_writer import ImageWriter
from flavr_runtime.images import ImageReader
from flavr_runtime.pipes import STDIN, PipeReader, PipeWriter, RawVideo
from flavr_runtime.reader import VideoReader
from flavr_runtime.traits import MediaSource
from flavr_runtime.workfolder import WorkFolder
from flavr_runtime.writer import EncodeOptions, VideoWriter

__all__ = ["ReadOptions", "open_sink", "open_source"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What an input does not say of itself; None takes what it says, or the default."""

    format: str | None = None  # y4m or rawvideo
    size: tuple[int, int] | None = None  # (width, height) of rawvideo
    pixel_format: str | None = None  # of rawvideo
    rate: Fraction | None = None  # of images, rawvideo, and y4m
    drop_alpha: bool = False


@system_errors(InputError)
def open_source(path: Path | str, options: ReadOptions | None = None) -> MediaSource:
    """The reader for `path`: images for a folder, glob or pattern; y4m for "-" and a named pipe.

    Raises InputError for what cannot be read, UsageError for options that are missing or do not fit.
    """
    options = options or ReadOptions()
    path = Path(path)
    kind = options.format or ("y4m" if _is_piped_in(path) else None)
    if kind == "rawvideo":
        return PipeReader(path, _raw_video(path, options), drop_alpha=options.drop_alpha)
    for name, value in (("video-size", options.size), ("input-pixel-format", options.pixel_format)):
        if value is not None:
            raise UsageError(f"--{name} is for --input-format rawvideo")
    if kind == "y4m":
        return PipeReader(path, rate=options.rate, drop_alpha=options.drop_alpha)
    if not is_sequence(path):
        if options.rate is not None:
            raise UsageError(f"--framerate is for images, y4m and rawvideo: {path} has times of its own")
        return VideoReader(path, drop_alpha=options.drop_alpha)
    if options.rate is None:
        raise UsageError(f"{path}: images have no frame rate of their own; state it")
    return ImageReader(path, options.rate, drop_alpha=options.drop_alpha)


@system_errors(OutputError)
def open_sink(
    path: Path | str,
    source: MediaSource,
    rate: Fraction,
    options: EncodeOptions | None = None,
    *,
    container: str | None = None,
    audio: bool = True,
    overwrite: bool = False,
    constant_rate: bool | None = None,
    stretch: Fraction = Fraction(1),
    work: WorkFolder | None = None,
) -> FrameSink:
    """The writer for `path`: a folder of PNG images where it has no suffix or ends in a slash, numbered
    images for a pattern (shots/%04d.tif), else a video.

    "-" is standard output. `container` is one of OUTPUT_FORMATS and overrides what the path asks for; by
    default standard output is y4m, as is a named pipe or a device whose name asks for nothing. The other
    options are those of VideoWriter. Raises OutputError.
    """
    if str(path) == "":
        raise UsageError("'' is no output: give the name of a video file or of a folder, or - for a pipe")
    target = Path(path)
    if container not in (None, *OUTPUT_FORMATS):
        raise UsageError(f"unknown output format {container}; use one of {', '.join(OUTPUT_FORMATS)}")
    suffix, streamed = target.suffix.lower(), is_stream(path)
    if container is None and (suffix == ".y4m" or (streamed and suffix not in CONTAINERS)):
        container = "y4m"
    if work is not None and work.resume and (container in RAW_FORMATS or streamed):
        kind = container or suffix[1:]
        raise UsageError(f"--resume: what goes to {path} as {kind} cannot be continued; name a video file")
    if container in RAW_FORMATS:
        return PipeWriter(
            target,
            source,
            rate,
            options,
            kind=container,
            overwrite=overwrite,
            constant_rate=constant_rate,
        )
    if container is None and (
        NumberPattern.of(path) or target.is_dir() or not target.suffix or str(path).endswith(("/", os.sep))
    ):
        (options or EncodeOptions()).refuse(f"{path} stands for images, written without an encoder")
        return ImageWriter(target, source, overwrite=overwrite, constant_rate=constant_rate, work=work)
    return VideoWriter(
        target,
        source,
        rate,
        options,
        container=container,
        audio=audio,
        overwrite=overwrite,
        constant_rate=constant_rate,
        stretch=stretch,
        work=work,
    )


def _is_piped_in(path: Path) -> bool:
    return str(path) == STDIN or path.is_fifo() or path.suffix.lower() == ".y4m"


def _raw_video(path: Path, options: ReadOptions) -> RawVideo:
    if options.size is None or options.pixel_format is None or options.rate is None:
        raise UsageError(
            f"{path}: rawvideo has no header; state --video-size WxH, --input-pixel-format and --framerate"
        )
    name = options.pixel_format
    try:
        known = av.VideoFormat(name).name == name and writable_formats(name)
    except ValueError:
        known = False
    if not known:
        raise UsageError(
            f"--input-pixel-format {name} is not supported; use yuv420p, yuv422p10le, gray, rgb24, ..."
        )
    return RawVideo(*options.size, name, options.rate)
