"""Exported files are measured as flavr-run runs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flavr_benchmarks import _ort_adapter
from flavr_benchmarks._ort_adapter import OrtWorkload
from flavr_benchmarks.workload import Task
from flavr_runtime.frames import Rgb
from flavr_runtime.session import Session
from model_files import write_blend_model


def pictures(height: int, width: int) -> list[Rgb]:
    return [np.full((height, width, 3), 40 * number, np.uint8) for number in range(4)]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Of the sessions that are made."""
    found: list[object] = []

    class Noted(Session):
        def __init__(self, *arguments: Any, size: tuple[int, int] | None = None, **named: Any) -> None:
            found.append(size)
            super().__init__(*arguments, size=size, **named)

    monkeypatch.setattr(_ort_adapter, "Session", Noted)
    return found


def test_the_session_knows_the_size_and_is_another_where_that_was_fixed(
    tmp_path: Path, sizes: list[object]
) -> None:
    model = write_blend_model(tmp_path / "average.onnx")
    workload = OrtWorkload(Task({"provider": "cpu"}, str(model), "fp32", 1, 2, (16, 24)))
    (made,), _ = workload.window(pictures(16, 24))
    assert (made == 60).all()
    workload.exact(pictures(32, 40))  # a data set of another size: the CPU takes any
    assert sizes == [(16, 24)]
    engine = workload._selected.engine
    assert engine is not None
    workload._selected = replace(workload._selected, engine=replace(engine, fixed_shapes=True))
    assert workload.exact(pictures(32, 40)).shape == (1, 32, 40, 3)
    workload.exact(pictures(32, 40))
    assert sizes == [(16, 24), (32, 40)]


def test_threads_are_those_that_the_session_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of 64 cores of which it may use 2, not 64."""
    model = write_blend_model(tmp_path / "average.onnx")
    monkeypatch.setattr("flavr_runtime.session.allowed_threads", lambda: 1)
    for asked in (None, 1):
        task = Task({"provider": "cpu"}, str(model), "fp32", asked, 2, (16, 24))
        assert OrtWorkload(task).describe().threads == 1
