"""What a stream's numbers mean as colours, and the tags that say so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av

from flavr_runtime.errors import InputError

__all__ = ["WEIGHTS", "ColourSpec", "is_rgb"]

# Kr and Kb of each matrix, by the number that AVFrame.colorspace holds (ITU-T H.273 matrix coefficients).
_LUMA_WEIGHTS = {
    1: ("bt709", 0.2126, 0.0722),
    4: ("fcc", 0.30, 0.11),
    5: ("bt601", 0.299, 0.114),
    6: ("bt601", 0.299, 0.114),
    7: ("smpte240m", 0.212, 0.087),
    9: ("bt2020", 0.2627, 0.0593),
}
WEIGHTS = {name: (kr, kb) for name, kr, kb in _LUMA_WEIGHTS.values()}
# Matrices that are no plain 3x3 of R'G'B' at 8 bits: read as BT.709 their colours would be wrong.
_REFUSED_MATRICES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re"}
_UNSPECIFIED = 2
# FFmpeg's names of the tags that video has, by their numbers in H.273.
_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
_PRIMARIES_NAMES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 11: "smpte431",
    12: "smpte432",
}  # fmt: skip
_TRANSFER_NAMES = {
    1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 13: "iec61966-2-1",
    14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 18: "arib-std-b67",
}  # fmt: skip
_MPEG_RANGE, _JPEG_RANGE = 1, 2
# What is plainly wrong where it is taken for sRGB: linear light, PQ and HLG; BT.2020 and the two P3.
_FAR_TRANSFERS, _FAR_PRIMARIES = {8, 16, 18}, {9, 11, 12}


@dataclass(frozen=True, slots=True)
class ColourSpec:
    """How a stream's numbers mean colours: the resolved meaning, and the tags as the stream carries them.

    `matrix` is one of bt601, bt709, bt2020, smpte240m, fcc (YUV and gray) or rgb. The four `tag_` numbers are
    those of ITU-T H.273 as FFmpeg stores them (2 = unspecified; range 0 = unspecified, 1 limited, 2 full).
    """

    matrix: str = "bt709"
    full_range: bool = False
    tag_matrix: int = _UNSPECIFIED
    tag_range: int = 0
    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED

    @classmethod
    def of(cls, frame: av.VideoFrame) -> ColourSpec:
        """Read a decoded frame's tags and settle what they leave open, as players do.

        An unspecified matrix is BT.601 below 720 lines (and below 1280 columns, so that 1280x534 cinema crops
        are HD) and BT.709 from there on; an unspecified range is limited for YUV and full for RGB and yuvj.
        Raises InputError for a matrix that cannot be undone here.
        """
        name = frame.format.name
        tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
        if is_rgb(frame.format):
            return cls("rgb", True, *tags)
        if frame.colorspace in _REFUSED_MATRICES:
            raise InputError(
                f"the colour matrix {_REFUSED_MATRICES[frame.colorspace]} is not supported; "
                "convert the video to BT.709 first"
            )
        known = _LUMA_WEIGHTS.get(frame.colorspace)
        matrix = known[0] if known else ("bt601" if _is_small(frame.width, frame.height) else "bt709")
        return cls(matrix, frame.color_range == _JPEG_RANGE or name.startswith("yuvj"), *tags)

    def for_format(self, pixel_format: str, width: int, height: int) -> ColourSpec:
        """This spec for a stream that is written as `pixel_format`.

        A crossing between RGB and YUV changes it: RGB becomes BT.709 or, at small sizes, BT.601, limited
        range, and is tagged so; YUV becomes full-range RGB. yuvj is full range, whatever the source was. What
        it implies is tagged where it is not.
        """
        is_rgb, full = av.VideoFormat(pixel_format).is_rgb, pixel_format.startswith("yuvj")
        if is_rgb == (self.matrix == "rgb"):
            if full and not self.full_range:
                return replace(self, full_range=True, tag_range=_JPEG_RANGE)
            implied = full or not self.full_range or is_rgb
            return self if implied else replace(self, tag_range=_JPEG_RANGE)
        if is_rgb:
            return ColourSpec("rgb", True, 0, _JPEG_RANGE, self.primaries, self.transfer)
        matrix, tag = ("bt601", 6) if _is_small(width, height) else ("bt709", 1)
        return ColourSpec(
            matrix, full, tag, _JPEG_RANGE if full else _MPEG_RANGE, self.primaries, self.transfer
        )

    def tagged(self) -> ColourSpec:
        """This spec with its matrix tagged, where the size of the picture alone has settled it."""
        if self.matrix == "rgb" or self.tag_matrix in _LUMA_WEIGHTS:
            return self
        return replace(self, tag_matrix=6 if self.matrix == "bt601" else 1)

    def tag(self, target: av.VideoFrame | av.VideoCodecContext) -> None:
        """Give a frame or an encoder this stream's own tags."""
        target.colorspace = self.tag_matrix
        target.color_range = self.tag_range
        target.color_primaries = self.primaries
        target.color_trc = self.transfer

    def ffmpeg_options(self) -> str:
        """The tags as options of the ffmpeg program; empty where there are none."""
        given = (
            ("-colorspace", _MATRIX_NAMES.get(self.tag_matrix)),
            ("-color_primaries", _PRIMARIES_NAMES.get(self.primaries)),
            ("-color_trc", _TRANSFER_NAMES.get(self.transfer)),
        )
        return " ".join(f"{option} {name}" for option, name in given if name is not None)

    def srgb_notice(self) -> list[str]:
        """What to say where these colours are stored as they are, in a file that has no tags for them."""
        far = [
            *([_TRANSFER_NAMES[self.transfer]] if self.transfer in _FAR_TRANSFERS else []),
            *([_PRIMARIES_NAMES[self.primaries]] if self.primaries in _FAR_PRIMARIES else []),
        ]
        said = "the colours are stored as they are, and shown as sRGB, which they are not"
        return [f"{said}: {', '.join(far)}"] if far else []

    def __str__(self) -> str:
        return f"{self.matrix} {'full' if self.full_range else 'limited'} range"


def _is_small(width: int, height: int) -> bool:
    return height < 720 and width < 1280


def is_rgb(pixel_format: av.VideoFormat) -> bool:
    return pixel_format.is_rgb or pixel_format.has_palette
