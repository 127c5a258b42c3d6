"""Open whatever a path stands for: a video file or a folder of images."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from flavr_runtime.errors import OutputError, UsageError
from flavr_runtime.frames import FrameSink
from flavr_runtime.images import ImageFolderReader, ImageFolderWriter
from flavr_runtime.reader import VideoReader
from flavr_runtime.traits import MediaSource
from flavr_runtime.writer import EncodeOptions, VideoWriter

__all__ = ["open_sink", "open_source"]


def open_source(
    path: Path | str, image_rate: Fraction | None = None, *, drop_alpha: bool = False
) -> MediaSource:
    """The reader for `path`: a folder is one of images, shown at `image_rate` per second.

    Raises InputError for what cannot be read, UsageError for a folder without a rate.
    """
    if not Path(path).is_dir():
        return VideoReader(path, drop_alpha=drop_alpha)
    if image_rate is None:
        raise UsageError(f"{path}: a folder of images has no frame rate of its own; state it")
    return ImageFolderReader(path, image_rate)


def open_sink(
    path: Path | str,
    source: MediaSource,
    rate: Fraction,
    options: EncodeOptions | None = None,
    *,
    audio: bool = True,
    overwrite: bool = False,
    constant_rate: bool | None = None,
    stretch: Fraction = Fraction(1),
) -> FrameSink:
    """The writer for `path`: a folder of PNG images where it has no suffix or ends in a slash, else a video.

    The options are those of VideoWriter. Raises OutputError.
    """
    if str(path) in ("", "-"):
        raise OutputError(f"{str(path)!r} is no output: give the name of a video file or of a folder")
    target = Path(path)
    if target.is_dir() or not target.suffix or str(path).endswith(("/", os.sep)):
        return ImageFolderWriter(target, source, overwrite=overwrite)
    return VideoWriter(
        target,
        source,
        rate,
        options,
        audio=audio,
        overwrite=overwrite,
        constant_rate=constant_rate,
        stretch=stretch,
    )
