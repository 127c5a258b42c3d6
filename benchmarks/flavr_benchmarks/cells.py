"""The matrix: every combination of backend, network variant and frame size that is to be measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flavr_benchmarks.backends import Backend
from flavr_benchmarks.errors import UsageError
from flavr_benchmarks.schema import Failure, Key

Size = tuple[int, int]  # height, width

SIZES = {"480p": (480, 854), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
_NO_GRAPH = {"checkpoint": "pytorch", "nothing": ""}


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of the network, as a file; `failure` says why there is none."""

    model: str  # its name in the report
    graph: str
    precision: str
    path: Path | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One row of the report: a backend running a variant at a size."""

    backend: Backend
    variant: Variant
    size: Size
    threads: int | None

    @property
    def key(self) -> Key:
        return Key(
            backend=self.backend.name,
            model=self.variant.model,
            graph=self.variant.graph,
            precision=self.variant.precision,
            size=size_name(self.size),
            threads=self.threads,
        )


def parse_size(text: str) -> Size:
    """256x448 (height x width) or a name of SIZES.

    Raises:
        UsageError: neither.
    """
    if text.lower() in SIZES:
        return SIZES[text.lower()]
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if min(size) < 16:
        raise UsageError(
            f"--size {text!r}: write height x width, 16 or more, as 256x448, or one of {', '.join(SIZES)}"
        )
    return size


def size_name(size: Size) -> str:
    """720p where it is one of SIZES, else HxW."""
    named = {value: name for name, value in SIZES.items()}
    return named.get(size, f"{size[0]}x{size[1]}")


def matrix(
    backends: Sequence[Backend],
    onnx_variants: Sequence[Variant],
    checkpoint: Path | None,
    precisions: Sequence[str],
    sizes: Sequence[Size],
    threads: int | None,
    *,
    named: bool = True,
) -> list[Cell]:
    """Every cell, those of one size together, so that what is compared is measured side by side.

    Args:
        named: the backends were asked for by name: what one of them never does is a row that says so.
            Otherwise it is left out.
    """
    return [
        Cell(backend, variant, size, threads)
        for size in sizes
        for backend in backends
        for variant in _variants_for(backend, onnx_variants, checkpoint, precisions)
        if named or backend.takes != "checkpoint" or variant.failure is None
    ]


def _variants_for(
    backend: Backend, onnx_variants: Sequence[Variant], checkpoint: Path | None, precisions: Sequence[str]
) -> list[Variant]:
    if backend.takes == "onnx":
        return list(onnx_variants)
    graph = _NO_GRAPH[backend.takes]
    if backend.takes == "nothing":
        return [Variant("", graph, "")]
    if checkpoint is None:
        missing = Failure("unsupported", "runs checkpoints, and none was given; add --ckpt model.pth")
        return [Variant("", graph, "fp32", None, missing)]
    return [
        Variant(checkpoint.stem, graph, precision, checkpoint, _refusal(backend, precision))
        for precision in precisions
    ]


def _refusal(backend: Backend, precision: str) -> Failure | None:
    if precision in backend.precisions:
        return None
    known = ", ".join(backend.precisions)
    return Failure("unsupported", f"{backend.name} runs {known}; {precision} is for exported files")
