"""Everything that a run has to remember, to and from a checkpoint in the published layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from flavr.checkpoints import SAFE_TYPES, declaration
from flavr.errors import TrainingError
from flavr.network import Flavr
from flavr.training.config import TrainingConfig, option
from flavr.training.ema import Ema
from flavr.training.files import write_checkpoint
from flavr.training.schedule import LearningRate

_EXTRA = "training"  # our own entry beside the published ones
_VERSION = 1


@dataclass(slots=True)
class Position:
    """Where a run stands. Plain values only: checkpoints are read back without running code."""

    epoch: int = 0  # the one in progress, counted from 0
    step: int = 0  # optimizer steps done in it
    loss_sum: float = 0.0  # over those steps
    order: list[int] = field(default_factory=list)  # what the order of samples depends on; see Batches.order
    best_psnr: float | None = None  # dB, of the validations so far
    baseline_psnr: float | None = None  # of averaging frames, on the same windows
    history: list[dict[str, float]] = field(default_factory=list)  # rows of results.csv


@dataclass(slots=True)
class RunState:
    """The parts of a run that change as it goes on."""

    network: Flavr
    optimizer: Optimizer
    schedule: LearningRate
    scaler: torch.amp.GradScaler
    ema: Ema | None = None
    position: Position = field(default_factory=Position)
    asked: Mapping[str, Any] = field(default_factory=dict)  # what the schedule depends on: see `asked_of`
    assumed: bool = False  # the network's join: see `flavr.save_checkpoint`
    notices: list[str] = field(default_factory=list)  # what a resumed run does otherwise than before

    @property
    def judged(self) -> Flavr:
        """The network that is validated and handed out: the running mean's, where there is one."""
        return self.network if self.ema is None else self.ema.network

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def save(self, path: Path, *, best: Path | None = None) -> None:
        """Write the checkpoint, and the same as `best`.

        Raises:
            TrainingError: it cannot be written; the previous one is untouched.
        """
        write_checkpoint(path, self._content(), best=best)

    def restore(self, content: Mapping[str, Any], path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            TrainingError: a checkpoint without training state, or of another version.
        """
        extra = content.get(_EXTRA)
        if not isinstance(extra, Mapping) or extra.get("version") != _VERSION:
            raise TrainingError(
                f"{path} has no training state that this version of flavr can resume; "
                "start from its weights with --load-from"
            )
        if (extra["ema"] is None) != (self.ema is None):
            raise TrainingError(
                f"{path} was trained {'without' if extra['ema'] is None else 'with'} --ema; resume it so"
            )
        judged = _without_prefix(content["state_dict"])
        mine, theirs = _name(self.optimizer), extra.get("optimizer", "adam")
        if mine != theirs:
            raise TrainingError(
                f"{path} was trained with --optimizer {theirs}; resume it so, not with {mine}"
            )
        self.network.load_state_dict(judged if extra["weights"] is None else extra["weights"])
        if self.ema is not None:
            self.ema.network.load_state_dict(judged)
            self.ema.updates = int(extra["ema"])
        self._restore_rate(content, extra, path)
        if self.scaler.is_enabled() and extra["scaler"]:
            self.scaler.load_state_dict(dict(extra["scaler"]))
        self.position = Position(**extra["position"])
        torch.set_rng_state(extra["rng"]["cpu"])
        if "cuda" in extra["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(extra["rng"]["cuda"])

    def _restore_rate(self, content: Mapping[str, Any], extra: Mapping[str, Any], path: Path) -> None:
        """The optimizer and its schedule, but for what is asked for otherwise now."""
        mine = [
            {name: group[name] for name in ("lr", "betas", "share") if name in group}
            for group in self.optimizer.param_groups
        ]
        if len(content["optimizer"]["param_groups"]) != len(mine):
            raise TrainingError(
                f"{path} was trained by an older flavr, whose optimizer cannot be resumed; start from its "
                "weights with --load-from"
            )
        self.optimizer.load_state_dict(content["optimizer"])
        before = extra.get("asked", self.asked)  # older runs do not say
        changed = {name: value for name, value in self.asked.items() if before.get(name, value) != value}
        anew = not changed.keys().isdisjoint({"schedule", "lr"})
        for group, values in zip(self.optimizer.param_groups, mine, strict=True):
            group["betas"] = values["betas"]
            if "share" in values:  # of Muon's
                group["share"] = values["share"]
            group["lr"] = values["lr"] if anew else group["lr"]
        if "schedule" not in changed:
            self.schedule.load_state_dict(dict(extra["schedule"]))
        if not changed.keys().isdisjoint({"lr", "loss"}):
            self.schedule.forget_losses()
        for name, value in changed.items():
            self.notices.append(f"{option(name)} is {value} from here on; it was {before[name]}")

    def _content(self) -> dict[str, Any]:
        rng = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            rng["cuda"] = torch.cuda.get_rng_state()
        return {
            "epoch": self.position.epoch - 1,  # the last whole one, as the published scripts count
            "state_dict": {f"module.{key}": tensor for key, tensor in self.judged.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "lr": self.lr,
            "best_psnr": self.position.best_psnr or 0.0,  # 0, as the published scripts begin
            "flavr": declaration(self.network.config, assumed=self.assumed),
            _EXTRA: {
                "version": _VERSION,
                "optimizer": _name(self.optimizer),
                "asked": dict(self.asked),
                "position": asdict(self.position),
                "weights": None if self.ema is None else self.network.state_dict(),
                "ema": None if self.ema is None else self.ema.updates,
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "rng": rng,
            },
        }


def asked_of(config: TrainingConfig) -> dict[str, Any]:
    """The options that steps, or the losses that a schedule follows, depend on: changes of them are told."""
    names = ("schedule", "lr", "loss", "centre", "outer_rate")
    return {name: getattr(config, name) for name in names}


def read_state(path: Path) -> Mapping[str, Any]:
    """The whole content of a checkpoint that `flavr.load_checkpoint` has found sound."""
    with torch.serialization.safe_globals(SAFE_TYPES):
        content: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _name(optimizer: Optimizer) -> str:
    return type(optimizer).__name__.lower()


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): tensor for key, tensor in state_dict.items()}
