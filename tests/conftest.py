"""Networks, checkpoint files and frames that the tests of the model and of the export share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flavr.config import FlavrConfig

if TYPE_CHECKING:  # PyTorch is imported where it is used: the tests of the runtime pass without it
    from torch import Generator, Tensor

    from flavr import Flavr

pytest_plugins = ("tiny_runs",)

VARIANTS = {
    "18_2x": FlavrConfig(width=4),
    "18_3x": FlavrConfig(width=4, factor=3),
    "18_4x_bias": FlavrConfig(width=4, factor=4, encoder_bias=True),
    "18_8x_bias_bn": FlavrConfig(width=4, factor=8, encoder_bias=True, batchnorm=True),
    "34_2x": FlavrConfig(width=4, arch="unet_34"),
    "34_8x_bias": FlavrConfig(width=4, arch="unet_34", factor=8, encoder_bias=True),
    "add": FlavrConfig(width=4, join="add"),
    "none_bias": FlavrConfig(width=4, join="none", encoder_bias=True),
    "upsample": FlavrConfig(width=4, upmode="upsample"),
    "bn": FlavrConfig(width=4, batchnorm=True),
    "34_4x_add_upsample_bn": FlavrConfig(
        width=4, arch="unet_34", factor=4, join="add", upmode="upsample", batchnorm=True
    ),
}
"""Every depth, factor, join, upmode, BatchNorm and bias at least once, at a width that runs in no time."""


@pytest.fixture(autouse=True)
def errors_as_users_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLAVR_DEBUG", raising=False)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> FlavrConfig:
    return VARIANTS[request.param]


@pytest.fixture(scope="session")
def tiny_network() -> Callable[[FlavrConfig], Flavr]:
    """Makes networks in evaluation mode, always the same for one configuration."""
    return _tiny_network


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[FlavrConfig], Path]:
    """Makes checkpoint files of `tiny_network`'s networks, each once."""
    from flavr import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints")

    def make(config: FlavrConfig) -> Path:
        path = folder / f"{'_'.join(map(str, asdict(config).values()))}.pth"
        if not path.exists():
            save_checkpoint(path, _tiny_network(config), epoch=7, best_psnr=31.5)
        return path

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes anything that torch.save takes."""
    import torch

    def save(content: object, name: str = "model.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture(scope="session")
def frames() -> Callable[..., list[NDArray[np.uint8]]]:
    """Makes four uint8 [batch, height, width, 3] pictures of a moving scene, another one for each clip."""
    from flavr_export._frames import structured_frames

    def make(height: int, width: int, batch: int = 1) -> list[NDArray[np.uint8]]:
        clips = [structured_frames(height, width, seed) for seed in range(batch)]
        return [np.concatenate(pictures) for pictures in zip(*clips, strict=True)]

    return make


def _tiny_network(config: FlavrConfig) -> Flavr:
    from flavr import Flavr

    network = Flavr(config).eval()
    network.load_state_dict(_tiny_weights(config))
    return network


@cache
def _tiny_weights(config: FlavrConfig) -> Mapping[str, Tensor]:
    """Default weights leave a network of width 4 almost dead. Here each tensor changes the output."""
    import torch

    from flavr import Flavr

    torch.set_num_threads(1)  # at this size threads wait longer for each other than they work
    random = torch.Generator().manual_seed(1)
    network = Flavr(config).eval()
    for name, tensor in network.state_dict().items():
        tensor.copy_(_weight_that_matters(name, tensor, random))
    with torch.inference_mode():
        noise = torch.rand(1, 3, 4, 32, 32, generator=random)
        spread = (network(noise) - noise.mean(dim=(2, 3, 4)).reshape(1, 1, 3, 1, 1)).std()
    network.state_dict()["outconv.1.weight"].mul_(0.2 / spread)  # frames between black and white
    return network.state_dict()


def _weight_that_matters(name: str, like: Tensor, random: Generator) -> Tensor:
    import torch

    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    normal = torch.randn(like.shape, generator=random)
    if "attn_layer" in name:
        return normal * (4 / math.sqrt(like.shape[1]) if like.ndim > 1 else 1)  # neither open nor shut
    if like.ndim > 1:
        fan_in = like[0].numel() if "upconv.0" not in name else like[:, 0].numel() / 4
        # Activations of one size from end to end: the decoder's gates halve theirs.
        return normal * math.sqrt((8 if "decoder" in name else 2) / fan_in)
    positive = name.endswith(("running_var", ".weight"))
    return torch.rand(like.shape, generator=random) + 0.5 if positive else normal * 0.1
