"""The parts of training, one by one: what a run would lose if each failed."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flavr import CheckpointError, Flavr, FlavrConfig, save_checkpoint
from flavr.augment import Augmentation, AugmentedDataset
from flavr.datasets import Sample
from flavr.datasets.bank import BankVideo, FrameBank
from flavr.errors import TrainingError, UsageError
from flavr.training.batches import BankBatches, Batch, Batches, LoaderBatches
from flavr.training.config import TrainingConfig
from flavr.training.distributed import Ranks
from flavr.training.ema import Ema
from flavr.training.files import make_folder, write_bytes, write_checkpoint
from flavr.training.pretrained import load_fitting
from flavr.training.schedule import SCHEDULES
from flavr.training.summary import network_cost

CPU = torch.device("cpu")
TINY = FlavrConfig(width=4)


class _Plain:
    """A data set whose windows are of one colour each: the window's number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def name_of(self, index: int) -> str:
        return f"window {index}"

    def __getitem__(self, index: int) -> Sample:
        frames = torch.full((5, 3, 16, 16), index, dtype=torch.uint8)
        return Sample(frames[:4], frames[4:], self.name_of(index))

    def check(self, *, decode: bool = False, min_size: tuple[int, int] = (1, 1)) -> list[str]:
        del decode, min_size
        return []


def _loader(count: int, batch: int, ranks: Ranks, steps: int | None = None) -> LoaderBatches:
    dataset = AugmentedDataset(_Plain(count), Augmentation(crop=8, jitter=0), seed=4)
    return LoaderBatches(dataset, batch, ranks, num_workers=0, steps=steps)


def _bank(batch: int, ranks: Ranks) -> BankBatches:
    videos = [BankVideo(f"clip{n}", torch.full((7, 3, 16, 16), 40 * n, dtype=torch.uint8)) for n in range(6)]
    windows = torch.tensor([(n, 0, 1) for n in range(6)])
    bank = FrameBank(videos, windows, torch.ones(6), n_outputs=1)
    return BankBatches(bank, batch, ranks, augmentation=Augmentation(crop=8, jitter=0), seed=4, steps=3)


@dataclass
class _Source:
    """Makes one kind of batches of four for a process among several."""

    kind: str

    def __call__(self, ranks: Ranks = Ranks(CPU)) -> Batches:  # noqa: B008  # frozen
        return _loader(14, 4, ranks) if self.kind == "loader" else _bank(4, ranks)


@pytest.fixture(params=["loader", "bank"])
def source(request: pytest.FixtureRequest) -> _Source:
    return _Source(request.param)


def _same(a: Batch, b: Batch) -> bool:
    return a.indices == b.indices and torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_an_epoch_taken_up_in_the_middle_goes_on_with_the_same_batches(source: _Source) -> None:
    whole = list(source().epoch(2, 0))
    rest = list(source().epoch(2, 1))
    assert len(whole) == source().steps == 3
    assert all(_same(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_epochs_differ(source: _Source) -> None:
    first, second = (next(source().epoch(epoch, 0)) for epoch in (0, 1))
    assert not _same(first, second)


def test_processes_share_the_batches_that_one_would_train_on(source: _Source) -> None:
    alone = list(source().epoch(1, 0))
    shares = [list(source(Ranks(CPU, rank, 2)).epoch(1, 0)) for rank in range(2)]
    for step, batch in enumerate(alone):
        for rank in range(2):
            mine = shares[rank][step]
            assert mine.indices == batch.indices[rank::2]
            torch.testing.assert_close(mine.inputs, batch.inputs[rank::2], atol=0, rtol=0)


def test_batches_name_the_windows_that_they_hold(source: _Source) -> None:
    """What a NaN loss is reported with: the colour of each sample tells which window it is from."""
    batches = source()
    for batch in batches.epoch(0, 0):
        for inputs, index in zip(batch.inputs, batch.indices, strict=True):
            colour = round(inputs.mean().item() * 255)
            expected = f"window {colour}" if source.kind == "loader" else f"clip{colour // 40}:0"
            assert batches.name_of(index) == expected


def test_a_pass_takes_every_sample_at_most_once() -> None:
    indices = [index for batch in _loader(14, 4, Ranks(CPU)).epoch(0, 0) for index in batch.indices]
    assert len(indices) == len(set(indices)) == 12


def test_a_long_epoch_is_several_passes() -> None:
    batches = list(_loader(8, 4, Ranks(CPU), steps=5).epoch(0, 0))
    assert len(batches) == 5
    assert {index for batch in batches[:2] for index in batch.indices} == set(range(8))
    assert {index for batch in batches[2:4] for index in batch.indices} == set(range(8))
    assert not _same(batches[0], batches[2])


@pytest.mark.parametrize(("count", "processes", "size"), [(3, 1, 3), (5, 2, 4), (1, 2, 2)])
def test_a_set_smaller_than_a_batch_still_trains(count: int, processes: int, size: int) -> None:
    for rank in range(processes):
        batches = _loader(count, 32, Ranks(CPU, rank, processes))
        (batch,) = batches.epoch(0, 0)
        assert batches.size == size
        assert len(batch.indices) == size // processes


def _rates(schedule: str, steps: int, validations: list[float], **options: Any) -> list[float]:
    """The learning rate after each of `validations`, with `steps` steps before each."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    config = TrainingConfig(data_root=Path(), schedule=schedule, lr=1.0, **options)  # type: ignore[arg-type]
    rate = SCHEDULES[schedule](optimizer, config, steps * len(validations))
    rates = []
    for number, loss in enumerate(validations):
        for step in range(steps):
            rate.before_step(number * steps + step)
        rate.after_validation(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_plateau_halves_the_rate_after_five_validations_without_progress() -> None:
    rates = _rates("plateau", 1, [1.0, 0.5] + [0.6] * 12)
    assert rates == [1.0] * 7 + [0.5] * 6 + [0.25]


def test_cosine_warms_up_and_ends_at_a_hundredth() -> None:
    rates = _rates("cosine", 1, [0.0] * 101, warmup_steps=10)
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx((1 + 0.01) / 2, abs=0.01)
    assert rates[-1] == pytest.approx(0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_trapezoid_stays_level_until_the_last_fifth() -> None:
    rates = _rates("trapezoid", 1, [0.0] * 100, warmup_steps=10)
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)  # the last step is taken a twentieth above the end
    longer = _rates("trapezoid", 1, [0.0] * 200, warmup_steps=10)
    assert longer[:81] == rates[:81]  # so a run can be made longer while it is level


@pytest.mark.parametrize("schedule", ["cosine", "trapezoid"])
def test_a_run_made_longer_keeps_its_warm_up(schedule: str) -> None:
    """It was a twentieth of the new length, so that a run could be back in it."""

    def resumed(state: dict[str, Any], **options: Any) -> float:
        """The rate at step 100 of 4000."""
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
        config = TrainingConfig(data_root=Path(), schedule=schedule, lr=1.0, **options)  # type: ignore[arg-type]
        rate = SCHEDULES[schedule](optimizer, config, 4000)
        rate.load_state_dict(state)
        rate.before_step(100)
        return float(optimizer.param_groups[0]["lr"])

    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    config = TrainingConfig(data_root=Path(), schedule=schedule)  # type: ignore[arg-type]
    state = SCHEDULES[schedule](optimizer, config, 400).state_dict()
    assert resumed(state) == pytest.approx(1, abs=0.01)
    assert resumed(state, warmup_steps=202) == pytest.approx(0.5)
    assert resumed({}) == pytest.approx(101 / 200)  # as a run of an older flavr goes on


def test_ema_is_the_running_mean_of_weights() -> None:
    network = Flavr(TINY)
    name, parameter = next(iter(network.named_parameters()))
    ema = Ema(network, decay=0.5)
    expected = parameter.detach().clone()
    for step in range(1, 4):
        with torch.no_grad():
            parameter.add_(1.0)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
        ema.update(network)
    torch.testing.assert_close(ema.network.state_dict()[name], expected)


def test_cost_of_the_published_network_is_the_known_one() -> None:
    cost = network_cost(FlavrConfig(), 256, 256)
    assert cost.parameters == pytest.approx(42.06e6, rel=1e-3)
    assert cost.gflops == pytest.approx(532, rel=1e-3)  # as counted from its plain ONNX export


def test_cost_grows_with_the_picture() -> None:
    small, large = (network_cost(TINY, 32, side) for side in (32, 64))
    assert large.gflops == pytest.approx(2 * small.gflops, rel=0.01)
    assert "0.17 M parameters" in str(small)


def test_a_checkpoint_and_its_copy_appear_whole(tmp_path: Path) -> None:
    path, best = tmp_path / "checkpoint.pth", tmp_path / "model_best.pth"
    write_checkpoint(path, {"epoch": 1}, best=best)
    write_checkpoint(path, {"epoch": 2})
    assert torch.load(path, weights_only=True) == {"epoch": 2}
    assert torch.load(best, weights_only=True) == {"epoch": 1}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the limit on file sizes is Unix's")
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "checkpoint.pth"
    write_checkpoint(path, {"epoch": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(TrainingError, match=r"cannot save .*: .*the previous one is untouched"):
            write_checkpoint(path, {"epoch": 2, "weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pth"]


def test_no_space_is_said_in_so_many_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        write_checkpoint(tmp_path / "checkpoint.pth", {})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot save .*file"):
        make_folder(tmp_path / "file" / "run")
    with pytest.raises(TrainingError, match=r"cannot save .*results\.csv"):
        write_bytes(tmp_path / "nowhere" / "results.csv", b"")


def test_what_a_killed_run_left_behind_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.pth.partial").write_text("half")
    make_folder(tmp_path, tmp_path / "checkpoint.pth")
    assert not list(tmp_path.iterdir())


def test_pretrained_takes_what_fits_and_lists_the_rest(tmp_path: Path) -> None:
    source = Flavr(TINY)
    save_checkpoint(tmp_path / "2x.pth", source)
    network = Flavr(replace(TINY, factor=4, encoder_bias=True))
    fit = load_fitting(network, tmp_path / "2x.pth")
    name = "encoder.layer3.0.conv1.0.weight"
    assert torch.equal(network.state_dict()[name], source.state_dict()[name])
    assert fit.loaded == len(source.state_dict()) - 2
    assert "outconv.1.weight (shape [3, 4, 7, 7] there, [9, 4, 7, 7] here)" in fit.skipped
    assert "encoder.stem.0.bias (not there)" in fit.skipped


def test_pretrained_that_fits_nowhere_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "other.pth", Flavr(replace(TINY, width=3)))
    with pytest.raises(CheckpointError, match=r"nothing that fits.*--width"):
        load_fitting(Flavr(TINY), tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 100}, "--crop 100: it must be a multiple of 8"),
        ({"batch_size": 0}, "--batch-size 0: it must be at least 1"),
        ({"batch_size": 6, "num_gpu": 4}, "--batch-size 6 cannot be shared evenly by 4 processes"),
        ({"num_procs": 2, "num_gpu": 1}, "--num-procs 2 is for the CPU"),
        ({"lr": float("nan")}, "--lr nan: it must be above 0"),
        ({"ema": 1.0}, "--ema 1.0: it must be between 0 and 1"),
        ({"warmup_steps": 5}, "--warmup-steps belongs to --schedule cosine"),
        ({"load_from": Path("a"), "pretrained": Path("b")}, "give one"),
        ({"seed": 2**63}, "--seed 9223372036854775808: it must be from 0 to 2**63 - 1"),
        ({"seed": -1}, "--seed -1: it must be from 0 to 2**63 - 1"),
        ({"exp_name": "../elsewhere"}, "--exp-name ../elsewhere: a folder's name is needed"),
    ],
)
def test_options_that_no_run_can_have_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(data_root=Path(), **options)
    assert message in str(caught.value)


def test_published_networks_have_the_biases_they_were_published_with() -> None:
    biases = {
        (n, init): TrainingConfig(data_root=Path(), n_outputs=n, init=init).new_network().encoder_bias
        for n in (1, 3)
        for init in ("published", "blend")
    }
    assert biases == {(1, "published"): False, (3, "published"): True, (1, "blend"): True, (3, "blend"): True}
