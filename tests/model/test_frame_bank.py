"""The bank of frames that training batches are cut from, on frames whose pixels tell where they are."""

from __future__ import annotations

import pytest
import torch

from flavr.augment import Augmentation
from flavr.datasets.bank import BankVideo, FrameBank
from flavr.errors import DataError


@pytest.fixture
def bank() -> FrameBank:
    """Two videos of different sizes: red is 100 * video + 4 * frame, green the row, blue the column."""
    videos = []
    for number, (height, width) in enumerate(((20, 30), (24, 16))):
        frames = torch.empty(12, 3, height, width, dtype=torch.uint8)
        frames[:, 0] = (100 * number + 4 * torch.arange(12)).view(-1, 1, 1)
        frames[:, 1] = torch.arange(height).view(-1, 1)
        frames[:, 2] = torch.arange(width)
        videos.append(BankVideo(f"video{number}", frames))
    windows = torch.tensor([[0, 0, 1], [0, 3, 1], [1, 2, 1]])
    return FrameBank(videos, windows, torch.tensor([1.0, 1.0, 2.0]), n_outputs=1)


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor * 255).round().to(torch.int64)


def test_shapes_and_range(bank: FrameBank) -> None:
    inputs, targets = bank.sample_batch(5, (8, 16), torch.Generator().manual_seed(0))
    assert inputs.shape == (5, 3, 4, 8, 16)
    assert targets.shape == (5, 1, 3, 8, 16)
    assert inputs.dtype == targets.dtype == torch.float32
    assert inputs.min() >= 0
    assert inputs.max() <= 1
    assert inputs.is_contiguous()
    assert targets.is_contiguous()


def test_crops_are_aligned_windows(bank: FrameBank) -> None:
    plain = Augmentation(flip=False, jitter=0, reverse=False)
    inputs, targets = bank.sample_batch(40, 8, torch.Generator().manual_seed(1), plain)
    firsts = set()
    for clip, target in zip(bytes_of(inputs), bytes_of(targets), strict=True):
        red = clip[0, :, 0, 0]
        assert (clip[0] == red.view(4, 1, 1)).all()
        assert (red.diff() == 8).all()
        assert (target[0, 0] == red[1] + 4).all()
        for channel, step in ((1, (1, 0)), (2, (0, 1))):
            plane = clip[channel, 0]
            assert (clip[channel] == plane).all()
            assert (target[0, channel] == plane).all()
            assert (plane[1:].sub(plane[:-1]) == step[0]).all()
            assert (plane[:, 1:].sub(plane[:, :-1]) == step[1]).all()
        firsts.add(int(red[0]))
    assert firsts == {0, 12, 108}


def test_of_several_places_the_one_that_moves_is_taken() -> None:
    frames = torch.full((7, 3, 64, 64), 50, dtype=torch.uint8)
    frames[:, :, 24:40, 24:40] = torch.arange(0, 210, 30, dtype=torch.uint8).view(7, 1, 1, 1)
    moving = FrameBank([BankVideo("square", frames)], torch.tensor([[0, 0, 1]]), torch.ones(1), n_outputs=1)

    def share(places: int) -> float:
        inputs, _ = moving.sample_batch(
            300, 16, torch.Generator().manual_seed(5), Augmentation(jitter=0), places=places
        )
        return float((inputs[:, :, 1] != inputs[:, :, 2]).flatten(1).any(1).float().mean())

    assert share(1) < 0.5  # (31 / 49)^2 of all places touch the square
    assert share(8) > 0.85  # 1 - (1 - 0.4)^8, less those that touch by a pixel or two


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_half_of_the_crops_wander_evenly_and_stay_in_the_picture(n_outputs: int) -> None:
    frames = torch.zeros(13, 3, 100, 36, dtype=torch.uint8)
    frames[:, 1] = torch.arange(100).view(-1, 1)
    frames[:, 2] = torch.arange(36)
    bank = FrameBank(
        [BankVideo("rows", frames)], torch.tensor([[0, 0, 1]]), torch.ones(1), n_outputs=n_outputs
    )
    plain = Augmentation(flip=False, jitter=0, reverse=False)
    inputs, targets = bank.sample_batch(200, (16, 12), torch.Generator().manual_seed(3), plain, drift=4)
    first, second, third, last = bytes_of(inputs).unbind(2)
    between = bytes_of(targets).unbind(1)
    in_order = torch.stack([first, second, *between, third, last], dim=1)
    # the first pixel says where a crop is, and all others that it is whole
    grid = torch.stack([torch.arange(16).view(-1, 1).expand(16, 12), torch.arange(12).expand(16, 12)])
    corner = in_order[:, :, 1:, :1, :1]
    assert (in_order[:, :, 1:] == corner + grid).all()
    factor = n_outputs + 1
    times = torch.tensor([0, *range(factor, 2 * factor + 1), 3 * factor])
    steps = corner[..., 0, 0].diff(dim=1) / times.diff().view(1, -1, 1)
    assert (steps == steps[:, :1]).all()  # evenly, in whole pixels
    down, right = steps[:, 0].unbind(1)
    assert set(down.tolist()) == set(range(-4, 5))
    assert set(right.tolist()) == set(range(-4, 5) if n_outputs == 1 else range(-2, 3))  # 24 to spare
    still = ((down == 0) & (right == 0)).float().mean()
    assert 0.4 < still < 0.6


def test_without_drift_nothing_is_drawn_for_it(bank: FrameBank) -> None:
    """A recipe without it goes on giving the batches that it always gave."""
    by_hand, plain, wandering = (torch.Generator().manual_seed(4) for _ in range(3))
    bank.draw(6, by_hand)
    for _ in range(6):
        Augmentation(crop=8).window((20, 30), by_hand, "")
    Augmentation().batch(torch.zeros(6, 5, 3, 8, 8, dtype=torch.uint8), by_hand)
    bank.sample_batch(6, 8, plain, drift=0)
    bank.sample_batch(6, 8, wandering, drift=1)
    assert torch.equal(by_hand.get_state(), plain.get_state())
    assert not torch.equal(by_hand.get_state(), wandering.get_state())


def test_a_picture_smaller_than_the_crop_is_refused_by_its_own_size() -> None:
    frames = torch.zeros(7, 3, 20, 90, dtype=torch.uint8)
    bank = FrameBank([BankVideo("low", frames)], torch.tensor([[0, 0, 1]]), torch.ones(1), n_outputs=1)
    for seed in range(8):
        with pytest.raises(DataError, match="low is 90x20, smaller than the crop of 32x32"):
            bank.sample_batch(1, 32, torch.Generator().manual_seed(seed), drift=4)


def test_a_crop_that_fills_the_picture_stays(bank: FrameBank) -> None:
    inputs, _ = bank.sample_batch(
        20, (20, 16), torch.Generator().manual_seed(5), Augmentation(flip=False, jitter=0), drift=2
    )
    assert (bytes_of(inputs)[:, 1, :, 0, 0].diff(dim=1) == 0).all()


def test_windows_are_drawn_by_weight(bank: FrameBank) -> None:
    generator = torch.Generator().manual_seed(2)
    drawn = bank.draw(4000, generator).bincount() / 4000
    assert torch.allclose(drawn, torch.tensor([0.25, 0.25, 0.5]), atol=0.03)


def test_draw_tells_what_sample_batch_takes(bank: FrameBank) -> None:
    plain = Augmentation(flip=False, jitter=0, reverse=False)
    inputs, _ = bank.sample_batch(16, 8, torch.Generator().manual_seed(4), plain)
    drawn = bank.draw(16, torch.Generator().manual_seed(4))
    firsts = torch.tensor([0, 12, 108])[drawn]
    assert (bytes_of(inputs)[:, 0, 0, 0, 0] == firsts).all()


def test_flips_reversal_and_channel_orders_all_occur(bank: FrameBank) -> None:
    inputs, targets = bank.sample_batch(600, 8, torch.Generator().manual_seed(3))
    seen = set()
    for clip, target in zip(bytes_of(inputs), bytes_of(targets), strict=True):
        # Of the three channels one changes with time, one with the row, one with the column.
        changes = [clip.diff(dim=dim).flatten(1).abs().sum(dim=1) > 0 for dim in (1, 2, 3)]
        order = tuple(int(change.nonzero()) for change in changes)
        signs = tuple(int(clip[order[k]].diff(dim=k).sign().flatten()[0]) for k in range(3))
        assert (target[0, order[0]] == clip[order[0], 1:3].sum(dim=0) // 2).all()
        seen.add((order, signs))
    assert len(seen) == 6 * 8


def test_a_seed_gives_the_same_batch(bank: FrameBank) -> None:
    batches = [bank.sample_batch(6, 8, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))
    moved = bank.to("cpu").sample_batch(6, 8, torch.Generator().manual_seed(7))
    assert torch.equal(moved[0], batches[0][0])


def test_all_work_on_pixels_is_done_on_the_banks_device(bank: FrameBank) -> None:
    """The meta device stands in for a GPU: it, too, refuses to mix its tensors with those of the CPU."""
    every = Augmentation(permute_channels=True)
    inputs, targets = bank.to("meta").sample_batch(6, 8, torch.Generator().manual_seed(7), every)
    assert inputs.device.type == targets.device.type == "meta"
    assert inputs.shape == (6, 3, 4, 8, 8)


def test_crop_that_does_not_fit_names_the_video(bank: FrameBank) -> None:
    with pytest.raises(DataError, match="video1 is 16x24, smaller than the crop of 20x20"):
        bank.sample_batch(50, 20, torch.Generator().manual_seed(0))
