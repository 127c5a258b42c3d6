"""The report as one HTML page that needs nothing else: no network, no font, no library."""

from __future__ import annotations

from collections.abc import Sequence

from flavr_benchmarks.markdown import libraries, machine
from flavr_benchmarks.plots import plots
from flavr_benchmarks.recommendation import recommend
from flavr_benchmarks.schema import Report
from flavr_benchmarks.strips import AMPLIFIED, Strip
from flavr_benchmarks.views import DETAILS, FIGURES, NAMES, PUBLISHED_NOTE, Column, remarks, scores, used


def html(report: Report, strips: Sequence[Strip] = ()) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("flavr_benchmarks"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        sentences=recommend(report),
        main=_table(report, used(FIGURES, report)),
        details=_table(report, used(DETAILS, report)),
        scores=scores(report),
        published_note=PUBLISHED_NOTE,
        plots=plots(report),
        strips=strips,
        amplified=AMPLIFIED,
        machine=machine(report.environment),
        libraries=libraries(report.environment),
    )


def _table(report: Report, columns: Sequence[Column]) -> dict[str, object]:
    rows = []
    for row in report.rows:
        cells = [
            {"text": column.text(report, row), "number": column.number(report, row), "words": column.words}
            for column in columns
        ]
        unstable = row.latency is not None and bool(row.latency.unstable)
        failure = row.failure
        rows.append(
            {
                "name": str(row.key),
                "names": [column.text(report, row) for column in NAMES],
                "cells": cells,
                "state": failure.kind if failure is not None else "unstable" if unstable else "measured",
                "failed": failure is not None,
                "reason": failure.reason if failure is not None else "",
                "baseline": row.baseline,
                "remarks": remarks(row),
            }
        )
    return {"names": list(NAMES), "columns": list(columns), "rows": rows}
