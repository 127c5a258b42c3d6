"""What a checkpoint file holds, as each training code lays it out."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flavr import Flavr


def mmagic_name(key: str) -> str:
    """The name that MMagic's FLAVRNet gives the tensor of this published name."""
    for published, theirs in (
        (r"^encoder\.stem\.0\.", "encoder.stem_layer.conv."),
        (r"^encoder\.stem\.1\.", "encoder.stem_layer.bn."),
        (r"^(encoder\.layer.*\.(conv1|conv2|downsample))\.0\.", r"\1.conv."),
        (r"^(encoder\.layer.*\.(conv1|conv2|downsample))\.1\.", r"\1.bn."),
        (r"^decoder\.(\d)\.", r"decoder.layer\1."),
        (r"^feature_fuse\.conv\.0\.", "feature_fuse.conv."),
        (r"^feature_fuse\.conv\.1\.", "feature_fuse.bn."),
        (r"^outconv\.", "conv_last."),
    ):
        key = re.sub(published, theirs, key)
    return key


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def published(network: Flavr) -> dict[str, Any]:
    """What the published training script saves after a step of Adam, keys as DataParallel names them."""
    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    sum(parameter.sum() for parameter in network.parameters()).backward()  # type: ignore[union-attr]
    adam.step()
    return {
        "epoch": 12,
        "state_dict": prefixed("module.", network.state_dict()),
        "optimizer": adam.state_dict(),
        "lr": 2e-4,
        "best_psnr": np.float64(31.25),
    }


def mmagic(network: Flavr) -> dict[str, Any]:
    tensors = {mmagic_name(key): tensor for key, tensor in network.state_dict().items()}
    bookkeeping = {"step_counter": torch.tensor(5), "data_preprocessor.mean": torch.zeros(3)}
    return {
        "meta": {"mmagic_version": "1.2.0", "cfg": "model = dict(type='FLAVR')"},
        "state_dict": prefixed("generator.", tensors) | bookkeeping,
    }


LAYOUTS: dict[str, Callable[[Flavr], object]] = {
    "published": published,
    "published_without_module": lambda net: {"epoch": 1, "state_dict": net.state_dict()},
    "bare": lambda net: net.state_dict(),
    "nested": lambda net: {"epoch": 3, "model": {"state_dict": net.state_dict(), "name": "flavr"}},
    "net": lambda net: {"net": net.state_dict(), "step": 7},
    "mean_of_weights_alone": lambda net: {"ema": net.state_dict()},
    "bare_ordered_with_module": lambda net: OrderedDict(prefixed("module.", net.state_dict())),
    "compiled": lambda net: {"model": prefixed("_orig_mod.module.", net.state_dict())},
    "mmagic": mmagic,
    "mmagic_without_prefix": lambda net: {mmagic_name(k): v for k, v in net.state_dict().items()},
}
