"""What HDR video says of the display it was made on and of its brightest pictures, read and handed on."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any, cast

import av
from av.sidedata.sidedata import Type

__all__ = ["HDR_WRITERS", "HdrMetadata", "Mastering", "dynamic_metadata"]

Point = tuple[Fraction, Fraction]

_DYNAMIC = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    Type.DOVI_METADATA: "Dolby Vision metadata",
    Type.DOVI_RPU_BUFFER: "Dolby Vision metadata",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
}


@dataclass(frozen=True, slots=True)
class Mastering:
    """The display: CIE xy of its primaries and white, and its darkest and brightest in cd/m2."""

    red: Point
    green: Point
    blue: Point
    white: Point
    darkest: Fraction
    brightest: Fraction


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """`light` is the brightest pixel and the brightest average of a picture, in cd/m2 (MaxCLL, MaxFALL)."""

    mastering: Mastering | None = None
    light: tuple[int, int] | None = None

    @classmethod
    def of(cls, frame: av.VideoFrame) -> HdrMetadata | None:
        """That of a decoded frame, None where it has none."""
        data = {each.type: bytes(each) for each in cast("Iterable[Any]", frame.side_data)}
        mastering = _mastering(data.get(Type.MASTERING_DISPLAY_METADATA, b""))
        light = data.get(Type.CONTENT_LIGHT_LEVEL, b"")
        levels = struct.unpack("=2I", light[:8]) if len(light) >= 8 else (0, 0)
        if mastering is None and not any(levels):
            return None
        return cls(mastering, (levels[0], levels[1]) if any(levels) else None)

    def __str__(self) -> str:
        parts = [
            *(["mastering display metadata"] if self.mastering else []),
            *(["content light level"] if self.light else []),
        ]
        return " and ".join(parts)


def dynamic_metadata(frame: av.VideoFrame) -> list[str]:
    """What changes from picture to picture, for which new pictures would need values of their own."""
    found = (_DYNAMIC.get(each.type) for each in cast("Iterable[Any]", frame.side_data))
    return list(dict.fromkeys(name for name in found if name is not None))


def _mastering(data: bytes) -> Mastering | None:
    """From FFmpeg's AVMasteringDisplayMetadata; None where a part is missing, as encoders want all of it."""
    if len(data) < 88:
        return None
    *numbers, has_primaries, has_luminance = struct.unpack("=22i", data[:88])
    if not (has_primaries and has_luminance) or not all(numbers[1::2]):
        return None
    values = [Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = ((values[at], values[at + 1]) for at in (0, 2, 4, 6))
    return Mastering(red, green, blue, white, values[8], values[9])


def _display(mastering: Mastering, point: Callable[[Fraction], str], light: Callable[[Fraction], str]) -> str:
    corners = (
        ("G", mastering.green), ("B", mastering.blue), ("R", mastering.red), ("WP", mastering.white),
        )  # fmt: skip
    text = "".join(f"{name}({point(x)},{point(y)})" for name, (x, y) in corners)
    return f"{text}L({light(mastering.brightest)},{light(mastering.darkest)})"


def _parameters(metadata: HdrMetadata, display_name: str, light_name: str, *, whole: bool) -> str:
    """With `whole`, in H.265's units: 1/50000 for coordinates and 1/10000 cd/m2."""
    found = []
    if metadata.mastering is not None:
        point, light = (
            (lambda value: str(round(value * 50_000)), lambda value: str(round(value * 10_000)))
            if whole
            else (lambda value: f"{float(value):.5f}", lambda value: f"{float(value):.4f}")
        )
        found.append(f"{display_name}={_display(metadata.mastering, point, light)}")
    if metadata.light is not None:
        found.append(f"{light_name}={metadata.light[0]},{metadata.light[1]}")
    return ":".join(found)


HDR_WRITERS: Mapping[str, Callable[[HdrMetadata], str]] = MappingProxyType(
    {
        "x264-params": lambda data: _parameters(data, "mastering-display", "cll", whole=True),
        "x265-params": lambda data: _parameters(data, "master-display", "max-cll", whole=True),
        "svtav1-params": lambda data: _parameters(data, "mastering-display", "content-light", whole=False),
    }
)
"""By the option that takes parameters of the encoder's own: the metadata as text for it."""
