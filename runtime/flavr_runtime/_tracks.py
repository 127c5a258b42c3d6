"""One track of sound or subtitles on its way into a result: copied, converted, or stretched in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple, Protocol, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from flavr_runtime._layouts import encodable_layout, layout_name

__all__ = ["ConvertedText", "CopiedTrack", "StretchedSound", "Track"]

# All text subtitles are ASS inside FFmpeg, and its encoders ask for the head of such a file.
_ASS_HEAD = b"""[Script Info]\r
ScriptType: v4.00+\r
\r
[V4+ Styles]\r
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding\r
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r
\r
[Events]\r
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r
"""
# The filter keeps some sound back at its end: silence pushes it out, and what is too long is cut off.
_PUSH = "apad=pad_dur=0.5"
_LEAST_TEMPO = Fraction(1, 2)  # of one atempo filter
_BITS_PER_CHANNEL = 96_000
_USUAL_RATE = 48_000


class Track(Protocol):
    """Takes the source's packets of one track, None at the end, and gives those of the result."""

    @property
    def stream(self) -> Stream: ...

    def packets(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]: ...


class CopiedTrack:
    """The same packets at times less `origin`, times `stretch`.

    What an edit list hides before the start is left out: Matroska has no such lists and would show it, and
    everything else later for it. One packet of hidden sound stays, from which decoders make the first that is
    heard: codecs overlap their packets, and encoders put one before the start for that.
    """

    def __init__(
        self, source: Stream, output: OutputContainer, origin: Fraction, stretch: Fraction = Fraction(1)
    ) -> None:
        self._stream = output.add_stream_from_template(source)
        self._origin, self._stretch = origin, stretch
        self._is_sound = isinstance(source, AudioStream)

    @property
    def stream(self) -> Stream:
        return self._stream

    def packets(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is None:
            return
        move_in_time(packet, self._origin, self._stretch)
        if packet.is_discard and packet.pts is not None:
            length = packet.duration or 0
            if packet.pts + length <= (-length if self._is_sound else 0):
                return
        packet.stream = self._stream
        yield packet


class ConvertedText:
    """Text subtitles in the format that the container holds."""

    def __init__(
        self, source: Stream, output: OutputContainer, codec: str, origin: Fraction, stretch: Fraction
    ) -> None:
        self._decoder = cast("SubtitleCodecContext", source.codec_context)
        self._stream: Any = output.add_stream(codec)
        self._encoder = cast("SubtitleCodecContext", self._stream.codec_context)
        self._encoder.subtitle_header = _ASS_HEAD
        self._encoder.time_base = Fraction(1, 1000)
        self._origin, self._stretch = origin, stretch

    @property
    def stream(self) -> Stream:
        return cast("Stream", self._stream)

    def packets(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is None:
            return
        text = self._decoder.decode2(packet)
        if text is None:
            return  # MP4 fills the time between two titles with empty ones
        made = self._encoder.encode_subtitle(text)
        made.time_base, made.pts, made.dts = packet.time_base, packet.pts, packet.pts
        made.duration = packet.duration
        move_in_time(made, self._origin, self._stretch)
        made.stream = self._stream
        yield made


class _Kind(NamedTuple):
    """What a filter graph is opened for."""

    format: str
    layout: str
    rate: int


class StretchedSound:
    """Sound that lasts `stretch` times as long at the same pitch, encoded anew."""

    def __init__(
        self, source: AudioStream, output: OutputContainer, codec: str, origin: Fraction, stretch: Fraction
    ) -> None:
        context = source.codec_context
        rates = av.Codec(codec, "w").audio_rates
        rate = context.sample_rate if not rates or context.sample_rate in rates else _USUAL_RATE
        self._stream: AudioStream = output.add_stream(codec, rate=rate)  # type: ignore[assignment]
        made = self._stream.codec_context
        made.layout = encodable_layout(layout_name(context.layout), codec)
        made.bit_rate = _BITS_PER_CHANNEL * made.layout.nb_channels
        self._source, self._rate = source, rate
        self._origin, self._stretch = origin, stretch
        self._graph: Graph | None = None
        self._first: _Kind | None = None
        self._others: dict[_Kind, av.AudioResampler] = {}
        self._next = 0  # the place of the next sample on the result's time line
        self._end = 0  # the place after the last one of the source so far

    @property
    def stream(self) -> Stream:
        return self._stream

    def packets(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        for frame in self._source.codec_context.decode(cast("Any", packet)):
            if self._graph is None:
                self._graph = self._open_graph(frame)
            start = (frame.pts or 0) * (frame.time_base or Fraction(0)) - self._origin
            self._end = round(
                (start + Fraction(frame.samples, frame.sample_rate)) * self._stretch * self._rate
            )
            for like_the_first in self._alike(frame):
                self._graph.push(like_the_first)
            yield from self._encoded(self._graph)
        if packet is None:
            if self._graph is not None:
                self._graph.push(None)
                yield from self._encoded(self._graph, self._end)
            yield from self._labelled(self._stream.encode(None))

    def _alike(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """The sound of a frame in the layout of the first one: a broadcast goes over from stereo to 5.1."""
        kind = _Kind(frame.format.name, layout_name(frame.layout), frame.sample_rate)
        first = self._first = self._first or kind
        if kind == first:
            return [frame]
        if kind not in self._others:
            self._others[kind] = av.AudioResampler(*first)
        place, tick = (frame.pts or 0) * (frame.time_base or Fraction(0)), frame.time_base
        made = self._others[kind].resample(frame)
        for part in made:
            part.pts = None if tick is None else round(place / tick)
            part.time_base = tick
            place += Fraction(part.samples, part.sample_rate)
        return made

    def _open_graph(self, first: av.AudioFrame) -> Graph:
        start = (first.pts or 0) * (first.time_base or Fraction(1, self._rate)) - self._origin
        self._next = round(start * self._stretch * self._rate)
        steps = math.ceil(math.log(self._stretch) / math.log(1 / _LEAST_TEMPO)) if self._stretch > 1 else 1
        tempo = float(1 / self._stretch) ** (1 / max(1, steps))
        encoder = self._stream.codec_context
        graph = Graph()
        nodes = [
            graph.add_abuffer(
                sample_rate=first.sample_rate,
                format=first.format.name,
                layout=layout_name(first.layout),
                time_base=first.time_base,
            ),
            # Where the source leaves a gap silence is put in, as else all that follows would come too early.
            graph.add("aresample", "async=1:min_hard_comp=0.05"),
            graph.add(*_PUSH.split("=", 1)),
            *(graph.add("atempo", f"{tempo:.9f}") for _ in range(max(1, steps))),
            graph.add(
                "aformat",
                f"sample_fmts={encoder.format.name}:sample_rates={self._rate}"
                f":channel_layouts={encoder.layout.name}",
            ),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes)
        graph.configure()
        return graph

    def _encoded(self, graph: Graph, end: int | None = None) -> Iterator[Packet[Stream]]:
        while True:
            try:
                frame = cast("av.AudioFrame", graph.pull())
            except (av.BlockingIOError, av.EOFError):
                return
            if end is not None and self._next + frame.samples > end:
                if self._next >= end:
                    continue
                frame = _shortened(frame, end - self._next)
            frame.pts, frame.time_base = self._next, Fraction(1, self._rate)
            self._next += frame.samples
            yield from self._labelled(self._stream.encode(frame))

    def _labelled(self, packets: list[Packet[Any]]) -> Iterator[Packet[Stream]]:
        for packet in packets:
            packet.stream = self._stream
            yield packet


def _shortened(frame: av.AudioFrame, samples: int) -> av.AudioFrame:
    values: Any = frame.to_ndarray()
    step = 1 if frame.format.is_planar else frame.layout.nb_channels
    kept: Any = np.ascontiguousarray(values[:, : samples * step])
    result = av.AudioFrame.from_ndarray(kept, frame.format.name, frame.layout.name)
    result.sample_rate = frame.sample_rate
    return result


def move_in_time(packet: Packet[Any], origin: Fraction, stretch: Fraction) -> None:
    tick = packet.time_base
    if packet.pts is not None:
        packet.pts = round((packet.pts - round(origin / tick)) * stretch)
    if packet.dts is not None:
        packet.dts = round((packet.dts - round(origin / tick)) * stretch)
    if packet.duration:
        packet.duration = round(packet.duration * stretch)
