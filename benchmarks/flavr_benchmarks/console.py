"""What flavr-bench says on the terminal."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table

from flavr_benchmarks.recommendation import recommend
from flavr_benchmarks.schema import Report
from flavr_benchmarks.views import COST, NAMES, QUALITY, SPEED, remarks, used

if TYPE_CHECKING:
    from flavr_benchmarks.comparison import Comparison


_WIDE = 200  # a narrower terminal wraps, which beats cutting names off


class Teller:
    """Says what is being done: on one line that changes on a terminal, on a line each elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._status: Status | None = None

    def __call__(self, text: str, *, passing: bool = False) -> None:
        """`passing`: not worth a line in a log."""
        if self._status is not None:
            self._status.update(text)
        elif not passing:
            self._console.print(text, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()


def print_report(report: Report, folder: Path) -> None:
    """The table, the remarks, the recommendation, and where the rest is."""
    console = Console(highlight=False, markup=False, soft_wrap=True, width=_WIDE)
    table = Table(box=box.SIMPLE_HEAD)
    columns = used((*NAMES, *SPEED, *QUALITY, *COST), report)
    for column in columns:
        table.add_column(column.title, justify="left" if column.words else "right", no_wrap=True)
    for row in report.rows:
        style = "red" if row.failure else "yellow" if row.latency and row.latency.unstable else None
        table.add_row(*(column.text(report, row) for column in columns), style=style)
    console.print(table)
    for row in report.rows:
        for remark in remarks(row):
            console.print(f"{row.key}: {remark}")
    for sentence in recommend(report):
        console.print(sentence, style="bold")
    console.print(f"{folder / 'report.html'}, report.md and report.json")


def print_comparison(comparison: Comparison) -> None:
    """A line per cell, and what else differs."""
    console = Console(highlight=False, markup=False, soft_wrap=True, width=_WIDE)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("cell", "before", "after", "time", "95 %", "PSNR", "verdict"):
        table.add_column(title, justify="left" if title in ("cell", "verdict") else "right", no_wrap=True)
    styles = {"slower": "red", "worse": "red", "failed": "red", "faster": "green"}
    for change in comparison.changes:
        table.add_row(*change.cells(), style=styles.get(change.verdict))
    console.print(table)
    for remark in comparison.remarks:
        console.print(f"note: {remark}")
