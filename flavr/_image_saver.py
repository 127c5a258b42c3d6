"""Writing what a network predicted in a validation as images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from flavr._files import complete, explained
from flavr._images import write_png
from flavr.datasets import dataset_name
from flavr.datasets.scenes import write_result
from flavr.errors import TrainingError
from flavr.validate import Watch, WindowBatch


def image_saver(folder: Path, dataset: str, predictor: str) -> Watch:
    """A watcher of `evaluate` that writes one predictor's frames.

    Raises, when called:
        TrainingError, DataError: a file cannot be written.
    """
    write = _write_leaderboard if dataset_name(dataset) == "middlebury" else _Frames()

    def save(batch: WindowBatch, predictions: Mapping[str, Tensor]) -> None:
        frames = (predictions[predictor].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        for name, mids in zip(batch.names, frames, strict=True):
            write(folder, name, mids)

    return save


def _write_leaderboard(folder: Path, name: str, frames: Tensor) -> None:
    write_result(folder, name, frames[0])


class _Frames:
    """Writes the frames of each window into a folder of its own, named after it."""

    def __init__(self) -> None:
        self._names: dict[Path, str] = {}  # folder -> the window in it

    def __call__(self, folder: Path, name: str, frames: Tensor) -> None:
        home = self._home(folder, name)
        with explained(home, TrainingError):
            home.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames, 1):
            with complete(home / f"mid{number}.png", TrainingError) as partial:
                write_png(partial, frame.permute(1, 2, 0).contiguous().numpy())

    def _home(self, folder: Path, name: str) -> Path:
        """Where no other window is: `a b:3` and `a_b:3` are both a_b_3, and the second becomes a_b_3-2."""
        # a name may be a path or clip:frame, and none of it may lead out of the folder
        parts = [re.sub(r"[^\w.-]+", "_", part) for part in Path(name).parts if part not in ("..", "/")]
        plain = home = folder.joinpath(*parts)
        number = 1
        while self._names.setdefault(home, name) != name:
            number += 1
            home = plain.with_name(f"{plain.name}-{number}")
        return home
