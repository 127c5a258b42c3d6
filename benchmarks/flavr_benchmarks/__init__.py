"""flavr_benchmarks: which backend, precision and size to deploy, what that costs, and how sure it is.

`flavr-bench` is the command. Its report is one JSON file (`schema.Report`), and everything else is a view of
that. Names are loaded on first use, so that `flavr-bench --help` imports neither PyTorch nor ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flavr_benchmarks.comparison import Comparison, compare
    from flavr_benchmarks.errors import BenchError, GateError, ReportError, UsageError
    from flavr_benchmarks.schema import Report, read_report, write_report

_HOMES = {
    "BenchError": "errors",
    "Comparison": "comparison",
    "GateError": "errors",
    "Report": "schema",
    "ReportError": "errors",
    "UsageError": "errors",
    "compare": "comparison",
    "read_report": "schema",
    "write_report": "schema",
}

__all__ = [
    "BenchError",
    "Comparison",
    "GateError",
    "Report",
    "ReportError",
    "UsageError",
    "compare",
    "read_report",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"flavr_benchmarks.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'flavr_benchmarks' has no attribute {name!r}")
