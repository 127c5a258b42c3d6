"""Runs that go on with other options than they began with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flavr import Flavr, FlavrConfig, load_checkpoint
from flavr.errors import TrainingError
from flavr.training.config import TrainingConfig
from flavr.training.run import train
from flavr.training.state import read_state
from tiny_runs import NewConfig
from tiny_vimeo import write_tiny_vimeo


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # at this size threads wait longer for each other than they work


def _rates(config: TrainingConfig) -> Sequence[float]:
    with (config.folder / "results.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def test_another_rate_and_betas_count_from_where_they_are_given(
    new_config: NewConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config("run", max_epoch=1)
    train(config)
    capsys.readouterr()
    other = replace(config, resume=True, max_epoch=2, lr=5e-5, beta1=0.5)
    train(other)
    assert _rates(other) == pytest.approx([1e-3, 5e-5])
    assert "note: --lr is 5e-05 from here on; it was 0.001" in capsys.readouterr().out
    [group] = read_state(other.checkpoint)["optimizer"]["param_groups"]
    assert tuple(group["betas"]) == (0.5, 0.99)
    train(replace(other, max_epoch=3))
    assert "from here on" not in capsys.readouterr().out


def test_another_share_for_outer_layers_is_taken_and_told(
    new_config: NewConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config("run", max_epoch=1, optimizer="muon")
    train(config)
    other = replace(config, resume=True, max_epoch=2, outer_rate=0.25, centre=True)
    train(other)
    printed = capsys.readouterr().out
    assert "note: --outer-rate is 0.25 from here on; it was 1.0" in printed
    assert "note: --centre is True from here on; it was False" in printed
    groups = read_state(other.checkpoint)["optimizer"]["param_groups"]
    assert {group["share"] for group in groups} == {1.0, 0.25}


def test_an_optimizer_of_other_groups_is_refused_in_one_line(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1, optimizer="muon")
    train(config)
    content = torch.load(config.checkpoint, weights_only=True)
    content["optimizer"]["param_groups"] = content["optimizer"]["param_groups"][
        :1
    ]  # as if there were but one
    torch.save(content, config.checkpoint)
    with pytest.raises(TrainingError, match="trained by an older flavr, whose optimizer cannot be resumed"):
        train(replace(config, resume=True))


def test_another_schedule_begins_at_its_own_rate(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1, schedule="cosine")
    train(config)
    assert _rates(config)[-1] < 1e-4
    other = replace(config, resume=True, max_epoch=2, schedule="plateau")
    train(other)
    assert _rates(other)[-1] == 1e-3


def test_another_rate_or_length_does_not_change_the_warm_up(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1, schedule="cosine", warmup_steps=2)
    train(config)
    other = replace(config, resume=True, max_epoch=2, lr=5e-4, warmup_steps=None)
    train(other)
    assert read_state(other.checkpoint)["training"]["schedule"] == {"warmup": 2}


def test_a_rate_that_was_halved_stays_so(new_config: NewConfig) -> None:
    """Steps of next to nothing, so the loss hardly falls; PyTorch's threshold does not count that."""
    config = new_config("run", max_epoch=7, lr=1e-7)
    train(config)
    train(replace(config, resume=True, max_epoch=9))
    assert _rates(config) == pytest.approx([1e-7] * 7 + [5e-8] * 2, rel=1e-6, abs=0)


def test_another_loss_is_not_compared_with_those_before(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=1)
    train(config)
    other = replace(config, resume=True, max_epoch=2, loss="PSNR")  # some 30, where L1 was 0.1
    train(other)
    state = read_state(other.checkpoint)["training"]["schedule"]
    assert (state["best"] > 1, state["num_bad_epochs"]) == (True, 0)


def test_what_is_assumed_of_weights_is_told_and_not_saved_as_a_fact(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody had said that they are joined by adding; what was trained from them did."""
    bare = tmp_path / "bare.pth"
    torch.save(Flavr(FlavrConfig(width=4, join="none")).state_dict(), bare)
    told = "joinType add is assumed: add and none have the same tensors"
    config = new_config("run", load_from=bare, max_epoch=1)
    train(config)
    assert f"note: {bare}: {told}\n" in capsys.readouterr().out
    resumed = replace(config, resume=True, max_epoch=2)
    train(resumed)
    assert f"note: {config.checkpoint}: {told}\n" in capsys.readouterr().out
    for file in (config.checkpoint, config.best):
        assert load_checkpoint(file).notices == (told,)
    train(replace(resumed, max_epoch=3, join="add"))
    assert told not in capsys.readouterr().out
    assert load_checkpoint(config.checkpoint).notices == ()


def test_what_is_assumed_of_a_teacher_is_told(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Flavr(FlavrConfig(width=4, join="none")).state_dict(), tmp_path / "bare.pth")
    config = new_config("run", teacher=tmp_path / "bare.pth", max_epoch=1)
    train(config)
    assert f"note: {config.teacher}: joinType add is assumed" in capsys.readouterr().out
    assert load_checkpoint(config.checkpoint).notices == ()


def test_other_windows_to_validate_on_begin_the_best_anew(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config("run", max_epoch=1)
    first = train(config)
    other = write_tiny_vimeo(tmp_path / "other", train=2, test=3)
    outcome = train(replace(config, resume=True, max_epoch=2, data_root=other))
    assert "note: the windows to validate on are others than before" in capsys.readouterr().out
    assert outcome.baseline_psnr != first.baseline_psnr
    with (config.folder / "results.csv").open() as file:
        assert outcome.best_psnr == pytest.approx(float(list(csv.DictReader(file))[-1]["psnr"]))
    train(replace(config, resume=True, max_epoch=3, data_root=other))
    assert "others than before" not in capsys.readouterr().out
