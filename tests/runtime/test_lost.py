"""Nothing of a source is left out in silence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from clips import render_clip
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.media import open_sink, open_source
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


@pytest.mark.parametrize(
    ("target", "codec", "kept"),
    [
        ("out.mp4", "h264", "center top topleft left"),
        ("out.mp4", "h265", "center top topleft left"),
        ("out.mp4", "av1", "topleft left"),
        ("out.mp4", "vp9", ""),
        ("out.mkv", "ffv1", "center top topleft left"),
        ("out.webm", "vp9", "center top topleft left"),
        ("out.avi", "mpeg4", ""),
        ("out.y4m", None, "center topleft left"),
        ("out.mov", "prores", "center top topleft left"),  # 4:2:2: there is no such choice
    ],
)
@pytest.mark.parametrize("site", ["center", "top", "topleft", "left"])
def test_the_place_of_chroma_samples_is_kept_or_named(
    site: str, target: str, codec: str | None, kept: str, tmp_path: Path
) -> None:
    options = {"chroma_sample_location": site}
    clip = render_clip(tmp_path / "in.mp4", frames=2, options=options)
    with VideoReader(clip) as source:
        assert source.traits.chroma_site == site
        with open_sink(tmp_path / target, source, source.info.rate, EncodeOptions(codec=codec)) as sink:
            for frame in source.frames():
                sink.write(frame)
    named = any(f"the place of its chroma samples, {site}" in each for each in sink.notices)
    assert named == (site not in (*kept.split(), "left"))  # left is what is taken for granted
    if not named and site != "left" and codec != "prores":
        with open_source(tmp_path / target) as result:
            assert result.traits.chroma_site == site


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv", "webm", "avi"])
def test_tags_of_a_cameras_own_are_kept_or_named(suffix: str, tmp_path: Path) -> None:
    tags = {"title": "Holiday", "com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone"}
    clip = render_clip(tmp_path / "in.mkv", frames=2, metadata=tags)
    target = tmp_path / f"out.{suffix}"
    with VideoReader(clip) as source, open_sink(target, source, source.info.rate) as sink:
        for frame in source.frames():
            sink.write(frame)
    with VideoReader(target) as result:
        found = {name.lower(): value for name, value in result.traits.metadata.items()}
    lost = "not carried over: the tags com.apple.quicktime.make, com.apple.quicktime.model"
    assert found["title"] == "Holiday"
    assert (lost in [each.lower() for each in sink.notices]) == (suffix == "avi")
    assert tags.items() <= (found | ({} if suffix != "avi" else tags)).items()
