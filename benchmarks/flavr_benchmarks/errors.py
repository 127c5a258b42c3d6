"""Every error that flavr_benchmarks raises on purpose.

BenchError
├── UsageError            an option that cannot be honoured (exit code 2 on the command line)
├── ReportError           a report that cannot be read, written or compared
└── GateError             the figures break a limit of --fail-below (exit code 3)

A cell of the matrix that cannot be measured is no error: it is a row of the report with its reason.
Each message is one line that says what is wrong, with which file or value, and what to do about it.
"""

__all__ = ["BenchError", "GateError", "ReportError", "UsageError"]


class BenchError(Exception):
    """Root of the tree: catch it to catch everything flavr_benchmarks raises on purpose."""


class UsageError(BenchError):
    """An option that cannot be honoured, such as a backend that does not exist."""


class ReportError(BenchError):
    """A report that is missing, damaged, of another version, or cannot be written."""


class GateError(BenchError):
    """A measured figure breaks a limit that --fail-below set."""
