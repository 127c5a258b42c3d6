"""The training loop: steps, validation, saving, and stopping cleanly."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flavr.errors import TrainingError
from flavr.losses import Loss
from flavr.predictors import PRECISIONS
from flavr.training.batches import Batch, Batches
from flavr.training.centring import Centring
from flavr.training.config import TrainingConfig
from flavr.training.distributed import Ranks
from flavr.training.reporting import Report, Row
from flavr.training.state import RunState
from flavr.training.stopping import Signals, Stop
from flavr.training.teacher import Teacher
from flavr.training.validation import Judgement, Validator

_NAMES_SHOWN = 32
_SAME_DB = 1e-3  # scores of the same windows, summed up in another order


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    stop: Stop
    epoch: int  # whole epochs done
    step: int  # steps done of the next one
    best_psnr: float | None  # dB, the authors' definition
    baseline_psnr: float | None  # of averaging the middle frames, on the same windows


@dataclass(slots=True)
class _Speed:
    """Of one epoch, or of the part of it that this process has done."""

    started: float = field(default_factory=time.perf_counter)
    waited: float = 0.0  # seconds in which the next batch was not there yet
    samples: int = 0

    @property
    def seconds(self) -> float:
        return max(time.perf_counter() - self.started, 1e-9)

    @property
    def samples_per_s(self) -> float:
        return self.samples / self.seconds


@dataclass(frozen=True, slots=True)
class _Pending:
    """A step whose loss may still be on its way from the device."""

    batch: Batch
    loss: Tensor
    step: int  # of the whole run


class Trainer:
    """One process of a run."""

    def __init__(
        self,
        config: TrainingConfig,
        state: RunState,
        batches: Batches,
        validator: Validator,
        loss: Loss,
        ranks: Ranks,
        report: Report,
        *,
        teacher: Teacher | None = None,
        centring: Centring | None = None,
        deadline: float | None = None,
        channels_last: bool = False,
    ) -> None:
        """`deadline` is a time of `time.time()`."""
        self._config = config
        self._state = state
        self._batches = batches
        self._validator = validator
        self._loss = loss
        self._ranks = ranks
        self._report = report
        self._teacher = teacher
        self._centring = centring
        self._deadline = deadline
        self._layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        self._signals = Signals()
        self._pending: _Pending | None = None
        self._broken: Batch | None = None
        self._averaged = False  # whether this process has scored averaging
        self._idle = set[str]()  # blocks of which it was said
        self._model = ranks.wrap(state.network)
        if config.compile:
            self._model.compile()

    def fit(self) -> Outcome:
        """Train to the last epoch, or until there is a reason to stop; the checkpoint can then be resumed.

        Raises:
            TrainingError: the loss is not finite any more, or the checkpoint cannot be written.
            DataError: a sample cannot be read.
        """
        position = self._state.position
        stop = Stop.NO
        with self._signals, contextlib.closing(self._report):
            while stop is Stop.NO and position.epoch < self._config.max_epoch:
                speed = _Speed()
                stop = self._train_epoch(speed) or self._finish_epoch(speed)
            if stop is Stop.BROKEN:
                self._raise_broken()
            if stop is not Stop.NO:
                self._refuse_ruined()
                [loss_sum] = self._ranks.total([position.loss_sum])
                position.loss_sum = loss_sum / self._ranks.count  # one file for all processes
                if self._ranks.first:
                    self._state.save(self._config.checkpoint)
            self._ranks.agree(0)  # nobody leaves before it is saved: that would end the others
        outcome = Outcome(stop, position.epoch, position.step, position.best_psnr, position.baseline_psnr)
        self._report.say(*_last_words(outcome, self._config))
        return outcome

    def _train_epoch(self, speed: _Speed) -> Stop:
        """The rest of the epoch's steps."""
        position, total = self._state.position, self._batches.steps
        if position.order != self._batches.order:
            if position.step:
                self._report.say(
                    "note: the data or the batches are others than before; the epoch starts again"
                )
            position.step, position.loss_sum, position.order = 0, 0.0, self._batches.order
        self._state.network.train()
        batches = self._batches.epoch(position.epoch, position.step)
        title = f"epoch {position.epoch + 1}/{self._config.max_epoch}"
        with contextlib.closing(batches), self._report.progress(title, position.step, total) as bar:
            while position.step < total:
                if stop := self._reason_to_stop():
                    return stop
                asked = time.perf_counter()
                batch = next(batches)
                speed.waited += time.perf_counter() - asked
                self._step(batch)
                speed.samples += self._batches.size
                bar.show(position.step, position.loss_sum / max(1, position.step - 1), speed.samples_per_s)
        self._settle()
        return Stop(self._ranks.agree(Stop.BROKEN if self._broken else Stop.NO))

    def _step(self, batch: Batch) -> None:
        config, state, device = self._config, self._state, self._ranks.device
        step = state.position.epoch * self._batches.steps + state.position.step
        state.schedule.before_step(step)
        inputs = batch.inputs.to(device, non_blocking=True).contiguous(memory_format=self._layout)
        targets = batch.targets.to(device, non_blocking=True)
        with torch.autocast(device.type, PRECISIONS[config.precision], enabled=config.precision != "fp32"):
            if self._teacher is not None:
                targets = self._teacher.targets(inputs, targets)
            prediction = self._model(inputs)
        loss = self._loss(prediction, targets)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._centring is not None:
            self._centring.before()
        if config.clip_grad is not None:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.network.parameters(), config.clip_grad)
        state.scaler.step(state.optimizer)
        if self._centring is not None:
            self._centring.after()
        state.scaler.update()
        if state.ema is not None:
            state.ema.update(state.network)
        # Reading a loss waits for the device; that of the step before is there by now.
        self._settle()
        self._pending = _Pending(batch, loss.detach(), step)
        state.position.step += 1

    def _settle(self) -> None:
        """Take in the loss of the last step but one, or of the last when no other follows."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        value = float(pending.loss)
        if not math.isfinite(value):
            self._broken = self._broken or pending.batch
            return
        self._state.position.loss_sum += value
        self._report.trained(pending.step, value, self._state.lr)

    def _reason_to_stop(self) -> Stop:
        """Why to stop before the next step: the same answer in every process."""
        stop = Stop(self._ranks.agree(Stop.BROKEN if self._broken else self._asked()))
        if stop in (Stop.TIME, Stop.INTERRUPT):  # about to save: the last step must have been sound, too
            self._settle()
            stop = Stop(self._ranks.agree(Stop.BROKEN if self._broken else stop))
        return stop

    def _asked(self) -> Stop:
        """To stop, as far as this process knows."""
        late = self._deadline is not None and time.time() > self._deadline
        return Stop.INTERRUPT if self._signals.received else Stop.TIME if late else Stop.NO

    def _finish_epoch(self, speed: _Speed) -> Stop:
        """Validate, save and report. An interrupted validation is taken up again when the run is resumed."""
        state, position, config = self._state, self._state.position, self._config
        self._refuse_ruined()
        row = self._row(speed)
        judgement: Judgement | None = None
        best = False
        if (position.epoch + 1) % config.val_freq == 0 or position.epoch + 1 == config.max_epoch:
            judgement = self._validator.judge(state.judged, self._asked, baseline=not self._averaged)
            if judgement is None:
                return Stop(self._ranks.agree(self._asked()))
            self._refuse_ruined(judgement.tally.loss)
            self._tell_idle(judgement.idle)
            if judgement.baseline_psnr is not None:
                self._take_baseline(judgement.baseline_psnr)
            row |= {"loss": judgement.tally.loss, **judgement.tally.scores.means()}
            best = position.best_psnr is None or row["psnr"] > position.best_psnr
            position.best_psnr = row["psnr"] if best else position.best_psnr
            state.schedule.after_validation(judgement.tally.loss)
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
        position.history.append(row)
        if self._ranks.first:
            state.save(config.checkpoint, best=config.best if best else None)
        strip = None if judgement is None else judgement.strip
        self._report.epoch_done(position.history, strip, position.epoch * self._batches.steps)
        return Stop.NO

    def _take_baseline(self, psnr: float) -> None:
        """Averaging scores the same on the same windows: where it does not, nothing so far compares."""
        position, self._averaged = self._state.position, True
        if position.baseline_psnr is not None:
            if math.isclose(psnr, position.baseline_psnr, abs_tol=_SAME_DB):
                return
            self._report.say(
                "note: the windows to validate on are others than before; the best PSNR counts anew"
            )
            position.best_psnr = None
            self._state.schedule.forget_losses()
        position.baseline_psnr = psnr
        self._report.say(f"averaging the middle frames scores PSNR {psnr:.3f}")

    def _tell_idle(self, blocks: tuple[str, ...]) -> None:
        new = [name for name in blocks if name not in self._idle]
        self._idle.update(new)
        if new:
            self._report.say(
                f"note: {', '.join(new)} did nothing on any window to validate on: every channel was shut by "
                "its gate or below 0 all over, which more training does not mend; python -m flavr.revive does"
            )

    def _refuse_ruined(self, loss: float = 0.0) -> None:
        """Stop before weights are saved that compute nothing: the loss of a step is of those before it.

        All processes have the same weights, and the same loss of a validation.
        """
        sound = all(bool(weights.isfinite().all()) for weights in self._state.network.parameters())
        if sound and math.isfinite(loss):
            return
        position, saved = self._state.position, self._config.checkpoint
        what = "the validation loss is" if sound else "the weights are"
        raise TrainingError(
            f"{what} not finite any more after epoch {position.epoch + 1}, step {position.step}; try "
            "--clip-grad 1, a lower --lr or --precision fp32"
            + (f"; {saved} is from before" if saved.exists() else "")
        )

    def _row(self, speed: _Speed) -> Row:
        position = self._state.position
        [loss_sum] = self._ranks.total([position.loss_sum])
        return {
            "epoch": position.epoch + 1,
            "train_loss": loss_sum / self._ranks.count / self._batches.steps,
            "lr": self._state.lr,
            "samples_per_s": speed.samples_per_s,
            "waiting": speed.waited / speed.seconds,
            "seconds": speed.seconds,
        }

    def _raise_broken(self) -> None:
        mine = [self._batches.name_of(index) for index in self._broken.indices] if self._broken else []
        names = [name for rank in self._ranks.gather(mine) for name in rank]
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        position, saved = self._state.position, self._config.checkpoint
        raise TrainingError(
            f"the loss is not finite any more in epoch {position.epoch + 1}, step {position.step} or the one "
            f"before, on {', '.join(names[:_NAMES_SHOWN])}{more}; look at them, or try --clip-grad 1, "
            "a lower --lr or --precision fp32" + (f"; {saved} is from before" if saved.exists() else "")
        )


def _last_words(outcome: Outcome, config: TrainingConfig) -> list[str]:
    if outcome.stop is not Stop.NO:
        reason = "the time is up" if outcome.stop is Stop.TIME else "interrupted"
        done = f"epoch {outcome.epoch}" + (f" and step {outcome.step}" if outcome.step else "")
        return [f"{reason} after {done}, which is saved; go on with the same command and --resume"]
    if outcome.best_psnr is None:
        return []
    return [
        f"best PSNR {outcome.best_psnr:.3f} dB, that of averaging {outcome.baseline_psnr:.3f} dB",
        f"Next: flavr-export --ckpt {config.best}",
    ]
