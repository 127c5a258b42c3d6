"""Whole runs on a tiny set: what they write, and that stopping and going on changes nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch

from flavr import Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr.errors import TrainingError
from flavr.predictors import TorchPredictor
from flavr.training.batches import Batch
from flavr.training.config import TrainingConfig
from flavr.training.distributed import check_devices, launch
from flavr.training.loop import Outcome, Trainer
from flavr.training.run import train
from flavr.training.stopping import Stop
from flavr.training.validation import Judgement, Validator
from flavr.validate import evaluate, window_batches
from tiny_runs import NewConfig
from tiny_vimeo import write_tiny_vimeo

TIMES = {"samples_per_s", "waiting", "seconds"}  # columns that no two runs share


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # at this size threads wait longer for each other than they work


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Presses Ctrl-C after so many steps."""

    def arrange(steps: int) -> None:
        step, done = Trainer._step, 0

        def stepping(trainer: Trainer, batch: Batch) -> None:
            nonlocal done
            step(trainer, batch)
            done += 1
            if done == steps:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(Trainer, "_step", stepping)

    return arrange


def _content(config: TrainingConfig, name: str = "checkpoint.pth") -> Mapping[str, Any]:
    content: Mapping[str, Any] = torch.load(config.folder / name, weights_only=True)
    return content


def _assert_same(a: Any, b: Any, path: str = "") -> None:
    """Two checkpoints' contents, bit for bit, but for the times."""
    assert type(a) is type(b), path
    if isinstance(a, Mapping):
        assert a.keys() == b.keys(), path
        for key in a.keys() - TIMES:
            _assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            _assert_same(x, y, f"{path}/{number}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


OPTIONS: Mapping[str, dict[str, Any]] = {
    "published": {},
    "every extra": {
        "schedule": "cosine",
        "ema": 0.9,
        "clip_grad": 0.5,
        "loss": "1*Charbonnier+0.1*SSIM",
        "num_workers": 1,
    },
    "muon": {"optimizer": "muon", "schedule": "trapezoid", "width": 16, "init": "blend"},
    "centred": {"optimizer": "muon", "width": 16, "init": "blend", "centre": True, "outer_rate": 0.1},
    "fp16": {"precision": "fp16", "steps_per_epoch": 1, "val_windows": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_four_epochs_are_two_and_two_more_after_a_resume(
    new_config: NewConfig, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (new_config(name, max_epoch=4, **options) for name in ("whole", "parts"))
    assert train(whole).epoch == 4
    finish = Trainer._finish_epoch

    def two_epochs(trainer: Trainer, speed: Any) -> Stop:
        stop = finish(trainer, speed)
        return Stop.TIME if trainer._state.position.epoch == 2 else stop

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish_epoch", two_epochs)
        assert train(parts).epoch == 2
    assert train(replace(parts, resume=True)).epoch == 4
    _assert_same(_content(whole), _content(parts))


@pytest.mark.parametrize("steps", [2, 3, 4], ids=["in an epoch", "before validation", "in the next epoch"])
def test_ctrl_c_saves_and_a_resume_goes_on_at_the_same_step(
    new_config: NewConfig, interrupt_at: Callable[[int], None], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = new_config("whole"), new_config("parts")
    train(whole)
    interrupt_at(steps)
    outcome = train(parts)
    assert (outcome.stop, outcome.epoch * 3 + outcome.step) == (Stop.INTERRUPT, steps)
    monkeypatch.undo()
    assert train(replace(parts, resume=True)).stop is Stop.NO
    _assert_same(_content(whole), _content(parts))


def test_the_time_limit_stops_cleanly(new_config: NewConfig) -> None:
    config = new_config("short")
    outcome = train(replace(config, time_limit=1e-9))
    assert outcome == Outcome(Stop.TIME, epoch=0, step=0, best_psnr=None, baseline_psnr=None)
    assert train(replace(config, resume=True)).epoch == 2


def test_the_time_limit_stops_a_validation_which_a_resume_takes_up_again(
    new_config: NewConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = new_config("whole"), new_config("parts")
    train(whole)
    judge = Validator.judge
    with monkeypatch.context() as patch:

        def late(validator: Validator, *arguments: Any, **options: Any) -> Judgement | None:
            clock = SimpleNamespace(time=lambda: time.time() + 3600, perf_counter=time.perf_counter)
            patch.setattr("flavr.training.loop.time", clock)
            return judge(validator, *arguments, **options)

        patch.setattr(Validator, "judge", late)
        outcome = train(replace(parts, time_limit=30))
    assert (outcome.stop, outcome.epoch, outcome.step) == (Stop.TIME, 0, 3)
    assert train(replace(parts, resume=True)).stop is Stop.NO
    _assert_same(_content(whole), _content(parts))


def test_a_changed_batch_size_starts_the_epoch_again(
    new_config: NewConfig, interrupt_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    config = new_config("run")
    interrupt_at(2)
    train(config)
    assert train(replace(config, batch_size=3, resume=True)).epoch == 2
    assert "the epoch starts again" in capsys.readouterr().out


@pytest.mark.parametrize("centre", [False, True])
def test_two_processes_make_the_steps_of_one(new_config: NewConfig, centre: bool) -> None:
    """Real processes, joined by gloo, on the same batches of two."""
    options = {"max_epoch": 1, "centre": centre, "encoder_bias": True}
    alone, together = new_config("alone", **options), new_config("together", num_procs=2, **options)
    train(alone)
    assert train(together).epoch == 1
    one, two = _content(alone), _content(together)
    for key, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], tensor, atol=2e-6, rtol=1e-4)
    for a, b in zip(
        one["training"]["position"]["history"], two["training"]["position"]["history"], strict=True
    ):
        assert {k: b[k] for k in b.keys() - TIMES} == pytest.approx(
            {k: a[k] for k in a.keys() - TIMES}, rel=1e-4
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error is that there are no GPUs")
def test_an_error_in_another_process_is_the_same_one_here(new_config: NewConfig) -> None:
    with pytest.raises(
        TrainingError, match=r"^--num-gpu 2: PyTorch finds 0 here; --num-gpu 0 trains on the CPU$"
    ):
        launch(check_devices, 2, new_config("run", num_gpu=2))


KILLED_WHILE_SAVING = """
import os, signal, sys, torch
from pathlib import Path
from flavr.training.config import TrainingConfig
from flavr.training.distributed import check_devices, launch
from flavr.training.run import train

torch.set_num_threads(1)
save, saves = torch.save, 0

def half(content, file):
    global saves
    saves += 1
    save(content, file)
    if saves == 2:
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = half
options = eval(sys.argv[1], {"Path": Path, "PosixPath": Path})
train(TrainingConfig(**options))
"""


def test_kill_9_while_saving_loses_no_more_than_the_last_epoch(new_config: NewConfig) -> None:
    killed, whole = new_config("killed"), new_config("whole")
    options = {name: getattr(killed, name) for name in killed.__slots__}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, repr(options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (killed.folder / ".checkpoint.pth.partial").exists()
    assert load_checkpoint(killed.checkpoint).epoch == 0
    assert train(replace(killed, resume=True)).epoch == 2
    assert not list(killed.folder.glob(".*"))
    train(whole)
    _assert_same(_content(whole), _content(killed))


def test_a_checkpoint_has_the_published_layout_and_loads_without_running_code(new_config: NewConfig) -> None:
    config = new_config("run", join="none", n_outputs=1)
    train(config)
    content = _content(config)
    assert {"epoch", "state_dict", "optimizer", "lr", "best_psnr", "flavr"} <= content.keys()
    assert content["epoch"] == 1
    assert all(key.startswith("module.") for key in content["state_dict"])
    optimizer = torch.optim.Adam(Flavr(FlavrConfig(width=4, join="none")).parameters())
    optimizer.load_state_dict(content["optimizer"])
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    checkpoint = load_checkpoint(config.checkpoint)
    assert checkpoint.config == FlavrConfig(width=4, join="none")
    assert not checkpoint.notices
    assert checkpoint.best_psnr == content["best_psnr"] > 0


def test_the_best_weights_are_those_of_the_highest_validation_psnr(new_config: NewConfig) -> None:
    config = new_config("run", max_epoch=4, lr=0.02)  # too high a rate: epochs get worse, too
    outcome = train(config)
    history = _content(config)["training"]["position"]["history"]
    assert history[-1]["psnr"] < (best := max(history, key=lambda row: row["psnr"]))["psnr"]
    content = _content(config, "model_best.pth")
    assert content["epoch"] + 1 == best["epoch"]
    assert content["best_psnr"] == outcome.best_psnr == best["psnr"]


def test_validation_scores_what_the_checkpoint_scores(new_config: NewConfig, tiny_vimeo: Path) -> None:
    from flavr.datasets import open_dataset

    config = new_config("run", ema=0.5)
    train(config)
    predictor = TorchPredictor(load_checkpoint(config.checkpoint).network(), torch.device("cpu"))
    dataset = open_dataset("vimeo90K_septuplet", tiny_vimeo, "test")
    tally = evaluate({"it": predictor}, window_batches(dataset, [0, 1], 1, 0))["it"]
    last = _content(config)["training"]["position"]["history"][-1]
    assert tally.scores.means() == pytest.approx({name: last[name] for name in tally.scores.sums}, rel=1e-4)


def test_with_ema_the_mean_is_handed_out_and_the_weights_are_kept_for_resuming(new_config: NewConfig) -> None:
    train(new_config("plain"))
    train(new_config("mean", ema=0.9))
    plain, mean = _content(new_config("plain")), _content(new_config("mean"))
    key = "encoder.stem.0.weight"
    assert torch.equal(mean["training"]["weights"][key], plain["state_dict"][f"module.{key}"])
    assert not torch.equal(mean["state_dict"][f"module.{key}"], plain["state_dict"][f"module.{key}"])
    with pytest.raises(TrainingError, match="was trained with --ema; resume it so"):
        train(new_config("mean", resume=True))


def test_a_run_can_be_seen(new_config: NewConfig, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    config = new_config("seen", tensorboard=True, log_iter=1, width=8)
    train(config)
    printed = capsys.readouterr().out
    assert "0.66 M parameters, 0.1 GFLOP per window at 32x32" in printed
    assert "epoch 2, training loss" in printed
    with (config.folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_loss", "loss", "psnr", "ssim", "psnr_uint8", "ssim_uint8", "lr", "waiting"} <= rows[
        0
    ].keys()
    options = json.loads((config.folder / "opts.json").read_text())
    assert options["options"]["width"] == 8
    assert options["parameters"] == 661_667
    strip = cv2.imread(str(config.folder / "validation.png"))
    assert strip is not None
    assert strip.shape == (2 * (40 + 2), 5 * (48 + 2), 3)
    events = EventAccumulator(str(config.folder / "tensorboard"))
    events.Reload()
    tags: dict[str, list[str]] = events.Tags()
    assert {"loss/training", "loss/validation", "PSNR/validation", "SSIM/validation", "lr"} <= set(
        tags["scalars"]
    )
    assert len(tags["images"]) == 1
    steps = [event.step for event in events.Scalars("loss/training")]
    assert steps == list(range(6))


def test_training_starts_from_another_checkpoints_weights(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Flavr(FlavrConfig(width=4, encoder_bias=True))
    save_checkpoint(tmp_path / "source.pth", source)
    weight = source.state_dict()["encoder.layer2.0.conv1.0.weight"]
    starts: dict[str, dict[str, Any]] = {
        "all": {"load_from": tmp_path / "source.pth", "width": None},
        "some": {"pretrained": tmp_path / "source.pth"},
    }
    for name, options in starts.items():
        config = new_config(name, lr=1e-12, max_epoch=1, **options)
        train(config)
        loaded = load_checkpoint(config.checkpoint).state_dict["encoder.layer2.0.conv1.0.weight"]
        torch.testing.assert_close(loaded, weight, atol=1e-9, rtol=0)
    assert "encoder.stem.0.bias (not here)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [{"precision": "bf16"}, {"channels_last": True}, {"winograd": True}],
    ids=["bf16", "layout", "winograd"],
)
def test_faster_arithmetic_and_layout_train_to_nearly_the_same(
    new_config: NewConfig, options: dict[str, Any]
) -> None:
    results = {}
    for name, extra in {"plain": {}, "other": options}.items():
        train(new_config(name, max_epoch=1, lr=1e-4, **{"winograd": False} | extra))
        results[name] = _content(new_config(name))["training"]["position"]["history"][0]
    assert results["other"]["psnr"] == pytest.approx(results["plain"]["psnr"], abs=0.1)


@pytest.mark.parametrize(("vectors", "pays"), [("AVX2", True), ("AVX512", False)])
def test_winograd_s_algorithm_is_the_default_where_a_step_is_faster_for_it(
    new_config: NewConfig,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    vectors: str,
    pays: bool,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    train(new_config("default", max_epoch=1))
    assert (", Winograd" in capsys.readouterr().out) is pays
    train(new_config("asked", max_epoch=1, winograd=not pays))
    assert (", Winograd" in capsys.readouterr().out) is not pays


def test_videos_are_trained_on_from_the_memory_of_the_device(
    new_config: NewConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    septuplets = write_tiny_vimeo(tmp_path / "vimeo", train=5, test=1)
    root = (septuplets / "sequences").rename(tmp_path / "videos")  # each a folder of 7 numbered images
    options = {
        "dataset": "video",
        "data_root": root,
        "cache": "device",
        "steps_per_epoch": 2,
        "val_fraction": 0.4,
    }
    (root / "still").mkdir()
    for number in range(1, 8):
        shutil.copy(next(root.rglob("im1.png")), root / f"still/im{number}.png")
    whole, parts = (new_config(name, **options) for name in ("whole", "parts"))
    assert train(whole).epoch == 2
    assert "note: still gives no window: too short, or nothing moves in it" in capsys.readouterr().out
    train(replace(parts, max_epoch=1))
    train(replace(parts, resume=True))
    _assert_same(_content(whole), _content(parts))
