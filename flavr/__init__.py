"""flavr: the FLAVR network in PyTorch (arXiv 2012.08512), its checkpoints, training and validation.

Names are loaded on first use, so that `import flavr` (which the command lines do for `--help`) does not
import PyTorch.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flavr.checkpoints import Checkpoint, infer_config, load_checkpoint, save_checkpoint
    from flavr.config import FlavrConfig
    from flavr.errors import CheckpointError, FlavrError
    from flavr.network import Flavr

try:
    __version__ = version("flavr")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "Checkpoint": "flavr.checkpoints",
    "CheckpointError": "flavr.errors",
    "Flavr": "flavr.network",
    "FlavrConfig": "flavr.config",
    "FlavrError": "flavr.errors",
    "infer_config": "flavr.checkpoints",
    "load_checkpoint": "flavr.checkpoints",
    "save_checkpoint": "flavr.checkpoints",
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Flavr",
    "FlavrConfig",
    "FlavrError",
    "infer_config",
    "load_checkpoint",
    "save_checkpoint",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'flavr' has no attribute {name!r}")
