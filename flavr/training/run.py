"""A training run from its options: the Python interface behind `flavr-train`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import click
import torch
from torch.optim import Adam, Optimizer

from flavr._cli import allow_any_name
from flavr._winograd import quicken
from flavr.augment import Augmentation, AugmentedDataset
from flavr.checkpoints import load_checkpoint
from flavr.datasets import InterpolationDataset, open_dataset
from flavr.datasets.bank import FrameBank
from flavr.datasets.video import VideoDataset
from flavr.errors import DataError, TrainingError, UsageError
from flavr.initialise import initialise
from flavr.losses import Loss, parse_loss
from flavr.network import Flavr
from flavr.training.batches import BankBatches, Batches, LoaderBatches
from flavr.training.centring import Centring
from flavr.training.config import TrainingConfig
from flavr.training.distributed import (
    INTERRUPTED,
    Ranks,
    check_devices,
    launch,
    launched,
    open_ranks,
)
from flavr.training.ema import Ema
from flavr.training.files import make_folder
from flavr.training.loop import Outcome, Trainer
from flavr.training.muon import Muon
from flavr.training.pretrained import load_fitting
from flavr.training.reporting import Report
from flavr.training.schedule import SCHEDULES
from flavr.training.state import RunState, asked_of, read_state
from flavr.training.stopping import Stop
from flavr.training.summary import network_cost
from flavr.training.teacher import Teacher
from flavr.training.validation import Validator
from flavr.validate import evenly
from flavr.views import VIEWS

_SKIPPED_SHOWN = 10  # tensors that --pretrained could not use, before "and N more"
_MOST_WORKERS = 16


def train(config: TrainingConfig) -> Outcome:
    """Train a network: one part of it if torchrun started this process, else in all processes it needs.

    Raises:
        UsageError, DataError, CheckpointError, TrainingError: one line each; nothing half-written is left.
    """
    deadline = None if config.time_limit is None else time.time() + 60 * config.time_limit
    check_devices(config)
    if launched() or config.processes == 1:
        return _work(config, deadline)
    return launch(_work_for_launcher, config.processes, config, deadline)


def _work_for_launcher(config: TrainingConfig, deadline: float | None) -> Outcome:
    allow_any_name()
    outcome = _work(config, deadline)
    if outcome.stop is Stop.INTERRUPT:
        sys.exit(INTERRUPTED)  # the launcher is on its way out, and would not take the outcome
    return outcome


def _work(config: TrainingConfig, deadline: float | None) -> Outcome:
    """One process's part."""
    with open_ranks(config) as ranks:
        report = Report(config, speaks=ranks.first)
        loss = parse_loss(config.loss)
        if config.crop < loss.min_side:
            raise UsageError(
                f"--loss {config.loss} needs a --crop of at least {loss.min_side}, not {config.crop}"
            )
        if config.checkpoint.exists() and not config.resume:
            raise TrainingError(
                f"{config.folder} holds a run already; add --resume to go on with it, or another --exp-name"
            )
        network, start = _network(config, ranks, report)
        data = _open_data(config, network.config.n_outputs, ranks)
        batches = _batches(config, data.train, ranks)
        channels_last = _channels_last(config, network.config.width, ranks.device)
        winograd = _winograd(config, ranks.device)
        teacher = _teacher(config, network, ranks, report, channels_last=channels_last, winograd=winograd)
        if winograd:
            quicken(network)
        state = _state(config, network.to(ranks.device), start, batches, ranks, channels_last=channels_last)
        indices = evenly(len(data.validation), config.val_windows)
        _check_sizes(data.validation, indices, loss)
        validator = Validator(
            data.validation,
            indices,
            loss,
            ranks,
            config.test_batch_size,
            _workers(config, ranks),
            config.precision,
        )
        cost = network_cost(network.config, config.crop, config.crop)
        layout = (", channels last" if channels_last else "") + (", Winograd" if winograd else "")
        report.say(
            f"network     {network.config.arch} {network.config.factor}x, width {network.config.width}: "
            f"{cost} at {config.crop}x{config.crop}",
            f"starts from {start.title}",
            *start.lines(),
            f"data        {config.dataset}: {len(data.train)} windows, {len(indices)} more to validate on",
            f"epoch       {batches.steps} steps of {batches.size} windows",
            f"minimises   {loss}, by {config.optimizer.title()}, {config.schedule} schedule from "
            f"{config.lr:g}",
            *([] if teacher is None else [f"learns from {config.teacher}: {teacher}"]),
            f"hardware    {ranks.count} x {_device_name(ranks.device)}, {config.precision}{layout}",
            f"writes to   {config.folder}",
        )
        report.say(*(f"note: {line}" for line in state.notices))
        for dataset in (data.train, data.validation):
            report.say(*(f"note: {line}" for line in _notices(dataset)))
        if config.precision != "fp32" and _emulates(ranks.device):
            report.say(f"note: this CPU computes {config.precision} in software, 15 times slower than fp32")
        if ranks.first:
            make_folder(config.folder, config.checkpoint, config.best)
        facts = {
            "parameters": cost.parameters,
            "gflop_per_window": cost.gflops,
            "starts_from": start.title,
            "not_loaded": start.skipped,
        }
        report.begin(facts, state.position.epoch * batches.steps + state.position.step)
        trainer = Trainer(
            config,
            state,
            batches,
            validator,
            loss,
            ranks,
            report,
            teacher=teacher,
            centring=Centring(network, ranks.count) if config.centre else None,
            deadline=deadline,
            channels_last=channels_last,
        )
        return trainer.fit()


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a network's first weights come from."""

    title: str
    skipped: tuple[str, ...] = ()  # tensors of --pretrained that could not be used
    assumed: bool = False  # the network's join: see `flavr.save_checkpoint`

    def lines(self) -> list[str]:
        """The first of those tensors, for people."""
        more = len(self.skipped) - _SKIPPED_SHOWN
        shown = [*self.skipped[:_SKIPPED_SHOWN], *([f"and {more} more, see opts.json"] if more > 0 else [])]
        return [f"            without {line}" for line in shown]


def _network(config: TrainingConfig, ranks: Ranks, report: Report) -> tuple[Flavr, _Start]:
    """The network with its first weights, and where they come from; a resumed run's are loaded later."""
    source = config.checkpoint if config.resume else config.load_from
    if source is not None:
        if config.resume and not source.is_file():
            raise TrainingError(f"--resume: there is no {source}; leave it out to begin a run")
        checkpoint = load_checkpoint(source)
        network = Flavr(config.accept(checkpoint.config, source))
        network.load_state_dict(checkpoint.state_dict)
        notices = checkpoint.notices if config.join is None else ()  # all that is ever assumed
        report.say(*(f"note: {source}: {line}" for line in notices))
        start = _Start(str(source), assumed=bool(notices))
    else:
        network = Flavr(config.new_network())
        initialise(network, config.init, config.seed)
        start = _Start(f"{config.init} weights, seed {config.seed}")
        if config.pretrained is not None:
            fit = load_fitting(network, config.pretrained)
            start = _Start(f"{fit.loaded} tensors of {config.pretrained}, others {start.title}", fit.skipped)
    if network.config.batchnorm and ranks.count > 1:
        raise UsageError("a network with BatchNorm trains in one process: several would each have statistics")
    return network, start


def _teacher(
    config: TrainingConfig,
    student: Flavr,
    ranks: Ranks,
    report: Report,
    *,
    channels_last: bool,
    winograd: bool,
) -> Teacher | None:
    if config.teacher is None:
        return None
    checkpoint = load_checkpoint(config.teacher)
    report.say(*(f"note: {config.teacher}: {line}" for line in checkpoint.notices))
    network = checkpoint.network().requires_grad_(False)
    if network.config.factor != student.config.factor:
        raise UsageError(
            f"--teacher {config.teacher} is a {network.config.factor}x network; one of "
            f"{student.config.factor}x is needed to teach one"
        )
    if winograd:
        quicken(network)
    if channels_last:
        _innermost_channels(network)
    return Teacher(network.to(ranks.device), VIEWS[: config.teacher_ensemble], config.teacher_share)


@dataclass(frozen=True, slots=True)
class _Data:
    train: InterpolationDataset
    validation: InterpolationDataset


def _open_data(config: TrainingConfig, n_outputs: int, ranks: Ranks) -> _Data:
    options = dict(config.data_options)
    if config.val_fraction is not None:
        options["val_fraction"] = config.val_fraction
    val_options = {**options, **config.val_data_options}
    data = _Data(
        open_dataset(config.dataset, config.data_root, "train", n_outputs=n_outputs, **options),
        open_dataset(config.dataset, config.data_root, "test", n_outputs=n_outputs, **val_options),
    )
    if config.check_data and ranks.first:
        problems = data.train.check(decode=True, min_size=(config.crop, config.crop))
        problems += data.validation.check(decode=True)
        for problem in problems:
            click.echo(problem, err=True)
        if problems:
            raise DataError(f"{config.data_root}: {len(problems)} problems in the data, named above")
    return data


def _check_sizes(dataset: InterpolationDataset, indices: Sequence[int], loss: Loss) -> None:
    """Refuse pictures too small for the loss now, not after an epoch: looks at one of each video, or set."""
    seen = set[str]()
    for index in indices if loss.min_side > 1 else ():
        name = dataset.name_of(index)
        video = FrameBank.video_of(name)
        if video in seen:
            continue
        seen.add(video)
        height, width = dataset[index].inputs.shape[-2:]
        if min(height, width) < loss.min_side:
            raise UsageError(
                f"--loss {loss} needs pictures of {loss.min_side}x{loss.min_side}; those of {video or name}, "
                f"to validate on, are {width}x{height}"
            )


def _notices(dataset: InterpolationDataset) -> tuple[str, ...]:
    """What the data set has left out, for people."""
    return dataset.notices if isinstance(dataset, VideoDataset) else ()


def _batches(config: TrainingConfig, dataset: InterpolationDataset, ranks: Ranks) -> Batches:
    augmentation = Augmentation(
        crop=config.crop,
        flip=config.flip,
        jitter=config.jitter,
        reverse=config.reverse,
        permute_channels=config.permute_channels,
        turn=config.turn,
    )
    if config.cache == "device":
        if not isinstance(dataset, VideoDataset):
            raise UsageError(
                f"--cache device is for --dataset video; {config.dataset} is read from image files"
            )
        return BankBatches(
            dataset.bank,
            config.batch_size,
            ranks,
            augmentation=augmentation,
            seed=config.seed,
            steps=config.steps_per_epoch,
            places=config.crop_places,
            drift=config.crop_drift,
        )
    return LoaderBatches(
        AugmentedDataset(dataset, augmentation, seed=config.seed),
        config.batch_size,
        ranks,
        num_workers=_workers(config, ranks),
        steps=config.steps_per_epoch,
    )


def _state(
    config: TrainingConfig,
    network: Flavr,
    start: _Start,
    batches: Batches,
    ranks: Ranks,
    *,
    channels_last: bool,
) -> RunState:
    if channels_last:
        _innermost_channels(network)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True  # all batches have one size
    optimizer = _optimizer(config, network)
    state = RunState(
        network=network,
        optimizer=optimizer,
        schedule=SCHEDULES[config.schedule](optimizer, config, config.max_epoch * batches.steps),
        scaler=torch.amp.GradScaler(ranks.device.type, enabled=config.precision == "fp16"),
        ema=None if config.ema is None else Ema(network, config.ema),
        asked=asked_of(config),
        assumed=start.assumed,
    )
    if config.resume:
        state.restore(read_state(config.checkpoint), config.checkpoint)
    return state


def _innermost_channels(network: Flavr) -> None:
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def _optimizer(config: TrainingConfig, network: Flavr) -> Optimizer:
    betas = (config.beta1, config.beta2)
    if config.optimizer == "muon":
        return Muon(network.named_parameters(), lr=config.lr, betas=betas, outer_rate=config.outer_rate)
    return Adam(network.parameters(), lr=config.lr, betas=betas)


def _workers(config: TrainingConfig, ranks: Ranks) -> int:
    if config.num_workers is not None:
        return config.num_workers
    if ranks.device.type == "cpu":
        return 1  # reads faster than a CPU trains, and more would take cores from it
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
    return min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) // here))


def _channels_last(config: TrainingConfig, width: int, device: torch.device) -> bool:
    if config.channels_last is not None:
        return config.channels_last
    if device.type == "cpu":
        # A step is 1.17 times as fast at width 16, 0.96 times at 64:
        # benchmarks/results/training-step-cpu-avx2-2core-torch2.13.json
        return width < 64
    return config.precision != "fp32"  # tensor cores want half-precision channels innermost


def _winograd(config: TrainingConfig, device: torch.device) -> bool:
    if config.winograd is not None:
        return config.winograd
    # Half precision would round the transforms too much. With AVX-512 PyTorch's own convolutions are faster:
    # a step takes 1.3 times as long with Winograd's at width 16, 1.6 times at 64:
    # benchmarks/results/training-step-cpu-avx512vnni-bf16-2core-torch2.13.json
    return device.type == "cpu" and config.precision == "fp32" and _capability() != "AVX512"


def _capability() -> str:
    """The widest vectors that PyTorch's CPU kernels use here."""
    return torch.backends.cpu.get_cpu_capability()


def _emulates(device: torch.device) -> bool:
    """Whether half precision is slow for sure: there is none below AVX-512 on x86."""
    return device.type == "cpu" and _capability() in ("DEFAULT", "NO AVX", "AVX2")


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
