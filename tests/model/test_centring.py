"""Steps of convolutions whose inputs have a mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flavr import Flavr, FlavrConfig
from flavr.errors import UsageError
from flavr.initialise import initialise
from flavr.training.centring import Centring
from flavr.training.config import TrainingConfig

Convolution = nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d
CONFIG = FlavrConfig(width=16, encoder_bias=True)


@pytest.fixture
def network() -> Flavr:
    made = Flavr(CONFIG)
    initialise(made, "blend", 0)
    return made.train()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(1, 3, 4, 96, 112, generator=torch.Generator().manual_seed(1))


def convolutions(network: Flavr) -> dict[str, Convolution]:
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose3d)
    return {name: m for name, m in network.named_modules() if isinstance(m, kinds) and m.bias is not None}


def test_a_step_shifts_no_layers_mean_output(network: Flavr, frames: Tensor) -> None:
    """Every kind of convolution, but where inputs have next to no mean and nothing is to be gained."""
    inputs: dict[str, Tensor] = {}
    for name, module in convolutions(network).items():
        module.register_forward_pre_hook(
            lambda _module, given, name=name: inputs.update({name: given[0].detach()})
        )
    centring = Centring(network)
    network(frames).square().mean().backward()
    old = {name: module(inputs[name]).detach() for name, module in convolutions(network).items()}
    before = {name: given.clone() for name, given in inputs.items()}
    centring.before()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for module in convolutions(network).values():
            noise = torch.randn(module.weight.shape, generator=generator) + 1
            module.weight += 0.01 * noise
    stepped = {name: module(before[name]).detach() for name, module in convolutions(network).items()}
    centring.after()
    checked = set()
    for name, module in convolutions(network).items():
        shift, made_up = (
            (new - old[name]).transpose(0, 1).flatten(1).mean(dim=1).abs().mean()
            for new in (stepped[name], module(before[name]).detach())
        )
        if before[name].transpose(0, 1).flatten(1).mean(dim=1).abs().max() > 1e-3:
            assert made_up < 0.15 * shift, f"{name}: {made_up} of {shift} left"  # borders see fewer taps
            checked.add((type(module).__name__, tuple(module.weight.shape[2:])))
    assert checked == {
        ("Conv3d", (3, 3, 3)),
        ("Conv3d", (1, 1, 1)),
        ("ConvTranspose3d", (3, 4, 4)),
        ("Conv2d", (7, 7)),
    }


def test_a_gradient_is_that_of_inputs_less_their_mean(network: Flavr, frames: Tensor) -> None:
    """Exactly so where there are no borders: at a gate."""
    gate = network.get_submodule("decoder.0.conv.1.attn_layer.0")
    seen: dict[str, Tensor] = {}

    def look(_module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen["input"] = inputs[0].detach().flatten(1)
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: seen.update(gradient=gradient.flatten(1))
        )

    gate.register_forward_hook(look)
    with torch.no_grad():
        network.get_parameter("outconv.1.weight").normal_(generator=torch.Generator().manual_seed(4))
    centring = Centring(network)
    network(torch.cat([frames, 1 - frames, frames / 2])).square().mean().backward()
    centring.before()
    varying = seen["input"] - seen["input"].mean(dim=0)
    found = network.get_parameter("decoder.0.conv.1.attn_layer.0.weight").grad
    assert found is not None
    assert found.any()
    torch.testing.assert_close(found.flatten(1), seen["gradient"].T @ varying, rtol=1e-3, atol=1e-7)


def test_without_a_step_nothing_changes(network: Flavr, frames: Tensor) -> None:
    centring = Centring(network)
    network(frames).square().mean().backward()
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    centring.before()
    centring.after()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_a_share_for_outer_layers_is_for_muon_alone() -> None:
    with pytest.raises(UsageError, match=r"--outer-rate 0\.1 is for --optimizer muon"):
        TrainingConfig(data_root=Path("data"), outer_rate=0.1)
    for share in (0.0, 1.5):
        with pytest.raises(UsageError, match=rf"--outer-rate {share}: it must be above 0 and at most 1"):
            TrainingConfig(data_root=Path("data"), outer_rate=share, optimizer="muon")
