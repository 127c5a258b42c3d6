"""HDR: transfer, primaries and the metadata of the mastering display, from the source to the result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from clips import render_clip
from flavr_runtime.encoders import EncodeOptions
from flavr_runtime.frames import Frame
from flavr_runtime.hdr import HdrMetadata, Mastering
from flavr_runtime.reader import VideoReader
from flavr_runtime.writer import VideoWriter

PQ, HLG = (9, 1, 9, 16), (9, 1, 9, 18)
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
P3 = Mastering(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white=(Fraction(15635, 50000), Fraction(16450, 50000)),
    darkest=Fraction(50, 10000),
    brightest=Fraction(1000),
)


@pytest.fixture(scope="module")
def clip_hdr10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_clip(
        tmp_path_factory.mktemp("hdr") / "hdr10.mkv",
        codec="libx265",
        pixel_format="yuv420p10le",
        size=(128, 96),
        frames=3,
        tags=PQ,
        options={"x265-params": f"log-level=error:master-display={DISPLAY}:max-cll=1000,400", "crf": "10"},
    )


def copied(source: Path, target: Path, codec: str | None = None) -> tuple[VideoReader, list[str]]:
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader, reader.info.rate, EncodeOptions(codec=codec)) as writer,
    ):
        for frame in reader.frames():
            writer.write(Frame(frame.rgb, frame.time))
    return VideoReader(target), writer.notices


def close(found: Mastering, expected: Mastering) -> bool:
    def flat(display: Mastering) -> list[Fraction]:
        corners = (display.red, display.green, display.blue, display.white)
        return [*(side for corner in corners for side in corner), display.darkest]

    pairs = zip(flat(found), flat(expected), strict=True)
    return found.brightest == expected.brightest and all(abs(a - b) < Fraction(1, 5000) for a, b in pairs)


def test_hdr10_metadata_is_read(clip_hdr10: Path) -> None:
    reader = VideoReader(clip_hdr10)
    assert reader.traits.hdr == HdrMetadata(P3, (1000, 400))
    assert str(reader.traits.hdr) == "mastering display metadata and content light level"
    assert reader.notices == []


@pytest.mark.parametrize(
    ("name", "codec"), [("out.mp4", "h265"), ("out.mkv", "h264"), ("out.mkv", "av1"), ("out.mp4", "av1")]
)
def test_hdr10_stays_hdr10(tmp_path: Path, clip_hdr10: Path, name: str, codec: str) -> None:
    found, notices = copied(clip_hdr10, tmp_path / name, codec)
    colour, hdr = found.traits.colour, found.traits.hdr
    assert notices == []
    assert found.traits.pixel_format == "yuv420p10le"
    assert (colour.tag_matrix, colour.tag_range, colour.primaries, colour.transfer) == PQ
    assert hdr is not None
    assert hdr.light == (1000, 400)
    assert hdr.mastering is not None
    assert close(hdr.mastering, P3)


def test_a_codec_that_cannot_hold_the_metadata_says_so(tmp_path: Path, clip_hdr10: Path) -> None:
    found, notices = copied(clip_hdr10, tmp_path / "out.mkv", "ffv1")
    assert found.traits.hdr is None
    assert found.traits.colour.transfer == 16
    assert notices == [
        "ffv1 does not write the source's mastering display metadata and content light level: it is left "
        "out; h265 and av1 keep it"
    ]


def test_hlg_stays_hlg_and_nothing_is_invented(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "hlg.mp4", pixel_format="yuv420p10le", frames=2, tags=HLG)
    found, notices = copied(clip, tmp_path / "out.mp4", "h265")
    colour = found.traits.colour
    assert (colour.tag_matrix, colour.tag_range, colour.primaries, colour.transfer) == HLG
    assert found.traits.hdr is None
    assert notices == []
