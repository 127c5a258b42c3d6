"""The sound and the subtitles of a media file on their way into another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Discard, Stream

from flavr_runtime._layouts import encodable_layout, mixed_down
from flavr_runtime._tracks import ConvertedText, CopiedTrack, StretchedSound, Track
from flavr_runtime.damage import readable_packets
from flavr_runtime.encoders import CONTAINERS, Container
from flavr_runtime.errors import OutputError
from flavr_runtime.reader import open_media
from flavr_runtime.traits import AudioTrack, SubtitleTrack

__all__ = ["Carried", "StreamCopy", "carried_tags", "check_audio", "downmix_notices", "plan_subtitles"]

_BYTES = "application/octet-stream"
# What FFmpeg can turn into each other.
_TEXT = {"subrip", "mov_text", "webvtt", "ass", "ssa", "text"}


def check_audio(path: Path, container: Container, tracks: Sequence[AudioTrack]) -> None:
    """Raises OutputError, with the cure, for a track that the container at `path` does not hold."""
    for track in tracks:
        if track.codec is None:
            raise OutputError(f"audio track {track.index} is of a kind unknown to FFmpeg; use --no-audio")
        if holds(container, track.codec):
            continue
        fit = next((suffix for suffix in (".mp4", ".mkv") if holds(CONTAINERS[suffix], track.codec)), ".mkv")
        raise OutputError(
            f"{path}: {path.suffix or container.format} does not hold {track.codec} audio; "
            f"write a {fit} file, or use --no-audio"
        )


def downmix_notices(encoder: str, tracks: Sequence[AudioTrack]) -> list[str]:
    """What the user should know of sound that is encoded anew, one sentence each."""
    return [
        f"audio track {track.index} ({track.layout}) is mixed down to "
        f"{encodable_layout(track.layout, encoder)}: {encoder} takes no more channels"
        for track in tracks
        if track.layout is not None and mixed_down(track.layout, encoder)
    ]


def holds(container: Container, codec: str) -> bool:
    if container.audio is None or codec in container.audio:
        return True
    return container.pcm and codec.startswith("pcm_")


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes from the source into the result besides the pictures.

    `subtitles` are the tracks by index, with the codec that each is converted to, None where it is copied.
    """

    source: Path
    audio: bool = False
    subtitles: Mapping[int, str | None] = field(default_factory=dict)
    attachments: bool = False
    origin: Fraction = Fraction(0)  # what Frame.time leaves out of the container's clock, in seconds
    stretch: Fraction = Fraction(1)
    sound_codec: str | None = None  # FFmpeg's name of the encoder for sound that is stretched


def plan_subtitles(
    container: Container, tracks: Sequence[SubtitleTrack]
) -> tuple[dict[int, str | None], list[str]]:
    """The tracks that the container holds (see Carried), and what the user should know, one sentence each."""
    carried: dict[int, str | None] = {}
    notices, lost = [], []
    for track in tracks:
        if track.codec in container.subtitles:
            carried[track.index] = None
        elif track.codec in _TEXT and container.text is not None:
            carried[track.index] = container.text
            styling = ", without its styling" if track.codec in ("ass", "ssa") else ""
            notices.append(f"{track} is converted to {container.text}{styling}")
        else:
            lost.append(track)
    if lost:
        names = ", ".join(map(str, lost))
        fits = all(track.codec in CONTAINERS[".mkv"].subtitles for track in lost)
        notices.append(f"not carried over: {names}" + ("; .mkv holds it" if fits else ""))
    return carried, notices


class StreamCopy:
    """The source's sound and subtitles, pulled along behind the video so that neither waits for the other."""

    def __init__(self, carried: Carried, output: OutputContainer, damage: list[str]) -> None:
        """`damage` is told of what cannot be read, in a sentence."""
        self._source = carried.source
        self._damage = damage
        self._output = output
        self._container = open_media(carried.source)
        self._tracks: dict[int, Track] = {}
        for stream in self._container.streams:
            if isinstance(stream, AttachmentStream):
                if carried.attachments and stream.data:
                    output.add_attachment(stream.name or "unnamed", stream.mimetype or _BYTES, stream.data)
                continue
            track = _track(stream, carried, output)
            if track is None:
                stream.discard = Discard.all  # its bytes need not even be read
                continue
            track.stream.metadata.update(carried_tags(stream.metadata))
            track.stream.disposition = stream.disposition
            self._tracks[stream.index] = track
        self._packets = self._read()
        self._waiting: Packet[Stream] | None = None

    def mux_until(self, time: Fraction | None) -> None:
        """Write every packet that begins before `time` (seconds of the result), all for None."""
        while (packet := self._waiting or next(self._packets, None)) is not None:
            self._waiting = packet
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            self._waiting = None
            self._output.mux(packet)

    def close(self) -> None:
        self._container.close()

    def _read(self) -> Iterator[Packet[Any]]:
        streams = [stream for stream in self._container.streams if stream.index in self._tracks]
        if not streams:
            return
        seconds = Fraction(0)
        latest: dict[int, int] = {}
        for packet in readable_packets(self._container, *streams):
            if packet is None:
                self._complain(seconds)
                continue
            if not packet.size:
                continue
            if packet.pts is not None:
                seconds = packet.pts * packet.time_base
            try:
                for each in self._tracks[packet.stream_index].packets(packet):
                    stamp = -(1 << 62) if each.dts is None else each.dts
                    if stamp < latest.get(each.stream_index, stamp):
                        self._complain(seconds)  # thrown back in time, which no container takes
                        continue
                    latest[each.stream_index] = stamp
                    yield each
            except av.FFmpegError:  # the sound of slow motion is decoded
                self._complain(seconds)
        for track in self._tracks.values():
            yield from track.packets(None)

    def _complain(self, seconds: Fraction) -> None:
        if not self._damage:
            self._damage.append(
                f"the sound of {self._source.name} is damaged near {float(seconds):.2f} s: what is readable "
                "is carried over, at its own time"
            )


def _track(stream: Stream, carried: Carried, output: OutputContainer) -> Track | None:
    origin, stretch = carried.origin, carried.stretch
    if isinstance(stream, AudioStream) and carried.audio:
        if stretch == 1:
            return CopiedTrack(stream, output, origin)
        return StretchedSound(stream, output, carried.sound_codec or "aac", origin, stretch)
    if stream.index not in carried.subtitles:
        return None
    codec = carried.subtitles[stream.index]
    if codec is None:
        return CopiedTrack(stream, output, origin, stretch)
    return ConvertedText(stream, output, codec, origin, stretch)


# What describes the old file's bytes and not its content.
_STALE = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "duration", "bps", "number_of_frames",
    "number_of_bytes", "vendor_id", "timecode", "alpha_mode", "rotate",
}  # fmt: skip


def carried_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The metadata that stays true of a new file."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower().split("-")[0] not in _STALE and not key.startswith("_STATISTICS")
    }
