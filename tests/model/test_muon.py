"""The optimizer of orthogonal steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flavr import Flavr, FlavrConfig
from flavr.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 432), (64, 27), (32, 32)])
def test_a_step_has_nearly_the_same_size_in_every_direction(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    spread = left @ torch.diag(torch.linspace(1, 0.05, len(sizes), dtype=torch.float64)) @ right
    result = orthogonal(spread)
    assert result.shape == matrix.shape
    found = torch.linalg.svdvals(result)
    assert 0.6 < found.min() <= found.max() < 1.3
    cosine = (result * (left @ right)).sum() / result.norm() / (left @ right).norm()
    assert cosine > 0.98  # the closest orthogonal matrix, and not just any


def test_gates_ends_and_biases_are_left_to_adam() -> None:
    network = Flavr(FlavrConfig(width=16, encoder_bias=True))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    optimizer = Muon(network.named_parameters(), lr=1e-3, betas=(0.9, 0.99))
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for group in optimizer.param_groups:
        found[group["matrices"]] |= {names[id(parameter)] for parameter in group["params"]}
    matrices, others = found[True], found[False]
    assert {
        "encoder.layer1.0.conv1.0.weight",
        "decoder.1.upconv.0.weight",
        "feature_fuse.conv.0.weight",
    } <= matrices
    assert {
        "encoder.stem.0.weight",
        "outconv.1.weight",
        "encoder.layer1.0.fg.attn_layer.0.weight",
        "encoder.layer1.0.conv1.0.bias",
    } <= others
    assert len(matrices) + len(others) == len(names)


def test_what_is_left_to_adam_steps_as_pytorchs_adam_does() -> None:
    start = torch.randn(7, generator=torch.Generator().manual_seed(5))
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = (
        Muon([("bias", mine)], lr=1e-2, betas=(0.9, 0.99)),
        torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99)),
    )
    for step in range(5):
        for parameter, optimizer in zip((mine, theirs), optimizers, strict=True):
            parameter.grad = (parameter.detach() - step).cos()
            optimizer.step()
    torch.testing.assert_close(mine, theirs)


def test_a_convolution_is_learnt() -> None:
    generator = torch.Generator().manual_seed(6)
    wanted = torch.randn(16, 16, 3, 3, 3, generator=generator)
    layer = nn.Conv3d(16, 16, 3, padding=1, bias=False)
    optimizer = Muon(layer.named_parameters(), lr=0.1, betas=(0.9, 0.99))
    frames = torch.randn(2, 16, 4, 8, 8, generator=generator)
    target = nn.functional.conv3d(frames, wanted, padding=1)
    losses = []
    for _ in range(60):
        loss = (layer(frames) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 10


def test_the_count_of_steps_stays_on_the_cpu_when_it_is_loaded() -> None:
    """On a GPU, Adam waited for it twice per tensor. The meta device stands in for one."""

    def optimizer(device: str) -> Muon:
        bias = nn.Parameter(torch.zeros(3, device=device))
        bias.grad = torch.ones(3, device=device)
        return Muon([("bias", bias)], lr=1e-3, betas=(0.9, 0.99))

    first = optimizer("cpu")
    first.step()
    now = first.state_dict()
    older = {("steps" if name == "step" else name): value for name, value in now["state"][0].items()}
    for content in (now, {**now, "state": {0: older}}):
        resumed = optimizer("meta")
        resumed.load_state_dict(content)
        (state,) = resumed.state.values()
        assert {name: value.device.type for name, value in state.items()} == {
            "step": "cpu", "mean": "meta", "square": "meta"
        }  # fmt: skip
        assert state["step"] == 1


def test_first_and_last_layers_and_gates_take_their_share_of_the_rate() -> None:
    networks = [Flavr(FlavrConfig(width=16, encoder_bias=True)) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    frames = torch.rand(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    steps = []
    for network, rate in zip(networks, (1.0, 0.25), strict=True):
        optimizer = Muon(network.named_parameters(), lr=1e-3, betas=(0.9, 0.99), outer_rate=rate)
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        network(frames).square().mean().backward()
        optimizer.step()
        steps.append({name: new.detach() - before[name] for name, new in network.named_parameters()})
    ends = ("encoder.stem", "decoder.4", "feature_fuse", "outconv")
    for name, step in steps[0].items():
        share = 0.25 if name.startswith(ends) or "attn_layer" in name else 1
        torch.testing.assert_close(steps[1][name], step * share, rtol=1e-3, atol=1e-7, msg=name)
