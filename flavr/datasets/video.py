"""Any folder of videos as a data set: decoded once into memory, windows cut where something moves."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flavr._motion import MIN_MOTION, Motion, MotionMeter, find_windows
from flavr._video import Video, decode, find_videos, split_videos
from flavr._windows import roles, time_positions
from flavr.datasets.bank import BankVideo, FrameBank
from flavr.datasets.base import DatasetKind, Sample, Size, Split
from flavr.errors import DataError, UsageError

_LAYOUT = """\
ROOT/clip.mp4, ROOT/any/folder/clip.mkv      videos, searched for in all folders
ROOT/any/folder/0001.png ..                  folders of 4 numbered images or more
Every frame is decoded once into memory. Windows in which a scene changes or a frame is repeated are skipped.
A tenth of the videos (val_fraction), chosen by the hash of their names, is for testing."""

# Of a window, in grey levels a frame: more motion than this is not more to learn from.
_WEIGHT_LIMIT = 6.0
# With min_motion 0, what stands still is drawn as well, if seldom: from weights of 0 nothing can be.
_LEAST_WEIGHT = 0.01
_MEMORY_SHARE = 0.9  # of what is free, and no more
_PIECE = 64  # frames by which the memory of a video grows
# Of flavr-test: flavr-train, which opens the training split first, needs both.
_ALL_OF_IT = ", or test on all of it with --split train --data-option val_fraction=0"


class VideoDataset:
    """Windows of a `FrameBank`, in the order of videos and time."""

    def __init__(self, bank: FrameBank, notices: Sequence[str] = ()) -> None:
        self.bank = bank
        self.notices = tuple(notices)  # for people, one line each: videos that gave no window

    @property
    def weights(self) -> Tensor:
        """float [len(self)]: motion, for a WeightedRandomSampler."""
        return self.bank.weights

    def __len__(self) -> int:
        return len(self.bank)

    def name_of(self, index: int) -> str:
        return self.bank.name_of(index)

    def __getitem__(self, index: int) -> Sample:
        frames = self.bank.window(index)
        inputs, targets = roles(len(frames))
        return Sample(frames[inputs], frames[targets], self.bank.name_of(index))

    def check(self, *, decode: bool = False, min_size: Size = (1, 1)) -> list[str]:
        """Videos smaller than `min_size`; every frame was decoded when the set was opened."""
        del decode
        sizes = ((video.name, *video.frames.shape[2:]) for video in self.bank.videos)
        return [
            f"{name} is {width}x{height}, smaller than the crop of {min_size[1]}x{min_size[0]}; use --crop"
            for name, height, width in sizes
            if height < min_size[0] or width < min_size[1]
        ]


def open_video(
    root: Path,
    split: Split,
    *,
    n_outputs: int,
    strides: int | Sequence[int] = (1,),
    step: int | None = None,
    val_fraction: float = 0.1,
    min_motion: float = MIN_MOTION,
    min_size: int | Size = (1, 1),
    max_side: int | None = None,
    max_frames: int | None = None,
    max_windows: int | None = None,
) -> VideoDataset:
    """Decode the videos of a split into memory and find their windows.

    Args:
        root: a folder of videos (or one video, with `val_fraction` 0).
        split: which of the videos to open.
        n_outputs: targets per window; its inputs are n_outputs + 1 frames apart.
        strides: 2 takes every second frame only, and so doubles the motion; each gives windows of its own.
        step: frames between the starts of two windows; 1 for training, without overlap for testing.
        val_fraction: share of the videos that are for testing.
        min_motion: least difference between neighbouring frames of a window, in grey levels.
        min_size: height and width; smaller videos are left out, with a notice. The crop, usually.
        max_side: reduce larger frames to this many pixels on their longer side.
        max_frames: memory for this many frames in all; every video gives its first ones, evenly.
        max_windows: at most this many, spread evenly.

    Raises:
        UsageError: a stride or a limit below 1, a fraction that is none, or a size of other than two sides.
        DataError: no video, one that is broken (all of those are named), no window, or not enough memory.
    """
    strides = (strides,) if isinstance(strides, int) else strides
    min_size = (min_size, min_size) if isinstance(min_size, int) else min_size
    if len(min_size) != 2:
        raise UsageError(f"min_size {tuple(min_size)} of video: one number, or height and width, is needed")
    if not strides or min(strides) < 1 or not 0 <= val_fraction < 1:
        raise UsageError(
            f"strides {tuple(strides)}, val_fraction {val_fraction}: strides are 1 or more, fractions below 1"
        )
    limits = {"step": step, "max_side": max_side, "max_frames": max_frames, "max_windows": max_windows}
    for name, limit in limits.items():
        if limit is not None and limit < 1:
            raise UsageError(f"{name} {limit} of video: at least 1 is needed")
    parts = split_videos(find_videos([root]), val_fraction, _ALL_OF_IT if split == "test" else "")
    videos = parts[0 if split == "train" else 1]
    if not videos:
        raise DataError(f"{root}: val_fraction {val_fraction} leaves no video for the {split} split")
    length = time_positions(n_outputs)[-1] + 1
    shortest = (length - 1) * min(strides) + 1
    each = None if max_frames is None else max(max_frames // len(videos), shortest)
    loaded = list(_load(videos, strides, max_side, each))
    rows, weights = [], []
    large = [n for n, part in enumerate(loaded) if _fits(part.video, min_size)]
    for number, stride in itertools.product(large, strides):
        apart = step or (1 if split == "train" else (length - 1) * stride)
        found = find_windows(loaded[number].motion, length, stride=stride, min_motion=min_motion, step=apart)
        rows += [(number, start, stride) for start in found.starts.tolist()]
        weights += found.motions.tolist()
    if not rows:
        raise DataError(f"{root}: no window in the {split} videos; they are too short or small, or still")
    kept = _spread(len(rows), max_windows)
    bank = FrameBank(
        [part.video for part in loaded],
        torch.tensor(rows)[kept],
        torch.tensor(weights)[kept].clamp(_LEAST_WEIGHT, _WEIGHT_LIMIT),
        n_outputs=n_outputs,
    )
    idle = sorted(set(range(len(loaded))) - {number for number, _, _ in rows})
    return VideoDataset(bank.compact(), [_why_idle(loaded[number].video, min_size) for number in idle])


@dataclass(frozen=True, slots=True)
class _Loaded:
    video: BankVideo
    motion: Motion


class _MemoryError(DataError):
    """Not of one video: there is no use in decoding the others."""


class _Memory:
    """What the frames of all videos take, those that are being decoded included."""

    def __init__(self) -> None:
        self._free, self._taken = _free_memory(), 0
        # of this machine, each of which does the same
        self._processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Count so many bytes more. Raises _MemoryError when that is more than there should be."""
        with self._lock:
            self._taken += count
            taken = self._taken
        if self._free is not None and taken > self._free / self._processes * _MEMORY_SHARE:
            several = f" for {self._processes} processes, each with its own copy"
            raise _MemoryError(
                f"the videos need more than the {self._free / 1e9:.1f} GB of memory that are free"
                f"{several if self._processes > 1 else ''}; use max_side, max_frames or fewer videos"
            )


def _load(
    videos: Sequence[Video], lags: Sequence[int], max_side: int | None, limit: int | None
) -> Iterator[_Loaded]:
    """Decode several videos at a time. All that are broken are named in one error."""
    memory = _Memory()

    def attempt(video: Video) -> _Loaded | DataError:
        try:
            return _load_one(video, lags, max_side, limit, memory)
        except _MemoryError:
            raise
        except DataError as error:
            return error

    broken: list[DataError] = []
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for result in pool.map(attempt, videos):
            if isinstance(result, DataError):
                broken.append(result)
            else:
                yield result
    if broken:
        more = f" (and {len(broken) - 1} more: {'; '.join(map(str, broken[1:4]))})" if broken[1:] else ""
        raise DataError(f"{broken[0]}{more}")


def _load_one(
    video: Video, lags: Sequence[int], max_side: int | None, limit: int | None, memory: _Memory
) -> _Loaded:
    meter = MotionMeter(lags)
    # Not in the decoder's order of memory, in which cutting crops is slow; and growing, in place where the
    # system can do that, because a list of frames that is stacked in the end takes twice the memory.
    planes, count = np.empty(0, np.uint8), 0
    for count, frame in enumerate(itertools.islice(decode(video, max_side), limit), 1):
        memory.take(frame.nbytes)
        meter.add(frame)
        if count > len(planes):
            planes.resize((len(planes) + _PIECE, 3, *frame.shape[:2]), refcheck=False)
        planes[count - 1] = np.moveaxis(frame, 2, 0)
    planes.resize((count, *planes.shape[1:]), refcheck=False)
    return _Loaded(BankVideo(video.name, torch.from_numpy(planes)), meter.result())


def _fits(video: BankVideo, size: Size) -> bool:
    return video.frames.shape[2] >= size[0] and video.frames.shape[3] >= size[1]


def _why_idle(video: BankVideo, min_size: Size) -> str:
    if not _fits(video, min_size):
        height, width = video.frames.shape[2:]
        return f"{video.name} is left out: {width}x{height}, smaller than {min_size[1]}x{min_size[0]}"
    return f"{video.name} gives no window: too short, or nothing moves in it"


def _spread(count: int, limit: int | None) -> Tensor:
    """Indices of at most `limit` of `count`, evenly spaced."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.linspace(0, count - 1, limit).round().long()


def _free_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


VIDEO = DatasetKind("any folder of videos or image sequences", _LAYOUT, open_video)
