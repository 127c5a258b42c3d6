"""Augmentation: from a `Sample` of uint8 frames to the float tensors that the network trains on.

Nothing here needs more than a tensor's own operations: whole batches are augmented on the device they are on.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flavr._windows import roles
from flavr.errors import DataError, UsageError

if TYPE_CHECKING:  # flavr.datasets uses this module
    from flavr.datasets.base import InterpolationDataset, Sample, Size

Crop = int | tuple[int, int] | None
Pair = tuple[Tensor, Tensor]

_LUMA = (0.299, 0.587, 0.114)
# From RGB to luma and two colour differences; a change of hue turns the last two.
_TO_YIQ = torch.tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ.double()).float()
_ORDERS = torch.tensor(list(itertools.permutations(range(3))))  # [6, 3]
_FLIPS = (-1, -2, 0)  # dimensions of [T, 3, h, w]: left-right, upside down, backwards in time
_DRAWS = 8  # random numbers per sample, always all of them: an option must not shift another one's draws


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The published training augmentation; every draw is the same for all frames of a sample.

    The jitter is one affine map of colours: brightness, contrast about the sample's mean grey, saturation,
    and hue as a rotation of the colour plane that keeps luma. The published code takes each frame through HSV
    and its own mean grey, which lets an object that enters change the colours of all the others.
    """

    crop: Crop = 256  # height and width of the random crop; None keeps the whole frame
    flip: bool = True  # horizontal and vertical, each for half of the samples
    jitter: float = 0.05  # brightness, contrast, saturation: factor 1 +- jitter; hue: +- jitter turns
    reverse: bool = True  # time runs backwards in half of the samples
    permute_channels: bool = False  # R, G and B in random order
    turn: bool = False  # rows become columns in half of the samples: with the flips, all eight ways to lie

    def __call__(self, sample: Sample, generator: torch.Generator) -> Pair:
        """Crop and augment one sample.

        Returns:
            inputs float32 [3, 4, h, w] and targets float32 [n, 3, h, w], both in [0, 1].

        Raises:
            DataError: the frames are smaller than the crop; the sample is named.
        """
        rows, columns = self.window((sample.inputs.shape[2], sample.inputs.shape[3]), generator, sample.name)
        frames = in_time_order(sample.inputs[..., rows, columns], sample.targets[..., rows, columns])
        inputs, targets = self.batch(frames.unsqueeze(0), generator)
        return inputs[0], targets[0]

    def size_in(self, size: Size) -> Size:
        """Height and width of the crop in frames of `size`."""
        if self.crop is None:
            return size
        return (self.crop, self.crop) if isinstance(self.crop, int) else self.crop

    def window(self, size: Size, generator: torch.Generator, name: str) -> tuple[slice, slice]:
        """Draw the rows and columns of a random crop. Raises DataError naming `name` if it does not fit."""
        crop = self.size_in(size)
        if crop[0] > size[0] or crop[1] > size[1]:
            raise DataError(
                f"{name} is {size[1]}x{size[0]}, smaller than the crop of {crop[1]}x{crop[0]}; use --crop"
            )
        draws = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        top, left = (int(d * (s - c + 1)) for d, s, c in zip(draws, size, crop, strict=True))
        return slice(top, top + crop[0]), slice(left, left + crop[1])

    def batch(self, frames: Tensor, generator: torch.Generator) -> Pair:
        """Augment all but the crop.

        Args:
            frames: uint8 [B, 4 + n, 3, h, w] in time order, on any device.
            generator: of the CPU, so that a seed gives the same samples on every device.

        Returns:
            inputs float32 [B, 3, 4, h, w] and targets float32 [B, n, 3, h, w], both in [0, 1].

        Raises:
            UsageError: crops are to be turned and are not square.
        """
        draws = torch.rand(len(frames), _DRAWS, generator=generator)
        wanted = torch.tensor([self.flip, self.flip, self.reverse])
        chosen = ((draws[:, :3] < 0.5) & wanted).tolist()
        # Sample by sample, each copied once: selecting with a mask would flip all of them three times over.
        samples = [
            frame.flip(list(itertools.compress(_FLIPS, row)))
            for frame, row in zip(frames, chosen, strict=True)
        ]
        if self.turn:
            height, width = frames.shape[-2:]
            if height != width:
                raise UsageError(
                    f"crops of {width}x{height} cannot be turned: give them one side, or no turn"
                )
            # A draw more than the others take, and only here: seeds go on giving the samples they gave.
            turned = (torch.rand(len(frames), generator=generator) < 0.5).tolist()
            samples = [
                frame.transpose(-1, -2) if turn else frame
                for frame, turn in zip(samples, turned, strict=True)
            ]
        if self.permute_channels:
            orders = _ORDERS[(draws[:, 7] * len(_ORDERS)).long()].to(frames.device)
            samples = [frame.index_select(1, order) for frame, order in zip(samples, orders, strict=True)]
        # Decoded images lie in memory pixel by pixel; what follows works plane by plane.
        frames = torch.stack(samples).contiguous()
        if not self.jitter:
            return _as_pair(frames.float().mul_(1 / 255))
        return _as_pair(self._recolour(frames, draws))

    def _recolour(self, frames: Tensor, draws: Tensor) -> Tensor:
        """float32 [B, T, 3, h, w] in [0, 1]: every pixel's colour through its sample's affine map."""
        device = frames.device
        mixes, greys = (part.to(device, non_blocking=True) for part in self._colour_maps(draws))
        # Every fourth pixel is enough for a mean. Integers: a float sum's last bits depend on the threads.
        few = frames[..., ::4, ::4]
        means = few.sum(dim=(1, 3, 4), dtype=torch.int64) / (few[0, :, 0].numel() * 255)
        offset = (greys * (means * torch.tensor(_LUMA, device=device)).sum(dim=1)).view(-1, 1, 1, 1)
        pixels = frames.float()
        result, product = torch.empty_like(pixels), torch.empty_like(pixels[:, :, 0])
        for row in range(3):
            channel = result[:, :, row].copy_(offset.expand_as(product))
            # Not a matrix product: its order of additions, too, depends on the number of threads.
            for column in range(3):
                weight = (mixes[:, row, column] / 255).view(-1, 1, 1, 1)
                channel.add_(torch.mul(pixels[:, :, column], weight, out=product))
        return result.clamp_(0, 1)

    def _colour_maps(self, draws: Tensor) -> Pair:
        """Per sample: the matrix [B, 3, 3] and the share of the mean grey [B] that make the new colours."""
        bright, contrast, saturation = (1 + self.jitter * (2 * draws[:, k] - 1) for k in (3, 4, 5))
        angle = 2 * math.pi * self.jitter * (2 * draws[:, 6] - 1)
        turn = torch.zeros(len(draws), 3, 3)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() * saturation
        turn[:, 1, 2], turn[:, 2, 1] = -angle.sin() * saturation, angle.sin() * saturation
        mixes = _FROM_YIQ @ turn @ _TO_YIQ * (bright * contrast).view(-1, 1, 1)
        return mixes, bright * (1 - contrast)


def to_tensors(sample: Sample) -> Pair:
    """The whole frames as they are: inputs float32 [3, 4, H, W], targets float32 [n, 3, H, W], in [0, 1]."""
    inputs, targets = _as_pair(
        in_time_order(sample.inputs, sample.targets).unsqueeze(0).float().mul_(1 / 255)
    )
    return inputs[0], targets[0]


def in_time_order(inputs: Tensor, targets: Tensor) -> Tensor:
    """[4 + n, ...]: two inputs, the targets, two inputs. Turned about, it is the same window backwards."""
    return torch.cat([inputs[:2], targets, inputs[2:]])


def _as_pair(frames: Tensor) -> Pair:
    """Inputs [B, 3, 4, h, w] and targets [B, n, 3, h, w] of frames [B, 4 + n, 3, h, w]."""
    inputs, targets = roles(frames.shape[1])
    middle = frames[:, targets[0] : targets[-1] + 1] if targets else frames[:, :0]
    return torch.stack([frames[:, position] for position in inputs], dim=2), middle.contiguous()


class AugmentedDataset(Dataset[tuple[Tensor, Tensor, int]]):
    """(inputs, targets, index), where item i of epoch e depends on (seed, e, i) and nothing else.

    The number of workers and ranks and what was drawn before make no difference, so a resumed run sees
    exactly the samples of an uninterrupted one. Call `set_epoch` before making the epoch's iterator.
    """

    def __init__(self, dataset: InterpolationDataset, augmentation: Augmentation, *, seed: int = 0) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        # Shared memory: persistent workers hold a copy of this object and must see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        generator = torch.Generator().manual_seed(_mixed(self.seed, self.epoch, index))
        return *self.augmentation(self.dataset[index], generator), index


def _mixed(*numbers: int) -> int:
    """One seed of several numbers, of which every bit changes with each of them."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest()
    return int.from_bytes(digest)
