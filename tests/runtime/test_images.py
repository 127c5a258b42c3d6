"""Folders of images, in and out, and every way of mixing them with videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from clips import Sound, moving_square, render_clip
from flavr_runtime._sequences import is_sequence
from flavr_runtime.errors import FlavrRuntimeError, InputError, OutputError, UsageError
from flavr_runtime.frames import Frame
from flavr_runtime.image_writer import ImageWriter, work_place
from flavr_runtime.images import ImageReader, read_image
from flavr_runtime.media import ReadOptions, open_sink, open_source
from flavr_runtime.reader import VideoReader
from flavr_runtime.workfolder import WorkFolder
from flavr_runtime.writer import EncodeOptions, VideoWriter

RATE = Fraction(24)


def write_image(path: Path, rgb: np.ndarray) -> Path:
    """Through memory: cv2.imwrite does not take every name."""
    order = cv2.COLOR_RGBA2BGRA if rgb.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    ok, data = cv2.imencode(path.suffix, cv2.cvtColor(rgb, order))
    assert ok
    path.write_bytes(data.tobytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """frame1.png ... frame12.png, 64x48, and two files that are no images."""
    path = tmp_path / "bilder é"
    path.mkdir()
    for index in range(12):
        write_image(path / f"frame{index + 1}.png", moving_square(index, 64, 48))
    (path / ".hidden.png").write_bytes(b"")
    (path / "notes.txt").write_text("not a frame")
    return path


def message_of(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        ImageReader(path, RATE)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path}/", "").replace(str(path), "FOLDER")


def copy(source_path: Path, target: Path, *, overwrite: bool = False) -> None:
    options = EncodeOptions(crf=4 if target.suffix == ".mp4" else None)
    with (
        open_source(source_path, ReadOptions(rate=RATE if is_sequence(source_path) else None)) as source,
        open_sink(target, source, source.info.rate, options, overwrite=overwrite) as sink,
    ):
        for frame in source.frames():
            sink.write(frame)


def test_images_come_in_the_order_people_number_them(folder: Path) -> None:
    with ImageReader(folder, RATE) as reader:
        frames = list(reader.frames())
    assert [frame.source for frame in frames] == [folder / f"frame{index}.png" for index in range(1, 13)]
    assert [frame.time for frame in frames] == [index / RATE for index in range(12)]
    assert np.array_equal(frames[9].rgb, moving_square(9, 64, 48))
    assert reader.info.frame_count == 12
    assert reader.info.description == "12 png images"
    assert reader.traits.end == Fraction(1, 2)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".tif", ".tiff"])
def test_lossless_kinds_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    picture = moving_square(3, 31, 17)
    assert np.array_equal(read_image(write_image(tmp_path / f"a{suffix}", picture)), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_kinds_are_read(tmp_path: Path, suffix: str) -> None:
    picture = moving_square(3, 64, 48)
    found = read_image(write_image(tmp_path / f"a{suffix}", picture))
    assert np.abs(found.astype(int) - picture).mean() < 6


def test_grey_and_opaque_images_are_read(tmp_path: Path) -> None:
    picture = moving_square(0, 16, 16)
    opaque = write_image(tmp_path / "opaque.png", np.dstack([picture, np.full((16, 16), 255, np.uint8)]))
    assert np.array_equal(read_image(opaque), picture)
    grey = tmp_path / "grey.png"
    grey.write_bytes(cv2.imencode(".png", picture[..., 0])[1].tobytes())
    assert np.array_equal(read_image(grey), picture[..., :1].repeat(3, -1))


def test_one_odd_size_is_named_before_the_work(folder: Path) -> None:
    write_image(folder / "frame7.png", moving_square(0, 64, 50))
    assert message_of(folder) == "frame7.png: 64x50, but frame1.png is 64x48; all images must have one size"


def test_images_that_would_lose_something_are_named(folder: Path) -> None:
    target = folder / "frame9.png"
    cv2.imwrite(str(folder / "deep.png"), np.zeros((48, 64, 3), np.uint16))
    (folder / "deep.png").replace(target)
    assert message_of(folder) == (
        "frame9.png: 16 bits per colour, but frame1.png has 8; all images must have one depth"
    )
    write_image(target, np.dstack([moving_square(0, 64, 48), np.full((48, 64), 9, np.uint8)]))
    text = "frame9.png: has transparent pixels, which would be lost; --drop-alpha goes on without them"
    assert message_of(folder) == text


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_image_cut_off_by_a_full_disk_is_named(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    whole = write_image(tmp_path / f"a{suffix}", noise).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    assert message_of(tmp_path) == f"a{suffix}: the image is cut off"
    (tmp_path / f"a{suffix}").write_bytes(b"")
    assert message_of(tmp_path) == f"a{suffix}: the image is cut off"


def test_folder_without_images_is_named(tmp_path: Path) -> None:
    assert message_of(tmp_path) == "FOLDER: no images in it (bmp, jpeg, jpg, png, tif, tiff, webp)"
    assert message_of(tmp_path / "none") == "FOLDER: no such folder"


def test_folder_to_folder_copies_sources_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with ImageReader(folder, RATE) as reader, ImageWriter(target, reader) as writer:
        for frame in reader.frames():
            writer.write(frame)
            writer.write(Frame(frame.rgb, frame.time + 1 / (2 * RATE)))
            assert not target.exists()
    names = sorted(path.name for path in target.iterdir())
    assert names == [f"{index:06d}.png" for index in range(1, 25)]
    assert (target / "000001.png").read_bytes() == (folder / "frame1.png").read_bytes()
    assert np.array_equal(read_image(target / "000004.png"), moving_square(1, 64, 48))


def test_jpeg_sources_are_written_as_they_are_shown(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_image(photos / "a.jpg", moving_square(0, 64, 48))
    copy(photos, tmp_path / "out")
    assert np.array_equal(read_image(tmp_path / "out" / "000001.png"), read_image(photos / "a.jpg"))


def test_folder_to_video(folder: Path, tmp_path: Path) -> None:
    copy(folder, tmp_path / "out.mp4")
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = list(reader.frames())
    assert (reader.info.rate, reader.info.frame_count) == (RATE, 12)
    assert reader.traits.end == Fraction(1, 2)
    assert np.abs(frames[5].rgb.astype(int) - moving_square(5, 64, 48)).mean() < 4


def test_video_to_folder(clip_plain: Path, tmp_path: Path) -> None:
    copy(clip_plain, tmp_path / "out")
    with VideoReader(clip_plain) as reader:
        for index, frame in enumerate(reader.frames(), 1):
            assert np.array_equal(read_image(tmp_path / "out" / f"{index:06d}.png"), frame.rgb)


def test_lost_sound_and_rotation_are_said(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "clip.mp4", sounds=[Sound()], rotation=90, frames=2)
    with VideoReader(clip) as reader:
        assert ImageWriter(tmp_path / "out", reader).notices == [
            "a folder of images has no sound: the audio is left out",
            "the images are stored as filmed: the video's rotation flag is left out",
        ]


def stop_halfway(source: Path, target: Path) -> None:
    with ImageReader(source, RATE) as reader, ImageWriter(target, reader) as writer:
        writer.write(next(reader.frames()))
        raise KeyboardInterrupt


def test_images_of_a_run_that_stops_halfway_are_kept_out_of_sight(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stop_halfway(folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, ".out.flavr-parts"}
    assert [path.name for path in (tmp_path / ".out.flavr-parts" / "images").iterdir()] == ["000001.png"]


def test_folder_with_other_files_is_never_deleted(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    copy(folder, target)
    with pytest.raises(
        OutputError, match=r"the folder is not empty; use --overwrite, or choose another name$"
    ):
        copy(folder, target)
    copy(folder, target, overwrite=True)
    (target / "holiday.png").write_bytes(b"precious")
    with pytest.raises(
        OutputError, match=r"holds other files \(holiday.png\), which --overwrite would delete$"
    ):
        copy(folder, target, overwrite=True)
    with pytest.raises(OutputError, match=r"the output is the input; choose another name$"):
        copy(folder, folder, overwrite=True)
    with pytest.raises(OutputError, match=r"does not exist; create it first$"):
        copy(folder, tmp_path / "no" / "out")


def test_path_decides_what_is_opened(folder: Path, clip_plain: Path, tmp_path: Path) -> None:
    source = open_source(folder, ReadOptions(rate=RATE))
    assert isinstance(source, ImageReader)
    assert isinstance(open_source(clip_plain), VideoReader)
    assert isinstance(open_sink(tmp_path / "out", source, RATE), ImageWriter)
    assert isinstance(open_sink(tmp_path / "out.mkv", source, RATE), VideoWriter)
    with pytest.raises(UsageError, match=r"images have no frame rate of their own; state it$"):
        open_source(folder)
    with pytest.raises(FlavrRuntimeError, match=r"out\.wmv: cannot write \.wmv files; use \.mp4"):
        open_sink(tmp_path / "out.wmv", source, RATE)


def test_odd_sized_images_keep_their_size_as_video(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    for index in range(3):
        write_image(odd / f"{index}.png", moving_square(index, 65, 49))
    copy(odd, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height, frame.format.name) == (65, 49, "yuv444p")


def deep(index: int, width: int = 20, height: int = 12) -> np.ndarray:
    """All of 16 bits: no two neighbours would be the same in 8."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([200 * x + index, 30000 + 7 * y, 65535 - 11 * x * y], -1).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_stay_16_bits(tmp_path: Path, suffix: str) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for index in range(3):
        write_image(shots / f"f{index}{suffix}", deep(index))
    with ImageReader(shots, RATE) as reader, ImageWriter(tmp_path / "out" / "%d.tif", reader) as writer:
        assert reader.info.bits == 16
        for frame in reader.frames():
            assert frame.rgb.dtype == np.uint16
            writer.write(frame)
            writer.write(Frame(frame.rgb + np.uint16(1), frame.time))
    for index in range(3):
        for more in (0, 1):
            found = read_image(tmp_path / "out" / f"{1 + 2 * index + more}.tif")
            np.testing.assert_array_equal(found, deep(index) + np.uint16(more))
    if suffix == ".tif":
        assert (tmp_path / "out" / "3.tif").read_bytes() == (shots / "f1.tif").read_bytes()


def test_16_bit_images_as_video_keep_their_depth_or_say_so(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for index in range(2):
        write_image(shots / f"f{index}.png", deep(index, 64, 48))
    for target, codec, pixel_format in (
        ("out.mkv", "ffv1", "gbrp16le"),
        ("out.mp4", "h265", "yuv420p12le"),
        ("out.webm", "vp9", "yuv420p"),
    ):
        with ImageReader(shots, RATE) as reader:
            with open_sink(tmp_path / target, reader, RATE, EncodeOptions(codec=codec)) as sink:
                for frame in reader.frames():
                    sink.write(frame)
            said = [notice for notice in sink.notices if f"is encoded as {pixel_format}" in notice]
            assert len(said) == (codec != "ffv1")
        with VideoReader(tmp_path / target) as again:
            frames = [frame.rgb for frame in again.frames()]
            assert again.traits.pixel_format == pixel_format
        if codec == "ffv1":
            np.testing.assert_array_equal(frames[1], deep(1, 64, 48))


def test_deep_video_as_images_is_16_bit_png_and_8_bit_jpeg(tmp_path: Path, clip_10bit: Path) -> None:
    for name, bits in (("png", 16), ("jpg", 8)):
        copy(clip_10bit, tmp_path / name / f"%03d.{name}")
        with ImageReader(tmp_path / name, RATE) as reader, VideoReader(clip_10bit) as video:
            assert reader.info.bits == bits
            first, found = next(video.frames()).rgb, next(reader.frames()).rgb
            assert np.abs(found / found.max() - first / first.max()).mean() < (1e-9 if bits == 16 else 0.02)
            sink = open_sink(tmp_path / f"%d.{name}", video, RATE)
            assert (sink.notices == []) == (bits == 16)


def test_globs_take_what_they_match_in_natural_order(folder: Path, tmp_path: Path) -> None:
    write_image(folder / "other.png", moving_square(0, 8, 8))
    with ImageReader(folder / "frame*.png", RATE) as reader:
        assert [frame.source for frame in reader.frames()] == [
            folder / f"frame{index}.png" for index in range(1, 13)
        ]
    with pytest.raises(InputError, match=r"x\*\.png: no image has a name like that"):
        ImageReader(folder / "x*.png", RATE)
    odd = write_image(tmp_path / "take[1].png", moving_square(0, 8, 8))  # no glob: it is there
    assert not is_sequence(odd)


def test_patterns_keep_the_number_they_start_with(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for index in range(3):
        write_image(shots / f"s_{99 + index:04d}.png", moving_square(index, 16, 16))
    (shots / "s_99.png").write_bytes(b"not one of them: it is not filled up with zeros")
    copy(shots / "s_%04d.png", shots / "t_%d.png")
    assert sorted(path.name for path in shots.glob("t*")) == ["t_100.png", "t_101.png", "t_99.png"]
    copy(shots / "s_%04d.png", tmp_path / "whole")
    assert min(path.name for path in (tmp_path / "whole").iterdir()) == "000099.png"
    (shots / "s_0100.png").unlink()
    with pytest.raises(InputError, match=r"s_0100\.png is missing between s_0099\.png and s_0101\.png"):
        ImageReader(shots / "s_%04d.png", RATE)
    for missing, message in (("u_%d.png", "no file has a name like that"), ("no/%d.png", "no such folder")):
        with pytest.raises(InputError, match=message):
            ImageReader(shots / missing, RATE)


def test_patterns_write_beside_other_files_and_replace_only_their_own(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("precious")
    (out / "f_0013.png").write_bytes(b"of a longer run")
    with pytest.raises(OutputError, match=r"f_0013\.png exists; use --overwrite, or choose another name$"):
        copy(folder, out / "f_%04d.png")
    copy(folder, out / "f_%04d.png", overwrite=True)
    names = [f"f_{index:04d}.png" for index in range(1, 13)]
    assert sorted(path.name for path in out.iterdir()) == [*names, "notes.txt"]
    with pytest.raises(OutputError, match="files of such names lie in the input's folder"):
        copy(folder, folder / "frame%d.png", overwrite=True)
    with pytest.raises(OutputError, match=r"cannot write \.exr images; use \.png, \.jpg"):
        copy(folder, out / "%d.exr")
    assert sorted(path.name for path in out.iterdir()) == [*names, "notes.txt"]


def test_images_of_other_depths_are_refused_by_name(tmp_path: Path) -> None:
    ok, data = cv2.imencode(".tif", np.zeros((4, 4, 3), np.float32))
    assert ok
    (tmp_path / "a.tif").write_bytes(data.tobytes())
    assert message_of(tmp_path) == (
        "a.tif: 32-bit float samples; images of 8 and 16 bits per colour are supported"
    )


def test_an_interrupted_sequence_of_numbered_images_is_continued(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    shots.mkdir()
    for index in range(3):
        write_image(shots / f"{index + 5}.png", moving_square(index, 16, 16))
    with ImageReader(shots / "%d.png", RATE) as reader:
        with pytest.raises(KeyboardInterrupt):
            stop_halfway(shots / "%d.png", tmp_path / "out" / "%d.tif")
        assert not (tmp_path / "out").exists()
        work = WorkFolder(work_place(tmp_path / "out" / "%d.tif"), resume=True)
        with ImageWriter(tmp_path / "out" / "%d.tif", reader, work=work) as again:
            assert again.kept == 1
            for frame in reader.frames():
                again.write(frame)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["5.tif", "6.tif", "7.tif"]
    assert {path.name for path in tmp_path.iterdir()} == {"shots", "out"}


@pytest.mark.parametrize(
    ("former", "lost", "kept"), [(True, "", 12), (False, "", 12), (False, "f_0002.png", 1)]
)
def test_a_run_interrupted_while_numbered_images_get_their_names_is_continued(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, former: bool, lost: str, kept: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if former:
        (out / "f_0013.png").write_bytes(b"of a longer run")
    rename, names = Path.replace, [f"f_{index:04d}.png" for index in range(1, 13)]

    def interrupted(path: Path, target: Path) -> Path:
        if Path(target) == out / "f_0005.png":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy(folder, out / "f_%04d.png", overwrite=former)
    assert (out / "f_0004.png").exists()
    assert (out / "f_0013.png").exists() == former, "deleted before the new result is there"
    if lost:  # by somebody who has tidied up
        (out / lost).unlink()
    work = WorkFolder(work_place(out / "f_%04d.png"), resume=True)
    with (
        ImageReader(folder, RATE) as reader,
        ImageWriter(out / "f_%04d.png", reader, overwrite=former, work=work) as again,
    ):
        assert again.kept == kept
        for frame in reader.frames():
            again.write(frame)
    assert sorted(path.name for path in out.iterdir()) == names
    for index, name in enumerate(names):
        assert (out / name).read_bytes() == (folder / f"frame{index + 1}.png").read_bytes()
