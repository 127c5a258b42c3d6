"""Where training batches come from: image files through a loader, or videos that lie decoded on the device.

Which samples a step gets, and how they are augmented, depends on (seed, epoch, step) alone. So a resumed run
goes on exactly where it stopped, and several processes train on the batches that one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from flavr._workers import quiet_worker, unwrapped
from flavr.augment import Augmentation, AugmentedDataset
from flavr.datasets.bank import FrameBank
from flavr.training.distributed import Ranks

_Loaded = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Batch:
    """This process's share of the samples of one step."""

    inputs: Tensor  # float [B, 3, 4, h, w] in [0, 1]
    targets: Tensor  # float [B, n, 3, h, w]
    indices: tuple[int, ...]  # in the data set


class Batches(Protocol):
    """A source of batches."""

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        ...

    @property
    def size(self) -> int:
        """Samples in a step, over all processes."""
        ...

    @property
    def order(self) -> list[int]:
        """What the order of samples depends on: where it differs, no epoch can be taken up again."""
        ...

    def epoch(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        """The batches of an epoch from step `start` on."""
        ...

    def name_of(self, index: int) -> str:
        """What to call a sample in an error."""
        ...


class LoaderBatches:
    """Every sample once per pass, in an order that changes with it; an incomplete last batch is left out.

    An epoch is one pass, or as many steps as asked for, over several passes if need be.
    """

    def __init__(
        self,
        dataset: AugmentedDataset,
        batch_size: int,
        ranks: Ranks,
        *,
        num_workers: int,
        steps: int | None = None,
    ) -> None:
        """A set smaller than one batch makes one batch, as large as the processes can share evenly."""
        self._dataset = dataset
        self._ranks = ranks
        self._workers = num_workers
        fitting = len(dataset) - len(dataset) % ranks.count
        self.size = min(batch_size, max(fitting, ranks.count))
        self._per_pass = max(1, len(dataset) // self.size)
        self.steps = steps or self._per_pass
        self._plan = _Plan()
        self._loader: DataLoader[_Loaded] | None = None

    @property
    def order(self) -> list[int]:
        return [self._dataset.seed, self.size, self.steps, len(self._dataset)]

    def epoch(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        passes_per_epoch = -(-self.steps // self._per_pass)
        step = start
        while step < self.steps:
            round_, offset = divmod(step, self._per_pass)
            until = min(self._per_pass, offset + self.steps - step)
            yield from self._pass(epoch * passes_per_epoch + round_, offset, until)
            step += until - offset

    def name_of(self, index: int) -> str:
        return self._dataset.dataset.name_of(index)

    def _pass(self, number: int, start: int, end: int) -> Generator[Batch, None, None]:
        """Steps start to end of one pass."""
        self._dataset.set_epoch(number)
        generator = torch.Generator().manual_seed(seed_of(self._dataset.seed, number))
        order = torch.randperm(len(self._dataset), generator=generator).tolist()
        order *= -(-self.size // len(order))  # more processes than samples
        self._plan.steps = [
            self._ranks.share(order[i * self.size : (i + 1) * self.size]) for i in range(start, end)
        ]
        if self._loader is None:
            self._loader = self._new_loader()
        for inputs, targets, indices in unwrapped(iter(self._loader)):
            yield Batch(inputs, targets, tuple(indices.tolist()))

    def _new_loader(self) -> DataLoader[_Loaded]:
        """One for all passes: its workers live on, and see the change of the data set's epoch."""
        workers = min(self._workers, self.steps)
        return DataLoader(
            self._dataset,  # type: ignore[arg-type]  # the loader collates the dataset's items
            batch_sampler=self._plan,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._ranks.device.type == "cuda",
            worker_init_fn=quiet_worker,
            generator=torch.Generator(),  # else it would draw from, and change, the global one
        )


class _Plan(Sampler[list[int]]):
    """The samples of each step of the pass to come."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class BankBatches:
    """Random crops of decoded videos, windows drawn by their motion, made where the network trains.

    Every process draws the whole batch and keeps its share: cheap, and the batch is that of a single process.
    """

    def __init__(
        self,
        bank: FrameBank,
        batch_size: int,
        ranks: Ranks,
        *,
        augmentation: Augmentation,
        seed: int,
        steps: int | None,
        places: int = 1,
        drift: int = 0,
    ) -> None:
        self._bank = bank.to(ranks.device)
        self._places = places
        self._drift = drift
        self._augmentation = augmentation
        self._seed = seed
        self._ranks = ranks
        self.size = batch_size
        self.steps = steps or max(1, len(bank) // batch_size)

    @property
    def order(self) -> list[int]:
        return [self._seed, self.size, self.steps, len(self._bank)]

    def epoch(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        mine = slice(self._ranks.rank, None, self._ranks.count)
        for step in range(start, self.steps):
            seed = seed_of(self._seed, epoch, step)
            inputs, targets = self._bank.sample_batch(
                self.size,
                self._augmentation.crop,
                torch.Generator().manual_seed(seed),
                self._augmentation,
                places=self._places,
                drift=self._drift,
            )
            yield Batch(inputs[mine], targets[mine], tuple(self._drawn(seed)[mine]))

    def name_of(self, index: int) -> str:
        return self._bank.name_of(index)

    def _drawn(self, seed: int) -> list[int]:
        """The windows of a batch: `sample_batch` draws them first, in this way."""
        drawn: list[int] = self._bank.draw(self.size, torch.Generator().manual_seed(seed)).tolist()
        return drawn


def seed_of(*numbers: int) -> int:
    """One seed of several numbers, every bit of which changes with each of them."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest())
