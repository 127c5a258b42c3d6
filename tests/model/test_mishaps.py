"""What goes wrong around a training run: it says so in a line, and what was saved stays good."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flavr import _winograd, load_checkpoint, save_checkpoint
from flavr._images import write_png
from flavr._memory import is_out_of_memory
from flavr.config import FlavrConfig
from flavr.datasets.video import open_video
from flavr.errors import DataError, TrainingError, UsageError
from flavr.network import Flavr
from flavr.predictors import Averaging
from flavr.training.config import TrainingConfig
from flavr.training.loop import Trainer
from flavr.training.run import train
from flavr.training.stopping import Stop
from flavr.training.validation import Validator
from flavr.validate import WindowBatch, evaluate
from tiny_vimeo import write_tiny_vimeo

NewConfig = Callable[..., TrainingConfig]


@pytest.fixture
def new_config(tmp_path: Path) -> NewConfig:
    """Makes the options of a run: 3 steps per epoch of 2 windows, on the CPU, with Winograd's algorithm."""
    torch.set_num_threads(1)
    root = write_tiny_vimeo(tmp_path / "vimeo")

    def make(**options: Any) -> TrainingConfig:
        values: dict[str, Any] = {
            "data_root": root,
            "checkpoint_dir": tmp_path / "runs",
            "exp_name": "run",
            "width": 4,
            "crop": 32,
            "batch_size": 2,
            "max_epoch": 2,
            "num_gpu": 0,
            "num_workers": 0,
            "tensorboard": False,
            "winograd": True,
        }
        return TrainingConfig(**values | options)

    return make


def test_a_run_interrupted_while_it_validates_goes_on_when_resumed(
    new_config: NewConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing that the resumed process computes is then a validation."""
    judge = Validator.judge

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return judge(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Validator, "judge", interrupted)
        first = train(new_config())
    assert (first.stop, first.epoch, first.step) == (Stop.INTERRUPT, 0, 3)
    # as in a new process
    _winograd._matrices.cache_clear()
    _winograd._matrices_of_planes.cache_clear()
    assert train(new_config(resume=True)).epoch == 2


def _spoil(network: nn.Module) -> None:
    next(network.parameters()).data.fill_(float("nan"))


@pytest.mark.parametrize("val_freq", [1, 2])
def test_weights_that_the_last_step_ruined_are_not_saved(
    new_config: NewConfig, monkeypatch: pytest.MonkeyPatch, val_freq: int
) -> None:
    assert train(new_config(max_epoch=1, val_freq=val_freq)).epoch == 1
    good = new_config().checkpoint.read_bytes(), new_config().best.read_bytes()
    step = Trainer._step

    def last_one_spoils(trainer: Trainer, batch: Any) -> None:
        step(trainer, batch)
        if trainer._state.position.step == 3:
            _spoil(trainer._state.network)

    monkeypatch.setattr(Trainer, "_step", last_one_spoils)
    with pytest.raises(
        TrainingError, match=r"the weights are not finite any more after epoch 2, step 3; .*before"
    ):
        train(new_config(resume=True, max_epoch=4, val_freq=val_freq))
    assert (new_config().checkpoint.read_bytes(), new_config().best.read_bytes()) == good


def test_weights_that_are_finite_but_compute_nothing_are_not_saved(
    new_config: NewConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def last_one_spoils(trainer: Trainer, batch: Any) -> None:
        step(trainer, batch)
        if trainer._state.position.step == 3:
            for weights in trainer._state.network.parameters():
                weights.data.fill_(1e30)

    monkeypatch.setattr(Trainer, "_step", last_one_spoils)
    with pytest.raises(
        TrainingError, match="the validation loss is not finite any more after epoch 1, step 3"
    ):
        train(new_config())
    assert not new_config().checkpoint.exists()
    assert not new_config().best.exists()


def test_an_interrupt_does_not_save_what_the_last_step_ruined(
    new_config: NewConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def spoil_and_interrupt(trainer: Trainer, batch: Any) -> None:
        step(trainer, batch)
        _spoil(trainer._state.network)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "_step", spoil_and_interrupt)
    with pytest.raises(TrainingError, match="the weights are not finite"):
        train(new_config())
    assert not new_config().checkpoint.exists()


def test_resuming_what_another_program_wrote_is_one_line(new_config: NewConfig) -> None:
    """Published scripts kept NumPy numbers and their options in the file."""
    config = new_config(resume=True)
    config.folder.mkdir(parents=True)
    save_checkpoint(config.checkpoint, Flavr(FlavrConfig(width=4)))
    content = torch.load(config.checkpoint, weights_only=True)
    content |= {"best_psnr": np.float64(31.5), "args": Namespace(lr=1e-4)}
    torch.save(content, config.checkpoint)
    with pytest.raises(TrainingError, match=r"has no training state.*--load-from"):
        train(config)


def test_a_checkpoint_that_memory_is_too_short_for_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever believed it threw a sound file away."""
    path = tmp_path / "model.pth"
    save_checkpoint(path, Flavr(FlavrConfig(width=4)))

    def fail(*_: object, **_options: object) -> None:
        raise RuntimeError("unable to mmap 168262254 bytes from <model.pth>: Cannot allocate memory (12)")

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="unable to mmap") as raised:
        load_checkpoint(path)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_data_options": {"val_fraction": 0.5}}, "would validate on videos that are trained on"),
        ({"val_fraction": 0.2, "data_options": {"val_fraction": 0.5}}, "are the same: give one"),
    ],
)
def test_videos_are_divided_once_for_training_and_validation(
    new_config: NewConfig, options: dict[str, Any], message: str
) -> None:
    """Divided otherwise for validation, its PSNR is one of videos that were learnt by heart."""
    with pytest.raises(UsageError, match=message):
        new_config(dataset="video", **options)


def test_pictures_too_small_to_be_scored_are_named() -> None:
    """They were a traceback, after the first epoch."""
    batch = WindowBatch(
        torch.zeros(1, 4, 3, 8, 16, dtype=torch.uint8),
        torch.zeros(1, 1, 3, 8, 16, dtype=torch.uint8),
        ("clip.mp4:3",),
    )
    with pytest.raises(DataError, match=r"clip\.mp4:3 is 16x8; pictures are scored from 11x11 on"):
        evaluate({"average": Averaging(1, torch.device("cpu"))}, [batch])


def test_where_stills_are_asked_for_batches_can_be_drawn_of_nothing_else(tmp_path: Path) -> None:
    """With weights of 0, --cache device ended in a traceback."""
    (tmp_path / "still").mkdir()
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    for number in range(10):
        write_png(tmp_path / "still" / f"{number}.png", picture)
    bank = open_video(tmp_path, "train", n_outputs=1, val_fraction=0, min_motion=0).bank
    assert len(bank.draw(3, torch.Generator())) == 3
