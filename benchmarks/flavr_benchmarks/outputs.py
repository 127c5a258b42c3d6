"""The files of a report."""

from __future__ import annotations

from pathlib import Path

from flavr_benchmarks.errors import ReportError
from flavr_benchmarks.markdown import markdown
from flavr_benchmarks.run import Outcome
from flavr_benchmarks.schema import write_report, write_text

NAMES = ("report.json", "report.md", "report.html")


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Raise ReportError where a report is there already."""
    present = [name for name in NAMES if (folder / name).exists()]
    if present and not overwrite:
        raise ReportError(
            f"{folder / present[0]} exists already; choose another folder with -o, or give --overwrite"
        )


def make_folder(folder: Path) -> None:
    """Raise ReportError where nothing could be written in the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".flavr-bench").touch()
        (folder / ".flavr-bench").unlink()
    except OSError as error:
        raise ReportError(
            f"{folder} cannot be written to ({error.strerror}); choose another with -o"
        ) from error


def write_outputs(folder: Path, outcome: Outcome) -> None:
    """All three files. Raises ReportError."""
    from flavr_benchmarks.html import html

    write_report(folder / "report.json", outcome.report)
    write_text(folder / "report.md", markdown(outcome.report))
    write_text(folder / "report.html", html(outcome.report, outcome.strips))
