"""Convolutions by Winograd's algorithm, in training: what they would cost if they were others."""

from __future__ import annotations

import copy

import pytest
import torch

from flavr import Flavr, FlavrConfig
from flavr._winograd import _kind_for, _OverSpaceAndTime, quicken
from flavr.initialise import initialise

CONFIGS = {
    "width 32": FlavrConfig(width=32, encoder_bias=True),  # wide enough for all three kinds
    "published biases": FlavrConfig(width=8),
    "upsample": FlavrConfig(width=8, upmode="upsample", join="add"),
    "batchnorm": FlavrConfig(width=8, batchnorm=True),
    "8x": FlavrConfig(width=8, factor=8, encoder_bias=True),
}


def _network(config: FlavrConfig) -> Flavr:
    network = Flavr(config)
    initialise(network, "published", seed=3)
    return network.double().train()


def _gradients(network: Flavr, frames: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    network(frames).square().mean().backward()
    return {
        name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("size", [(32, 32), (8, 24)], ids=["whole tiles", "broken tiles"])
def test_results_and_gradients_are_those_of_plain_convolutions(
    config: FlavrConfig, size: tuple[int, int]
) -> None:
    plain = _network(config)
    quick = copy.deepcopy(plain)
    assert quicken(quick) > 10
    frames = torch.rand(2, 3, 4, *size, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(quick(frames), plain(frames), rtol=0, atol=1e-12)
    expected, found = _gradients(plain, frames), _gradients(quick, frames)
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        error = (found[name] - gradient).norm() / gradient.norm().clamp_min(1e-9)
        assert error < 1e-6, f"{name}: relative error {error:.1e}"


def test_rounding_in_float32_stays_below_a_hundredth_of_a_grey_level() -> None:
    plain = _network(CONFIGS["width 32"]).float()
    quick = copy.deepcopy(plain)
    quicken(quick)
    frames = torch.rand(1, 3, 4, 48, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert float((quick(frames) - plain(frames)).abs().max()) < 0.01 / 255


def test_checkpoints_and_copies_are_those_of_the_network_itself() -> None:
    """An EMA is a deep copy: were its layers bound to the original's parameters, it would be no mean."""
    network = _network(CONFIGS["width 32"])
    keys = list(network.state_dict())
    parameters = dict(network.named_parameters())
    quicken(network)
    assert list(network.state_dict()) == keys
    assert all(parameter is parameters[name] for name, parameter in network.named_parameters())
    twin = copy.deepcopy(network)
    frames = torch.rand(1, 3, 4, 16, 16).double()
    before = twin(frames)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    assert torch.equal(twin(frames), before)
    assert not torch.allclose(network(frames), before)


def test_wide_layers_save_over_height_and_width_too() -> None:
    kinds = [_kind_for(module) for module in Flavr(FlavrConfig(width=32)).modules()]
    assert kinds.count(_OverSpaceAndTime) == 11  # of 64 channels and more, with stride 1
