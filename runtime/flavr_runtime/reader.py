"""Read a video: what it is before anything slow, then its frames one by one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from flavr_runtime._chroma_site import chroma_site_of
from flavr_runtime._layouts import layout_name
from flavr_runtime.colour import ColourSpec, bits_of, has_alpha, is_opaque, to_rgb
from flavr_runtime.damage import Gap, GapBridge, readable_packets, scanned_packets
from flavr_runtime.errors import InputError, system_errors
from flavr_runtime.frames import Frame, StreamInfo
from flavr_runtime.hdr import HdrMetadata, dynamic_metadata
from flavr_runtime.timing import FrameClock, Timeline, read_timeline, without_holes
from flavr_runtime.traits import AudioTrack, SourceTraits, SubtitleTrack, interlaced_notice

__all__ = ["VideoReader", "open_media"]

# VP8 stores its invisible reference frames as packets of their own: bit 4 of the first byte says "shown".
_IS_SHOWN: dict[str, Callable[[Packet[Stream]], bool]] = {"vp8": lambda packet: bool(bytes(packet)[0] & 0x10)}
_UPRIGHT = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
# A header may round its duration or count a trailing subtitle; more than this missing is a file cut off.
_MISSING_SECONDS = 1
# Matroska muxers write the duration last of all, from what they wrote; others may have it from an estimate.
_EXACT_HEADERS = {"matroska,webm"}


class VideoReader:
    """A video file as a source of frames.

    The constructor reads every packet's timestamp (no decoding; 16 bytes per frame, dropped afterwards) and
    decodes one frame, so that whatever can be wrong is found before the first slow step. Raises InputError,
    one line naming the file.

    A video with transparency is refused unless `drop_alpha`: neither the network nor H.264 keeps it. A format
    with alpha whose every pixel is opaque (a GIF, a screen recording) has nothing to lose and is read.
    """

    def __init__(self, path: Path | str, *, drop_alpha: bool = False) -> None:
        self._path = Path(path)
        self._drop_alpha = drop_alpha
        self._container: InputContainer | None = None
        self._notices: list[str] = []
        self._gaps: list[Gap] = []
        self._cut_off: tuple[Fraction, Fraction] | None = None
        with open_media(self._path) as container:
            stream = _video_stream(container, self._path)
            self._timeline = self._scan(container, stream)
        with open_media(self._path) as container:
            stream = _video_stream(container, self._path)
            self._describe(container, stream, self._first_frame(container, stream))

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
        return self._gaps

    def frames(self) -> Iterator[Frame]:
        """Every frame in display order, decoded as it is asked for.

        Where the file is damaged, `gaps` says what is lost, and GapBridge what stands in for it. Raises
        InputError, naming the file and the time, where the picture changes size, and if nothing is readable.
        """
        self._close()
        container = self._container = open_media(self._path)
        stream = _video_stream(container, self._path)
        stream.thread_type = "AUTO"
        clock = FrameClock(self._timeline, self._traits.tick, self._traits.origin, presented=self._presented)
        self._gaps.clear()
        bridge = GapBridge(
            self._timeline,
            self._traits.origin,
            self._gaps,
            keys=[key - self._traits.origin for key in self._keys],
            damaged=self._damaged,
        )

        def unreadable(time: Fraction) -> None:
            bridge.complain(time - self._traits.origin)
            clock.skip()

        count = 0
        for picture in self._decode(container, stream, unreadable):
            time = clock.time_of(picture.pts if self._presented else picture.dts)
            try:
                self._check_picture(picture, time)
            except InputError:
                if not bridge.damaged:
                    raise
                continue  # a header that is damaged, more likely than another picture
            frame = Frame(to_rgb(picture, self._traits.colour), time, picture)
            count += 1
            yield from bridge.follow(frame, is_key=picture.key_frame)
        if count == 0:
            raise InputError(f"{self._path}: no frame could be decoded; the file is damaged")
        yield from bridge.finish()
        if self._cut_off is not None:
            start, end = (time - self._traits.origin for time in self._cut_off)
            self._gaps.append(Gap(start, end, round((end - start) * self._info.rate), cut_off=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _scan(self, container: InputContainer, stream: VideoStream) -> Timeline:
        is_shown = _IS_SHOWN.get(_codec_name(stream))
        presented: list[int] = []
        decoded: list[int] = []
        count, all_packets, last, last_duration, seconds = 0, 0, -(1 << 62), 0, Fraction(0)
        broken: list[Fraction] = []
        keys: list[Fraction] = []
        for packet in scanned_packets(container):
            if packet is None:
                broken.append(seconds)
                continue
            if packet.size == 0 or packet.time_base is None:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                seconds = max(seconds, (stamp + (packet.duration or 0)) * packet.time_base)
            if packet.stream_index != stream.index:
                continue
            all_packets += 1
            if packet.is_discard or (is_shown is not None and not is_shown(packet)):
                continue
            if packet.is_corrupt:
                broken.append(seconds)
            count += 1
            if packet.pts is not None:
                presented.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts * packet.time_base)
            if packet.dts is not None:
                decoded.append(packet.dts)
            if stamp is not None and stamp >= last:
                last, last_duration = stamp, packet.duration or 0
        if count == 0:
            raise InputError(f"{self._path}: its video track holds no frames")
        promised = Fraction(container.duration or 0, av.time_base)
        # What an edit list hides at the end is counted, but is not in FFmpeg's index.
        samples = min(stream.frames, len(stream.index_entries or ()))
        fewer = container.format.name.startswith("mov") and samples > all_packets
        self._short = promised - seconds > _MISSING_SECONDS or fewer
        if self._short:
            short = f"ends at {_clock_text(seconds)}, though its header promises {_clock_text(promised)}"
            cut_off = fewer or container.format.name in _EXACT_HEADERS
            self._notices.append(f"{self._path.name} {short}: it {'is' if cut_off else 'may be'} cut off")
            self._cut_off = (seconds, max(promised, seconds)) if cut_off else None
        self._damaged = bool(broken)
        if broken:
            self._notices.append(
                f"{self._path.name} is damaged near {_clock_text(broken[0])}: what is readable stays in time"
            )
        # AVI stores decoding times only, and what FFmpeg makes of them counts B frames in the wrong order.
        # Their spacing is that of the frames, which is all that is asked.
        self._presented = len(presented) == count and container.format.name != "avi"
        if broken and len(decoded) == len(presented):
            # FFmpeg's parser takes the mark from a key frame that it cannot recognise. MP4's index keeps it.
            marked = {entry.timestamp for entry in stream.index_entries or () if entry.is_keyframe}
            shown = (pts for pts, dts in zip(presented, decoded, strict=True) if dts in marked)
            keys = list({*keys, *(pts * (stream.time_base or Fraction(0)) for pts in shown)})
        # Where every frame is one (FFV1, ProRes), losing it costs no other.
        self._keys = sorted(keys) if self._presented and len(keys) < count else []
        stamps = presented if self._presented or len(decoded) != count else decoded
        declared = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        if not stamps:  # a raw stream: those are FFmpeg's assumption, the bitstream may know better
            declared.insert(0, stream.codec_context.framerate)
        ticks = np.array(stamps, np.int64)
        if broken and len(ticks) == count:
            ticks = without_holes(ticks)
            count = len(ticks)
        return read_timeline(
            ticks,
            stream.time_base or Fraction(1, 90_000),
            count=count,
            declared=declared,
            last_duration=last_duration,
        )

    def _first_frame(self, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
        first = next(self._decode(container, stream, lambda _: None), None)
        if first is None:
            raise InputError(f"{self._path}: no frame could be decoded; the file is damaged")
        return first

    def _describe(self, container: InputContainer, stream: VideoStream, first: av.VideoFrame) -> None:
        timeline, pixel_format = self._timeline, first.format.name
        try:
            colour = ColourSpec.of(first)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from error
        starts = [
            s.start_time * s.time_base
            for s in (stream, *container.streams.audio)
            if s.start_time is not None and s.time_base is not None
        ]
        # A transport stream's clock starts anywhere: the earliest stream sets zero. Before it lies only what
        # decoders drop (audio priming), and that must stay there.
        origin = max(Fraction(0), min(starts, default=Fraction(0)))
        end = timeline.end
        if stream.duration is not None and stream.time_base is not None:
            # The track may hold its last frame for longer than its neighbours.
            end = max(end, ((stream.start_time or 0) + stream.duration) * stream.time_base)
        # Where a file may be cut off `end` may be what its header promises; nothing is held for so long.
        shown_until = timeline.end if self._short else end
        self._traits = SourceTraits(
            pixel_format=pixel_format,
            colour=colour,
            start=timeline.start - origin,
            end=end - origin,
            tick=stream.time_base or Fraction(1, 90_000),
            origin=origin,
            hdr=HdrMetadata.of(first),
            display_matrix=_display_matrix(first),
            sample_aspect_ratio=stream.sample_aspect_ratio or None,
            chroma_site=chroma_site_of(first),
            metadata=dict(container.metadata),
            stream_metadata=dict(stream.metadata),
            chapters=tuple(container.chapters()),
            audio=tuple(_audio_track(track) for track in container.streams.audio),
            subtitles=tuple(
                SubtitleTrack(track.index, _codec_name(track) if track.codec_context else None)
                for track in container.streams.subtitles
            ),
            attachments=tuple(
                stream.name or "unnamed"
                for stream in container.streams
                if isinstance(stream, AttachmentStream)
            ),
            other_streams=tuple(_other_streams(container, stream)),
        )
        self._info = StreamInfo(
            path=self._path,
            width=first.width,
            height=first.height,
            rate=timeline.rate,
            constant_rate=timeline.constant,
            frame_count=timeline.count,
            description=f"{_codec_name(stream)} {pixel_format} {colour}",
            bits=bits_of(pixel_format),
            intervals=timeline.intervals,
            shown=None if timeline.constant else (timeline.start - origin, shown_until - origin),
        )
        self._check_alpha(stream, first)
        if changing := dynamic_metadata(first):
            self._notices.append(f"not carried over: {', '.join(changing)}, which changes with every picture")
        if first.interlaced_frame:
            self._notices.append(interlaced_notice(str(self._path)))

    def _check_alpha(self, stream: VideoStream, first: av.VideoFrame) -> None:
        cure = "which would be lost; --drop-alpha goes on without it"
        # FFmpeg's own VP8 and VP9 decoders leave the alpha of a WebM unread and do not say so.
        hidden = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE", "0")) != "0"
        if hidden and not self._drop_alpha:
            raise InputError(f"{self._path}: the video has a transparency channel (alpha_mode), {cure}")
        if has_alpha(first.format.name) and not self._drop_alpha and not is_opaque(first):
            raise InputError(
                f"{self._path}: the video is transparent in places ({first.format.name}), {cure}"
            )
        if self._drop_alpha and (hidden or has_alpha(first.format.name)):
            self._notices.append(f"the transparency of {self._path.name} is dropped, as asked")

    def _decode(
        self, container: InputContainer, stream: VideoStream, unreadable: Callable[[Fraction], None]
    ) -> Iterator[av.VideoFrame]:
        """Every frame that the decoder holds for sound; it is told of what is none, with the time nearby."""
        seconds = Fraction(0)
        for packet in readable_packets(container, stream):
            if packet is None:
                unreadable(seconds)
                continue
            if packet.pts is not None and packet.time_base is not None:
                seconds = packet.pts * packet.time_base
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                unreadable(seconds)
                continue
            for picture in pictures:
                if not isinstance(picture, av.VideoFrame):
                    continue
                if picture.is_corrupt:
                    unreadable((picture.pts or 0) * (picture.time_base or Fraction(0)))
                else:
                    yield picture

    def _check_picture(self, picture: av.VideoFrame, time: Fraction) -> None:
        size = (picture.width, picture.height)
        if size != (self._info.width, self._info.height):
            raise InputError(
                f"{self._path}: the picture changes from {self._info.width}x{self._info.height} to "
                f"{size[0]}x{size[1]} at {_clock_text(time)}; split the file there"
            )
        name = picture.format.name
        if name != self._traits.pixel_format:
            raise InputError(
                f"{self._path}: the pixel format changes from {self._traits.pixel_format} to {name} at "
                f"{_clock_text(time)}; split the file there"
            )
        if has_alpha(name) and not self._drop_alpha and not is_opaque(picture):
            raise InputError(
                f"{self._path}: the video becomes transparent at {_clock_text(time)}, which would be lost; "
                "--drop-alpha goes on without it"
            )


@system_errors(InputError)
def open_media(path: Path) -> InputContainer:
    """Open a media file for reading. Raises InputError."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder, not a video")
    try:
        # "file:" keeps a name such as "take:2.mp4" from being taken for a network protocol.
        return av.open(f"file:{path}", "r", metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: not a media file, or cut off before its index was written ({error.strerror})"
        ) from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: it has no video track")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: no decoder for its video track")
    return stream


def _other_streams(container: InputContainer, video: VideoStream) -> Iterator[str]:
    for stream in container.streams:
        if stream.index == video.index or stream.type in ("audio", "subtitle", "attachment"):
            continue
        kind = "cover picture" if stream.disposition & Disposition.attached_pic else f"{stream.type} track"
        if stream.type == "data" and stream.name == "bin_data" and container.chapters():
            continue  # how MP4 stores the names of its chapters, which are carried
        codec = _codec_name(stream) if stream.codec_context else "unknown codec"
        yield f"{kind} {stream.index} ({codec})"


def _codec_name(stream: Stream) -> str:
    """The codec's own name; that of the decoder may be libdav1d or mp3float."""
    return stream.codec_context.codec.canonical_name


def _audio_track(track: AudioStream) -> AudioTrack:
    context = track.codec_context
    if not context:
        return AudioTrack(track.index, None)
    return AudioTrack(
        track.index, _codec_name(track), layout_name(context.layout) if context.layout.nb_channels else None
    )


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    for data in cast("Iterable[Any]", frame.side_data):
        if data.type == SideDataType.DISPLAYMATRIX:
            matrix = struct.unpack("=9i", bytes(data)[:36])
            return None if matrix == _UPRIGHT else matrix
    return None


def _clock_text(seconds: Fraction) -> str:
    return f"{float(seconds):.2f} s"
