"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from flavr_benchmarks.recommendation import recommend
from flavr_benchmarks.schema import Ceiling, Environment, Report
from flavr_benchmarks.views import DETAILS, MAIN, NAMES, PUBLISHED_NOTE, Column, figure, remarks, scores, used


def markdown(report: Report) -> str:
    """The whole report."""
    parts = [
        "# flavr-bench",
        " ".join(recommend(report)),
        f"{report.created}, {machine(report.environment)}; {_network(report)}",
        "## Cells",
        _table(report, used(MAIN, report)),
        _remarks(report),
        "## Details",
        _table(report, [*NAMES, *used(DETAILS, report)], failed=False),
        *_quality(report),
        "## Machine",
        _machine(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine(environment: Environment) -> str:
    """In one line."""
    flags = [flag for flag in environment.cpu_flags if flag.startswith(("avx", "amx", "asimd", "sve"))]
    gpus = "".join(f", {gpu.name} (driver {gpu.driver})" for gpu in environment.gpus)
    return (
        f"{environment.cpu}, {environment.physical_cores or environment.logical_cores} cores "
        f"({' '.join(flags) or 'no vector extensions known'}){gpus}"
    )


def libraries(environment: Environment) -> str:
    return ", ".join(f"{name} {version}" for name, version in environment.libraries.items())


def _network(report: Report) -> str:
    return ", ".join(
        f"{network.name}: {network.arch} {network.factor}x, width {network.width}"
        for network in report.networks
    )


def _table(report: Report, columns: Sequence[Column], *, failed: bool = True) -> str:
    rows = [row for row in report.rows if failed or row.failure is None]
    lines = [
        [column.title for column in columns],
        ["---" if column.words else "---:" for column in columns],
        *([_cell(column.text(report, row)) for column in columns] for row in rows),
    ]
    if failed:
        lines[0].append("")
        lines[1].append("---")
        for line, row in zip(lines[2:], rows, strict=True):
            unstable = row.latency is not None and row.latency.unstable
            line.append(f"**{row.failure.kind}**" if row.failure else "unstable" if unstable else "")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _remarks(report: Report) -> str:
    lines = [f"- {row.key}: {'; '.join(found)}" for row in report.rows if (found := remarks(row))]
    return "\n".join(lines)


def _quality(report: Report) -> list[str]:
    data = report.data
    if data is None:
        return []
    videos = any(score.by_video is not None for score in scores(report))
    head = [
        "model",
        "PSNR",
        "SSIM",
        "SSIM, standard",
        *(["8-bit PSNR, mean over videos"] if videos else []),
        "device",
    ]
    lines = [head, ["---", "---:", "---:", "---:", *(["---:"] if videos else []), "---"]]
    for score in scores(report):
        by_video = [figure(score.by_video, 2)] if videos else []
        where = score.published or score.device
        lines.append(
            [
                score.model,
                figure(score.psnr, 2),
                figure(score.ssim, 4),
                figure(score.ssim_standard, 4),
                *by_video,
                where,
            ]
        )
    return [
        "## Quality",
        f"{data.windows} of {data.of_windows} windows of {data.name}: {data.description}. {PUBLISHED_NOTE}.",
        "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines),
    ]


def _machine(report: Report) -> str:
    environment = report.environment
    lines = [
        f"{machine(environment)}; {environment.memory_bytes / 1e9:.0f} GB of memory; {environment.system}"
        f"{', virtual machine' if environment.hypervisor else ''}",
        f"Load when it began: {', '.join(map(str, environment.load_average))}",
        f"Python {environment.python}, {libraries(environment)}",
        *map(_ceiling, report.ceilings),
        f"Command: `{' '.join(report.command)}` ({report.seconds:.0f} s)",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _ceiling(ceiling: Ceiling) -> str:
    name = f"Ceiling, {ceiling.device} {ceiling.precision}"
    if ceiling.failure is not None:
        return f"{name}: not measured ({ceiling.failure})"
    both = f"{ceiling.before:.0f} before, {ceiling.after:.0f} after"
    return f"{name}: {ceiling.gflop_per_second:.0f} GFLOP/s ({both})"
