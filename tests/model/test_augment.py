"""Augmentation: what is drawn, that it is the same for all frames, and that nothing else decides it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from flavr.augment import Augmentation, AugmentedDataset, to_tensors
from flavr.datasets import Sample
from flavr.errors import DataError, UsageError

PLAIN = Augmentation(crop=None, flip=False, jitter=0.0, reverse=False)


def sample_of(frames: Tensor, name: str = "clip:0") -> Sample:
    """A sample of frames uint8 [4 + n, 3, H, W] in time order."""
    return Sample(torch.cat([frames[:2], frames[-2:]]), frames[2:-2], name)


def in_time(inputs: Tensor, targets: Tensor) -> Tensor:
    """uint8 [4 + n, 3, h, w] of what augmentation gave."""
    frames = torch.cat([inputs[:, :2].transpose(0, 1), targets, inputs[:, 2:].transpose(0, 1)])
    return (frames * 255).round().to(torch.uint8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def frames() -> Tensor:
    """Six frames of noise: every frame, row, column and channel can be told from every other."""
    return torch.randint(0, 256, (6, 3, 20, 28), dtype=torch.uint8, generator=seeded(0))


class Fixed:
    """A data set of noise."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        return sample_of(torch.randint(0, 256, (5, 3, 24, 24), dtype=torch.uint8, generator=seeded(index)))

    def name_of(self, index: int) -> str:
        return str(index)

    def check(self, *, decode: bool = False, min_size: tuple[int, int] = (1, 1)) -> list[str]:
        del decode, min_size
        return []


def test_without_augmentation_frames_are_only_scaled(frames: Tensor) -> None:
    for inputs, targets in (to_tensors(sample_of(frames)), PLAIN(sample_of(frames), seeded(1))):
        assert inputs.shape == (3, 4, 20, 28)
        assert targets.shape == (2, 3, 20, 28)
        assert inputs.dtype == targets.dtype == torch.float32
        assert inputs.is_contiguous()
        assert targets.is_contiguous()
        assert torch.equal(in_time(inputs, targets), frames)
        assert torch.equal(inputs[:, 1], frames[1] * torch.tensor(1 / 255))


@pytest.mark.parametrize(
    ("options", "dims"),
    [({"flip": True}, [(), (3,), (2,), (2, 3)]), ({"reverse": True}, [(), (0,)])],
    ids=["flip", "reverse"],
)
def test_flips_and_reversal_turn_all_frames_alike_and_equally_often(
    frames: Tensor, options: dict[str, bool], dims: list[tuple[int, ...]]
) -> None:
    augmentation = replace(PLAIN, **options)
    counts = dict.fromkeys(dims, 0)
    for seed in range(100):
        result = in_time(*augmentation(sample_of(frames), seeded(seed)))
        (turned,) = (d for d in dims if torch.equal(result, frames.flip(d)))
        counts[turned] += 1
    assert min(counts.values()) > 100 / len(dims) * 0.5


def test_turning_swaps_rows_and_columns_of_half_of_the_samples_and_shifts_no_other_draw(
    frames: Tensor,
) -> None:
    plain = replace(PLAIN, crop=16, flip=True)
    turned = 0
    for seed in range(100):
        before = in_time(*plain(sample_of(frames), seeded(seed)))
        result = in_time(*replace(plain, turn=True)(sample_of(frames), seeded(seed)))
        is_turned = torch.equal(result, before.transpose(-1, -2))
        assert is_turned or torch.equal(result, before)
        turned += is_turned
    assert 30 < turned < 70
    with pytest.raises(UsageError, match="crops of 28x20 cannot be turned"):
        replace(PLAIN, turn=True)(sample_of(frames), seeded(0))


def test_reversal_keeps_inputs_inputs(frames: Tensor) -> None:
    sample = sample_of(frames)
    backwards = sample_of(frames.flip(0))
    reverse = replace(PLAIN, reverse=True)
    results = [reverse(sample, seeded(seed)) for seed in range(20)]
    expected = [to_tensors(sample), to_tensors(backwards)]
    seen = {
        next(k for k, e in enumerate(expected) if torch.equal(r[0], e[0]) and torch.equal(r[1], e[1]))
        for r in results
    }
    assert seen == {0, 1}


def test_crops_reach_every_place_and_are_the_same_for_all_frames(frames: Tensor) -> None:
    augmentation = replace(PLAIN, crop=(18, 24))
    seen = set()
    for seed in range(120):
        result = in_time(*augmentation(sample_of(frames), seeded(seed)))
        places = [(top, left) for top in range(3) for left in range(5)]
        (place,) = (p for p in places if torch.equal(result, frames[..., p[0] : p[0] + 18, p[1] : p[1] + 24]))
        seen.add(place)
    assert len(seen) == 15


def test_crop_of_the_frame_itself_and_crop_that_does_not_fit(frames: Tensor) -> None:
    whole = replace(PLAIN, crop=(20, 28))(sample_of(frames), seeded(0))
    assert torch.equal(in_time(*whole), frames)
    with pytest.raises(DataError, match=r"clip:0 is 28x20, smaller than the crop of 24x24; use --crop"):
        replace(PLAIN, crop=24)(sample_of(frames), seeded(0))


class TestJitter:
    JITTER = Augmentation(crop=None, flip=False, jitter=0.05, reverse=False)

    def test_is_the_same_for_all_frames(self) -> None:
        still = torch.randint(60, 196, (1, 3, 16, 16), dtype=torch.uint8, generator=seeded(5)).repeat(
            5, 1, 1, 1
        )
        inputs, targets = self.JITTER(sample_of(still), seeded(1))
        assert all(torch.equal(inputs[:, k], targets[0]) for k in range(4))
        assert not torch.equal(in_time(inputs, targets), still)

    def test_is_one_affine_map_of_colours(self, frames: Tensor) -> None:
        middling = frames // 2 + 64
        inputs, targets = self.JITTER(sample_of(middling), seeded(2))
        before = torch.cat([middling.transpose(0, 1).flatten(1) / 255, torch.ones(1, middling[:, 0].numel())])
        jittered = torch.cat([inputs[:, :2].transpose(0, 1), targets, inputs[:, 2:].transpose(0, 1)])
        after = jittered.transpose(0, 1).flatten(1)
        solution = torch.linalg.lstsq(before.T.double(), after.T.double()).solution
        assert (before.T.double() @ solution - after.T).abs().max() < 1e-5

    def test_stays_within_its_limits(self) -> None:
        grey = torch.full((5, 3, 8, 8), 100, dtype=torch.uint8)
        values = torch.stack([self.JITTER(sample_of(grey), seeded(seed))[0] for seed in range(60)]) * 255
        # Contrast, saturation and hue leave an even grey as it is; brightness does not.
        assert (values - values[:, :1]).abs().max() < 1e-3
        assert 95 <= values.min() < 96.5
        assert 103.5 < values.max() <= 105

    def test_hue_and_saturation_keep_luma(self) -> None:
        colour = torch.tensor([150, 100, 60], dtype=torch.uint8).view(1, 3, 1, 1).repeat(5, 1, 8, 8)
        luma = torch.tensor([0.299, 0.587, 0.114])
        before = luma @ torch.tensor([150.0, 100.0, 60.0])
        for seed in range(25):
            pixel = self.JITTER(sample_of(colour), seeded(seed))[0][:, 0, 0, 0] * 255
            assert 0.949 < luma @ pixel / before < 1.051
            spread = (pixel.max() - pixel.min()) / 90
            assert 0.65 < spread < 1.35

    def test_result_is_clamped(self) -> None:
        extremes = torch.tensor([0, 255], dtype=torch.uint8).repeat(5, 3, 4, 2)
        for seed in range(20):
            inputs, targets = self.JITTER(sample_of(extremes), seeded(seed))
            assert min(inputs.min(), targets.min()) >= 0
            assert max(inputs.max(), targets.max()) <= 1


def test_an_option_does_not_shift_the_draws_of_another(frames: Tensor) -> None:
    """Runs that differ in one option are otherwise comparable, sample by sample."""
    every = Augmentation(crop=16, permute_channels=True)
    for seed in range(20):
        plain = replace(every, jitter=0.0)(sample_of(frames), seeded(seed))
        jittered = every(sample_of(frames), seeded(seed))
        assert (plain[0] - jittered[0]).abs().mean() < 0.1  # of noise that was cut or turned otherwise: 0.33


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
class TestAugmentedDataset:
    @pytest.fixture
    def dataset(self) -> AugmentedDataset:
        return AugmentedDataset(Fixed(), Augmentation(crop=16), seed=7)

    def test_an_item_depends_on_seed_epoch_and_index_only(self, dataset: AugmentedDataset) -> None:
        dataset.set_epoch(3)
        first = [dataset[index] for index in range(5)]
        torch.manual_seed(99)
        again = AugmentedDataset(Fixed(), Augmentation(crop=16), seed=7)
        again.set_epoch(3)
        for index in (4, 0, 2):
            assert all(
                torch.equal(one, other) for one, other in zip(first[index][:2], again[index][:2], strict=True)
            )
        assert first[4][2] == 4
        again.set_epoch(4)
        assert not torch.equal(first[0][0], again[0][0])
        other_seed = AugmentedDataset(Fixed(), Augmentation(crop=16), seed=8)
        other_seed.set_epoch(3)
        assert not torch.equal(first[0][0], other_seed[0][0])

    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_number_of_workers_makes_no_difference(self, dataset: AugmentedDataset, workers: int) -> None:
        alone = list(DataLoader(dataset, batch_size=2))
        shared = list(DataLoader(dataset, batch_size=2, num_workers=workers))
        for one, other in zip(alone, shared, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    def test_persistent_workers_see_the_epoch_change(self, dataset: AugmentedDataset) -> None:
        loader = DataLoader(dataset, batch_size=5, num_workers=1, persistent_workers=True)
        epochs = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            (batch,) = loader
            assert torch.equal(batch[0][3], dataset[3][0])
            epochs.append(batch[0])
        assert not torch.equal(*epochs)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_the_number_of_threads_makes_no_difference(self, threads: int) -> None:
        large = sample_of(torch.randint(0, 256, (5, 3, 200, 200), dtype=torch.uint8, generator=seeded(0)))
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = Augmentation(crop=190)(large, seeded(1))
            torch.set_num_threads(threads)
            threaded = Augmentation(crop=190)(large, seeded(1))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(alone[0], threaded[0])
        assert torch.equal(alone[1], threaded[1])

    def test_it_survives_pickling(self, dataset: AugmentedDataset) -> None:
        """Workers that are spawned, as on macOS and Windows, get it so."""
        assert torch.equal(pickle.loads(pickle.dumps(dataset))[2][0], dataset[2][0])
