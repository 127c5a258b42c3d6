"""How the learning rate changes: one class per schedule, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from flavr.training.config import TrainingConfig

_FALL = 0.2  # of a run, at the end of a trapezoid
_END = 0.01  # of the highest rate: below, Adam's steps no longer move 8-bit pictures


class LearningRate(Protocol):
    """Sets the rate of an optimizer. Its state is plain numbers, kept in the checkpoint."""

    def before_step(self, step: int) -> None:
        """Called before step `step` of the whole run, counted from 0."""
        ...

    def after_validation(self, loss: float) -> None:
        """Called with each validation's loss."""
        ...

    def forget_losses(self) -> None:
        """Losses from now on are not to be compared with those so far."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class Plateau:
    """The published schedule: halved when the validation loss has not fallen for 5 validations."""

    def __init__(self, optimizer: Optimizer, config: TrainingConfig, total_steps: int) -> None:  # noqa: ARG002
        self._scheduler = ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5)

    def before_step(self, step: int) -> None:
        """Nothing changes within an epoch."""

    def after_validation(self, loss: float) -> None:
        self._scheduler.step(loss)

    def forget_losses(self) -> None:
        self._scheduler.best = math.inf
        self._scheduler.num_bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._scheduler.load_state_dict(state)


class Cosine:
    """Up in a straight line, then down along half a cosine to a hundredth at the run's last step.

    The rate depends on the step alone, so that a run cut into several resumed ones follows the same curve.
    Only the warm-up is kept as first planned: a run that is made longer would else be back in it.
    """

    def __init__(self, optimizer: Optimizer, config: TrainingConfig, total_steps: int) -> None:
        self._optimizer = optimizer
        self._peak = config.lr
        self._total = total_steps
        self._asked = config.warmup_steps
        asked = min(1000, total_steps // 20) if self._asked is None else self._asked
        self._warmup = min(asked, total_steps)

    def before_step(self, step: int) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(step)

    def rate(self, step: int) -> float:
        """The rate of one step."""
        if step < self._warmup:
            return self._peak * (step + 1) / self._warmup
        done = min(1.0, (step - self._warmup) / max(1, self._total - 1 - self._warmup))
        return self._peak * (_END + (1 - _END) * (1 + math.cos(math.pi * done)) / 2)

    def after_validation(self, loss: float) -> None:
        """The validation loss makes no difference."""

    def forget_losses(self) -> None:
        """Nor do those before."""

    def state_dict(self) -> dict[str, Any]:
        return {"warmup": self._warmup}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """The warm-up is that of before, unless one is asked for now; older runs do not say."""
        if self._asked is None:
            self._warmup = min(int(state.get("warmup", self._warmup)), self._total)


class Trapezoid(Cosine):
    """Up in a straight line, level, and down again to a hundredth over the last fifth of the run.

    (Hägele et al. 2024.) A run can be made longer or shorter while it is level, and loses nothing.
    """

    def rate(self, step: int) -> float:
        """The rate of one step."""
        left = (self._total - step) / max(1.0, _FALL * self._total)
        rising = (step + 1) / max(1, self._warmup)
        return self._peak * max(_END, min(1.0, rising, left))


SCHEDULES: Mapping[str, Callable[[Optimizer, TrainingConfig, int], LearningRate]] = {
    "plateau": Plateau,
    "cosine": Cosine,
    "trapezoid": Trapezoid,
}
