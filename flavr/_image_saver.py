"""Writing what a network predicted in a validation as images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

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
    write = _write_leaderboard if dataset_name(dataset) == "middlebury" else _write_frames

    def save(batch: WindowBatch, predictions: Mapping[str, Tensor]) -> None:
        frames = (predictions[predictor].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        for name, mids in zip(batch.names, frames, strict=True):
            write(folder, name, mids)

    return save


def _write_leaderboard(folder: Path, name: str, frames: Tensor) -> None:
    write_result(folder, name, frames[0])


def _write_frames(folder: Path, name: str, frames: Tensor) -> None:
    # a name may be a path or clip:frame, and none of it may lead out of the folder
    parts = [re.sub(r"[^\w.-]+", "_", part) for part in Path(name).parts if part not in ("..", "/")]
    home = folder.joinpath(*parts)
    try:
        home.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames, 1):
            write_png(home / f"mid{number}.png", frame.permute(1, 2, 0).contiguous().numpy())
    except OSError as error:
        raise TrainingError(f"cannot write to {home}: {error.strerror or error}") from error
