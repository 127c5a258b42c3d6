"""Every data set of image files, on tiny folders whose pixels say which frame they are."""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flavr._images import examine
from flavr.datasets import DATASETS, InterpolationDataset, dataset_name, open_dataset
from flavr.datasets.base import Split
from flavr.datasets.scenes import write_result
from flavr.errors import DataError, UsageError

_RGB = (1, 2, 3)  # channel c of frame k is filled with 10 * k + c


def write_frame(path: Path, number: int, size: tuple[int, int] = (24, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = np.full((*size, 3), 10 * number, np.uint8) + np.array(_RGB, np.uint8)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def make_vimeo(root: Path) -> None:
    for name in ("00001/0001", "00001/0002", "00002/0001"):
        for number in range(1, 8):
            write_frame(root / "sequences" / name / f"im{number}.png", number)
    (root / "sep_trainlist.txt").write_text("00001/0001\n00001/0002\n\n")
    (root / "sep_testlist.txt").write_text("00002/0001\n")


def make_gopro(root: Path) -> None:
    for clip in ("train/one", "train/two", "test/three"):
        for number in range(1, 17):
            write_frame(root / clip / f"{number:06d}.png", number)


def make_davis(root: Path) -> None:
    for number in range(1, 14):
        write_frame(root / "JPEGImages" / "480p" / "bear" / f"{number:05d}.png", number)


def make_ucf101(root: Path) -> None:
    for scene, stem in (("1", "frame_0{}"), ("2", "frame{}")):
        for number in range(4):
            write_frame(root / scene / f"{stem.format(number)}.png", number)
        write_frame(root / scene / "framet.png", 9)


def make_middlebury(root: Path) -> None:
    for number in (9, 10, 11, 12):
        write_frame(root / "other-data" / "Beanbags" / f"frame{number:02d}.png", number)
    write_frame(root / "other-gt-interp" / "Beanbags" / "frame10i11.png", 20)
    for number in (10, 11):
        write_frame(root / "eval-data" / "Teddy" / f"frame{number}.png", number)


MAKERS: dict[str, Callable[[Path], None]] = {
    "vimeo90K_septuplet": make_vimeo,
    "gopro": make_gopro,
    "davis": make_davis,
    "ucf101": make_ucf101,
    "middlebury": make_middlebury,
}
IMAGE_SETS = [(name, split) for name in MAKERS for split in DATASETS[name].splits]


@pytest.fixture
def roots(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        MAKERS[name](tmp_path / name)
        return tmp_path / name

    return make


def numbers(frames: torch.Tensor) -> list[int]:
    """The frames' numbers, after checking that every pixel says the same and the channels are R, G, B."""
    for channel, extra in enumerate(_RGB):
        plane = frames[:, channel].long() - extra
        assert (plane == plane[:, :1, :1]).all()
        assert (plane % 10 == 0).all()
    return [int(frame[0, 0, 0]) // 10 for frame in frames]


def test_every_image_set_is_tried_here() -> None:
    assert set(MAKERS) == set(DATASETS) - {"video"}


@pytest.mark.parametrize(("name", "split"), IMAGE_SETS)
def test_conformance(roots: Callable[[str], Path], name: str, split: Split) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(name, roots(name), split)))
    assert isinstance(dataset, InterpolationDataset)
    assert len(dataset) > 0
    assert dataset.check() == dataset.check(decode=True) == []
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.inputs.dtype == sample.targets.dtype == torch.uint8
        assert sample.inputs.shape == (4, 3, 24, 32)
        assert sample.targets.shape[1:] == (3, 24, 32)
        assert len(sample.targets) in ((0, 1) if name == "middlebury" else (1,))
        assert sample.name == dataset.name_of(index)
        inputs, targets = numbers(sample.inputs), numbers(sample.targets)
        assert inputs == sorted(inputs)
        if name not in ("ucf101", "middlebury"):  # whose target has a number of its own
            assert inputs[1] < targets[0] < inputs[2]
    assert dataset.check(min_size=(25, 1))[0].endswith("is 32x24, smaller than the crop of 1x25; use --crop")


@pytest.mark.parametrize(
    ("name", "split", "n_outputs", "windows"),
    [
        ("vimeo90K_septuplet", "test", 1, [([1, 3, 5, 7], [4])]),
        ("gopro", "test", 1, [([k, k + 2, k + 4, k + 6], [k + 3]) for k in (1, 3, 5, 7, 9)]),
        ("gopro", "test", 3, [([1, 5, 9, 13], [6, 7, 8])]),
        ("davis", "test", 2, [([1, 4, 7, 10], [5, 6]), ([4, 7, 10, 13], [8, 9])]),
        ("ucf101", "test", 1, [([0, 1, 2, 3], [9]), ([0, 1, 2, 3], [9])]),
        ("middlebury", "test", 1, [([10, 10, 11, 11], []), ([9, 10, 11, 12], [20])]),
    ],
)
def test_which_frames_are_inputs_and_which_targets(
    roots: Callable[[str], Path],
    name: str,
    split: Split,
    n_outputs: int,
    windows: list[tuple[list[int], list[int]]],
) -> None:
    dataset = open_dataset(name, roots(name), split, n_outputs=n_outputs)
    samples = [dataset[index] for index in range(len(dataset))]
    assert [(numbers(sample.inputs), numbers(sample.targets)) for sample in samples] == windows


def test_vimeo_splits_follow_the_lists_and_the_folder_above_will_do(roots: Callable[[str], Path]) -> None:
    root = roots("vimeo90K_septuplet")
    train = open_dataset("Vimeo90k-Septuplet", root.parent, "train")
    assert [train.name_of(index) for index in range(len(train))] == ["00001/0001", "00001/0002"]
    assert open_dataset("vimeo90K_septuplet", root, "test").name_of(0) == "00002/0001"


def test_gopro_tests_on_the_middle_512_and_trains_on_all(tmp_path: Path) -> None:
    wide = np.zeros((520, 640, 3), np.uint8)
    wide[4:516, 64:576] = 255
    for split in ("train", "test"):
        (tmp_path / split / "clip").mkdir(parents=True)
        for number in range(7):
            cv2.imwrite(str(tmp_path / split / "clip" / f"{number}.png"), wide)
    test = open_dataset("gopro", tmp_path, "test")[0]
    assert test.inputs.shape == (4, 3, 512, 512)
    assert (test.inputs == 255).all()
    assert open_dataset("gopro", tmp_path, "train")[0].targets.shape == (1, 3, 520, 640)


@pytest.mark.parametrize(("name", "crop"), [("ucf101", (224, 224)), ("davis", (480, 840))])
def test_published_centre_crops(tmp_path: Path, name: str, crop: tuple[int, int]) -> None:
    size = crop[0] + 6, crop[1] + 10
    names = {"ucf101": ["frame0", "frame1", "frame2", "frame3", "framet"]}.get(name, [*map(str, range(7))])
    for number, stem in enumerate(names):
        write_frame(tmp_path / "scene" / f"{stem}.png", number, size)
    assert open_dataset(name, tmp_path, "test")[0].inputs.shape == (4, 3, *crop)


def test_windows_do_not_cross_a_gap_in_the_numbering(roots: Callable[[str], Path]) -> None:
    root = roots("gopro")
    (root / "test" / "three" / "000009.png").unlink()
    dataset = open_dataset("gopro", root, "test")
    assert [numbers(dataset[index].inputs) for index in range(len(dataset))] == [
        [1, 3, 5, 7],
        [10, 12, 14, 16],
    ]
    (problem,) = dataset.check()
    assert problem == (
        f"{root / 'test' / 'three'} has a gap: frames are missing between 000008.png and 000010.png"
    )


class TestBrokenFiles:
    """What --check-data must find, with the path, before the first epoch."""

    @pytest.fixture
    def root(self, roots: Callable[[str], Path]) -> Path:
        return roots("vimeo90K_septuplet")

    @pytest.fixture
    def image(self, root: Path) -> Path:
        return root / "sequences" / "00001" / "0002" / "im4.png"

    def problems(self, root: Path, *, decode: bool = False) -> list[str]:
        return open_dataset("vimeo90K_septuplet", root, "train").check(decode=decode)

    def test_missing_image(self, root: Path, image: Path) -> None:
        image.unlink()
        assert self.problems(root) == [f"{image} is missing"]
        with pytest.raises(DataError, match=r"0002.im4\.png is missing"):
            open_dataset("vimeo90K_septuplet", root, "train")[1]

    def test_line_of_the_list_without_a_folder(self, root: Path) -> None:
        path = root / "sep_trainlist.txt"
        path.write_text(path.read_text() + "00007/0001\n")
        folder = root / "sequences" / "00007" / "0001"
        assert self.problems(root) == [f"{folder} is missing, though {path} line 4 names it"]

    @pytest.mark.parametrize("line", ["../0001", "00001", "/etc/0001", "00001 0001", "00001//0001"])
    def test_line_of_the_list_that_names_nothing(self, root: Path, line: str) -> None:
        (root / "sep_trainlist.txt").write_text(f"00001/0001\n{line}\n")
        with pytest.raises(DataError, match=r"sep_trainlist\.txt line 2: .* names no sequence"):
            self.problems(root)

    def test_empty_list(self, root: Path) -> None:
        (root / "sep_trainlist.txt").write_text("\n \n")
        with pytest.raises(DataError, match=r"sep_trainlist\.txt is empty"):
            self.problems(root)

    def test_truncated_image(self, root: Path, image: Path) -> None:
        image.write_bytes(image.read_bytes()[:-20])
        assert self.problems(root) == [f"{image} is cut off"]
        with pytest.raises(DataError, match="cut off"):
            open_dataset("vimeo90K_septuplet", root, "train")[1]

    def test_empty_file(self, root: Path, image: Path) -> None:
        image.write_bytes(b"")
        assert self.problems(root) == [f"{image} is empty"]

    def test_not_an_image(self, root: Path, image: Path) -> None:
        image.write_bytes(b"<html>quota exceeded</html>" + b"IEND" * 9)
        assert self.problems(root) == [f"{image} is not an image that can be read, or is damaged"]

    def test_one_wrong_bit_is_found_by_decoding(self, root: Path, image: Path) -> None:
        data = bytearray(image.read_bytes())
        data[data.index(b"IDAT") + 12] ^= 1
        image.write_bytes(data)
        (problem,) = self.problems(root, decode=True)
        assert problem.startswith(f"{image} is ")
        assert "damaged" in problem

    def test_jpeg_that_is_cut_off(self, tmp_path: Path) -> None:
        for number in range(1, 8):
            write_frame(tmp_path / "clip" / f"{number}.jpg", number)
        broken = tmp_path / "clip" / "4.jpg"
        broken.write_bytes(broken.read_bytes()[:-40])
        assert open_dataset("davis", tmp_path, "test").check() == [f"{broken} is cut off"]

    def test_mixed_sizes_in_a_window(self, root: Path, image: Path) -> None:
        write_frame(image, 4, (24, 40))
        (problem,) = self.problems(root)
        assert problem.startswith(f"{image} is 40x24, but ")
        assert problem.endswith("is 32x24")
        with pytest.raises(DataError, match=r"im4\.png is 40x24, but .*im1\.png is 32x24"):
            open_dataset("vimeo90K_septuplet", root, "train")[1]

    def test_a_sequence_of_another_size(self, root: Path, image: Path) -> None:
        for number in range(1, 8):
            write_frame(image.parent / f"im{number}.png", number, (16, 16))
        # Five images differ from the five of the first sequence: either may be the odd ones.
        assert len(self.problems(root)) == 5

    def test_everything_wrong_is_listed_at_once(self, root: Path, image: Path) -> None:
        image.unlink()
        other = image.with_name("im1.png")
        other.write_bytes(b"")
        assert self.problems(root) == [f"{other} is empty", f"{image} is missing"]


def test_ucf101_scene_that_lacks_a_frame_is_named(roots: Callable[[str], Path]) -> None:
    root = roots("ucf101")
    (root / "2" / "framet.png").unlink()
    assert open_dataset("ucf101", root, "test").check() == [f"{root / '2' / 'framet.png'} is missing"]


def test_middlebury_results_have_the_leaderboards_form(tmp_path: Path) -> None:
    frame = torch.arange(3 * 4 * 5, dtype=torch.uint8).view(3, 4, 5)
    path = write_result(tmp_path / "results", "Teddy", frame)
    assert path == tmp_path / "results" / "Teddy" / "frame10i11.png"
    read = cv2.imread(str(path))
    assert read is not None
    assert (read[..., ::-1] == frame.permute(1, 2, 0).numpy()).all()
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("name", MAKERS)
def test_roots_that_hold_nothing(tmp_path: Path, name: str) -> None:
    split = DATASETS[name].splits[0]
    with pytest.raises(DataError, match=f"flavr-data layouts {name}"):
        open_dataset(name, tmp_path, split)
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(name, tmp_path / "nowhere", split)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        open_dataset(name, tmp_path / "file", split)


def test_a_png_that_claims_more_pixels_than_opencv_takes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    write_frame(path, 1)
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 70_000, 70_000) + data[24:29]
    path.write_bytes(data[:12] + header + zlib.crc32(header).to_bytes(4) + data[33:])
    assert examine(path, decode=True) == f"{path} is not an image that can be read, or is damaged"


def test_clips_too_short_for_the_factor(roots: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="longest clip has 16 frames; 25 are needed for n_outputs 7"):
        open_dataset("gopro", roots("gopro"), "test", n_outputs=7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("vimeo", "train"),
            r"no data set is called 'vimeo' \(did you mean vimeo90K_septuplet\?\); there are vimeo",
        ),
        (("gropo", "train"), r"\(did you mean gopro\?\)"),
        (("davis", "train"), "davis has no train split; it is for testing only"),
    ],
)
def test_what_there_is_not(tmp_path: Path, arguments: tuple[str, Split], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(arguments[0], tmp_path, arguments[1])


def test_n_outputs_and_options_that_a_set_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vimeo90K_septuplet cannot give n_outputs 3; it gives 1"):
        open_dataset("vimeo90K_septuplet", tmp_path, "train", n_outputs=3)
    with pytest.raises(UsageError, match="gopro cannot give n_outputs 0; it gives 1 or more"):
        open_dataset("gopro", tmp_path, "train", n_outputs=0)
    with pytest.raises(UsageError, match=r"video has no option stride; it has max_frames, .*strides"):
        open_dataset("video", tmp_path, "train", stride=2)


@pytest.mark.parametrize("written", ["vimeo90K_septuplet", "vimeo90k-septuplet", "VIMEO90K_SEPTUPLET"])
def test_spelling_of_names(written: str) -> None:
    assert dataset_name(written) == "vimeo90K_septuplet"
