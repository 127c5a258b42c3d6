"""Decoded videos in the memory of one device, from which whole training batches are cut there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flavr._windows import roles, time_positions
from flavr.augment import Augmentation, Crop, Pair
from flavr.datasets.base import Size

# Channels are permuted, colours not jittered: a few videos hold few colours, and another order of R, G and B
# is free.
BANK_AUGMENTATION = Augmentation(jitter=0.0, permute_channels=True)

_STANDING = 0.5  # share of the crops that stay where they are, where crops wander


@dataclass(frozen=True, slots=True)
class BankVideo:
    name: str
    frames: Tensor  # uint8 [N, 3, H, W], RGB


class FrameBank:
    """Videos as tensors, and the windows in them that are worth training on.

    Args:
        videos: of any sizes and lengths, on one device.
        windows: int64 [W, 3]: video, first frame, stride between neighbouring frames.
        weights: float [W], how often each window is to be sampled; its motion, usually.
        n_outputs: targets per window.
    """

    def __init__(
        self, videos: Sequence[BankVideo], windows: Tensor, weights: Tensor, *, n_outputs: int
    ) -> None:
        self.videos = tuple(videos)
        self.windows = windows
        self.weights = weights
        self.n_outputs = n_outputs
        self._positions = time_positions(n_outputs)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.windows)

    @property
    def device(self) -> torch.device:
        return self.videos[0].frames.device

    @property
    def nbytes(self) -> int:
        """Memory that the frames take."""
        return sum(video.frames.nbytes for video in self.videos)

    def to(self, device: torch.device | str) -> FrameBank:
        """The same bank with its frames on another device (one large copy per video)."""
        videos = [replace(video, frames=video.frames.to(device)) for video in self.videos]
        return FrameBank(videos, self.windows, self.weights, n_outputs=self.n_outputs)

    def compact(self) -> FrameBank:
        """The same bank without the videos that no window is in."""
        used, numbers = torch.unique(self.windows[:, 0], return_inverse=True)
        windows = torch.cat([numbers.unsqueeze(1), self.windows[:, 1:]], dim=1)
        videos = [self.videos[number] for number in used.tolist()]
        return FrameBank(videos, windows, self.weights, n_outputs=self.n_outputs)

    def name_of(self, index: int) -> str:
        video, start, stride = self.windows[index].tolist()
        return f"{self.videos[video].name}:{start}" + (f" (stride {stride})" if stride > 1 else "")

    @staticmethod
    def video_of(name: str) -> str:
        """The name of the video that a window of this name is in."""
        return name.rpartition(":")[0]

    def window(self, index: int) -> Tensor:
        """uint8 [4 + n_outputs, 3, H, W] in time order."""
        video, start, stride = self.windows[index].tolist()
        frames = self.videos[video].frames
        return torch.stack([frames[start + stride * position] for position in self._positions])

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """The windows, int64 [batch], that `sample_batch` takes with a generator in this state."""
        return torch.multinomial(self.weights, batch, replacement=True, generator=generator)

    def sample_batch(
        self,
        batch: int,
        crop: Crop,
        generator: torch.Generator,
        augmentation: Augmentation = BANK_AUGMENTATION,
        *,
        places: int = 1,
        drift: int = 0,
    ) -> Pair:
        """Draw windows by weight, with replacement, and crop and augment them on the bank's device.

        Args:
            batch: number of samples.
            crop: height and width; None takes whole frames, which must then be of one size.
            generator: of the CPU, so that a seed gives the same batch on every device.
            augmentation: all but its crop, which `crop` replaces.
            places: random places for each crop, of which the one where most changes between the middle two
                frames is taken. Most of a real picture stands still, and teaches nothing after a while.
            drift: half of the crops wander over the picture, by up to so many pixels down or across from each
                frame of the window to the next, as if the camera panned; slower where the picture ends.

        Returns:
            inputs float32 [batch, 3, 4, h, w] and targets float32 [batch, n_outputs, 3, h, w], in [0, 1].

        Raises:
            DataError: a video is smaller than the crop; it is named.
        """
        augmentation = replace(augmentation, crop=crop)
        views = []
        for number, start, stride in self.windows[self.draw(batch, generator)].tolist():
            video = self.videos[number]
            size = (video.frames.shape[2], video.frames.shape[3])
            down, right = self._velocity(size, augmentation.size_in(size), drift, generator)
            room = size[0] - abs(down) * self._positions[-1], size[1] - abs(right) * self._positions[-1]
            drawn = [augmentation.window(room, generator, video.name) for _ in range(places)]
            # Views only: one kernel then copies all of them, where indexing would start several per sample.
            cuts = [
                [
                    video.frames[start + stride * p, :, self._at(p, rows, down), self._at(p, columns, right)]
                    for p in self._positions
                ]
                for rows, columns in drawn
            ]
            taken = cuts[0] if places == 1 else max(cuts, key=_change)
            views += taken
        stacked = torch.stack(views)
        frames = stacked.view(batch, len(self._positions), *stacked.shape[1:])
        return augmentation.batch(frames, generator)

    def _velocity(self, size: Size, crop: Size, drift: int, generator: torch.Generator) -> tuple[int, int]:
        """Pixels, down and right, by which a crop wanders from a frame to the next."""
        if not drift:
            return 0, 0  # without a draw, so that seeds go on giving the batches they gave
        still, *draws = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        if still < _STANDING or crop[0] > size[0] or crop[1] > size[1]:
            return 0, 0
        most = [min(drift, (s - c) // self._positions[-1]) for s, c in zip(size, crop, strict=True)]
        down, right = (int(draw * (2 * m + 1)) - m for draw, m in zip(draws, most, strict=True))
        return down, right

    def _at(self, position: int, first: slice, velocity: int) -> slice:
        """Rows or columns of a crop in one frame of the window; `first` is the lowest of them on its way."""
        passed = position if velocity > 0 else self._positions[-1] - position
        return slice(first.start + abs(velocity) * passed, first.stop + abs(velocity) * passed)


def _change(frames: Sequence[Tensor]) -> int:
    """How much the middle two inputs of a window differ, in the sum over every fourth pixel."""
    inputs, _ = roles(len(frames))
    before, after = (frames[inputs[k]][:, ::4, ::4].short() for k in (1, 2))
    return int((before - after).abs_().sum())
