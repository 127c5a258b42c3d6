"""What a network is before training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flavr import Flavr, FlavrConfig
from flavr.errors import UsageError
from flavr.initialise import STARTS, initialise

BLEND = FlavrConfig(width=12, encoder_bias=True)


def _frames(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 4, 24, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "config", [BLEND, replace(BLEND, factor=4, width=16), replace(BLEND, arch="unet_34")]
)
def test_blend_starts_as_the_average_of_the_middle_frames(config: FlavrConfig) -> None:
    network = Flavr(config).eval()
    initialise(network, "blend", seed=1)
    frames = _frames()
    frames[1] = frames[1].round()  # black and white: the largest differences to the mean there are
    average = frames[:, :, 1:3].mean(dim=2).unsqueeze(1).expand(-1, config.n_outputs, -1, -1, -1)
    with torch.no_grad():
        torch.testing.assert_close(network(frames), average, atol=1e-5, rtol=0)


def test_blend_can_learn_everywhere() -> None:
    """The zeros that hide the random rest must not stay: two steps on, every tensor has a gradient."""
    network = Flavr(BLEND)
    initialise(network, "blend", seed=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    target = torch.rand(2, 1, 3, 24, 32, generator=torch.Generator().manual_seed(5))
    for _ in range(3):
        optimizer.zero_grad()
        (network(_frames()) - target).abs().mean().backward()
        optimizer.step()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize(
    ("config", "need"),
    [
        (replace(BLEND, width=8), "a width of at least 12"),
        (replace(BLEND, encoder_bias=False), "--encoder-bias"),
        (replace(BLEND, join="add"), "--join-type concat"),
        (replace(BLEND, upmode="upsample"), "--upmode transpose"),
        (replace(BLEND, batchnorm=True), "without BatchNorm"),
    ],
)
def test_blend_says_what_it_lacks(config: FlavrConfig, need: str) -> None:
    with pytest.raises(UsageError, match=need):
        initialise(Flavr(config), "blend", seed=0)


@pytest.mark.parametrize("start", STARTS)
def test_the_seed_decides_and_the_global_generator_is_left_alone(start: str) -> None:
    networks = [Flavr(BLEND) for _ in range(3)]
    before = torch.get_rng_state()
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, start, seed)
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = (network.state_dict()["encoder.layer2.0.conv1.0.weight"] for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_published_encoder_weights_keep_the_size_of_gradients() -> None:
    """He et al. 2015, fan out: a variance of 2 / (27 x output channels)."""
    network = Flavr(FlavrConfig(width=32, encoder_bias=True))
    initialise(network, "published", seed=0)
    weight = network.state_dict()["encoder.layer4.1.conv1.0.weight"]
    assert weight.var().item() == pytest.approx(2 / (27 * weight.shape[0]), rel=0.02)
    assert not network.state_dict()["encoder.layer4.1.conv1.0.bias"].any()


def test_an_unknown_start_is_refused_naming_the_known_ones() -> None:
    with pytest.raises(UsageError, match="known are published, blend"):
        initialise(Flavr(BLEND), "zero", seed=0)
