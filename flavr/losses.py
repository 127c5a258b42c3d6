"""What training minimises: weighted sums of terms, written like `1*L1+0.1*SSIM`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flavr.errors import UsageError
from flavr.metrics import WINDOW, similarity_maps

# Exponents of the five scales (Wang, Simoncelli and Bovik 2003, section 3.2).
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Errors in [0, 1] hardly ever exceed 0.5, where the published training turns from quadratic to linear.
_HUBER_DELTA = 0.5
_CHARBONNIER_EPSILON = 1e-3  # Lai et al. 2017 (LapSRN)
_PSNR_EPSILON = 1 / 255  # one code value: still pictures, nearly right, must not outweigh all others
_RMSE_EPSILON = 1e-3  # a quarter of a code value: what is as good as equal pulls no harder


@dataclass(frozen=True, slots=True)
class Term:
    """A row of the table: pictures [N, 3, H, W] in [0, 1], prediction and target, to a number to minimise."""

    function: Callable[[Tensor, Tensor], Tensor]
    summary: str
    min_side: int = 1  # the least height and width of a picture


def _charbonnier(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target).square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


def _rmse(prediction: Tensor, target: Tensor) -> Tensor:
    error = (prediction - target).square().mean(dim=(1, 2, 3))
    return (error + _RMSE_EPSILON**2).sqrt().mean()


def _psnr(prediction: Tensor, target: Tensor) -> Tensor:
    error = (prediction - target).square().mean(dim=(1, 2, 3))
    return 10 * (error / _PSNR_EPSILON**2 + 1).log10().mean()


def _ssim(prediction: Tensor, target: Tensor) -> Tensor:
    return 1 - similarity_maps(prediction, target)[0].mean()


def _ms_ssim(prediction: Tensor, target: Tensor) -> Tensor:
    factors = []
    for scale in range(len(_SCALE_WEIGHTS)):
        if scale:
            prediction, target = F.avg_pool2d(prediction, 2), F.avg_pool2d(target, 2)
        similarity, contrast = similarity_maps(prediction, target)
        last = scale == len(_SCALE_WEIGHTS) - 1  # the luminance factor counts at the coarsest scale alone
        factors.append(_positive((similarity if last else contrast).mean(dim=(2, 3))))
    exponents = torch.tensor(_SCALE_WEIGHTS).to(prediction).view(-1, 1, 1)
    return 1 - torch.stack(factors).pow(exponents).prod(dim=0).mean()


def _positive(x: Tensor, below: float = 0.01) -> Tensor:
    """x, but for values under `below` a hyperbola that stays above 0 and goes on falling.

    Anticorrelated pictures have a negative similarity, of which no fractional power exists. Clamped to 0 as
    elsewhere, they would have no gradient, and training could not leave them.
    """
    return torch.where(x < below, below**2 / (2 * below - x.clamp_max(below)), x)


TERMS: Mapping[str, Term] = {
    "L1": Term(F.l1_loss, "mean absolute error, as published"),
    "MSE": Term(F.mse_loss, "mean squared error"),
    "RMSE": Term(_rmse, "root of each picture's mean squared error: PSNR's squares, all pictures alike"),
    "PSNR": Term(_psnr, "by how many dB PSNR falls short: halving an error counts as much whatever its size"),
    "Huber": Term(
        lambda prediction, target: F.huber_loss(prediction, target, delta=_HUBER_DELTA),
        f"half the squared error, linear beyond {_HUBER_DELTA}",
    ),
    "Charbonnier": Term(_charbonnier, f"smooth L1: sqrt(error^2 + {_CHARBONNIER_EPSILON}^2)"),
    "SSIM": Term(_ssim, "1 - SSIM (standard, 11x11 Gaussian)", WINDOW),
    "MS-SSIM": Term(_ms_ssim, "1 - SSIM over five scales", WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)),
}


@dataclass(frozen=True, slots=True)
class Loss:
    """A weighted sum of terms; build it with `parse_loss`."""

    terms: tuple[tuple[float, str], ...]  # (weight, key of TERMS)

    @property
    def min_side(self) -> int:
        """The least height and width of pictures it can be taken of."""
        return max(TERMS[name].min_side for _, name in self.terms)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """A scalar, from float pictures [..., 3, H, W] in [0, 1].

        Raises:
            UsageError: pictures smaller than `min_side`.
        """
        pictures = prediction.float().flatten(0, -4), target.float().flatten(0, -4)
        if min(pictures[0].shape[-2:]) < self.min_side:
            height, width = pictures[0].shape[-2:]
            raise UsageError(
                f"--loss {self} needs pictures of {self.min_side}x{self.min_side}; these are {width}x{height}"
            )
        values = [weight * TERMS[name].function(*pictures) for weight, name in self.terms]
        return torch.stack(values).sum()

    def __str__(self) -> str:
        return "+".join(f"{weight:g}*{name}" for weight, name in self.terms)


def parse_loss(text: str) -> Loss:
    """Read a sum such as `1*L1+0.1*SSIM`; a weight of 1 may be left out, case does not matter.

    Raises:
        UsageError: a term that is malformed or unknown; the known ones are named.
    """
    # a plus sign inside a number (1e+2*L1) does not separate
    terms = [_parse_term(part.strip(), text) for part in re.split(r"(?<!\d[eE])\+", text)]
    return Loss(tuple(terms))


def _parse_term(part: str, text: str) -> tuple[float, str]:
    known = {name.lower(): name for name in TERMS}
    weight_text, star, name = part.rpartition("*")
    try:
        weight = float(weight_text) if star else 1.0
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf") or name.strip().lower() not in known:
        raise UsageError(
            f"--loss {text}: {part!r} is not a term; write sums like 1*L1+0.1*SSIM of {', '.join(TERMS)}, "
            "each with a weight above 0"
        )
    return weight, known[name.strip().lower()]
