"""Validation: every window of a data set through one or more predictors, and what they scored."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flavr._workers import quiet_worker, unwrapped
from flavr.datasets.base import InterpolationDataset, Sample
from flavr.errors import DataError
from flavr.losses import Loss
from flavr.metrics import METRICS, WINDOW, ScoreSums
from flavr.predictors import Predictor


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of one size."""

    inputs: Tensor  # uint8 [B, 4, 3, H, W]
    targets: Tensor  # uint8 [B, n, 3, H, W]
    names: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What one predictor scored so far."""

    scores: ScoreSums = field(default_factory=ScoreSums)
    loss_sum: float = 0.0  # over pictures
    windows: int = 0
    seconds: float = 0.0  # of prediction alone
    groups: dict[str, ScoreSums] = field(default_factory=dict)  # again, where they are asked for

    @property
    def loss(self) -> float:
        """The mean loss of a picture."""
        return self.loss_sum / self.scores.pictures if self.scores.pictures else float("nan")

    def group_means(self) -> dict[str, float]:
        """Every metric's mean over groups: a long video weighs as much as a short one."""
        means = [scores.means() for scores in self.groups.values()]
        return {name: statistics.fmean(each[name] for each in means) for name in METRICS} if means else {}

    @property
    def ms_per_window(self) -> float:
        """The mean time of a window, batches included."""
        return 1000 * self.seconds / self.windows if self.windows else float("nan")

    def merged(self, total: Callable[[list[float]], list[float]]) -> Tally:
        """The tally of several processes, given what sums lists over them element by element."""
        pictures, loss_sum, windows, seconds, *sums = total(
            [self.scores.pictures, self.loss_sum, self.windows, self.seconds, *self.scores.sums.values()]
        )
        scores = ScoreSums(int(pictures), dict(zip(METRICS, sums, strict=True)))
        return Tally(scores, loss_sum, int(windows), seconds)


Watch = Callable[[WindowBatch, Mapping[str, Tensor]], None]


def window_batches(
    dataset: InterpolationDataset, indices: Sequence[int], batch_size: int, num_workers: int
) -> Iterator[WindowBatch]:
    """The windows in order, with neighbours of equal size in batches of at most `batch_size`.

    Raises:
        DataError: one cannot be read.
    """
    loader: DataLoader[Sample] = DataLoader(
        _Chosen(dataset, indices),
        batch_size=None,
        shuffle=False,
        num_workers=min(num_workers, len(indices)),
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # without a batch size it gets one sample
        worker_init_fn=quiet_worker,
        generator=torch.Generator(),  # else it would draw from, and change, the global one
    )
    waiting: list[Sample] = []
    for sample in unwrapped(iter(loader)):
        if waiting and (len(waiting) == batch_size or sample.inputs.shape != waiting[0].inputs.shape):
            yield _batch(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield _batch(waiting)


def evaluate(
    predictors: Mapping[str, Predictor],
    batches: Iterable[WindowBatch],
    *,
    loss: Loss | None = None,
    timed: bool = False,
    watch: Watch | None = None,
    group_of: Callable[[str], str] | None = None,
) -> dict[str, Tally]:
    """Score predictors on the same windows.

    Args:
        loss: also take the mean of this.
        timed: measure the time of prediction; the first batch of every size is run once before, unmeasured.
        watch: called after every batch with the predictions by name.
        group_of: of the name of a window, the group for which it is scored besides.

    Raises:
        DataError: pictures with a truth that are too small for SSIM; the first window of them is named.
    """
    tallies = {name: Tally() for name in predictors}
    seen: set[tuple[int, ...]] = set()
    for batch in batches:
        height, width = batch.targets.shape[-2:]
        if batch.targets.shape[1] and min(height, width) < WINDOW:
            raise DataError(
                f"{batch.names[0]} is {width}x{height}; pictures are scored from {WINDOW}x{WINDOW} on, the "
                "window of SSIM"
            )
        predictions = {}
        for name, predict in predictors.items():
            frames = as_frames(batch.inputs, predict.device)
            if timed and frames.shape not in seen:
                predict(frames)
            started = _now(predict.device, timed)
            predictions[name] = predict(frames)
            tallies[name].seconds += _now(predict.device, timed) - started
            _score(tallies[name], predictions[name], batch, loss, group_of)
        seen.add(tuple(frames.shape))
        if watch is not None:
            watch(batch, predictions)
    return tallies


def evenly(count: int, at_most: int | None) -> list[int]:
    """Up to `at_most` of `count` indices, evenly spread, always the same."""
    if at_most is None or at_most >= count:
        return list(range(count))
    return [i * count // at_most for i in range(at_most)]


def as_frames(inputs: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, 4, 3, H, W] to what networks take: float [B, 3, 4, H, W] in [0, 1]."""
    return inputs.to(device).transpose(1, 2).contiguous().float().div_(255)


def _score(
    tally: Tally,
    prediction: Tensor,
    batch: WindowBatch,
    loss: Loss | None,
    group_of: Callable[[str], str] | None,
) -> None:
    tally.windows += len(prediction)
    if not batch.targets.shape[1]:  # no ground truth is known
        return
    truth = batch.targets.to(prediction.device).float().div_(255)
    if group_of is None:
        tally.scores.add(prediction, truth)
    else:
        for made, target, name in zip(prediction, truth, batch.names, strict=True):
            window = ScoreSums()
            window.add(made, target)
            tally.scores.include(window)
            tally.groups.setdefault(group_of(name), ScoreSums()).include(window)
    if loss is not None:
        tally.loss_sum += float(loss(prediction, truth)) * truth.shape[0] * truth.shape[1]


def _now(device: torch.device, exact: bool) -> float:
    if exact and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class _Chosen(Dataset[Sample]):
    def __init__(self, dataset: InterpolationDataset, indices: Sequence[int]) -> None:
        self._dataset = dataset
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Sample:
        return self._dataset[self._indices[position]]


def _as_it_is(sample: Sample) -> Sample:
    return sample


def _batch(samples: Sequence[Sample]) -> WindowBatch:
    return WindowBatch(
        torch.stack([sample.inputs for sample in samples]),
        torch.stack([sample.targets for sample in samples]),
        tuple(sample.name for sample in samples),
    )
