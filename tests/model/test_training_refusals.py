"""Runs that are refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flavr import CheckpointError, Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr.errors import DataError, TrainingError, UsageError
from flavr.training.run import train
from tiny_runs import NewConfig
from tiny_vimeo import write_tiny_vimeo


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # at this size threads wait longer for each other than they work


def _broken_image(root: Path) -> None:
    (root / "sequences/00001/0001/im3.png").write_bytes(b"no image")


def _empty_list(root: Path) -> None:
    (root / "sep_trainlist.txt").write_text("")


@pytest.mark.parametrize(
    ("options", "spoil", "error", "message"),
    [
        ({"data_root": Path("nowhere")}, None, DataError, "nowhere"),
        ({}, _empty_list, DataError, r"sep_trainlist\.txt is empty"),
        ({"check_data": True}, _broken_image, DataError, "1 problems in the data, named above"),
        ({"crop": 64, "check_data": True}, None, DataError, "10 problems in the data, named above"),
        ({"crop": 64}, None, DataError, "smaller than the crop of 64x64; use --crop"),
        ({"num_gpu": 3, "batch_size": 3}, None, TrainingError, "--num-gpu 3: PyTorch finds 0 here"),
        ({"resume": True}, None, TrainingError, r"there is no \S*checkpoint\.pth"),
        ({"load_from": Path("nowhere.pth")}, None, CheckpointError, r"nowhere\.pth does not exist"),
        ({"loss": "1*MS-SSIM"}, None, UsageError, "needs a --crop of at least 176, not 32"),
        ({"cache": "device"}, None, UsageError, "--cache device is for --dataset video"),
        ({"dataset": "vimeo"}, None, UsageError, "no data set is called 'vimeo'"),
        ({"init": "blend"}, None, UsageError, "--init blend needs a width of at least 12"),
        ({"val_fraction": 0.5}, None, UsageError, "has no option val_fraction"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="one of them needs a machine without GPUs")
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    new_config: NewConfig,
    tmp_path: Path,
    options: dict[str, Any],
    spoil: Callable[[Path], None] | None,
    error: type[Exception],
    message: str,
) -> None:
    root = write_tiny_vimeo(tmp_path / "set", train=2, test=1)
    if spoil is not None:
        spoil(root)
    config = new_config("bad", **{"data_root": root} | options)
    with pytest.raises(error, match=message):
        train(config)
    assert not config.checkpoint.exists()
    assert not list(config.checkpoint_dir.glob("*/.*"))


def test_a_checkpoint_of_another_factor_or_width_is_refused(new_config: NewConfig, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "4x.pth", Flavr(FlavrConfig(width=4, factor=4, encoder_bias=True)))
    with pytest.raises(CheckpointError, match=r"4x network \(3 new frames\); --n-outputs 1 was asked for"):
        train(new_config("other", load_from=tmp_path / "4x.pth", n_outputs=1))
    with pytest.raises(CheckpointError, match="a network with width 4; 8 was asked for: leave --width out"):
        train(new_config("other", load_from=tmp_path / "4x.pth", width=8))


def test_weights_that_do_not_say_how_they_are_joined_may_be_told_but_a_run_goes_on_as_it_was(
    new_config: NewConfig, tmp_path: Path
) -> None:
    """ "add" and "none" have the same tensors."""
    torch.save({"state_dict": Flavr(FlavrConfig(width=4, join="none")).state_dict()}, tmp_path / "bare.pth")
    config = new_config("run", load_from=tmp_path / "bare.pth", join="none", max_epoch=1)
    train(config)
    assert load_checkpoint(config.checkpoint).config.join == "none"
    with pytest.raises(CheckpointError, match="with join-type none; add was asked for: leave --join"):
        train(replace(config, resume=True, join="add"))
    assert train(replace(config, resume=True, max_epoch=2)).epoch == 2


def test_a_run_goes_on_with_its_own_optimizer(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1, width=16)
    train(config)
    with pytest.raises(TrainingError, match="was trained with --optimizer adam; resume it so, not with muon"):
        train(replace(config, resume=True, optimizer="muon"))


def test_pictures_to_validate_on_that_are_too_small_for_the_loss_are_refused_before_the_first_step(
    new_config: NewConfig, tmp_path: Path
) -> None:
    root = write_tiny_vimeo(tmp_path / "set", train=1, test=1, size=(180, 180))
    name = (root / "sep_testlist.txt").read_text().split()[0]
    for path in (root / "sequences" / name).glob("*.png"):
        cv2.imwrite(str(path), np.zeros((64, 96, 3), np.uint8))
    config = new_config("run", data_root=root, crop=176, loss="1*L1+0.1*MS-SSIM")
    why = rf"needs pictures of 176x176; those of {name}, to validate on, are 96x64"
    with pytest.raises(UsageError, match=why):
        train(config)
    assert not config.folder.exists()


def test_a_run_is_not_overwritten(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1)
    train(config)
    before = config.checkpoint.read_bytes()
    with pytest.raises(TrainingError, match=r"holds a run already; add --resume"):
        train(config)
    assert config.checkpoint.read_bytes() == before


def test_a_loss_that_is_no_number_stops_with_the_samples_names(new_config: NewConfig) -> None:
    config = new_config("wild", lr=1e30)
    with pytest.raises(
        TrainingError, match=r"not finite any more in epoch 1, .* on 00001/000\d, 00001/000\d;"
    ):
        train(config)
    assert not config.checkpoint.exists()
