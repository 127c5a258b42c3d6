"""flavr_runtime: FLAVR models on ONNX Runtime, for video files and for other programs.

    from flavr_runtime import Interpolator

    interpolator = Interpolator(provider="cpu")        # or a file of flavr-export's: Interpolator("m.onnx")
    (middle,) = interpolator.between(f0, f1, f2, f3)   # uint8 [H, W, 3] RGB arrays
    for frame in interpolator.stream(frames, factor=4):
        ...

Needs neither PyTorch nor onnx. Names are loaded on first use, which keeps `flavr-run --help` fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flavr_runtime.errors import (
        FlavrRuntimeError,
        InputError,
        ModelError,
        OutOfMemoryError,
        OutputError,
        ProviderError,
        UsageError,
    )
    from flavr_runtime.frames import Frame, FrameSink, FrameSource, Rgb, StreamInfo
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.model_info import ModelInfo
    from flavr_runtime.pipeline import Progress, interpolate

_HOMES = {
    "FlavrRuntimeError": "errors",
    "Frame": "frames",
    "FrameSink": "frames",
    "FrameSource": "frames",
    "InputError": "errors",
    "Interpolator": "interpolator",
    "ModelError": "errors",
    "ModelInfo": "model_info",
    "OutOfMemoryError": "errors",
    "OutputError": "errors",
    "Progress": "pipeline",
    "ProviderError": "errors",
    "Rgb": "frames",
    "StreamInfo": "frames",
    "UsageError": "errors",
    "interpolate": "pipeline",
}

__all__ = [
    "FlavrRuntimeError",
    "Frame",
    "FrameSink",
    "FrameSource",
    "InputError",
    "Interpolator",
    "ModelError",
    "ModelInfo",
    "OutOfMemoryError",
    "OutputError",
    "Progress",
    "ProviderError",
    "Rgb",
    "StreamInfo",
    "UsageError",
    "interpolate",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"flavr_runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'flavr_runtime' has no attribute {name!r}")
