"""The short table of a README, made of reports and kept true by a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flavr_benchmarks.errors import ReportError
from flavr_benchmarks.markdown import machine
from flavr_benchmarks.recommendation import speedup
from flavr_benchmarks.schema import Report, Row, write_text
from flavr_benchmarks.views import figure, milliseconds, short_names

BEGIN = "<!-- flavr-bench table: written by `flavr-bench table`, do not edit -->"
END = "<!-- end of flavr-bench table -->"

_HEAD = (
    "network",
    "size",
    "backend",
    "window",
    "CPU time",
    "against torch-eager",
    "PSNR loss",
    "memory",
)


def readme_table(reports: Sequence[Report]) -> str:
    """All networks that were measured, and a line that says where."""
    lines = [list(_HEAD), ["---", "---", "---", *["---:"] * 5]]
    for report in reports:
        lines += [_line(report, row) for row in report.rows if not row.baseline and row.latency is not None]
    where = dict.fromkeys(_where(report) for report in reports)
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *where])


def _line(report: Report, row: Row) -> list[str]:
    network = report.network(row)
    loss = row.quality.loss_db if row.quality is not None else None
    names = short_names(each.key.variant for each in report.rows)
    latency = row.latency
    return [
        "" if network is None else f"{network.arch} {network.factor}x, width {network.width}",
        row.key.size,
        names[row.key.variant],
        milliseconds(latency.p50 if latency else None) + (" \\*" if latency and latency.unstable else ""),
        milliseconds(latency.cpu if latency else None),
        _against_eager(report, row),
        figure(loss if loss is None or abs(loss) >= 0.005 else 0.0, 2, " dB"),
        figure(None if row.peak_rss is None else row.peak_rss / 1e6, 0, " MB"),
    ]


def _against_eager(report: Report, row: Row) -> str:
    """How many times as fast as the same network in PyTorch, by the rounds both took part in.

    Where one is unstable, by CPU time. It stands for speed on one thread only; with more there is no figure.
    """
    eager = next(
        (
            other
            for other in report.rows
            if (other.key.backend, other.key.precision, other.key.size)
            == ("torch-eager", "fp32", row.key.size)
            and _weights(report, other) == _weights(report, row)
        ),
        None,
    )
    if eager is None or eager.latency is None or row.latency is None:
        return "-"
    if eager is row:
        return "1x"
    if not eager.latency.unstable and not row.latency.unstable:
        found = speedup(eager, row)
        return "-" if found is None else f"{found[0]:.2f}x"
    on_one = row.key.threads == eager.key.threads == 1 and row.device == eager.device == "CPU"
    return f"{eager.latency.cpu / row.latency.cpu:.2f}x" if on_one and row.latency.cpu else "-"


def _weights(report: Report, row: Row) -> str | None:
    network = report.network(row)
    return None if network is None else network.sha256


def _where(report: Report) -> str:
    threads = report.settings["threads"]
    versions = report.environment.libraries
    engines = ", ".join(
        f"{name} {versions[name]}" for name in sorted(versions) if name.startswith(("onnxruntime", "torch"))
    )
    text = f"Measured in turns on {machine(report.environment)}; threads: {threads}; {engines}; "
    text += f"{report.created[:10]}."
    if any(row.latency is not None and row.latency.unstable for row in report.rows):
        text += (
            " \\* Unstable, for the reasons that the report gives, mostly other programs that had the CPU. "
            "The CPU time does not have theirs in it; ratios of unstable rows are those of CPU times."
        )
    return text


def put_into(path: Path, table: str, *, check: bool = False) -> None:
    """Replace what is between the marks.

    Raises:
        ReportError: the marks are not there, or `check` is set and something would change.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ReportError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ReportError(f"{path} is not UTF-8 (at byte {error.start})") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ReportError(f"{path} lacks the lines {BEGIN!r} and {END!r}")
    newline = "\r\n" if rest.startswith("\r\n") else "\n"  # the file's own
    lines = newline.join(table.splitlines())
    changed = f"{before}{BEGIN}{newline}{lines}{newline}{END}{after}"
    if changed == text:
        return
    if check:
        raise ReportError(
            f"{path} differs from the reports; write it with flavr-bench table --into {path.name}"
        )
    write_text(path, changed)
