"""The `video` data set and its bank of frames, on small clips whose content is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from flavr._video import Video, find_videos, split_videos
from flavr.augment import Augmentation, AugmentedDataset
from flavr.datasets import InterpolationDataset, open_dataset, video
from flavr.datasets.video import VideoDataset, open_video
from flavr.errors import DataError, UsageError

Frames = NDArray[np.uint8]
HEIGHT, WIDTH = 48, 64


def panning(count: int, seed: int = 0, speed: int = 2) -> Frames:
    """uint8 [count, 48, 64, 3] of a soft texture that moves to the left by `speed` pixels a frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 5, borderType=cv2.BORDER_WRAP)
    texture = cv2.normalize(texture, texture, 40, 200, cv2.NORM_MINMAX)
    return np.stack([np.roll(texture, -speed * number, axis=1) for number in range(count)])


def write_video(path: Path, frames: Frames) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def starts(dataset: VideoDataset) -> list[int]:
    return [start for _, start, _ in dataset.bank.windows.tolist()]


@pytest.fixture
def one_clip(tmp_path: Path) -> Callable[..., VideoDataset]:
    def open_one(frames: Frames, n_outputs: int = 1, **options: object) -> VideoDataset:
        write_video(tmp_path / "clip.mkv", frames)
        defaults: dict[str, object] = {"val_fraction": 0}
        return open_video(tmp_path, "train", n_outputs=n_outputs, **{**defaults, **options})  # type: ignore[arg-type]

    return open_one


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_windows_hold_the_right_frames(one_clip: Callable[..., VideoDataset], n_outputs: int) -> None:
    frames, factor = panning(16), n_outputs + 1
    dataset = one_clip(frames, n_outputs)
    assert isinstance(dataset, InterpolationDataset)
    assert starts(dataset) == list(range(16 - 3 * factor))
    for index, start in enumerate(starts(dataset)):
        sample = dataset[index]
        inputs = [start + factor * k for k in range(4)]
        targets = range(start + factor + 1, start + 2 * factor)
        for given, expected in ((sample.inputs, inputs), (sample.targets, targets)):
            assert (given.permute(0, 2, 3, 1).numpy() == frames[list(expected)]).all()
        assert sample.name == dataset.name_of(index) == f"clip.mkv:{start}"


def test_scene_changes_are_not_in_any_window(one_clip: Callable[..., VideoDataset]) -> None:
    dataset = one_clip(np.concatenate([panning(12, seed=1), panning(12, seed=2)]))
    assert starts(dataset) == [*range(6), *range(12, 18)]


def test_fast_motion_is_no_scene_change(one_clip: Callable[..., VideoDataset]) -> None:
    assert starts(one_clip(panning(12, speed=5))) == list(range(6))


def test_still_stretches_and_repeated_frames_are_not_in_any_window(
    one_clip: Callable[..., VideoDataset],
) -> None:
    moving = panning(24)
    still = np.concatenate([moving[:8], moving[7:8].repeat(8, axis=0), moving[8:]])
    assert starts(one_clip(still)) == [0, 1, *range(15, 26)]
    repeated = np.concatenate([moving[:12], moving[11:]])  # frame 11 twice
    assert starts(one_clip(repeated)) == [*range(6), *range(12, 19)]


def test_strides_multiply_motion(one_clip: Callable[..., VideoDataset]) -> None:
    frames = panning(16)
    dataset = one_clip(frames, strides=(1, 2))
    strides = dataset.bank.windows[:, 2].tolist()
    assert strides == [1] * 10 + [2] * 4
    assert dataset.name_of(11) == "clip.mkv:1 (stride 2)"
    assert (dataset[11].targets[0].permute(1, 2, 0).numpy() == frames[7]).all()
    assert dataset.weights[10:].min() > dataset.weights[:10].max()


def test_weights_grow_with_motion(tmp_path: Path) -> None:
    for speed in (1, 2):
        write_video(tmp_path / f"{speed}.mkv", panning(10, speed=speed))
    weights = open_video(tmp_path, "train", n_outputs=1, val_fraction=0).weights
    slow, fast = weights[:4], weights[4:]
    assert 0 < slow.max() < fast.min()


def test_testing_takes_windows_without_overlap_and_max_windows_spreads_them(
    one_clip: Callable[..., VideoDataset],
) -> None:
    frames = panning(26)
    assert starts(one_clip(frames, max_windows=3)) == [0, 10, 19]
    assert starts(one_clip(frames, step=6)) == [0, 6, 12, 18]


def test_both_splits_of_a_folder_share_no_video(tmp_path: Path) -> None:
    for number in range(5):
        write_video(tmp_path / "deep" / f"clip{number}.mkv", panning(14, seed=number))
    parts = [open_video(tmp_path, split, n_outputs=1, val_fraction=0.4) for split in ("train", "test")]
    names = [{clip.name for clip in part.bank.videos} for part in parts]
    assert [len(part) for part in names] == [3, 2]
    assert names[0] | names[1] == {f"deep/clip{number}.mkv" for number in range(5)}
    assert starts(parts[1]) == [0, 6] * 2


def test_split_depends_on_names_alone_and_hardly_changes_when_a_video_is_added() -> None:
    videos = [Video(Path(f"{number}.mp4"), f"{number}.mp4") for number in range(40)]
    train, test = split_videos(videos, 0.1)
    assert len(test) == 4
    assert {v.name for v in split_videos(videos[::-1], 0.1)[1]} == {v.name for v in test}
    odd = "\udce9.mp4"  # as a name that is not UTF-8 comes from the system
    assert sum(map(len, split_videos([*videos, Video(Path(odd), odd)], 0.1))) == len(videos) + 1
    more = [*videos, Video(Path("new.mp4"), "new.mp4")]
    assert len({v.name for v in split_videos(more, 0.1)[1]} & {v.name for v in test}) >= 3
    assert train == [v for v in videos if v not in test]


def test_one_video_cannot_be_split(one_clip: Callable[..., VideoDataset]) -> None:
    with pytest.raises(DataError, match=r"clip\.mkv is the only usable video, and .* each: add another$"):
        one_clip(panning(8), val_fraction=0.1)


def test_folders_of_images_are_videos_and_copies_are_not_taken_twice(tmp_path: Path) -> None:
    frames = panning(9)
    folder = tmp_path / "walk" / "frames"
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 8):  # frame8, frame9, frame10: natural order matters
        cv2.imwrite(str(folder / f"frame{number}.png"), frame[..., ::-1])
    clip = write_video(tmp_path / "clip.mkv", panning(9, seed=3))
    shutil.copy(clip, tmp_path / "copy.mkv")
    (tmp_path / "notes.txt").touch()
    assert [v.name for v in find_videos([tmp_path, clip, folder])] == ["clip.mkv", "walk/frames"]
    dataset = open_video(tmp_path, "train", n_outputs=1, val_fraction=0)
    assert (dataset.bank.videos[1].frames.permute(0, 2, 3, 1).numpy() == frames).all()


def test_max_side_reduces_and_max_frames_takes_the_first_of_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mkv", panning(20, seed=ord(name)))
    dataset = open_video(tmp_path, "train", n_outputs=1, val_fraction=0, max_side=32, max_frames=16)
    assert [tuple(clip.frames.shape) for clip in dataset.bank.videos] == [(8, 3, 24, 32)] * 2
    assert dataset.bank.nbytes == 2 * 8 * 3 * 24 * 32


def test_small_videos_are_left_out_with_a_notice_or_named_by_the_check(tmp_path: Path) -> None:
    write_video(tmp_path / "large.mkv", panning(8))
    write_video(tmp_path / "small.mkv", panning(8, seed=1)[:, :32, :32])
    write_video(tmp_path / "still.mkv", panning(8, seed=2, speed=0))
    dataset = open_video(tmp_path, "train", n_outputs=1, val_fraction=0, min_size=(40, 40))
    assert dataset.notices == (
        "small.mkv is left out: 32x32, smaller than 40x40",
        "still.mkv gives no window: too short, or nothing moves in it",
    )
    assert [clip.name for clip in dataset.bank.videos] == ["large.mkv"]
    everything = open_video(tmp_path, "train", n_outputs=1, val_fraction=0)
    assert everything.check() == []
    assert everything.check(min_size=(40, 40)) == [
        "small.mkv is 32x32, smaller than the crop of 40x40; use --crop"
    ]


def test_broken_videos_are_all_named(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mkv", panning(8))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video " * 99)
    with pytest.raises(DataError, match=r"empty\.mp4: not a video, or damaged .*1 more: .*text\.mp4"):
        open_video(tmp_path, "train", n_outputs=1, val_fraction=0)


def test_images_that_change_size_are_named(tmp_path: Path) -> None:
    for number, frame in enumerate(panning(8)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame if number < 5 else frame[:40])
    with pytest.raises(DataError, match="the picture changes from 64x48 to 64x40"):
        open_video(tmp_path, "train", n_outputs=1, val_fraction=0)


def test_too_little_memory_is_said_before_it_is_taken(
    one_clip: Callable[..., VideoDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_free_memory", lambda: 50_000)
    with pytest.raises(DataError, match=r"need more than the 0\.0 GB of memory that are free"):
        one_clip(panning(8))


def test_processes_that_each_decode_all_videos_share_what_memory_is_free(
    one_clip: Callable[..., VideoDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_free_memory", lambda: 100_000)
    one_clip(panning(8))  # 73,728 bytes
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(DataError, match=r"memory that are free for 2 processes, each with its own copy"):
        one_clip(panning(8))


@pytest.mark.parametrize("options", [{"strides": ()}, {"strides": (0, 1)}, {"val_fraction": 1.0}])
def test_strides_and_fractions_that_are_none(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="strides are 1 or more, fractions below 1"):
        open_dataset("video", tmp_path, "train", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_side": "big"}, "max_side 'big' of video: whole numbers are needed"),
        ({"strides": (1, 1.5)}, r"strides 1\.5 of video: whole numbers are needed"),
        ({"max_side": (540,)}, r"max_side \(540,\) of video: one number is needed"),
        ({"max_side": 0}, "max_side 0 of video: at least 1"),
        ({"max_frames": 0}, "max_frames 0 of video: at least 1"),
        ({"max_windows": 0}, "max_windows 0 of video: at least 1"),
        ({"max_windows": -1}, "max_windows -1 of video: at least 1"),
        ({"min_size": (64,)}, r"min_size \(64,\) of video: one number, or height and width, is needed"),
        ({"min_size": [64, 64, 9]}, r"min_size \(64, 64, 9\) of video: one number, or height and width"),
        ({"min_size": ()}, r"min_size \(\) of video: one number, or height and width, is needed"),
        ({"step": 0}, "step 0 of video: at least 1"),
        ({"val_fraction": "half"}, "val_fraction 'half' of video: a number is needed"),
    ],
)
def test_options_that_are_no_numbers(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset("video", tmp_path, "train", **options)


def test_a_video_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mkv", panning(16))
    (tmp_path / "gone.mkv").symlink_to(tmp_path / "nowhere.mkv")
    with pytest.raises(DataError, match=r"gone\.mkv cannot be read \(No such file or directory\)"):
        open_dataset("video", tmp_path, "train", val_fraction=0)


def test_options_as_a_command_line_passes_them(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mkv", panning(16))
    dataset = open_dataset("video", tmp_path, "train", strides=2, min_size=40, val_fraction=0)
    assert len(dataset) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no video"), (panning(6), "no window"), (panning(9, speed=0), "still")],
)
def test_folders_without_a_window(tmp_path: Path, content: Frames | None, message: str) -> None:
    if content is not None:
        write_video(tmp_path / "clip.mkv", content)
    with pytest.raises(DataError, match=message):
        open_video(tmp_path, "train", n_outputs=1, val_fraction=0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_video_windows_come_through_loader_workers(one_clip: Callable[..., VideoDataset]) -> None:
    dataset = AugmentedDataset(one_clip(panning(12)), Augmentation(crop=16), seed=3)
    batches = [list(DataLoader(dataset, batch_size=2, num_workers=workers)) for workers in (0, 2)]
    for alone, workers in zip(*batches, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(alone, workers, strict=True))
