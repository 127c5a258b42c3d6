"""Source images whose bytes cannot stand beside the new ones: turned, grey, transparent, with a profile."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from clips import moving_square
from flavr_runtime._icc import decode_with_profile, encode_with_profile
from flavr_runtime.errors import InputError, OutputError
from flavr_runtime.frames import Frame
from flavr_runtime.image_writer import ImageWriter
from flavr_runtime.images import ImageReader, read_image
from flavr_runtime.media import ReadOptions, open_sink, open_source

RATE = Fraction(24)


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    """`picture` is as OpenCV has it: grey, BGR or BGRA."""
    ok, data = cv2.imencode(suffix, picture)
    assert ok
    return data.tobytes()


def tiff_tags(*entries: tuple[int, int], order: str = "<") -> bytes:
    """A block of EXIF, or the head of a TIFF, with (tag, value) as 16-bit numbers."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    rows = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + rows + bytes(4)


def jpeg_with(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content + data[2:]


def png_with(data: bytes, name: bytes, content: bytes) -> bytes:
    chunk = struct.pack(">I", len(content)) + name + content
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + data[33:]


def tiff_turned(data: bytes, orientation: int) -> bytes:
    """With a directory that says so at the end, in place of the one that OpenCV has written."""
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    rows = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    rows = [*rows, struct.pack("<HHIHH", 274, 3, 1, orientation, 0)]
    rows.sort(key=lambda row: struct.unpack("<H", row[:2]))
    directory = struct.pack("<H", len(rows)) + b"".join(rows) + bytes(4)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def square(index: int = 0) -> np.ndarray:
    return np.ascontiguousarray(moving_square(index, 64, 48)[..., ::-1])


def palette_png() -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + bytes(x % 2 for x in range(64)) for _ in range(48))
    head = struct.pack(">IIBBBBB", 64, 48, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each)
        for each in (
            (b"IHDR", head), (b"PLTE", bytes(range(6))), (b"IDAT", zlib.compress(rows)), (b"IEND", b""),
        )
    )  # fmt: skip


EXIF = b"Exif\0\0"
ICC = b"ICC_PROFILE\0\1\1" + bytes(128)
UNLIKE_NEW_ONES = {
    "turned.jpg": jpeg_with(encoded(".jpg", square()), 0xE1, EXIF + tiff_tags((274, 6))),
    "turned by a Mac.jpg": jpeg_with(encoded(".jpg", square()), 0xE1, EXIF + tiff_tags((274, 3), order=">")),
    "turned.png": png_with(encoded(".png", square()), b"eXIf", tiff_tags((271, 1), (274, 8))),
    "turned.tif": tiff_turned(encoded(".tif", square()), 6),
    "grey.png": encoded(".png", square()[..., 1]),
    "grey.jpg": encoded(".jpg", square()[..., 1]),
    "palette.png": palette_png(),
    "opaque.png": encoded(".png", cv2.cvtColor(square(), cv2.COLOR_BGR2BGRA)),
    "profile.jpg": jpeg_with(encoded(".jpg", square()), 0xE2, ICC),
    "gamma.png": png_with(encoded(".png", square()), b"gAMA", struct.pack(">I", 100_000)),
}
LIKE_NEW_ONES = {
    **{f"plain{suffix}": encoded(suffix, square()) for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp")},
    "deep.png": encoded(".png", square().astype(np.uint16) * 257),
    "upright.jpg": jpeg_with(encoded(".jpg", square()), 0xE1, EXIF + tiff_tags((274, 1))),
    "upright.tif": tiff_turned(encoded(".tif", square()), 1),
    "srgb.png": png_with(encoded(".png", square()), b"gAMA", struct.pack(">I", 45455)),
    "odd exif.jpg": jpeg_with(encoded(".jpg", square()), 0xE1, EXIF + b"II*\0\xff\xff\xff\xff"),
}


def through(data: bytes, suffix: str, folder: Path, *, drop_alpha: bool = False) -> tuple[Path, Path, Path]:
    """The source image, its copy, and a new one between it and the next."""
    (folder / "in").mkdir()
    source = folder / "in" / f"1{suffix}"
    source.write_bytes(data)
    with (
        open_source(folder / "in", ReadOptions(rate=RATE, drop_alpha=drop_alpha)) as reader,
        open_sink(folder / "out" / f"%d{suffix}", reader, RATE) as sink,
    ):
        for frame in reader.frames():
            sink.write(frame)
            sink.write(Frame(frame.rgb, frame.time + 1 / (2 * RATE)))
    return source, folder / "out" / f"1{suffix}", folder / "out" / f"2{suffix}"


@pytest.mark.parametrize("name", UNLIKE_NEW_ONES)
def test_images_stored_unlike_the_new_ones_are_written_like_them(name: str, tmp_path: Path) -> None:
    source, copy, new = through(UNLIKE_NEW_ONES[name], Path(name).suffix, tmp_path)
    assert copy.read_bytes() == new.read_bytes()
    stored = cv2.imdecode(np.frombuffer(copy.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    shown = read_image(source)
    assert stored.shape == shown.shape
    assert np.abs(stored[..., ::-1].astype(int) - shown).mean() < 3


@pytest.mark.parametrize("name", LIKE_NEW_ONES)
def test_images_stored_as_they_are_shown_are_copied(name: str, tmp_path: Path) -> None:
    _, copy, _ = through(LIKE_NEW_ONES[name], Path(name).suffix, tmp_path)
    assert copy.read_bytes() == LIKE_NEW_ONES[name]


def test_a_colour_profile_that_is_left_out_is_said(tmp_path: Path) -> None:
    for name in ("plain.jpg", "profile.jpg"):
        (tmp_path / name).write_bytes((LIKE_NEW_ONES | UNLIKE_NEW_ONES)[name])
    with ImageReader(tmp_path, RATE) as reader:
        assert reader.notices == ["not carried over: the colour profile of profile.jpg"]


def icc_profile(space: bytes = b"RGB ", size: int = 300) -> bytes:
    """As far as any reader here looks: of D50, without tags but one, which is padding."""
    head = size.to_bytes(4) + b"test\x04\0\0\0mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    d50 = bytes.fromhex("0000f6d6000100000000d32d")
    tag = (1).to_bytes(4) + b"cprt" + (144).to_bytes(4) + (size - 144).to_bytes(4)
    return (
        (head + d50).ljust(128, b"\0") + tag + b"text" + bytes(4) + bytes(n % 251 for n in range(size - 152))
    )


def profiled(suffix: str, profile: bytes, index: int = 0) -> bytes:
    return encode_with_profile(suffix, square(index), (), profile)


def profile_in(file: Path) -> bytes | None:
    return decode_with_profile(np.frombuffer(file.read_bytes(), np.uint8))[1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_colour_profile_of_all_images_is_that_of_the_new_ones(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = icc_profile(size=65_516)  # the largest that a JPEG holds, in fours
    source, copy, new = through(profiled(suffix, profile), suffix, tmp_path)
    assert copy.read_bytes() == source.read_bytes()
    assert profile_in(new) == profile
    assert np.abs(read_image(new).astype(int) - read_image(source)).mean() < 3
    assert capfd.readouterr() == ("", "")  # OpenCV's libraries have nothing to complain of


def test_other_kinds_of_images_get_the_profile_too_or_say_that_they_cannot(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    profile = icc_profile(size=65_520)
    (tmp_path / "in/1.png").write_bytes(profiled(".png", profile))
    for suffix, held in ((".webp", profile), (".tif", None), (".jpg", None)):
        out = tmp_path / suffix[1:] / f"%d{suffix}"
        with (
            open_source(tmp_path / "in", ReadOptions(rate=RATE)) as reader,
            open_sink(out, reader, RATE) as sink,
        ):
            assert reader.notices == []
            assert sink.notices == ([] if held else ["not carried over: the colour profile"])
            for frame in reader.frames():
                sink.write(frame)
        assert profile_in(out.parent / f"1{suffix}") == held


def test_a_profile_that_libpng_refuses_does_not_end_in_broken_images(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    odd = icc_profile(size=301)  # version 4 is counted in fours
    (tmp_path / "in/1.jpg").write_bytes(profiled(".jpg", odd))
    with (
        open_source(tmp_path / "in", ReadOptions(rate=RATE)) as reader,
        open_sink(tmp_path / "out/%d.png", reader, RATE) as sink,
    ):
        assert reader.traits.icc_profile == odd
        assert sink.notices == ["not carried over: the colour profile"]
        for frame in reader.frames():
            sink.write(frame)
    np.testing.assert_array_equal(read_image(tmp_path / "out/1.png"), read_image(tmp_path / "in/1.jpg"))
    with pytest.raises(OutputError, match=r"OpenCV cannot write this picture as \.png"):
        profiled(".png", odd)


def test_a_source_whose_profile_has_no_place_in_the_new_ones_is_not_copied(tmp_path: Path) -> None:
    data = encoded(".tif", square())
    (tmp_path / "1.tif").write_bytes(data)
    reader = ImageReader(tmp_path, RATE)
    traits = replace(reader.traits, icc_profile=icc_profile())  # as if OpenCV read them from TIFF
    source = SimpleNamespace(info=reader.info, traits=traits)
    with ImageWriter(tmp_path / "out/%d.tif", source) as sink:
        assert sink.notices == ["not carried over: the colour profile"]
        (tmp_path / "1.tif").write_bytes(data + b"more")
        for frame in reader.frames():
            assert frame.source is not None
            sink.write(frame)
    assert (tmp_path / "out/1.tif").read_bytes() == data


def test_a_video_has_no_place_for_the_profile(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(profiled(".png", icc_profile()))
    for name in ("out.mp4", "-"):
        with open_source(tmp_path, ReadOptions(rate=RATE)) as reader:
            sink = open_sink(tmp_path / name if name != "-" else name, reader, RATE)
            assert any("the colour profile" in notice for notice in sink.notices)


@pytest.mark.parametrize(
    "other",
    [
        profiled(".png", icc_profile(size=304)),
        profiled(".png", icc_profile(b"GRAY")),
        png_with(encoded(".png", square()), b"iCCP", b"cut off\0\0" + zlib.compress(icc_profile()[:-1])),
        png_with(profiled(".png", icc_profile()), b"cICP", bytes((12, 13, 0, 1))),
        encoded(".png", square()),
    ],
    ids=["another", "grey", "cut off", "cICP", "none"],
)
def test_a_profile_that_is_not_that_of_all_is_left_out_of_all(tmp_path: Path, other: bytes) -> None:
    (tmp_path / "1.png").write_bytes(profiled(".png", icc_profile()))
    (tmp_path / "2.png").write_bytes(other)
    with ImageReader(tmp_path, RATE) as reader:
        assert reader.traits.icc_profile is None
        assert reader.notices[0].startswith("not carried over: the colour profile of 1.png")
        assert next(frame.source is None for frame in reader.frames())


def test_an_image_that_promises_more_pixels_than_can_be_read_is_named(tmp_path: Path) -> None:
    data = encoded(".png", square())
    head = b"IHDR" + struct.pack(">II", 40_000, 40_000) + data[24:29]
    (tmp_path / "1.png").write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    with pytest.raises(InputError, match=r"1\.png: not an image that can be read, or damaged$"):
        ImageReader(tmp_path, RATE)


def test_transparent_images_are_read_where_that_is_asked_for(tmp_path: Path) -> None:
    half = np.full((48, 64), 128, np.uint8)
    data = encoded(".png", np.dstack([square(), half]))
    with pytest.raises(InputError, match=r"which would be lost; --drop-alpha goes on without them$"):
        through(data, ".png", tmp_path)
    (tmp_path / "again").mkdir()
    _, copy, new = through(data, ".png", tmp_path / "again", drop_alpha=True)
    assert copy.read_bytes() == new.read_bytes()
    np.testing.assert_array_equal(read_image(copy), square()[..., ::-1])
    source = open_source(tmp_path / "in", ReadOptions(rate=RATE, drop_alpha=True))
    assert source.notices == ["the transparency of 1.png is dropped, as asked"]
