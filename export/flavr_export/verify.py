"""Comparing an exported file, run by ONNX Runtime on the CPU, with PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from flavr.config import MULTIPLE
from flavr.network import Flavr
from flavr_export._calibration import Window
from flavr_export._frames import extreme_frames, structured_frames
from flavr_export.errors import ExportError, MismatchError, MissingPackageError
from flavr_export.spec import ALLOWED_ON_EXTREMES, Allowed, ExportSpec

if TYPE_CHECKING:
    import onnxruntime

VERIFIED_SIZES = ((64, 88), (51, 77))
"""(height, width) of the frames for graphs of dynamic shape: one that needs no padding, one odd in both."""

LARGEST_VERIFIED = 512 * 512
"""Pixels of the largest fixed shape that is run: the published network takes 3 s and 2 GB for them on two CPU
cores, and would take minutes and the memory of a workstation at 1080p."""


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported file's output is from PyTorch's, over every frame compared."""

    max_abs: float  # of the network's output in [0, 1]; for uint8 files, beyond the rounding to code values
    psnr: float  # dB, of the difference between the two; infinite where they are identical
    sizes: tuple[tuple[int, int], ...]  # (height, width) of the frames compared


def verify(
    model: bytes,
    network: Flavr,
    spec: ExportSpec,
    allowed: Allowed,
    sizes: Sequence[tuple[int, int]] = VERIFIED_SIZES,
) -> Parity:
    """Run the exported graph and PyTorch on the same structured frames.

    Args:
        sizes: (height, width) of these frames; without any, the graph is only loaded.

    Raises:
        MismatchError: the difference exceeds what is `allowed`, or a shape or number is wrong.
        ExportError: ONNX Runtime does not load or run the graph.
    """
    session = _session(model)
    worst, squared, count = 0.0, 0.0, 0
    for seed, (height, width) in enumerate(sizes):
        frames = structured_frames(height, width, seed)
        difference = _compared(session, network, spec, allowed, frames, f"at {height}x{width}")
        worst = max(worst, difference.largest)
        squared, count = squared + float((difference.values**2).sum()), count + difference.values.size
    return Parity(worst, _decibels(squared, count), tuple(sizes))


def verify_extremes(model: bytes, network: Flavr, spec: ExportSpec) -> None:
    """Compare on pictures that drive a network to its limits: black, white, flicker, noise of 0 and 255.

    Raises:
        MismatchError: as `verify` does; infinite numbers are what half precision would show here.
    """
    session = _session(model, optimise=False)
    for name, frames in extreme_frames(*VERIFIED_SIZES[0]).items():
        _compared(session, network, spec, ALLOWED_ON_EXTREMES, frames, f"on {name}")


@dataclass(frozen=True, slots=True)
class _Difference:
    largest: float  # in [0, 1]; for uint8 files, beyond the rounding to code values
    values: NDArray[np.float32]


def _compared(
    session: onnxruntime.InferenceSession,
    network: Flavr,
    spec: ExportSpec,
    allowed: Allowed,
    frames: Sequence[NDArray[np.uint8]],
    where: str,
) -> _Difference:
    """The difference between both on these frames, refused where it is more than is allowed."""
    expected = pytorch_frames(network, frames)
    if not np.isfinite(expected).all():
        raise MismatchError(
            "the network makes NaN or infinite values out of ordinary frames; no file was written"
        )
    actual = _run(session, spec, frames, network.config.n_outputs)
    if actual.shape != expected.shape:
        raise MismatchError(
            f"the exported graph returns {list(actual.shape)} {where}, PyTorch {list(expected.shape)}"
        )
    difference, values = actual - expected, actual - expected
    if spec.io == "uint8":
        codes = expected.clip(0, 1) * 255
        difference = np.maximum(np.abs(actual - codes) - 0.5, 0) / 255
        values = (actual - codes.round()) / 255
    largest = float(np.abs(difference).max())
    if not largest <= allowed.max_abs:  # written so that NaN fails too
        raise MismatchError(
            f"the exported graph differs from PyTorch by {largest:.2e} {where} "
            f"(allowed: {allowed.max_abs:.0e}); no file was written"
        )
    psnr = _decibels(float((difference**2).sum()), difference.size)
    if psnr < allowed.psnr:
        raise MismatchError(
            f"the exported graph is {psnr:.1f} dB from PyTorch {where} "
            f"(at least {allowed.psnr:g} dB are asked); no file was written"
        )
    return _Difference(largest, values)


def _decibels(squared: float, count: int) -> float:
    return math.inf if squared == 0 else -10 * math.log10(squared / count)


def code_values(model: bytes, windows: Sequence[Window]) -> list[NDArray[np.float32]]:
    """What a graph of uint8 pictures makes of each window, as [n, H, W, 3]."""
    session = _session(model)
    names = [value.name for value in session.get_outputs()]
    made = []
    for window in windows:
        outputs = session.run(names, {f"frame{t}": frame for t, frame in enumerate(window.frames)})
        made.append(np.concatenate(outputs).astype(np.float32))
    return made


def pytorch_frames(network: Flavr, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """What the network makes of four pictures of any size: mean of the real pixels, repeated edges.

    Args:
        frames: four uint8 [B, H, W, 3] RGB pictures.

    Returns:
        float32 [n_outputs, B, 3, H, W] in [0, 1], not clamped.
    """
    stacked = torch.from_numpy(np.stack(frames, axis=1)).permute(0, 4, 1, 2, 3).float() / 255
    height, width = stacked.shape[3:]
    mean = stacked.mean(dim=(2, 3, 4), keepdim=True)
    padded = F.pad(stacked, (0, -width % MULTIPLE, 0, -height % MULTIPLE, 0, 0), mode="replicate")
    with torch.inference_mode():
        mids = network.eval().synthesise(padded, mean)[..., :height, :width]
    return np.asarray(mids.transpose(0, 1).numpy())


def _run(
    session: onnxruntime.InferenceSession,
    spec: ExportSpec,
    frames: Sequence[NDArray[np.uint8]],
    n_outputs: int,
) -> NDArray[np.float32]:
    """The graph's output as float32 [n_outputs, B, 3, H, W]: in [0, 1], or code values for a uint8 file."""
    feeds: dict[str, NDArray[np.generic]]
    if spec.io == "uint8":
        feeds = dict(zip(spec.input_names, frames, strict=True))
    else:
        planar = [np.ascontiguousarray(frame.transpose(0, 3, 1, 2), np.float32) / 255 for frame in frames]
        if spec.io == "packed":
            feeds = {spec.input_names[0]: np.concatenate(planar, axis=1)}
        else:
            feeds = dict(zip(spec.input_names, planar, strict=True))
    try:
        outputs = session.run(list(spec.output_names(n_outputs + 1)), feeds)
    except Exception as error:  # ONNX Runtime has no error base class short of this
        raise ExportError(f"ONNX Runtime cannot run the exported graph: {_first_line(error)}") from error
    if spec.io == "packed":
        (packed,) = outputs
        return np.stack(np.split(packed, n_outputs, axis=1))
    stacked = np.stack(outputs)
    return stacked.transpose(0, 1, 4, 2, 3).astype(np.float32) if spec.io == "uint8" else stacked


def _session(model: bytes, *, optimise: bool = True) -> onnxruntime.InferenceSession:
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no error base class short of this
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {_first_line(error)}") from error


def import_onnxruntime() -> Any:  # onnxruntime ships no types
    """The onnxruntime module.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "exports are verified with ONNX Runtime, which is not installed: pip install 'flavr[export,cpu]'"
        ) from error
    return onnxruntime


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
