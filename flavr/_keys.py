"""The names that FLAVR's tensors go by in different code bases, mapped to the published ones."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# What training wrappers put before every key, in any order and number.
_WRAPPERS = re.compile(r"^(?:(?:module|generator|_orig_mod)\.)+")

# MMagic's FLAVRNet: same tensors, other names (its ConvModule calls the layers conv and bn).
_MMAGIC = (
    (re.compile(r"^encoder\.stem_layer\.conv\."), "encoder.stem.0."),
    (re.compile(r"^encoder\.stem_layer\.bn\."), "encoder.stem.1."),
    (re.compile(r"^(encoder\.layer\d\.\d+\.(?:conv1|conv2|downsample))\.conv\."), r"\1.0."),
    (re.compile(r"^(encoder\.layer\d\.\d+\.(?:conv1|conv2|downsample))\.bn\."), r"\1.1."),
    (re.compile(r"^decoder\.layer(\d)\."), r"decoder.\1."),
    (re.compile(r"^feature_fuse\.conv\.(?=weight|bias)"), "feature_fuse.conv.0."),
    (re.compile(r"^feature_fuse\.bn\."), "feature_fuse.conv.1."),
    (re.compile(r"^conv_last\."), "outconv."),
)

# Bookkeeping of training frameworks that is no part of the network.
_IGNORED = re.compile(r"^(?:data_preprocessor|generator_ema|loss|perceptual_loss)\.|^step_counter$")


def canonical_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the published names; keys that no table knows stay as they are."""
    return {_canonical(key): tensor for key, tensor in state_dict.items() if not _IGNORED.match(key)}


def _canonical(key: str) -> str:
    key = _WRAPPERS.sub("", key)
    for pattern, name in _MMAGIC:
        key = pattern.sub(name, key)
    return key
