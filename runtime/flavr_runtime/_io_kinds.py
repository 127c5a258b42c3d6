"""The three kinds of inputs and outputs that flavr-export writes, and how pictures fit them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from flavr_runtime.colour import at_depth
from flavr_runtime.frames import Rgb

_FRAMES = ("frame0", "frame1", "frame2", "frame3")
Tensor = NDArray[np.generic]
T = TypeVar("T")  # a tensor, wherever it is


class IoKind(Protocol):
    """One kind: names and type of the graph's ends, and the conversion from and to pictures [H, W, 3]."""

    @property
    def tensor_type(self) -> str: ...

    @property
    def input_names(self) -> tuple[str, ...]: ...

    def output_names(self, factor: int) -> tuple[str, ...]: ...

    @property
    def packed(self) -> bool:
        """Whether the frames of a window go into one tensor, which then has to be made anew for each."""
        ...

    def tensor(self, frame: Rgb) -> Tensor:
        """One frame as the graph takes it: made once, though four windows use it."""
        ...

    def feed(self, tensors: Sequence[T]) -> dict[str, T]:
        """The graph's inputs, from the tensors of a window."""
        ...

    def pictures(self, outputs: Sequence[Tensor], bits: int) -> list[Rgb]:
        """`bits`: 8 for uint8, 16 for uint16 where this kind can make it."""
        ...


def _mid_names(factor: int) -> tuple[str, ...]:
    return tuple(f"mid{n}" for n in range(1, factor))


@dataclass(frozen=True, slots=True)
class Uint8Io:
    """uint8 [B, H, W, 3] per frame; everything else is in the graph. Deeper pictures are rounded."""

    tensor_type: str = "tensor(uint8)"
    input_names: tuple[str, ...] = _FRAMES
    packed: bool = False

    def output_names(self, factor: int) -> tuple[str, ...]:
        return _mid_names(factor)

    def tensor(self, frame: Rgb) -> Tensor:
        return at_depth(frame, 8)[None]

    def feed(self, tensors: Sequence[T]) -> dict[str, T]:
        return dict(zip(self.input_names, tensors, strict=True))

    def pictures(self, outputs: Sequence[Tensor], bits: int) -> list[Rgb]:  # noqa: ARG002  # always 8
        return [output[0].astype(np.uint8, copy=False) for output in outputs]


@dataclass(frozen=True, slots=True)
class FloatIo:
    """float32 [B, 3, H, W] per frame in [0, 1], not clamped."""

    tensor_type: str = "tensor(float)"
    input_names: tuple[str, ...] = _FRAMES
    packed: bool = False

    def output_names(self, factor: int) -> tuple[str, ...]:
        return _mid_names(factor)

    def tensor(self, frame: Rgb) -> Tensor:
        return _planar(frame)

    def feed(self, tensors: Sequence[T]) -> dict[str, T]:
        return dict(zip(self.input_names, tensors, strict=True))

    def pictures(self, outputs: Sequence[Tensor], bits: int) -> list[Rgb]:
        return [_quantised(output[0], bits) for output in outputs]


@dataclass(frozen=True, slots=True)
class PackedIo:
    """One float32 [1, 12, H, W] in, one [1, 3 n, H, W] out, in [0, 1], not clamped."""

    tensor_type: str = "tensor(float)"
    input_names: tuple[str, ...] = ("frames",)
    packed: bool = True

    def output_names(self, factor: int) -> tuple[str, ...]:  # noqa: ARG002  # the same for any factor
        return ("mids",)

    def tensor(self, frame: Rgb) -> Tensor:
        return _planar(frame)

    def feed(self, tensors: Sequence[T]) -> dict[str, T]:
        return {"frames": cast("T", np.concatenate(cast("Sequence[Tensor]", tensors), axis=1))}

    def pictures(self, outputs: Sequence[Tensor], bits: int) -> list[Rgb]:
        planes = outputs[0][0]
        return [_quantised(planes[start : start + 3], bits) for start in range(0, len(planes), 3)]


IO_KINDS: Mapping[str, IoKind] = MappingProxyType(
    {"uint8": Uint8Io(), "float": FloatIo(), "packed": PackedIo()}
)


def _planar(frame: Rgb) -> NDArray[np.float32]:
    """[H, W, 3] -> float32 [1, 3, H, W] in [0, 1]."""
    scale = np.float32(1 / np.iinfo(frame.dtype).max)
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None], dtype=np.float32) * scale


def _quantised(picture: NDArray[np.generic], bits: int) -> Rgb:
    """float [3, H, W] in [0, 1] -> [H, W, 3], rounded to nearest even as the uint8 graph does."""
    white = (1 << bits) - 1
    codes = np.rint(picture.astype(np.float32, copy=False) * np.float32(white)).clip(0, white)
    return np.ascontiguousarray(codes.astype(np.uint8 if bits == 8 else np.uint16).transpose(1, 2, 0))
