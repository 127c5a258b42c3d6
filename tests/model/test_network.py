"""The PyTorch network: what it computes, and that published weights fit it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from flavr import Flavr, FlavrConfig
from reference import basic_block, flavr_forward

MakeNetwork = Callable[[FlavrConfig], Flavr]
MakeFrames = Callable[..., list[NDArray[np.uint8]]]
PUBLISHED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_keys.json").read_text("utf-8")
)


def as_clip(pictures: list[NDArray[np.uint8]], dtype: torch.dtype = torch.float64) -> Tensor:
    """Pictures [B, H, W, 3] as the network's input [B, 3, 4, H, W]."""
    return torch.from_numpy(np.stack(pictures, axis=1)).permute(0, 4, 1, 2, 3).to(dtype) / 255


def as_arrays(network: Flavr) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def test_the_network_computes_what_the_paper_describes(
    variant: FlavrConfig, tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    network, clip = tiny_network(variant), as_clip(frames(16, 24, batch=2))
    expected = np.stack(flavr_forward(as_arrays(network), clip.numpy(), variant.join), axis=1)
    assert expected.shape == (2, variant.n_outputs, 3, 16, 24)
    with torch.inference_mode():
        np.testing.assert_allclose(network(clip.float()).numpy(), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(network.double()(clip).numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "config",
    [FlavrConfig(width=4), FlavrConfig(width=4, encoder_bias=True), FlavrConfig(width=4, batchnorm=True)],
    ids=["plain", "bias", "bn"],
)
@pytest.mark.parametrize(("layer", "stride"), [("layer1", 1), ("layer2", 2), ("layer4", 1)])
def test_a_residual_block_computes_what_the_paper_describes(
    config: FlavrConfig, layer: str, stride: int, tiny_network: MakeNetwork
) -> None:
    network = tiny_network(config).double()
    block = network.encoder.get_submodule(f"{layer}.0")
    inputs = block.get_parameter("conv1.0.weight").shape[1]
    x = torch.randn(2, inputs, 4, 6, 10, generator=torch.Generator().manual_seed(0)).double()
    expected = basic_block(x.numpy(), as_arrays(network), f"encoder.{layer}.0", stride)
    with torch.inference_mode():
        np.testing.assert_allclose(block(x).numpy(), expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(block.float()(x.float()).numpy(), expected, rtol=0, atol=1e-5)


def test_the_smallest_clip_is_interpolated(tiny_network: MakeNetwork, frames: MakeFrames) -> None:
    network = tiny_network(FlavrConfig(width=4)).double()
    clip = as_clip(frames(8, 8))
    (expected,) = flavr_forward(as_arrays(network), clip.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(network(clip)[:, 0].numpy(), expected, rtol=0, atol=1e-9)


def test_a_brighter_clip_gives_frames_brighter_by_the_same(
    tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    network = tiny_network(FlavrConfig(width=4)).double()
    clip = as_clip(frames(16, 16))
    tint = torch.tensor([0.1, -0.2, 0.3]).double().reshape(1, 3, 1, 1, 1)
    with torch.inference_mode():
        torch.testing.assert_close(
            network(clip + tint), network(clip) + tint.squeeze(2).unsqueeze(1), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize(
    "variant", ["34_2x", "none_bias", "18_8x_bias_bn", "34_4x_add_upsample_bn"], indirect=True
)
def test_comparisons_with_tiny_networks_prove_something(
    variant: FlavrConfig, tiny_network: MakeNetwork, frames: MakeFrames
) -> None:
    """Without any one of its tensors, some pixel is off by more than any tolerance here."""
    network = tiny_network(variant)
    clip = as_clip(frames(16, 16), torch.float32)
    with torch.inference_mode():
        usual = network(clip)
        assert usual.std() > 0.05
        assert -1 < usual.min() < usual.max() < 2
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            kept = tensor.clone()
            tensor.mul_(0)
            moved = (network(clip) - usual).abs().max().item()
            tensor.copy_(kept)
            assert moved > 1e-3, name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fit(name: str) -> None:
    facts = PUBLISHED[name]
    config = FlavrConfig(
        arch="unet_34" if "unet_34" in name else "unet_18",
        factor=facts["factor"],
        width=facts["width"],
        encoder_bias=facts["bias"],
    )
    with torch.device("meta"):
        network = Flavr(config)
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == facts["tensors"]
    assert sum(parameter.numel() for parameter in network.parameters()) == facts["parameters"]


def test_the_published_network_has_42_06_million_parameters() -> None:
    with torch.device("meta"):
        network = Flavr(FlavrConfig())
    assert f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.2f}" == "42.06"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 12, 16), "height 12 and width 16 must be multiples of 8"),
        ((1, 3, 4, 16, 9), "height 16 and width 9 must be multiples of 8"),
        ((1, 3, 5, 16, 16), "frames have shape (1, 3, 5, 16, 16); [B, 3, 4, H, W] is needed"),
        ((1, 4, 3, 16, 16), "frames have shape (1, 4, 3, 16, 16); [B, 3, 4, H, W] is needed"),
        ((3, 4, 16, 16), "frames have shape (3, 4, 16, 16); [B, 3, 4, H, W] is needed"),
    ],
)
def test_frames_of_a_wrong_shape_are_named(
    shape: tuple[int, ...], message: str, tiny_network: MakeNetwork
) -> None:
    with pytest.raises(ValueError, match=r"needed|multiples") as error:
        tiny_network(FlavrConfig(width=4))(torch.zeros(shape))
    assert str(error.value) == message


@pytest.mark.parametrize("size", [(0, 8), (8, 0)])
def test_frames_without_pixels_are_refused(size: tuple[int, int], tiny_network: MakeNetwork) -> None:
    with pytest.raises(ValueError, match="must be multiples of 8"):
        tiny_network(FlavrConfig(width=4))(torch.zeros(1, 3, 4, *size))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factor": 1}, "factor 1: at least 2 is needed to make a new frame"),
        ({"width": 0}, "width 0: at least 1 channel is needed"),
    ],
)
def test_a_network_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="at least") as error:
        replace(FlavrConfig(), **change)
    assert str(error.value) == message
