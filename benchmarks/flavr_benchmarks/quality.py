"""How good a backend's frames are, against the truth and against the network in fp32 PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from flavr_benchmarks.datasets import QualityWindow
from flavr_benchmarks.schema import Quality
from flavr_benchmarks.workload import Pictures


class StoredPictures(Sequence[Pictures]):
    """What a cell's process has left in a folder, one window in memory at a time."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Pictures: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pictures]: ...
    def __getitem__(self, index: int | slice) -> Pictures | list[Pictures]:
        """Read from the disk, each time."""
        if isinstance(index, slice):
            return [np.load(path) for path in self._paths[index]]
        pictures: Pictures = np.load(self._paths[index])
        return pictures


def score(windows: Sequence[QualityWindow], predictions: Sequence[Pictures], *, quantised: bool) -> Quality:
    """Means over all new frames, by flavr's own metrics.

    Raises:
        ValueError: the predictions do not fit the windows, or hold something that is no number.
    """
    import torch

    from flavr.metrics import ScoreSums

    if len(windows) != len(predictions):
        raise ValueError(f"{len(predictions)} results for {len(windows)} windows")
    total, by_window = ScoreSums(), {}
    for window, pictures in zip(windows, predictions, strict=True):
        truth = np.stack(window.truth).astype(np.float32) / np.float32(255)
        if pictures.shape != truth.shape:
            raise ValueError(f"frames of {list(pictures.shape)} where the truth is {list(truth.shape)}")
        if not np.isfinite(pictures).all():
            raise ValueError("its frames hold infinite values or none that is a number")
        tensors = [torch.from_numpy(array).permute(0, 3, 1, 2) for array in (pictures, truth)]
        own = ScoreSums()
        own.add(*tensors)
        by_window[window.name] = round(own.means()["psnr_uint8"], 3)
        total.pictures += own.pictures
        for name, value in own.sums.items():
            total.sums[name] += value
    means = total.means()
    return Quality(
        psnr=means["psnr"],
        ssim=means["ssim"],
        psnr_uint8=means["psnr_uint8"],
        ssim_uint8=means["ssim_uint8"],
        windows=len(windows),
        quantised=quantised,
        psnr_by_window=by_window,
    )


def compare_to_reference(
    quality: Quality, predictions: Sequence[Pictures], reference: Quality, expected: Sequence[Pictures]
) -> None:
    """Fill in what was lost against fp32 PyTorch, both rounded to 8 bits."""
    quality.loss_db = reference.psnr_uint8 - quality.psnr_uint8
    quality.max_code_error = max(
        int(np.abs(codes(mine).astype(np.int16) - codes(theirs)).max())
        for mine, theirs in zip(predictions, expected, strict=True)
    )


def codes(pictures: Pictures) -> np.ndarray:
    """The 8-bit pictures that a viewer gets, uint8 [n, H, W, 3]."""
    rounded: np.ndarray = np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)
    return rounded


def mean_over_videos(quality: Quality) -> tuple[float, int]:
    """PSNR with every video weighing the same, however many windows it has; and the number of videos."""
    videos: dict[str, list[float]] = {}
    for name, value in quality.psnr_by_window.items():
        videos.setdefault(name.rpartition(":")[0] or name, []).append(value)
    means = [sum(values) / len(values) for values in videos.values()]
    return sum(means) / len(means), len(means)
