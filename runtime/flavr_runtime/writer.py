"""Write frames as a video file, with the sound and everything else that the source had."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import av.logging
from av.container import OutputContainer
from av.stream import Disposition
from av.video.frame import PictureType
from av.video.stream import VideoStream

from flavr_runtime._containers import own_tags
from flavr_runtime._destination import check_place, stream_destination
from flavr_runtime._palette import to_palette
from flavr_runtime._pictures import Pictures
from flavr_runtime._pixel_formats import choose_pixel_format
from flavr_runtime.colour import has_alpha, is_420
from flavr_runtime.encoders import (
    Container,
    EncodeOptions,
    container_for,
    encoder_for,
    encoder_options,
)
from flavr_runtime.errors import OutputError
from flavr_runtime.frames import Frame
from flavr_runtime.muxing import EncodedVideo, OutputFile, StreamedVideo
from flavr_runtime.passthrough import Carried, carried_tags, check_audio, downmix_notices, plan_subtitles
from flavr_runtime.segmented import SegmentedVideo
from flavr_runtime.traits import MediaSource, SourceTraits
from flavr_runtime.workfolder import DISK_FULL, WorkFolder

__all__ = ["EncodeOptions", "VideoWriter"]

# MP4 and MOV count time in a 32-bit number of ticks per second.
_FINEST_TICK = 1 << 31
_COMMON_CLOCK = 90_000


class VideoWriter:
    """A video file as a sink of frames; the file appears under its name when the `with` block ends well.

    The path "-" is standard output. `container`, FFmpeg's name for one (matroska, mp4), overrides what the
    path's suffix asks for; standard output and named pipes take those that can be written without seeking.

    With `constant_rate` (default: as the source), a frame is shown at exactly start + k / rate, else at its
    own `time`, and the last one is held until the source's end. `stretch` is how much longer than the source
    the result lasts (slow motion), which applies to the end, the chapters and the subtitles, and to the
    sound, which keeps its pitch and is encoded anew.

    A file is encoded in segments that are kept in `work` until they are joined: see SegmentedVideo.

    The constructor raises OutputError for all that can be known without encoding; entering the `with` block
    tries the encoder and the container, so that a refused setting or a read-only folder shows then.
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
        work: WorkFolder | None = None,
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
        self._check_rate()
        destination = stream_destination(self._path, self._info.path)
        self._name = str(self._path) if destination is None else destination.name
        if destination is None:
            check_place(self._path, self._info.path, overwrite)
        self._audio_wanted = audio and bool(self._traits.audio) and self.holds_sound
        if self._traits.audio and not self.holds_sound:
            self._notices.append(f"{self._layout.format} has no sound: the audio is left out")
        if self._audio_wanted:
            # Sound that is stretched is encoded anew, so its codec does not matter.
            check_audio(self._path, self._layout, self._traits.audio if stretch == 1 else ())
            if stretch != 1 and self._layout.sound_encoder:
                self._notices += downmix_notices(self._layout.sound_encoder, self._traits.audio)
        self._pixel_format = self._choose_format([each.name for each in codec.video_formats or ()])
        self._colour = self._traits.colour.for_format(self._pixel_format, self._info.width, self._info.height)
        if not self._layout.colour_tags and (tags := self._colour.ffmpeg_options()):
            self._notices.append(
                f"{self._layout.format} has no colour tags: players guess what the source says ({tags})"
            )
        if self._traits.hdr is not None and self._encoder.parameters is None:
            self._notices.append(
                f"{self._encoder.name} does not write the source's {self._traits.hdr}: it is left out; h265 "
                "and av1 keep it"
            )
        subtitles, notices = plan_subtitles(self._layout, self._traits.subtitles)
        self._notices += notices
        sites = self._layout.chroma_sites | self._encoder.chroma_sites
        self._site = self._traits.chroma_site if self._traits.chroma_site in sites else None
        self._notices += _lost(self._layout, self._traits, self._traits.site_lost(self._pixel_format, sites))

        self._time_base = self._choose_time_base()
        self._pictures = Pictures(self._pixel_format, self._traits.colour, self._colour)
        self._index = -1
        self._first_pts = self._last_pts = 0
        self._began = Fraction(0)
        self._written = self._continued_at = 0
        output = self._output = OutputFile(
            self._layout,
            self._traits,
            self._add_video,
            Carried(
                self._info.path,
                self._audio_wanted,
                subtitles,
                bool(self._traits.attachments) and self._layout.attachments,
                self._traits.origin,
                stretch,
                self._layout.sound_encoder,
            ),
        )
        self._video: EncodedVideo = (
            SegmentedVideo(output, self._path, work or WorkFolder(self._path))
            if destination is None
            else StreamedVideo(output, destination)
        )
        self._open = False

    @property
    def holds_sound(self) -> bool:
        """Whether the container has a place for sound."""
        return self._layout.holds_sound

    @property
    def notices(self) -> list[str]:
        return self._notices

    @property
    def damage(self) -> list[str]:
        """What of the sound could not be copied."""
        return self._output.damage

    @property
    def kept(self) -> int:
        """Frames of the result that are safe on the disk."""
        return self._video.kept

    def __enter__(self) -> Self:
        for name, value in self._encoder.environment.items():
            os.environ.setdefault(name, value)  # these print their settings on stderr, whatever FFmpeg says
        with self._cleaned_up(), self._mapped_errors(), self._refusals_explained():
            self._video.open()
        self._continued_at, self._open = self._video.kept, True
        return self

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises OutputError if the encoder or the disk refuses it."""
        if not self._open:
            raise OutputError("the writer is not open: use it in a with block")
        pts = self._pts(frame)
        self._written += 1
        if self._written <= self._continued_at:
            return
        picture = self._pictures.of(frame)
        if (picture.width, picture.height) != (self._info.width, self._info.height):
            # PyAV would scale it without a word.
            raise OutputError(
                f"{self._name}: a frame of {picture.width}x{picture.height} in a video of "
                f"{self._info.width}x{self._info.height}"
            )
        picture.pts, picture.time_base = pts, self._time_base
        picture.duration = max(1, round(1 / (self._rate * self._time_base)))
        # A decoded frame remembers that it was a key or B frame, and the encoder would obey that.
        picture.pict_type = PictureType.NONE
        if self._encoder.palette:
            picture = to_palette(picture)
        with self._mapped_errors():
            self._video.encode(picture)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if error is not None:
            self._video.discard()
            return
        with self._cleaned_up():
            if self._index < 0:
                raise OutputError(f"{self._name}: no frame was written")
            # At a constant rate, holding the last frame to the source's end would make the average rate,
            # which editors go by, anything but the exact one.
            end = None if self._constant else round(self._traits.end * self._stretch / self._time_base)
            with self._mapped_errors():
                self._video.finish(end)

    def _add_video(self, container: OutputContainer) -> VideoStream:
        """The video stream and its encoder, set up but not opened yet."""
        info, traits = self._info, self._traits
        stream = cast(
            "VideoStream",
            container.add_stream(
                self._encoder.name,
                rate=self._rate,
                options=encoder_options(
                    self._encoder,
                    self._options,
                    traits.hdr,
                    self._site if is_420(self._pixel_format) else None,
                ),
            ),
        )
        context = stream.codec_context
        context.width, context.height = info.width, info.height
        context.pix_fmt = "pal8" if self._encoder.palette else self._pixel_format
        context.time_base = self._time_base
        context.thread_count = 0
        if tag := self._layout.tags.get(context.codec.canonical_name):
            context.codec_tag = tag
        self._colour.tag(context)
        if traits.sample_aspect_ratio:
            context.sample_aspect_ratio = traits.sample_aspect_ratio
        if traits.display_matrix is not None:
            stream.set_display_matrix(traits.display_matrix)
        stream.metadata.update(carried_tags(traits.stream_metadata))
        stream.disposition = Disposition.default  # else Matroska says that players should not choose it
        return stream

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
            elif self._encoder.palette:
                why = "256 colours per picture"
            elif source in taken:
                why = f"{self._encoder.name} needs even sizes for {source}, and this is {width}x{height}"
            self._notices.append(f"{source} is encoded as {chosen}: {why}")
        return chosen

    def _choose_time_base(self) -> Fraction:
        """Seconds per tick, such that every time of the result is a whole number of ticks."""
        start = self._traits.start * self._stretch
        if not self._constant and self._layout.clock is not None:
            return self._layout.clock
        if not self._constant:
            clock = math.lcm((self._traits.tick * self._stretch).denominator, _COMMON_CLOCK)
            return Fraction(1, clock if clock <= _FINEST_TICK // 16 else _COMMON_CLOCK * 16)
        # Without timestamps a start is a number of frames: any other clock would be taken for the rate.
        if not self._layout.timestamps or (start * self._rate).denominator == 1:
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
            self._index, self._began = 0, frame.time
        elif not self._constant:
            self._index += 1
            self._last_pts = max(self._last_pts + 1, round(frame.time / self._time_base))
        else:
            # From the first frame's own time: its place may be rounded by half a frame.
            self._index = max(self._index + 1, round((frame.time - self._began) * self._rate))
            self._last_pts = self._first_pts + round(self._index / (self._rate * self._time_base))
        return self._last_pts

    def _check_rate(self) -> None:
        layout = self._layout
        if not (layout.timestamps or self._constant):
            raise OutputError(
                f"{self._path}: {layout.format} has no timestamps, and {self._info.path.name} has a variable "
                "rate; state --fps, or write .mkv or .mp4"
            )
        if layout.highest_rate is not None and self._rate > layout.highest_rate:
            raise OutputError(
                f"{self._path}: {layout.format} files play at no more than {layout.highest_rate} frames per "
                f"second, and this would have {float(self._rate):g}; state --fps {layout.highest_rate}"
            )

    @contextlib.contextmanager
    def _refusals_explained(self) -> Iterator[None]:
        """What an encoder says when it cannot be opened, in place of FFmpeg's error number."""
        level = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture() as printed:
                yield
        except av.FFmpegError as error:
            said = [(who, text.strip().rstrip(".")) for _, who, text in printed if text.strip()]
            if not said:
                raise
            sound = self._layout.sound_encoder
            name = sound if said[0][0] == sound else self._encoder.name
            # The first is the cause, what follows its consequences.
            cure = "; choose a software codec, such as h264" if self._encoder.hardware else ""
            raise OutputError(f"{self._name}: {name} cannot be used here: {said[0][1]}{cure}") from error
        finally:
            av.logging.set_level(level)

    @contextlib.contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        try:
            yield
        except BaseException:  # KeyboardInterrupt too: nothing half-written may stay
            self._video.discard()
            raise

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read it has seen enough
        except (av.FFmpegError, OSError, ValueError) as error:
            number = getattr(error, "errno", None)
            if number in DISK_FULL:
                raise OutputError(
                    f"{self._name}: the disk is full; free some space, then --resume"
                ) from error
            what = getattr(error, "strerror", None) or str(error)
            # Which of encoder, container and disk it was is not in the error.
            raise OutputError(
                f"{self._name}: writing {self._encoder.name} video as {self._layout.format} failed ({what})"
            ) from error


def _lost(layout: Container, traits: SourceTraits, more: Iterable[str]) -> list[str]:
    """What of the source the container has no place for, one sentence each."""
    named = own_tags(traits.metadata) if layout.own_tags is None else []
    parts = {
        f"the tags {', '.join(named)}": named,
        "the chapters": traits.chapters and not layout.chapters,
        "the colour profile": traits.icc_profile,
        **dict.fromkeys(traits.other_streams, True),
        **dict.fromkeys((f"attached file {name}" for name in traits.attachments), not layout.attachments),
        **dict.fromkeys(more, True),
    }
    others = [name for name, lost in parts.items() if lost]
    turned = traits.display_matrix is not None and not layout.rotation
    return [
        *(traits.colour.srgb_notice() if layout.srgb else []),
        *([f"{layout.format} has no rotation flag: the picture is shown as it was filmed"] if turned else []),
        *([f"not carried over: {', '.join(others)}"] if others else []),
    ]
