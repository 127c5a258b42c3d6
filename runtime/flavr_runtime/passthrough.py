"""Copy the audio of a media file into another, packet by packet, without decoding it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Discard

from flavr_runtime.encoders import CONTAINERS, Container
from flavr_runtime.errors import InputError, OutputError
from flavr_runtime.reader import open_media
from flavr_runtime.traits import AudioTrack

__all__ = ["AudioCopy", "check_audio"]


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


def holds(container: Container, codec: str) -> bool:
    if container.audio is None or codec in container.audio:
        return True
    return container.pcm and codec.startswith("pcm_")


class AudioCopy:
    """The source's audio, pulled along behind the video so that neither waits in memory for the other."""

    def __init__(self, source: Path, output: OutputContainer, origin: Fraction) -> None:
        """`origin`: what Frame.time leaves out of the container's clock, in seconds; subtracted here too."""
        self._source = source
        self._output = output
        self._origin = origin
        self._container = open_media(source)
        self._streams: dict[int, AudioStream] = {}
        for stream in self._container.streams:
            if isinstance(stream, AudioStream):
                copy = output.add_stream_from_template(stream)
                copy.metadata.update(carried_tags(stream.metadata))
                copy.disposition = stream.disposition
                self._streams[stream.index] = copy
            else:
                stream.discard = Discard.all  # its bytes need not even be read
        self._packets = self._read()
        self._waiting: Packet[AudioStream] | None = None

    def mux_until(self, time: Fraction | None) -> None:
        """Write every packet that begins before `time` (seconds on Frame.time's line), all for None."""
        while (packet := self._waiting or next(self._packets, None)) is not None:
            self._waiting = packet
            stamp = packet.dts if packet.dts is not None else packet.pts
            if time is not None and stamp is not None and stamp * packet.time_base > time:
                return
            self._waiting = None
            self._output.mux(packet)

    def close(self) -> None:
        self._container.close()

    def _read(self) -> Iterator[Packet[AudioStream]]:
        try:
            for packet in self._container.demux(self._container.streams.audio):
                if packet.size == 0:
                    continue
                shift = round(self._origin / packet.time_base)
                if packet.pts is not None:
                    packet.pts -= shift
                if packet.dts is not None:
                    packet.dts -= shift
                packet.stream = self._streams[packet.stream_index]
                yield packet
        except av.FFmpegError as error:
            raise InputError(f"{self._source}: its audio cannot be read ({error.strerror})") from error


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
