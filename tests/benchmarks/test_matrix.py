"""Which cells there are, and what becomes of those that a backend never runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flavr_benchmarks import run
from flavr_benchmarks.backends import BACKENDS, BASELINES
from flavr_benchmarks.cells import Cell, Variant, matrix
from flavr_benchmarks.gates import Gates
from flavr_benchmarks.scoring import Scorer
from made_reports import quality, report, row

EXPORTED = [Variant("m", "conv2d", "fp32", Path("a.onnx")), Variant("m", "conv2d", "int8", Path("b.onnx"))]


def cells(*, named: bool) -> list[Cell]:
    backends = [BACKENDS["ort-cpu"], BACKENDS["torch-eager"], *BASELINES]
    return matrix(backends, EXPORTED, Path("m.pth"), ["fp32", "int8"], [(32, 32)], 1, named=named)


def test_what_a_backend_never_runs_is_a_row_only_where_it_was_asked_for() -> None:
    """Else --precision int8 with the default backends would break every limit of --fail-below."""
    every = {(cell.key.backend, cell.key.precision): cell.variant.failure for cell in cells(named=True)}
    failure = every["torch-eager", "int8"]
    assert failure is not None
    assert failure.reason == "torch-eager runs fp32, bf16, fp16; int8 is for exported files"
    possible = {(cell.key.backend, cell.key.precision): cell.variant.failure for cell in cells(named=False)}
    assert every.keys() - possible.keys() == {("torch-eager", "int8")}
    assert not any(possible.values())


def test_the_limits_hold_for_the_default_backends_in_8_bits() -> None:
    rows = []
    for cell in cells(named=False):
        if not cell.backend.is_baseline:
            made = row(cell.key.backend, score=quality(31.0), failure=cell.variant.failure)
            made.key = cell.key
            rows.append(made)
    Gates({"psnr": 30.0, "loss": 0.2}).check(report(rows))
    assert len(rows) == 3


def test_a_reference_that_cannot_be_scored_is_said_and_the_report_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Process:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> Process:
            return self

        def __exit__(self, *_: object) -> None: ...

        def load(self) -> None: ...

    def no_numbers(*_: object) -> None:
        raise ValueError("its frames hold infinite values or none that is a number")

    monkeypatch.setattr(run, "CellProcess", Process)
    monkeypatch.setattr(Scorer, "make_reference", no_numbers)
    said: list[str] = []
    bench: Any = object.__new__(run.Bench)
    bench._plan = SimpleNamespace(
        subject=SimpleNamespace(checkpoint=Path("m.pth"), factor=2),
        quality=SimpleNamespace(),
        sizes=[(32, 32)],
        threads=1,
        timeout=1.0,
    )
    bench._say = said.append
    bench._windows_file = lambda _size: Path("windows.npy")
    bench.rows = []
    bench.networks = []
    bench._by_name = {"m": SimpleNamespace(sha256="ab")}
    bench.scorer = SimpleNamespace(
        reference=None, make_reference=no_numbers, compare_all=lambda rows: said.append(f"{len(rows)} rows")
    )
    bench.score_reference()
    assert said[1:] == [
        "the reference failed: its frames hold infinite values or none that is a number",
        "0 rows",
    ]
