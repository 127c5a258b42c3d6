"""Nothing of a source is left out in silence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from clips import render_clip
from flavr_runtime.media import open_sink
from flavr_runtime.reader import VideoReader

CHAPTERS: list[dict[str, Any]] = [
    {"id": 0, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
]
PQ = (9, 1, 9, 16)  # BT.2020, limited range


def notices(clip: Path, target: str) -> list[str]:
    with VideoReader(clip) as source:
        return open_sink(clip.parent / target, source, source.info.rate).notices


@pytest.mark.parametrize("suffix", ["gif", "avi", "mp4", "mkv"])
def test_rotation_and_chapters_are_kept_or_named(suffix: str, tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=2, rotation=90, chapters=CHAPTERS)
    expected = [
        f"{suffix} has no rotation flag: the picture is shown as it was filmed",
        "not carried over: the chapters",
    ]
    found = [each for each in notices(clip, f"out.{suffix}") if each in expected]
    assert found == (expected if suffix in ("gif", "avi") else [])


@pytest.mark.parametrize("target", ["frames", "%d.jpg", "out.gif"])
def test_colours_that_pictures_cannot_have_are_named(target: str, tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=2, tags=PQ)
    lost = "the colours are stored as they are, and shown as sRGB, which they are not: smpte2084, bt2020"
    assert any(each.endswith(lost) for each in notices(clip, target))
    plain = render_clip(tmp_path / "plain.mp4", frames=2)
    assert not any("sRGB" in each for each in notices(plain, target))


def test_anamorphic_pixels_are_named_where_images_are_written(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=2, sample_aspect_ratio=Fraction(16, 15))
    shape = "the shape of its pixels, 16:15 (images have square ones)"
    assert notices(clip, "frames") == [f"not carried over: {shape}"]
