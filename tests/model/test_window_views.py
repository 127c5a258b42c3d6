"""Views of a window, and learning from a network that sees several."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from flavr import Flavr, FlavrConfig
from flavr.config import ENSEMBLES
from flavr.predictors import Ensemble, TorchPredictor
from flavr.training.teacher import Teacher
from flavr.views import VIEWS, View, mean_over

MakeNetwork = Callable[[FlavrConfig], Flavr]


@pytest.fixture
def window() -> Tensor:
    return torch.rand(2, 3, 4, 24, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network(tiny_network: MakeNetwork) -> Flavr:
    return tiny_network(FlavrConfig(width=4, factor=4, encoder_bias=True))


def at_quarters(frames: Tensor) -> Tensor:
    """What does treat all views alike: the fading that a 4x network starts from."""
    return torch.stack([frames[:, :, 1].lerp(frames[:, :, 2], n / 4) for n in (1, 2, 3)], dim=1)


def test_there_are_sixteen_views_and_each_is_brought_back(window: Tensor) -> None:
    made = at_quarters(window)
    assert set(VIEWS) == {View(*each) for each in product((False, True), repeat=4)}
    seen = [view.of(window) for view in VIEWS]
    for i, view in enumerate(VIEWS):
        torch.testing.assert_close(view.back(at_quarters(seen[i])), made)
        assert not any(torch.equal(seen[i], other) for other in seen[:i])


@pytest.mark.parametrize("count", ENSEMBLES)
def test_the_mean_over_a_group_of_views_treats_them_alike(count: int, window: Tensor, network: Flavr) -> None:
    with torch.inference_mode():
        mean = mean_over(VIEWS[:count], network, window)
        assert mean.shape == (2, 3, 3, 24, 16)
        for view in VIEWS[:count]:
            torch.testing.assert_close(
                view.back(mean_over(VIEWS[:count], network, view.of(window))), mean, atol=1e-5, rtol=0
            )
        if count > 1:
            assert (mean - network(window)).abs().max() > 1e-3


def test_an_ensemble_predicts_pictures_of_any_size(network: Flavr) -> None:
    frames = torch.rand(1, 3, 4, 21, 30, generator=torch.Generator().manual_seed(1))
    predictor = TorchPredictor(network, torch.device("cpu"))
    made = Ensemble(predictor, VIEWS[:16])(frames)
    assert made.shape == (1, 3, 3, 21, 30)
    singles = [view.back(predictor(view.of(frames))) for view in VIEWS]
    torch.testing.assert_close(made, torch.stack(singles).mean(dim=0))


def test_a_target_is_the_teachers_by_its_share(window: Tensor, network: Flavr) -> None:
    truth = at_quarters(window)
    taught = mean_over(VIEWS[:4], network, window)
    for share in (0.25, 1.0):
        targets = Teacher(network, VIEWS[:4], share).targets(window, truth)
        torch.testing.assert_close(targets, (1 - share) * truth + share * taught)
        assert not targets.requires_grad
