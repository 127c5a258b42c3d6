"""A training run on a tiny set, for whoever asks for one: a plugin of tests/conftest.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

from flavr.training.config import TrainingConfig
from tiny_vimeo import write_tiny_vimeo


class NewConfig(Protocol):
    def __call__(self, name: str, **options: Any) -> TrainingConfig: ...


@pytest.fixture(scope="module")
def tiny_vimeo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_vimeo(tmp_path_factory.mktemp("vimeo"))


@pytest.fixture
def new_config(tiny_vimeo: Path, tmp_path: Path) -> NewConfig:
    """Makes the options of a run: 3 steps per epoch of 2 windows, on the CPU."""

    def make(name: str, **options: Any) -> TrainingConfig:
        values: dict[str, Any] = {
            "data_root": tiny_vimeo,
            "checkpoint_dir": tmp_path / "runs",
            "exp_name": name,
            "width": 4,
            "crop": 32,
            "batch_size": 2,
            "test_batch_size": 2,
            "max_epoch": 2,
            "lr": 1e-3,
            "num_gpu": 0,
            "num_workers": 0,
            "tensorboard": False,
        }
        return TrainingConfig(**values | options)

    return make
