"""Validation in the course of training: shared by the processes, interruptible, with pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from flavr.datasets.base import InterpolationDataset
from flavr.idle import idle_blocks, watched
from flavr.losses import Loss
from flavr.network import Flavr
from flavr.predictors import Averaging, Predictor, TorchPredictor
from flavr.training.distributed import Ranks
from flavr.training.strips import StripCollector
from flavr.validate import Tally, WindowBatch, evaluate, window_batches

_NETWORK, _AVERAGE = "FLAVR", "average"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a validation found."""

    tally: Tally  # of the network, over all processes
    baseline_psnr: float | None  # of averaging the middle frames, where it was asked for
    strip: Tensor | None  # uint8 [3, H, W]: a few windows of this process
    idle: tuple[str, ...]  # residual blocks that did nothing on any window


@dataclass(frozen=True, slots=True)
class Validator:
    """The windows that a network is judged by, and how."""

    dataset: InterpolationDataset
    indices: list[int]  # of the windows to use
    loss: Loss
    ranks: Ranks
    batch_size: int
    num_workers: int
    precision: str

    def judge(self, network: Flavr, stopped: Callable[[], object], *, baseline: bool) -> Judgement | None:
        """Run it; None where `stopped`, asked before every batch, was true in a process.

        Raises:
            DataError: an image cannot be read.
        """
        network.eval()
        predictors: dict[str, Predictor] = {
            _NETWORK: TorchPredictor(network, self.ranks.device, self.precision)
        }
        if baseline:
            predictors[_AVERAGE] = Averaging(network.config.n_outputs, self.ranks.device)
        mine = self.ranks.share(self.indices)
        strips = StripCollector(len(mine), _NETWORK)
        with watched(network) as uses:
            tallies = evaluate(predictors, self._batches(mine, stopped), loss=self.loss, watch=strips)
        if self.ranks.agree(int(bool(stopped()))):
            return None
        merged = {name: tally.merged(self.ranks.total) for name, tally in tallies.items()}
        average = merged[_AVERAGE].scores.means()["psnr"] if baseline else None
        idle = idle_blocks(uses, self.ranks.total)
        return Judgement(merged[_NETWORK], average, strips.picture(), idle)

    def _batches(self, indices: list[int], stopped: Callable[[], object]) -> Iterator[WindowBatch]:
        for batch in window_batches(self.dataset, indices, self.batch_size, self.num_workers):
            if stopped():
                return
            yield batch
