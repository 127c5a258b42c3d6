"""What a run shows and writes for people: progress, TensorBoard, results.csv, opts.json, the latest strip."""

from __future__ import annotations

import csv
import io
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

import flavr
from flavr._files import complete
from flavr.errors import TrainingError
from flavr.training.config import TrainingConfig
from flavr.training.files import write_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]

# TensorBoard's name for each column of results.csv that it shows
_CURVES = {
    "loss": "loss/validation",
    "psnr": "PSNR/validation",
    "ssim": "SSIM/validation",
    "psnr_uint8": "PSNR/validation, 8 bits",
    "ssim_uint8": "SSIM/validation, 8 bits",
    "lr": "lr",
}


class Report:
    """The first process's voice; all others are silent."""

    def __init__(self, config: TrainingConfig, *, speaks: bool) -> None:
        self._config = config
        self._folder = config.folder
        self._speaks = speaks
        self._out = Console(soft_wrap=True, highlight=False, quiet=not speaks)
        self._bar = Console(stderr=True, quiet=not speaks)
        self._writer: SummaryWriter | None = None

    def say(self, *lines: str) -> None:
        """Print lines."""
        for line in lines:
            self._out.print(line, markup=False)

    def begin(self, facts: Mapping[str, object], step: int) -> None:
        """Write opts.json and open TensorBoard's files, for a run that stands at `step`."""
        if not self._speaks:
            return
        options = {
            "options": self._config.as_json(),
            **facts,
            "versions": {
                "flavr": flavr.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "command": sys.argv,
        }
        write_bytes(self._folder / "opts.json", (json.dumps(options, indent=1) + "\n").encode())
        if self._config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:
                self.say("note: TensorBoard's files are not written: pip install 'flavr[train]' brings it")
                return
            # what a resumed run repeats replaces what was written before
            self._writer = SummaryWriter(self._folder / "tensorboard", purge_step=step or None)

    @contextmanager
    def progress(self, title: str, done: int, total: int) -> Iterator[EpochProgress]:
        """A bar with samples/s and the time that is left, on a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
        )
        hidden = not self._speaks or not self._bar.is_terminal
        with Progress(*columns, console=self._bar, disable=hidden, transient=True) as progress:
            task = progress.add_task(title, total=total, completed=done, figures="")
            yield EpochProgress(lambda step, text: progress.update(task, completed=step, figures=text))

    def trained(self, step: int, loss: float, lr: float) -> None:
        """Scalars of one step of the run, every --log-iter of them."""
        if self._writer is not None and step % self._config.log_iter == 0:
            self._writer.add_scalar("loss/training", loss, step)
            self._writer.add_scalar("lr/steps", lr, step)

    def epoch_done(self, history: Sequence[Row], strip: Tensor | None, step: int) -> None:
        """Everything that is written after an epoch, which ended before `step`."""
        if not self._speaks:
            return
        row = history[-1]
        self.say(_line(row))
        write_bytes(self._folder / "results.csv", _csv(history).encode())
        if strip is not None:
            self._write_strip(strip, step - 1)
        if self._writer is not None:
            for column, name in _CURVES.items():
                if column in row:
                    self._writer.add_scalar(name, row[column], step - 1)
            self._writer.flush()

    def close(self) -> None:
        """Finish TensorBoard's files."""
        if self._writer is not None:
            self._writer.close()

    def _write_strip(self, strip: Tensor, step: int) -> None:
        from flavr._images import write_png

        if self._writer is not None:
            self._writer.add_image("frame 1 | frame 2 | prediction | truth | 4 x error", strip, step)
        with complete(self._folder / "validation.png", TrainingError) as partial:
            write_png(partial, strip.permute(1, 2, 0).contiguous().numpy())


class EpochProgress:
    """The bar of one epoch."""

    def __init__(self, update: Callable[[int, str], None]) -> None:
        self._update = update

    def show(self, step: int, loss: float, samples_per_s: float) -> None:
        """After a step."""
        self._update(step, f"loss {loss:.4f}  {samples_per_s:.1f} samples/s")


def _line(row: Row) -> str:
    parts = [f"epoch {row['epoch']:.0f}", f"training loss {row['train_loss']:.5f}"]
    if "psnr" in row:
        parts += [
            f"validation loss {row['loss']:.5f}",
            f"PSNR {row['psnr']:.3f} ({row['psnr_uint8']:.3f} at 8 bits)",
            f"SSIM {row['ssim']:.4f} ({row['ssim_uint8']:.4f})",
        ]
    parts += [
        f"lr {row['lr']:.2e}",
        f"{row['samples_per_s']:.1f} samples/s",
        f"{100 * row['waiting']:.0f} % waiting for data",
    ]
    return ", ".join(parts)


def _csv(history: Sequence[Row]) -> str:
    # an epoch without validation has fewer columns than one with
    names = list(dict.fromkeys(name for row in sorted(history, key=len, reverse=True) for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in history)
    return text.getvalue()
