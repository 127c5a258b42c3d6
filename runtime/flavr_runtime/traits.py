"""What a source has besides its pictures, for a sink to carry over."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from flavr_runtime.colour import ColourSpec, is_420
from flavr_runtime.damage import Gap
from flavr_runtime.frames import FrameSource
from flavr_runtime.hdr import HdrMetadata

if TYPE_CHECKING:
    from av.container.core import Chapter

__all__ = [
    "CHROMA_SITES",
    "AudioTrack",
    "ChromaSite",
    "MediaSource",
    "SourceTraits",
    "SubtitleTrack",
    "interlaced_notice",
]

ChromaSite = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]
"""Where the chroma samples of 4:2:0 lie among the luma samples; MPEG's are left."""

CHROMA_SITES: frozenset[ChromaSite] = frozenset(get_args(ChromaSite))


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One audio stream of a media file. `codec` is FFmpeg's name, None where it has no decoder for it."""

    index: int
    codec: str | None
    layout: str | None = None  # FFmpeg's name of its channels, None where not known


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """One subtitle stream of a media file. `codec` is FFmpeg's name, None where it has no decoder for it."""

    index: int
    codec: str | None

    def __str__(self) -> str:
        return f"subtitle track {self.index} ({self.codec or 'unknown codec'})"


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """The defaults are those of 8-bit RGB images. Times are seconds on Frame.time's timeline."""

    pixel_format: str = "rgb24"
    colour: ColourSpec = field(default_factory=lambda: ColourSpec("rgb", full_range=True))
    start: Fraction = Fraction(0)  # of the first frame
    end: Fraction = Fraction(0)  # when the last frame has been shown
    tick: Fraction = Fraction(1, 90_000)  # seconds: what the timestamps are counted in
    origin: Fraction = Fraction(0)  # container clock = Frame.time + origin
    hdr: HdrMetadata | None = None
    display_matrix: tuple[int, ...] | None = None  # FFmpeg's 9 fixed-point numbers; None = upright
    icc_profile: bytes | None = None  # of all images of a sequence; None: none, or not the same one
    sample_aspect_ratio: Fraction | None = None  # width / height of one pixel; None = square or unknown
    chroma_site: ChromaSite | None = None  # of 4:2:0; None: not said, which is taken for left
    start_number: int | None = None  # of the first image of a numbered sequence
    metadata: Mapping[str, str] = field(default_factory=dict)
    stream_metadata: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()  # on the container's clock
    audio: tuple[AudioTrack, ...] = ()
    subtitles: tuple[SubtitleTrack, ...] = ()
    attachments: tuple[str, ...] = ()  # names of the files that Matroska carries, such as fonts
    other_streams: tuple[str, ...] = ()  # for people: "data track 3 (bin_data)"

    def site_lost(self, pixel_format: str, held: Collection[ChromaSite]) -> list[str]:
        """The chroma site, for people, where a result of `pixel_format` can say but `held`."""
        lost = self.chroma_site not in (None, "left", *held) and is_420(pixel_format)
        return [f"the place of its chroma samples, {self.chroma_site}"] if lost else []


@runtime_checkable
class MediaSource(FrameSource, Protocol):
    """A reader of this package: a FrameSource that also knows its traits."""

    @property
    def traits(self) -> SourceTraits: ...

    @property
    def notices(self) -> list[str]:
        """What the user should know about the input, one sentence each."""
        ...

    @property
    def gaps(self) -> list[Gap]:
        """Where it is damaged, as far as it has been read."""
        ...


def interlaced_notice(name: str) -> str:
    """`name` is what ffmpeg is to read; "-" for standard input."""
    return (
        f"{'standard input' if name == '-' else name} is interlaced, and the combing would be interpolated "
        f"too; deinterlace it first: ffmpeg -i {shlex.quote(name)} -vf bwdif -f yuv4mpegpipe - | flavr-run - "
        "-o OUTPUT"
    )
