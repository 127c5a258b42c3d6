"""PSNR and SSIM in both definitions, against references that share no code with ours."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from flavr.metrics import METRICS, ScoreSums, psnr, psnr_uint8, ssim, ssim_uint8

Array = NDArray[np.float64]
Pair = tuple[Tensor, Tensor]
Metric = Callable[[Tensor, Tensor], Tensor]


def _pair(height: int, width: int, *, noise: float = 0.1, seed: int = 0) -> Pair:
    """A structured picture, and a noisy copy that leaves [0, 1] here and there. [1, 3, H, W]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [0.5 + 0.5 * np.sin(rows / (2 + c) + columns / (5 - c)) for c in range(3)]
    truth = np.stack(waves)[None].astype(np.float32)
    noisy = truth + rng.normal(0, noise, truth.shape).astype(np.float32)
    return torch.from_numpy(noisy), torch.from_numpy(truth)


def _as_rgb8(picture: Tensor) -> NDArray[np.uint8]:
    codes = np.rint(picture[0].numpy().clip(0, 1) * 255).astype(np.uint8)
    return np.asarray(codes.transpose(1, 2, 0))


def _slow_ssim_3d(x: Array, y: Array) -> float:
    """The authors' definition, a window at a time: colours are slices of a volume with repeated borders."""
    weights = np.array([math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)])
    window = np.einsum("i,j,k->ijk", weights, weights, weights)
    window /= window.sum()
    x, y = (np.pad(v.clip(0, 1), 5, mode="edge") for v in (x, y))
    values = []
    for corner in np.ndindex(*(side - 10 for side in x.shape)):
        a, b = (v[tuple(slice(c, c + 11) for c in corner)] for v in (x, y))
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
        cov = (window * a * b).sum() - mean_a * mean_b
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        values.append(luminance * (2 * cov + 0.03**2) / (var_a + var_b + 0.03**2))
    return float(np.mean(values))


def test_authors_psnr_neither_clamps_nor_rounds() -> None:
    noisy, truth = _pair(24, 32)
    error = np.mean((noisy.double().numpy() - truth.double().numpy()) ** 2) + 1e-8
    assert psnr(noisy, truth).item() == pytest.approx(-10 * math.log10(error), abs=1e-4)
    assert psnr(noisy, truth) < psnr(noisy.clamp(0, 1), truth)


def test_authors_ssim_is_that_of_a_slow_loop() -> None:
    noisy, truth = _pair(13, 17)
    expected = _slow_ssim_3d(noisy[0].double().numpy(), truth[0].double().numpy())
    assert ssim(noisy, truth).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("noise", [0.003, 0.05, 0.5])
def test_standard_metrics_are_scikit_images(noise: float) -> None:
    noisy, truth = _pair(37, 53, noise=noise)
    a, b = _as_rgb8(noisy), _as_rgb8(truth)
    expected = structural_similarity(  # type: ignore[no-untyped-call]
        a, b, channel_axis=-1, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim_uint8(noisy, truth).item() == pytest.approx(expected, abs=2e-5)
    ratio = peak_signal_noise_ratio(a, b, data_range=255)  # type: ignore[no-untyped-call]
    assert psnr_uint8(noisy, truth).item() == pytest.approx(ratio, abs=1e-3)


@pytest.mark.parametrize(
    ("metric", "best"), [(psnr, 80.0), (psnr_uint8, 100.0), (ssim, 1.0), (ssim_uint8, 1.0)]
)
def test_equal_pictures_score_the_stated_best(
    metric: Callable[[Tensor, Tensor], Tensor], best: float
) -> None:
    _, truth = _pair(16, 16)
    assert metric(truth, truth).item() == pytest.approx(best, abs=1e-4)


def test_pictures_smaller_than_the_window_are_named() -> None:
    noisy, truth = _pair(8, 16)
    with pytest.raises(ValueError, match="16x8 pictures are smaller than SSIM's window of 11x11"):
        ssim_uint8(noisy, truth)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), noise=st.floats(0.001, 1.0))
def test_metrics_are_symmetric_and_bounded(seed: int, noise: float) -> None:
    noisy, truth = _pair(16, 24, noise=noise, seed=seed)
    for name, metric in METRICS.items():
        value = metric(noisy, truth).item()
        assert metric(truth, noisy).item() == pytest.approx(value, abs=1e-3)
        assert -1 <= value <= (1 if name.startswith("ssim") else 100)


def test_means_do_not_depend_on_the_batches() -> None:
    pictures = [_pair(16, 16, noise=0.05 * (seed + 1), seed=seed) for seed in range(5)]
    noisy, truth = (torch.cat(part) for part in zip(*pictures, strict=True))
    whole, parts = ScoreSums(), ScoreSums()
    whole.add(noisy, truth)
    for start, end in ((0, 1), (1, 4), (4, 5)):
        parts.add(noisy[start:end, None], truth[start:end, None])  # [B, n, 3, H, W]
    assert parts.pictures == whole.pictures == 5
    assert parts.means() == pytest.approx(whole.means(), rel=1e-6)


def test_means_over_nothing_are_no_number() -> None:
    assert all(math.isnan(value) for value in ScoreSums().means().values())
