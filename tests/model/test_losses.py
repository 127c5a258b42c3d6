"""The losses, against independent formulas, and the language they are written in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity
from torch import Tensor

from flavr.errors import UsageError
from flavr.losses import TERMS, parse_loss

Array = NDArray[np.float64]


def _pictures(side: int, *, frames: int = 1) -> tuple[Tensor, Tensor]:
    """Prediction and target, float [2, frames, 3, side, side]."""
    random = torch.Generator().manual_seed(0)
    target = F.interpolate(torch.rand(2 * frames, 3, 24, 24, generator=random), size=side, mode="bilinear")
    prediction = target + 0.1 * torch.randn(target.shape, generator=random)
    shape = (2, frames, 3, side, side)
    return prediction.reshape(shape), target.reshape(shape)


def test_pixel_losses_are_the_textbook_ones() -> None:
    prediction, target = _pictures(24, frames=2)
    error = (prediction - target).double().abs()
    expected = {
        "L1": error.mean(),
        "MSE": (error**2).mean(),
        "Huber": torch.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25)).mean(),
        "Charbonnier": (error**2 + 1e-6).sqrt().mean(),
        "PSNR": 10 * ((error * 255).square().mean(dim=(2, 3, 4)) + 1).log10().mean(),
        "RMSE": ((error**2).mean(dim=(2, 3, 4)) + 1e-6).sqrt().mean(),
    }
    for name, value in expected.items():
        assert parse_loss(f"1*{name}")(prediction, target).item() == pytest.approx(value.item(), rel=1e-5)


def test_no_picture_pulls_harder_than_another_by_rmse() -> None:
    """By MSE's squares, one ten times as far from its target would pull ten times as hard."""
    prediction, target = _pictures(24)
    prediction = target + (prediction - target) * torch.tensor([0.1, 1.0]).view(2, 1, 1, 1, 1)
    prediction.requires_grad_()
    parse_loss("RMSE")(prediction, target).backward()  # type: ignore[no-untyped-call]
    assert prediction.grad is not None
    pulls = prediction.grad.square().sum(dim=(1, 2, 3, 4)).sqrt()
    assert pulls[0].item() == pytest.approx(pulls[1].item(), rel=0.02)


def test_halving_any_error_is_worth_the_same_by_psnr_until_it_is_one_code_value() -> None:
    prediction, target = _pictures(24)
    error = prediction - target
    loss = [parse_loss("PSNR")(target + error / part, target).item() for part in (1, 2, 4, 1e4)]
    assert loss[0] - loss[1] == pytest.approx(20 * np.log10(2), abs=0.05)
    assert loss[1] - loss[2] == pytest.approx(20 * np.log10(2), abs=0.1)
    assert loss[3] == pytest.approx(0, abs=1e-4)


def test_ssim_loss_is_one_less_scikit_images_ssim() -> None:
    prediction, target = _pictures(32)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    similarities = [
        structural_similarity(p.numpy(), t.numpy(), channel_axis=0, **options)  # type: ignore[no-untyped-call]
        for p, t in zip(prediction[:, 0].double(), target[:, 0].double(), strict=True)
    ]
    assert parse_loss("SSIM")(prediction, target).item() == pytest.approx(1 - np.mean(similarities), abs=1e-5)


def test_ms_ssim_loss_is_that_of_its_definition() -> None:
    prediction, target = _pictures(176)
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(x: Array) -> Array:  # of [.., H, W], where the whole window lies inside
        return np.asarray(correlate1d(correlate1d(x, taps, axis=-1), taps, axis=-2)[..., 5:-5, 5:-5])

    x, y = (v[:, 0].double().numpy() for v in (prediction, target))
    product = np.ones(x.shape[:2])
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            x, y = (v.reshape(*v.shape[:2], v.shape[2] // 2, 2, -1, 2).mean(axis=(3, 5)) for v in (x, y))
        mean_x, mean_y = blur(x), blur(y)
        spread = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
        factor = (2 * (blur(x * y) - mean_x * mean_y) + 9e-4) / (spread + 9e-4)
        if scale == 4:
            factor = factor * (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
        product *= factor.mean(axis=(2, 3)) ** weight
    assert parse_loss("MS-SSIM")(prediction, target).item() == pytest.approx(1 - product.mean(), abs=1e-5)


def test_sums_are_weighted_sums_of_their_terms() -> None:
    prediction, target = _pictures(24)
    terms = [parse_loss(name)(prediction, target).item() for name in ("L1", "MSE", "SSIM")]
    loss = parse_loss("1*L1 + 2e+1*mse+0.1*SSIM")
    assert str(loss) == "1*L1+20*MSE+0.1*SSIM"
    assert loss(prediction, target).item() == pytest.approx(
        terms[0] + 20 * terms[1] + 0.1 * terms[2], rel=1e-5
    )


@pytest.mark.parametrize("name", TERMS)
def test_every_loss_vanishes_on_equal_pictures_and_has_finite_gradients(name: str) -> None:
    loss = parse_loss(name)
    prediction, target = _pictures(max(24, loss.min_side))
    assert loss(target, target).item() == pytest.approx(0, abs=2e-3)  # Charbonnier's epsilon is 1e-3
    for start in (prediction, 1 - target):  # negative pictures are anticorrelated with the truth
        wrong = start.clone().requires_grad_()
        loss(wrong, target).backward()  # type: ignore[no-untyped-call]
        assert wrong.grad is not None
        assert wrong.grad.isfinite().all()
        assert wrong.grad.any()


@pytest.mark.parametrize(
    "text", ["", "1*", "L3", "1*L1+", "x*L1", "0*L1", "-1*SSIM", "nan*L1", "1*2*L1", "VGG"]
)
def test_an_unknown_or_malformed_term_is_refused_naming_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"L1, MSE, RMSE, PSNR, Huber, Charbonnier, SSIM, MS-SSIM"):
        parse_loss(text)


@pytest.mark.parametrize(("name", "side"), [("SSIM", 8), ("MS-SSIM", 160)])
def test_pictures_too_small_for_a_term_are_named(name: str, side: int) -> None:
    prediction, target = _pictures(side)
    with pytest.raises(UsageError, match=f"these are {side}x{side}"):
        parse_loss(name)(prediction, target)
