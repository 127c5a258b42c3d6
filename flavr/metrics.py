"""How close a picture is to the true one: PSNR and SSIM, each in two definitions that must not be mixed.

`psnr` and `ssim` are the FLAVR authors': figures in the paper and its tables. `psnr_uint8` and `ssim_uint8`
are what other tools report (scikit-image, FFmpeg): on the 8-bit pictures that a viewer gets. All take float
pictures [N, 3, H, W], RGB in [0, 1], and return one value per picture, float32 [N].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 11  # pixels across the Gaussian window of SSIM
SIGMA = 1.5  # its standard deviation (Wang et al. 2004, section III.C)
C1, C2 = 0.01**2, 0.03**2  # for values in [0, 1]; same paper

# The authors add this to the mean squared error, so equal pictures score 80 dB.
_AUTHORS_FLOOR = 1e-8
# Equal 8-bit pictures would score infinity, and one of them would swallow the mean: they count as 100 dB.
_UINT8_FLOOR = 1e-10


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """The authors' PSNR in dB: neither clamped nor rounded to 8 bits, at most 80."""
    return _decibels(_squared_error(prediction, target) + _AUTHORS_FLOOR)


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """The authors' SSIM: a 3-D Gaussian window over (R, G, B), rows and columns, replicated at every border.

    The three colours are taken for three slices of a volume. Pictures are clamped to [0, 1].
    """
    return _similarity_3d(prediction.clamp(0, 1), target.clamp(0, 1)).mean(dim=(1, 2, 3))


def psnr_uint8(prediction: Tensor, target: Tensor) -> Tensor:
    """Standard PSNR in dB, on pictures clamped and rounded to 8 bits; 100 where they are equal."""
    return _decibels(_squared_error(as_uint8(prediction), as_uint8(target)).clamp_min(_UINT8_FLOOR))


def ssim_uint8(prediction: Tensor, target: Tensor) -> Tensor:
    """Standard SSIM (Wang et al. 2004), on pictures clamped and rounded to 8 bits, the mean over R, G and B.

    scikit-image: `structural_similarity(a, b, channel_axis=-1, data_range=255, gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False)`.

    Raises:
        ValueError: pictures of fewer than 11x11 pixels.
    """
    similarity, _ = similarity_maps(as_uint8(prediction), as_uint8(target))
    return similarity.mean(dim=(1, 2, 3))


METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "psnr": psnr,
    "ssim": ssim,
    "psnr_uint8": psnr_uint8,
    "ssim_uint8": ssim_uint8,
}


@dataclass(slots=True)
class ScoreSums:
    """Sums over pictures, from which the means are taken; those of several processes can be added."""

    pictures: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METRICS, 0.0))

    def add(self, predictions: Tensor, targets: Tensor) -> None:
        """Count pictures [..., 3, H, W] in. Each picture weighs the same, whatever the batches are."""
        flat = predictions.float().flatten(0, -4), targets.float().flatten(0, -4)
        self.pictures += len(flat[0])
        for name, metric in METRICS.items():
            self.sums[name] += float(metric(*flat).double().sum())

    def include(self, other: ScoreSums) -> None:
        """Count in the pictures that others have counted."""
        self.pictures += other.pictures
        for name, total in other.sums.items():
            self.sums[name] += total

    def means(self) -> dict[str, float]:
        """The mean of every metric; NaN where no picture was counted."""
        return {
            name: total / self.pictures if self.pictures else math.nan for name, total in self.sums.items()
        }


def as_uint8(pictures: Tensor) -> Tensor:
    """The nearest value that 8 bits hold, still in [0, 1]; halves go to even, as in the exported graph."""
    return (pictures.clamp(0, 1) * 255).round() / 255


def similarity_maps(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Standard SSIM of every pixel whose whole window lies inside, and its contrast-structure factor.

    Returns:
        Two tensors [N, C, H - 10, W - 10].

    Raises:
        ValueError: pictures of fewer than 11x11 pixels.
    """
    if min(prediction.shape[-2:]) < WINDOW:
        height, width = prediction.shape[-2:]
        raise ValueError(f"{width}x{height} pictures are smaller than SSIM's window of {WINDOW}x{WINDOW}")
    return _similarity(*_moments(prediction, target, _blur))


def _similarity_3d(prediction: Tensor, target: Tensor) -> Tensor:
    across = _replicating_matrix(prediction.shape[1], prediction)

    def blur(x: Tensor) -> Tensor:
        margin = WINDOW // 2
        return _blur(F.pad(torch.einsum("dc,nchw->ndhw", across, x), [margin] * 4, mode="replicate"))

    return _similarity(*_moments(prediction, target, blur))[0]


def _moments(x: Tensor, y: Tensor, blur: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Local means, variances and covariance."""
    mean_x, mean_y, xx, yy, xy = blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    return mean_x, mean_y, xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y


def _similarity(
    mean_x: Tensor, mean_y: Tensor, var_x: Tensor, var_y: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor]:
    contrast = (2 * cov + C2) / (var_x + var_y + C2)
    return contrast * (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1), contrast


def _gaussian(like: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return (weights / weights.sum()).to(like)


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean of every window inside [N, C, H, W]; it is separable, so 22 taps instead of 121."""
    kernel = _gaussian(x)
    planes = x.reshape(-1, 1, *x.shape[2:])
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return planes.reshape(*x.shape[:2], *planes.shape[2:])


def _replicating_matrix(channels: int, like: Tensor) -> Tensor:
    """[C, C]: the Gaussian mean along an axis of C values whose ends are repeated without end."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    source = (torch.arange(channels)[:, None] + offsets).clamp(0, channels - 1)
    matrix = torch.zeros(channels, channels, dtype=torch.float64)
    return matrix.scatter_add_(1, source, _gaussian(matrix).expand(channels, WINDOW)).to(like)


def _squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(dim=(1, 2, 3))


def _decibels(squared_error: Tensor) -> Tensor:
    return -10 * squared_error.log10()
