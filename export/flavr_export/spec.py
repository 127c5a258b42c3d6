"""What can be asked of an export, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from flavr.config import WINDOW
from flavr_export.errors import UnsupportedError

GraphForm = Literal["conv2d", "conv3d", "winograd"]
Io = Literal["uint8", "float", "packed"]
Padding = Literal["pad", "slices"]

DEFAULT_OPSET = 18
"""Runtimes match some kernels only at the exact version that an opset gives an operator: CUDA and DirectML
dropped Pad-19 and Conv-22 to the CPU in silence. 18 is the newest that all of them run."""

OLDEST_OPSET = 13
"""Up to 12, Unsqueeze takes its axes as an attribute and Slice, Pad and Clip have narrower types."""

Precision = Literal["fp32", "fp16", "int8"]
Calibration = Literal["minmax", "percentile", "entropy"]

CALIBRATIONS: tuple[Calibration, ...] = get_args(Calibration)


@dataclass(frozen=True, slots=True)
class Allowed:
    """How far an export's frames may be from PyTorch's."""

    max_abs: float  # of [0, 1]
    psnr: float  # dB of the difference, at the least


ALLOWED: Mapping[Precision, Allowed] = MappingProxyType(
    {
        "fp32": Allowed(max_abs=1e-3, psnr=80),
        "fp16": Allowed(max_abs=2e-2, psnr=60),
        # On drawn frames, which nothing was calibrated with; real ones decide, when ranges are chosen.
        "int8": Allowed(max_abs=0.5, psnr=25),
    }
)

ALLOWED_ON_EXTREMES = Allowed(max_abs=0.1, psnr=40)
"""The same on pictures that drive a network to its limits, where an overflow would show."""

LARGEST_SIDE = 16384
"""Pixels; beyond 16K video there are only typing errors."""

FORMAT_VERSION = "1"
"""Version of the contract between the file and the runtime: inputs, outputs and `flavr.*` metadata."""


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """The form of one exported file. The defaults are what flavr-export writes without options."""

    graph: GraphForm = "conv2d"  # conv2d: no tensor of rank 5; conv3d: as published; winograd: for CPUs
    io: Io = "uint8"
    size: tuple[int, int] | None = None  # (height, width), batch 1; None leaves all three dynamic
    opset: int = DEFAULT_OPSET
    padding: Padding = "pad"  # slices: borders by Slice and Concat, for runtimes without reflect Pad
    sums: bool = True  # conv2d may add frames' products up; in 8 bits each would be rounded first
    subpixel: bool = False  # conv2d: transposed convolutions as 2x2 ones, which have 8-bit kernels

    def __post_init__(self) -> None:
        for name, value, known in (
            ("graph", self.graph, get_args(GraphForm)),
            ("io", self.io, get_args(Io)),
            ("padding", self.padding, get_args(Padding)),
        ):
            if value not in known:
                raise UnsupportedError(f"{name} {value} is not known; known: {', '.join(known)}")
        if self.size is not None and min(self.size) < 1:
            height, width = self.size
            raise UnsupportedError(f"size {height}x{width}: height and width must be at least 1")
        if self.size is not None and max(self.size) > LARGEST_SIDE:
            height, width = self.size
            raise UnsupportedError(f"size {height}x{width}: height and width can be {LARGEST_SIDE} at most")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Graph inputs, in time order."""
        return ("frames",) if self.io == "packed" else tuple(f"frame{i}" for i in range(WINDOW))

    def output_names(self, factor: int) -> tuple[str, ...]:
        """Graph outputs, in time order between frame1 and frame2."""
        return ("mids",) if self.io == "packed" else tuple(f"mid{i}" for i in range(1, factor))
