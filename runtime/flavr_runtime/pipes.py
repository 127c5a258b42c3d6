"""Uncompressed pictures one after the other, as programs pipe them: y4m and rawvideo, read and written."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import numpy as np

from flavr_runtime import _y4m
from flavr_runtime._destination import Destination, FileDestination, stream_destination
from flavr_runtime._pictures import Pictures
from flavr_runtime._pixel_formats import choose_pixel_format
from flavr_runtime._y4m import Y4mHeader
from flavr_runtime.colour import (
    ColourSpec,
    bits_of,
    has_alpha,
    is_opaque,
    planes_of,
    to_rgb,
    writable_formats,
)
from flavr_runtime.damage import Gap
from flavr_runtime.encoders import EncodeOptions, Encoder
from flavr_runtime.errors import InputError, OutputError
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.traits import MediaSource, SourceTraits, interlaced_notice

__all__ = ["PipeReader", "PipeWriter", "RawVideo"]

STDIN = "-"
_LONGEST_LINE = 4096
_FRAME = b"FRAME"
_RANGE = {None: 0, False: 1, True: 2}


@dataclass(frozen=True, slots=True)
class RawVideo:
    """What a stream of bare samples does not say of itself."""

    width: int
    height: int
    pixel_format: str  # FFmpeg's name
    rate: Fraction


class PipeReader:
    """A y4m stream, or with `raw` one of bare samples, from standard input ("-"), a named pipe or a file.

    Frames are read as they are asked for, and only the header before the first one is. Raises InputError,
    which names the frame where the stream stops in the middle of one: the program that wrote it has failed.
    """

    def __init__(
        self,
        path: Path | str,
        raw: RawVideo | None = None,
        *,
        rate: Fraction | None = None,
        drop_alpha: bool = False,
    ) -> None:
        """`rate` overrides that of a y4m header."""
        self._path = Path(path)
        self._name = "standard input" if str(path) == STDIN else str(path)
        self._drop_alpha = drop_alpha
        self._raw = raw
        self._stream = self._open()
        try:
            self._describe(raw, rate)
        except BaseException:
            self._stream.close()
            raise

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def traits(self) -> SourceTraits:
        return self._traits

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def gaps(self) -> list[Gap]:
        """A broken one is refused instead."""
        return []

    def frames(self) -> Iterator[Frame]:
        """Every frame, as it arrives."""
        index = 0
        while (picture := self._next_picture(index)) is not None:
            yield Frame(to_rgb(picture, self._traits.colour), index / self._info.rate, picture)
            index += 1
        if index == 0:
            raise InputError(f"{self._name}: there is no frame in it")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _open(self) -> FileIO:
        # A buffered reader cannot be closed while another thread waits in it for a program that has stalled.
        if str(self._path) != STDIN:
            try:
                return self._path.open("rb", buffering=0)
            except OSError as error:
                raise InputError(f"{self._path}: cannot be read ({error.strerror})") from error
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("standard input is a terminal: pipe a video into it, or name a file")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)

    def _describe(self, raw: RawVideo | None, rate: Fraction | None) -> None:
        if raw is not None:
            header = Y4mHeader(raw.width, raw.height, raw.pixel_format, raw.rate)
        else:
            with self._mapped_errors():
                line = self._stream.readline(_LONGEST_LINE)
            if not line:
                raise InputError(f"{self._name}: it is empty; the program before it has written nothing")
            header = _y4m.parse_header(line, self._name)
        rate = rate or header.rate
        if rate is None:
            raise InputError(f"{self._name}: the y4m header gives no frame rate; state it with --framerate")
        try:
            blank = av.VideoFrame(header.width, header.height, header.pixel_format)
        except av.FFmpegError as error:  # a picture of 2 GiB or more
            raise InputError(
                f"{self._name}: pictures of {header.width}x{header.height} are larger than can be handled"
            ) from error
        blank.color_range = _RANGE[header.full_range]
        colour = ColourSpec.of(blank)
        self._frame_size = sum(plane.nbytes for plane in planes_of(blank))
        self._header = header
        self._traits = SourceTraits(
            pixel_format=header.pixel_format,
            colour=colour,
            tick=1 / rate,
            sample_aspect_ratio=header.sample_aspect_ratio,
            chroma_site=header.chroma_site,
        )
        kind = "y4m" if raw is None else "rawvideo"
        self._info = StreamInfo(
            self._path, header.width, header.height, rate, True, self._count(),
            f"{kind} {header.pixel_format} {colour}", bits_of(header.pixel_format),
        )  # fmt: skip
        self._notices = [interlaced_notice(str(self._path))] if header.interlaced else []
        if has_alpha(header.pixel_format) and self._drop_alpha:
            self._notices.append(f"the transparency of {self._name} is dropped, as asked")

    def _count(self) -> int | None:
        """How many frames a file holds; None for a pipe."""
        status = os.fstat(self._stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        each = self._frame_size + (len(_FRAME) + 1 if self._raw is None else 0)
        return (status.st_size - self._stream.tell()) // each

    def _next_picture(self, index: int) -> av.VideoFrame | None:
        header = self._header
        with self._mapped_errors():
            if self._raw is None:
                line = self._stream.readline(_LONGEST_LINE)
                if not line:
                    return None
                if not line.startswith(_FRAME) or not line.endswith(b"\n"):
                    raise InputError(f"{self._name}: no frame where frame {index} should begin")
            samples = bytearray(self._frame_size)
            got, view = 0, memoryview(samples)
            while got < len(samples):
                more = self._stream.readinto(view[got:])
                if not more:
                    break
                got += more
        if got == 0 and self._raw is not None:
            return None
        if got < len(samples):
            raise InputError(
                f"{self._name}: cut off in frame {index} (counted from 0), after {got} of {len(samples)} "
                "bytes: the program that writes it has failed"
                + (", or the size or pixel format stated is not its own" if self._raw is not None else "")
            )
        picture = av.VideoFrame(header.width, header.height, header.pixel_format)
        self._traits.colour.tag(picture)
        start = 0
        for plane in planes_of(picture):
            part = np.frombuffer(samples, plane.dtype, plane.size, start)
            plane[...] = part.reshape(plane.shape)
            start += plane.nbytes
        if has_alpha(header.pixel_format) and not self._drop_alpha and not is_opaque(picture):
            raise InputError(
                f"{self._name}: frame {index} is transparent in places, which would be lost; --drop-alpha "
                "goes on without it"
            )
        return picture

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self._name}: cannot be read ({error.strerror or error})") from error


class PipeWriter:
    """y4m, or rawvideo (bare samples), to standard output ("-"), a named pipe or a file, frame by frame.

    Neither format has timestamps: a frame is shown for 1 / rate. Raises OutputError, from the constructor for
    all that can be known there.
    """

    def __init__(
        self,
        path: Path | str,
        source: MediaSource,
        rate: Fraction,
        options: EncodeOptions | None = None,
        *,
        kind: str = "y4m",
        overwrite: bool = False,
        constant_rate: bool | None = None,
    ) -> None:
        info, traits = source.info, source.traits
        options = options or EncodeOptions()
        options.refuse(f"{kind} is uncompressed", but=["pixel-format"])
        self._destination: Destination = stream_destination(Path(path), info.path) or FileDestination(
            Path(path), info.path, overwrite
        )
        self._name = self._destination.name
        if not (info.constant_rate if constant_rate is None else constant_rate):
            raise OutputError(f"{kind} has no timestamps, and {info.path} has a variable rate; state --fps")
        self._rate, self._kind, self._size = rate, kind, (info.width, info.height)
        pixel_format = _choose_format(kind, options.pixel_format, source)
        colour = traits.colour.for_format(pixel_format, info.width, info.height)
        site_lost = traits.site_lost(pixel_format, _y4m.chroma_sites(pixel_format) if kind == "y4m" else ())
        self._header = Y4mHeader(
            info.width,
            info.height,
            pixel_format,
            rate,
            sample_aspect_ratio=traits.sample_aspect_ratio,
            full_range=None if traits.colour.tag_range == 0 else colour.full_range,
            chroma_site=None if site_lost else traits.chroma_site,
        )
        self._pictures = Pictures(pixel_format, traits.colour, colour)
        self._notices = [f"{kind} holds pictures only; left out: {', '.join(lost)}"] if (
            lost := [*_lost(traits), *site_lost]
        ) else []  # fmt: skip
        if pixel_format != traits.pixel_format:
            self._notices.append(f"{traits.pixel_format} is written as {pixel_format}")
        if tags := colour.ffmpeg_options():
            self._notices.append(f"{kind} has no colour tags: give the program that reads it {tags}")
        if kind == "rawvideo":
            self._notices.append(
                "rawvideo has no header: the program that reads it needs "
                f"-video_size {info.width}x{info.height} -pixel_format {pixel_format} -framerate {rate}"
            )
        self._stream: BinaryIO | None = None
        self._first: Fraction | None = None
        self._written = 0
        self._last: av.VideoFrame | None = None

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def damage(self) -> list[str]:
        return []

    @property
    def kept(self) -> int:
        """A stream cannot be continued."""
        return 0

    def __enter__(self) -> Self:
        with self._mapped_errors():
            target = self._destination.target()
            self._stream = open(target, "wb", buffering=0) if isinstance(target, str) else target  # noqa: PTH123
            if self._kind == "y4m":
                self._put(_y4m.format_header(self._header))
        return self

    def write(self, frame: Frame) -> None:
        picture = self._pictures.of(frame)
        if (picture.width, picture.height) != self._size:
            raise OutputError(
                f"{self._name}: a frame of {picture.width}x{picture.height} in a stream of "
                f"{self._size[0]}x{self._size[1]}"
            )
        if self._first is None:
            self._first = frame.time
        # Where frames are missing the one before them is shown for longer, and what follows stays in time.
        place = round((frame.time - self._first) * self._rate)
        while self._last is not None and self._written < place:
            self._put_picture(self._last)
        self._put_picture(picture)
        self._last = picture

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        complete = error is None and self._written > 0
        if self._stream is not None and isinstance(self._destination, FileDestination):
            self._stream.close()
        if complete:
            self._destination.publish()
            return
        self._destination.discard()
        if error is None:
            raise OutputError(f"{self._name}: no frame was written")

    def _put_picture(self, picture: av.VideoFrame) -> None:
        with self._mapped_errors():
            if self._kind == "y4m":
                self._put(_FRAME + b"\n")
            for plane in planes_of(picture):
                self._put(np.ascontiguousarray(plane).view(np.uint8).reshape(-1).data)
        self._written += 1

    def _put(self, data: bytes | memoryview) -> None:
        if self._stream is None:
            raise OutputError("the writer is not open: use it in a with block")
        rest = memoryview(data)
        while rest:
            rest = rest[self._stream.write(rest) :]

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read it has seen enough
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OutputError(f"{self._name}: the disk is full; free some space and run again") from error
            raise OutputError(f"{self._name}: cannot be written ({error.strerror or error})") from error


def _choose_format(kind: str, wanted: str | None, source: MediaSource) -> str:
    traits, info = source.traits, source.info
    if kind == "rawvideo":
        taken = [name for name in (wanted, traits.pixel_format) if name and writable_formats(name)]
    else:
        taken = list(_y4m.PIXEL_FORMATS)
    nearest = "yuv444p" if traits.colour.matrix == "rgb" and kind == "y4m" else traits.pixel_format
    row = Encoder(name=kind, lossless=True)
    chosen = choose_pixel_format(
        wanted or nearest, info.width, info.height, row, [*taken, "yuv420p", "yuv444p"]
    )
    if wanted not in (None, chosen):
        raise OutputError(f"{kind} cannot hold {wanted}; try {chosen}")
    return chosen


def _lost(traits: SourceTraits) -> list[str]:
    parts = {
        "the sound": traits.audio,
        "the chapters": traits.chapters,
        "the rotation flag": traits.display_matrix,
        "the colour profile": traits.icc_profile,
        str(traits.hdr): traits.hdr,
        **dict.fromkeys([*map(str, traits.subtitles), *traits.other_streams], True),
    }
    return [name for name, present in parts.items() if present]
