"""Which containers `flavr-run` writes, as a table: a new one is a new row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from flavr_runtime.traits import CHROMA_SITES, ChromaSite

__all__ = ["CONTAINERS", "Container", "own_tags"]

_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})


@dataclass(frozen=True, slots=True)
class Container:
    """`audio` are the codecs that players expect in it, None for any: FFmpeg would also write Vorbis or PCM
    into MP4, which most players then do not play."""

    format: str
    codecs: tuple[str, ...]  # keys of ENCODERS, the default first
    audio: frozenset[str] | None
    sound_encoder: str | None = None  # FFmpeg's, for sound that cannot be copied since its length changes
    subtitles: frozenset[str] = frozenset()  # codecs that are copied ...
    text: str | None = None  # ... and the one that other text is converted to
    attachments: bool = False  # whether files, such as the fonts of subtitles, may be in it
    pcm: bool = False  # whether uncompressed audio of any kind is at home in it
    clock: Fraction | None = None  # seconds, of which times are multiples; None: of whatever it is told
    timestamps: bool = True  # whether frames may be shown at any time, or just one after the other
    colour_tags: bool = True
    chroma_sites: frozenset[ChromaSite] = frozenset()  # those that it can say, whatever the codec
    srgb: bool = False  # whether players take its colours for sRGB, whatever they are
    rotation: bool = True  # whether it can say that the picture is to be turned
    chapters: bool = True
    # options for tags of a camera's own names, None where it does not keep them
    own_tags: Mapping[str, str] | None = field(default_factory=dict)
    highest_rate: int | None = None  # frames per second, where players set a limit
    asked_only: bool = False  # whether it is never chosen because the input is one
    streams: bool = False  # whether it can be written to a pipe, where nothing written can be changed
    options: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)  # what a codec is called in it, where not as usual

    def options_for(self, tags: Iterable[str]) -> dict[str, str]:
        """The muxer's options for a file with tags of these names."""
        return {**self.options, **((own_tags(tags) and self.own_tags) or {})}

    @property
    def holds_sound(self) -> bool:
        return self.pcm or self.audio is None or bool(self.audio)


def own_tags(tags: Iterable[str]) -> list[str]:
    """The names that a camera's maker has thought of, such as com.apple.quicktime.model."""
    return sorted(name for name in tags if name.lower().startswith("com."))


# faststart puts the index first, so that a browser shows the first frame before it has the whole file. The
# movie timescale is the unit of edit lists: FFmpeg's 1000 would move a late start by up to half a ms.
_ISO = {"movflags": "faststart", "movie_timescale": "90000"}
# Only where there are such tags: it changes how the others are stored too, which fewer players read.
_ISO_OWN_TAGS = {"movflags": "faststart+use_metadata_tags"}
_ISO_TRAITS: Any = {
    "sound_encoder": "aac",
    "subtitles": frozenset({"mov_text"}),
    "text": "mov_text",
    "own_tags": _ISO_OWN_TAGS,
    # Apple's players show nothing of "hev1", which FFmpeg writes unless told. "hvc1" promises that decoders
    # find all parameters in the file's head, which is where the encoders put them for these containers.
    "tags": {"hevc": "hvc1"},
}
_MATROSKA_SUBTITLES = frozenset(
    {"subrip", "ass", "ssa", "webvtt", "hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle"}
)
CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "h265", "av1", "vp9"), _MP4_AUDIO, **_ISO_TRAITS, options=_ISO),
    ".m4v": Container("mp4", ("h264", "h265", "av1"), _MP4_AUDIO, **_ISO_TRAITS, options=_ISO),
    ".mov": Container(
        "mov",
        ("h264", "h265", "prores"),
        frozenset({"aac", "mp3", "ac3", "eac3", "alac"}),
        pcm=True,
        **_ISO_TRAITS,
        options=_ISO,
    ),
    ".avi": Container(
        "avi",
        ("mpeg4", "ffv1"),
        frozenset({"mp3", "ac3", "mp2"}),
        sound_encoder="libmp3lame",
        pcm=True,
        timestamps=False,
        colour_tags=False,
        rotation=False,
        chapters=False,
        own_tags=None,
        asked_only=True,
    ),
    # Browsers show delays of less than 2 hundredths of a second as 10.
    ".gif": Container(
        "gif",
        ("gif",),
        frozenset(),
        clock=Fraction(1, 100),
        srgb=True,
        rotation=False,
        chapters=False,
        own_tags=None,
        highest_rate=50,
        asked_only=True,
    ),
    ".mkv": Container(
        "matroska",
        ("h264", "h265", "av1", "vp9", "ffv1", "prores"),
        None,
        sound_encoder="aac",
        subtitles=_MATROSKA_SUBTITLES,
        text="subrip",
        attachments=True,
        chroma_sites=CHROMA_SITES,
        pcm=True,
        streams=True,
    ),
    ".webm": Container(
        "webm",
        ("vp9", "av1"),
        frozenset({"opus", "vorbis"}),
        sound_encoder="libopus",
        chroma_sites=CHROMA_SITES,
        subtitles=frozenset({"webvtt"}),
        text="webvtt",
        streams=True,
    ),
}
