"""The short table of a README, made of reports and kept true by a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flavr_benchmarks.errors import ReportError
from flavr_benchmarks.markdown import machine
from flavr_benchmarks.recommendation import speedup
from flavr_benchmarks.schema import Report, Row, write_text
from flavr_benchmarks.views import figure, milliseconds

BEGIN = "<!-- flavr-bench table: written by `flavr-bench table`, do not edit -->"
END = "<!-- end of flavr-bench table -->"

_HEAD = (
    "network",
    "size",
    "backend",
    "window",
    "CPU time",
    "against torch-eager",
    "flavr-run",
    "PSNR loss",
    "memory",
)


def readme_table(reports: Sequence[Report]) -> str:
    """All networks that were measured, and a line that says where."""
    lines = [list(_HEAD), ["---", "---", "---", *["---:"] * 6]]
    for report in reports:
        lines += [_line(report, row) for row in report.rows if not row.baseline and row.latency is not None]
    where = dict.fromkeys(_where(report) for report in reports)
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *where])


def _line(report: Report, row: Row) -> list[str]:
    network = report.network(row)
    eager = [
        other
        for other in report.rows
        if (other.key.backend, other.key.precision, other.key.size) == ("torch-eager", "fp32", row.key.size)
    ]
    found = speedup(eager[0], row) if eager and eager[0] is not row else None
    loss = row.quality.loss_db if row.quality is not None else None
    name = " ".join(word for word in (row.key.backend, row.key.graph, row.key.precision) if word)
    doubtful = row.latency is not None and bool(row.latency.unstable)
    return [
        "" if network is None else f"{network.arch} {network.factor}x, width {network.width}",
        row.key.size,
        name,
        milliseconds(row.latency.p50 if row.latency else None) + (" \\*" if doubtful else ""),
        milliseconds(row.latency.cpu if row.latency else None),
        "1x" if eager and eager[0] is row else "-" if found is None else f"{found[0]:.2f}x",
        figure(row.end_to_end.fps if row.end_to_end else None, 2, " fps"),
        figure(loss if loss is None or abs(loss) >= 0.005 else 0.0, 2, " dB"),
        figure(None if row.peak_rss is None else row.peak_rss / 1e6, 0, " MB"),
    ]


def _where(report: Report) -> str:
    threads = report.settings["threads"]
    versions = report.environment.libraries
    engines = ", ".join(
        f"{name} {versions[name]}" for name in sorted(versions) if name.startswith(("onnxruntime", "torch"))
    )
    return (
        f"Measured in turns on {machine(report.environment)}; threads: {threads}; {engines}; "
        f"{report.created[:10]}. \\* unstable, see the report."
    )


def put_into(path: Path, table: str, *, check: bool = False) -> None:
    """Replace what is between the marks.

    Raises:
        ReportError: the marks are not there, or `check` is set and something would change.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror})") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"{path} lacks the lines {BEGIN!r} and {END!r}")
    changed = f"{before}{BEGIN}\n{table}\n{END}{after}"
    if changed == text:
        return
    if check:
        raise ReportError(
            f"{path} differs from the reports; write it with flavr-bench table --into {path.name}"
        )
    write_text(path, changed)
