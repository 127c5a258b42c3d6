"""flavr_export: FLAVR checkpoints to verified ONNX files.

Names are loaded on first use, so that `flavr-export --help` imports neither PyTorch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flavr_export.compatibility import Blocker, blockers
    from flavr_export.errors import (
        CalibrationError,
        ExportError,
        MismatchError,
        MissingPackageError,
        UnsupportedError,
    )
    from flavr_export.exporter import Exported, export
    from flavr_export.spec import ExportSpec
    from flavr_export.targets import TARGETS, Target
    from flavr_export.verify import Parity

_HOMES = {
    "TARGETS": "targets",
    "Blocker": "compatibility",
    "CalibrationError": "errors",
    "ExportError": "errors",
    "ExportSpec": "spec",
    "Exported": "exporter",
    "MismatchError": "errors",
    "MissingPackageError": "errors",
    "Parity": "verify",
    "Target": "targets",
    "UnsupportedError": "errors",
    "blockers": "compatibility",
    "export": "exporter",
}

__all__ = [
    "TARGETS",
    "Blocker",
    "CalibrationError",
    "ExportError",
    "ExportSpec",
    "Exported",
    "MismatchError",
    "MissingPackageError",
    "Parity",
    "Target",
    "UnsupportedError",
    "blockers",
    "export",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"flavr_export.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'flavr_export' has no attribute {name!r}")
