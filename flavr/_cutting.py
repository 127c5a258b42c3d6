"""Cutting videos into a set in Vimeo layout. Imports no PyTorch."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from flavr._images import Rgb
from flavr._motion import MIN_MOTION, MotionMeter, find_windows
from flavr._paths import new_folder
from flavr._septuplets import SEPTUPLET, write_lists, write_septuplet
from flavr._video import Video, decode, find_videos, split_videos
from flavr.errors import DataError

_LONGEST = 9999  # sequences of a video, which have four digits
_NO_TEST = ", or leave the test split empty with --val-fraction 0"


@dataclass(frozen=True, slots=True)
class CutSpec:
    """Which frames to take, and what to make of them."""

    height: int = (
        256  # of the result: frames are reduced until they just cover it, and cut about their middle
    )
    width: int = 448
    stride: int = 1  # 2 takes every second frame
    min_motion: float = MIN_MOTION  # between neighbours, in grey levels
    max_motion: float | None = None  # on average
    max_per_video: int | None = None  # sequences, spread evenly
    val_fraction: float = 0.1  # share of the videos that go to the test split


@dataclass(frozen=True, slots=True)
class Cut:
    """What became of one video."""

    video: Video
    starts: tuple[int, ...]  # first frames of its sequences
    split: str = ""  # "train", "test", or "" when there are none
    why_none: str = ""


def cut_set(
    places: Sequence[Path],
    folder: Path,
    spec: CutSpec,
    on_video: Callable[[str, int], None] = lambda *_: None,
) -> list[Cut]:
    """Make a set of the videos that `places` are or hold. The folder appears when it is complete.

    Two sequences share no frame, and no sequence crosses a scene change or holds a repeated frame. All of a
    video's sequences are in one split; `videos.csv` says which video each folder of sequences comes from.

    Args:
        places: videos, folders of images, and folders of those.
        folder: the set to make.
        spec: what to take.
        on_video: called with ("measure" or "write", number of videos) as each is done.

    Raises:
        DataError: no video, a broken one, nothing to take, or the folder exists or cannot be written.
    """
    videos = find_videos(places)
    split_videos(videos, spec.val_fraction, _NO_TEST)  # raises, while that costs nothing
    with new_folder(folder) as partial, ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        cuts = []
        for cut in pool.map(lambda video: _plan(video, spec), videos):
            cuts.append(cut)
            on_video("measure", len(videos))
        usable = [cut for cut in cuts if cut.starts]
        if not usable:
            raise DataError(
                f"nothing to cut in {len(videos)} videos; the first: {cuts[0].video.path} {cuts[0].why_none}"
            )
        split = split_videos([cut.video for cut in usable], spec.val_fraction, _NO_TEST)
        test = {video.path for video in split[1]}
        usable = [replace(cut, split="test" if cut.video.path in test else "train") for cut in usable]

        def write(numbered: tuple[int, Cut]) -> None:
            _write(partial, f"{numbered[0]:05d}", numbered[1], spec)
            on_video("write", len(usable))

        list(pool.map(write, enumerate(usable, 1)))
        train_names, test_names = (
            [
                name
                for number, cut in enumerate(usable, 1)
                if cut.split == split
                for name in _names(number, cut)
            ]
            for split in ("train", "test")
        )
        write_lists(partial, train_names, test_names)
        _write_table(partial / "videos.csv", usable)
    return usable + [cut for cut in cuts if not cut.starts]


def _plan(video: Video, spec: CutSpec) -> Cut:
    span = spec.stride * (SEPTUPLET - 1)
    meter = MotionMeter([spec.stride])
    for frame in decode(video):
        height, width = frame.shape[:2]
        if height < spec.height or width < spec.width:
            size = f"is {width}x{height}, smaller than {spec.width}x{spec.height} (--size)"
            return Cut(video, (), why_none=size)
        meter.add(frame)
    found = find_windows(
        meter.result(), SEPTUPLET, stride=spec.stride, min_motion=spec.min_motion, step=span + 1
    )
    starts = found.starts if spec.max_motion is None else found.starts[found.motions <= spec.max_motion]
    limit = min(spec.max_per_video or _LONGEST, _LONGEST)
    if len(starts) > limit:
        starts = starts[np.linspace(0, len(starts) - 1, limit).round().astype(int)]
    if len(found.starts) and not len(starts):
        least = float(found.motions.min())
        why = f"moves by {least:.3g} at least, more than {spec.max_motion:g} (--max-motion)"
        return Cut(video, (), why_none=why)
    if not len(starts):
        return Cut(video, (), why_none=f"has no {span + 1} frames in a row in which something moves")
    return Cut(video, tuple(starts.tolist()))


def _names(number: int, cut: Cut) -> list[str]:
    return [f"{number:05d}/{sequence:04d}" for sequence in range(1, len(cut.starts) + 1)]


def _write(folder: Path, group: str, cut: Cut, spec: CutSpec) -> None:
    for sequence, frames in enumerate(_sequences(decode(cut.video), cut.starts, spec), 1):
        write_septuplet(folder, f"{group}/{sequence:04d}", frames)


def _sequences(frames: Iterable[Rgb], starts: Sequence[int], spec: CutSpec) -> Iterator[list[Rgb]]:
    """The septuplets that begin at `starts`, which are in order and far enough apart."""
    wanted = {start + spec.stride * position for start in starts for position in range(SEPTUPLET)}
    last, held = max(wanted), []
    for number, frame in enumerate(frames):
        if number in wanted:
            held.append(_fitted(frame, spec.height, spec.width))
        if len(held) == SEPTUPLET:
            yield held
            held = []
        if number == last:
            return


def _fitted(frame: Rgb, height: int, width: int) -> Rgb:
    """Reduced until it just covers height x width, then cut about its middle."""
    scale = max(height / frame.shape[0], width / frame.shape[1])
    covering = max(width, round(frame.shape[1] * scale)), max(height, round(frame.shape[0] * scale))
    small = np.asarray(cv2.resize(frame, covering, interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
    return small[top : top + height, left : left + width]


def _write_table(path: Path, cuts: Sequence[Cut]) -> None:
    # A name that is no UTF-8 is written as \udce9: programs that read tables refuse other bytes.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "split", "sequences", "video"])
        for number, cut in enumerate(cuts, 1):
            writer.writerow([f"{number:05d}", cut.split, len(cut.starts), cut.video.name])
