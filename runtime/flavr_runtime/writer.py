"""Write frames as a video file, with the sound and everything else that the source had."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType
from av.video.stream import VideoStream

from flavr_runtime._destination import STDOUT, Destination, FileDestination, StdoutDestination
from flavr_runtime._pictures import Pictures
from flavr_runtime.colour import has_alpha
from flavr_runtime.encoders import EncodeOptions, choose_pixel_format, container_for, encoder_for
from flavr_runtime.errors import OutputError
from flavr_runtime.frames import Frame
from flavr_runtime.passthrough import AudioCopy, carried_tags, check_audio
from flavr_runtime.traits import MediaSource

__all__ = ["EncodeOptions", "VideoWriter"]

# MP4 and MOV count time in a 32-bit number of ticks per second.
_FINEST_TICK = 1 << 31
_COMMON_CLOCK = 90_000


class VideoWriter:
    """A video file as a sink of frames; the file appears under its name when the `with` block ends well.

    The path "-" is standard output. `container`, FFmpeg's name for one (matroska, mp4), overrides what the
    path's suffix asks for; standard output takes one of those that can be written without seeking.

    With `constant_rate` (default: as the source), a frame is shown at exactly start + k / rate, else at its
    own `time`, and the last one is held until the source's end. `stretch` is how much longer than the source
    the result lasts (slow motion), which applies to the end and the chapters; sound cannot follow it.

    The constructor raises OutputError for all that can be known without encoding; entering the `with` block
    starts the encoder and writes the header, so that a refused setting or a read-only folder shows then.
    """

    def __init__(
        self,
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
    ) -> None:
        self._path = Path(path)
        self._info, self._traits = source.info, source.traits
        self._rate = rate
        self._options = options or EncodeOptions()
        self._constant = self._info.constant_rate if constant_rate is None else constant_rate
        self._stretch = stretch
        self._notices: list[str] = []
        self._layout = container_for(self._path, container)
        self._encoder, codec = encoder_for(self._path, self._layout, self._options)
        self._destination: Destination = (
            StdoutDestination()
            if self._path == Path(STDOUT)
            else FileDestination(self._path, self._info.path, overwrite)
        )
        self._audio_wanted = audio and bool(self._traits.audio)
        if self._audio_wanted:
            if stretch != 1:
                raise OutputError("sound cannot be kept in slow motion; use --no-audio")
            check_audio(self._path, self._layout, self._traits.audio)
        self._name = self._destination.name
        self._pixel_format = self._choose_format([each.name for each in codec.video_formats or ()])
        self._colour = self._traits.colour.for_format(self._pixel_format, self._info.width, self._info.height)
        if self._traits.other_streams:
            self._notices.append(f"not carried over: {', '.join(self._traits.other_streams)}")

        self._time_base = self._choose_time_base()
        self._pictures = Pictures(self._pixel_format, self._traits.colour, self._colour)
        self._index = -1
        self._first_pts = self._last_pts = 0
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._audio: AudioCopy | None = None

    @property
    def notices(self) -> list[str]:
        return self._notices

    def __enter__(self) -> Self:
        with self._cleaned_up():
            self._open()
        return self

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises OutputError if the encoder or the disk refuses it."""
        if self._stream is None:
            raise OutputError("the writer is not open: use it in a with block")
        picture = self._pictures.of(frame)
        if (picture.width, picture.height) != (self._info.width, self._info.height):
            # PyAV would scale it without a word.
            raise OutputError(
                f"{self._name}: a frame of {picture.width}x{picture.height} in a video of "
                f"{self._info.width}x{self._info.height}"
            )
        pts = self._pts(frame)
        picture.pts, picture.time_base = pts, self._time_base
        picture.duration = max(1, round(1 / (self._rate * self._time_base)))
        # A decoded frame remembers that it was a key or B frame, and the encoder would obey that.
        picture.pict_type = PictureType.NONE
        self._last_pts = pts
        with self._mapped_errors():
            self._mux(self._stream.encode(picture))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        with self._cleaned_up():
            self._finish()
            self._destination.publish()

    def _open(self) -> None:
        info, traits = self._info, self._traits
        for name, value in self._encoder.environment.items():
            os.environ.setdefault(name, value)  # these print their settings on stderr, whatever FFmpeg says
        with self._mapped_errors():
            target = self._destination.target()
            container = self._container = av.open(
                f"file:{target}" if isinstance(target, str) else target,
                "w",
                format=self._layout.format,
                container_options=dict(self._layout.options),
            )
            container.metadata.update(carried_tags(traits.metadata))
            self._carry_chapters(container)
            stream = cast(
                "VideoStream",
                container.add_stream(self._encoder.name, rate=self._rate, options=self._encoder_options()),
            )
            context = stream.codec_context
            context.width, context.height = info.width, info.height
            context.pix_fmt = self._pixel_format
            context.time_base = self._time_base
            context.thread_count = 0
            self._colour.tag(context)
            if traits.sample_aspect_ratio:
                context.sample_aspect_ratio = traits.sample_aspect_ratio
            if traits.display_matrix is not None:
                stream.set_display_matrix(traits.display_matrix)
            stream.metadata.update(carried_tags(traits.stream_metadata))
            self._stream = stream
            if self._audio_wanted:
                self._audio = AudioCopy(info.path, container, traits.origin)
            container.start_encoding()

    def _encoder_options(self) -> dict[str, str]:
        encoder, options = self._encoder, dict(self._encoder.options)
        crf = self._options.crf if self._options.crf is not None else encoder.crf
        if crf is not None:
            options["crf"] = str(crf)
        preset = self._options.preset or encoder.preset
        if preset:
            options[encoder.preset_option] = preset
        return options

    def _choose_format(self, taken: list[str]) -> str:
        source, width, height = self._traits.pixel_format, self._info.width, self._info.height
        wanted = self._options.pixel_format
        chosen = choose_pixel_format(wanted or source, width, height, self._encoder, taken)
        if wanted not in (None, chosen):
            raise OutputError(f"{self._encoder.name} cannot write {wanted} at {width}x{height}; try {chosen}")
        if wanted is None and chosen != source:
            why = f"{self._encoder.name} does not take {source}"
            if has_alpha(source):
                why = "no transparency is kept"
            elif source in taken:
                why = f"{self._encoder.name} needs even sizes for {source}, and this is {width}x{height}"
            self._notices.append(f"{source} is encoded as {chosen}: {why}")
        return chosen

    def _choose_time_base(self) -> Fraction:
        """Seconds per tick, such that every time of the result is a whole number of ticks."""
        start = self._traits.start * self._stretch
        if not self._constant:
            clock = math.lcm((self._traits.tick * self._stretch).denominator, _COMMON_CLOCK)
            return Fraction(1, clock if clock <= _FINEST_TICK // 16 else _COMMON_CLOCK * 16)
        if (start * self._rate).denominator == 1:
            return 1 / self._rate
        # Off the grid (video that begins after its sound): finer, so that the start is exact as well. A start
        # too odd for that moves by less than 6 microseconds, the grid stays exact.
        fine = math.lcm(self._rate.numerator, start.denominator)
        if fine > _FINEST_TICK // 16:
            fine = self._rate.numerator * math.ceil(Fraction(_COMMON_CLOCK, self._rate.numerator))
        return Fraction(1, fine)

    def _pts(self, frame: Frame) -> int:
        if self._index < 0:
            self._first_pts = self._last_pts = round(frame.time / self._time_base)
            self._index = 0
            return self._first_pts
        if not self._constant:
            self._index += 1
            return max(self._last_pts + 1, round(frame.time / self._time_base))
        since = frame.time - self._first_pts * self._time_base
        self._index = max(self._index + 1, round(since * self._rate))
        return self._first_pts + round(self._index / (self._rate * self._time_base))

    def _carry_chapters(self, container: OutputContainer) -> None:
        carried = []
        for chapter in self._traits.chapters:
            tick = chapter["time_base"] or Fraction(1, 1000)
            start, end = (
                round((at * tick - self._traits.origin) * self._stretch / tick)
                for at in (chapter["start"], chapter["end"])
            )
            carried.append(chapter | {"start": start, "end": end, "time_base": tick})
        if carried:
            container.set_chapters(carried)

    def _mux(self, packets: Sequence[Packet[VideoStream]], *, flushing: bool = False) -> None:
        if self._container is None:
            return
        for packet in packets:
            # At a variable rate the last frame is held to the source's end; at a constant one that would
            # make the average rate, which editors go by, anything but the exact one. MP4 takes its length
            # from the last packet in decoding order, Matroska from the last one shown.
            last = packet.pts == self._last_pts or packet is packets[-1]
            if flushing and last and not self._constant:
                end = round(self._traits.end * self._stretch / self._time_base)
                packet.duration = max(packet.duration or 1, end - self._last_pts)
            if self._audio is not None and packet.dts is not None:
                self._audio.mux_until(packet.dts * self._time_base)
            self._container.mux(packet)

    def _finish(self) -> None:
        if self._container is None or self._stream is None:
            return
        if self._index < 0:
            raise OutputError(f"{self._name}: no frame was written")
        with self._mapped_errors():
            self._mux(self._stream.encode(None), flushing=True)
            if self._audio is not None:
                self._audio.mux_until(None)
            self._container.close()
        self._release()

    def _release(self) -> None:
        if self._audio is not None:
            self._audio.close()
        self._container = self._stream = self._audio = None

    def _discard(self) -> None:
        with contextlib.suppress(Exception):
            if self._container is not None:
                self._container.close()
        self._release()
        self._destination.discard()

    @contextlib.contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # KeyboardInterrupt too: no half-written file may stay
            self._discard()
            raise

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read standard output has seen enough
        except (av.FFmpegError, OSError, ValueError) as error:
            number = getattr(error, "errno", None)
            if number == errno.ENOSPC:
                raise OutputError(f"{self._name}: the disk is full; free some space and run again") from error
            what = getattr(error, "strerror", None) or str(error)
            raise OutputError(f"{self._name}: {self._encoder.name} cannot write it ({what})") from error
