"""The report's plots, as SVG that takes its colours from the page it is put into."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from flavr_benchmarks.errors import ReportError
from flavr_benchmarks.schema import Key, Latency, Report, Row
from flavr_benchmarks.views import short_names

# Drawn in these colours, which stand for the page's own.
_INK, _FAINT = "#010203", "#040506"
_VARIABLES = {_INK: "var(--ink)", _FAINT: "var(--line)"}
# Okabe and Ito's palette: told apart by everybody, and visible on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#999999")
_MARKERS = "osD^vP"
_MANY = 2000  # of a logarithmic axis: last over first value, beyond which ticks at 2 and 5 would collide
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture."""

    title: str
    text: str  # what it shows
    svg: str


def plots(report: Report) -> list[Plot]:
    """All that there are figures for."""
    measured = [row for row in report.rows if row.latency is not None]
    scored = [row for row in measured if row.quality is not None]
    sizes = list(dict.fromkeys(row.key.size for row in measured))
    found = []
    if scored:
        found.append(
            Plot(
                "Speed and quality",
                "Up is better, left is faster. PSNR on 8-bit pictures.",
                _drawn("speed-quality", _bound(_speed_quality, scored), 4.2),
            )
        )
    for size in sizes:
        rows = [row for row in measured if row.key.size == size]
        found.append(
            Plot(
                f"Latency at {size}",
                "Every window measured: the box holds the middle half, the line is the median, the whiskers "
                "reach from the 1st to the 99th percentile, dots are the medians of the rounds.",
                _drawn(f"latency-{size}", _bound(_latencies, rows), 0.9 + 0.42 * len(rows)),
            )
        )
    weighed = [row for row in measured if row.peak_rss is not None]
    if weighed:
        found.append(
            Plot(
                "Memory",
                "Peak of each cell's process; the darker part is there before a network is loaded.",
                _drawn("memory", _bound(_memory, weighed), 0.9 + 0.34 * len(weighed)),
            )
        )
    return found


def speed_quality_svg(report: Report, *, cpu_time: bool = False) -> str:
    """The first plot as a file of its own, in colours for a white page.

    Args:
        cpu_time: show what a window costs rather than how long it takes.

    Raises:
        ReportError: nothing can be drawn.
    """
    scored = [row for row in report.rows if row.latency is not None and row.quality is not None]
    if not scored:
        raise ReportError("the report has no cell with both a time and a quality: there is nothing to draw")
    svg = _drawn("speed-quality", _bound(_cost_quality if cpu_time else _speed_quality, scored), 4.2)
    svg = svg.replace("var(--ink)", "#1f2328").replace("var(--line)", "#9aa2ab")
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)


def _bound(draw: Callable[[Any, Sequence[Row]], None], rows: Sequence[Row]) -> Callable[[Any], None]:
    return lambda axes: draw(axes, rows)


def _drawn(name: str, draw: Callable[[Any], None], height: float) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        draw(figure.add_subplot())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    # Several pictures share a page: their ids must not meet.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return re.sub(r'((?:xlink:)?href="|url\()#', rf"\1#{name}-", svg)


def _labels(rows: Sequence[Row]) -> dict[Key, str]:
    names = short_names(row.key.variant for row in rows)
    # Matplotlib takes what is between two dollars for a formula.
    return {row.key: names[row.key.variant].replace("$", r"\$") for row in rows}


def _colours(labels: Mapping[Key, str]) -> dict[str, str]:
    names = dict.fromkeys(labels.values())
    return {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}


def _speed_quality(axes: Any, rows: Sequence[Row]) -> None:
    _plot_quality(axes, rows, "median time of a window, ms", lambda latency: latency.p50, intervals=True)


def _cost_quality(axes: Any, rows: Sequence[Row]) -> None:
    _plot_quality(axes, rows, "CPU time of a window, ms", lambda latency: latency.cpu, intervals=False)


def _plot_quality(
    axes: Any, rows: Sequence[Row], label: str, time: Callable[[Latency], float], *, intervals: bool
) -> None:
    labels = _labels(rows)
    colours = _colours(labels)
    sizes = list(dict.fromkeys(row.key.size for row in rows))
    for row in rows:
        if row.latency is None or row.quality is None:
            continue
        middle = time(row.latency)
        reach = [[max(middle - row.latency.low, 0)], [max(row.latency.high - middle, 0)]]
        axes.errorbar(
            middle,
            row.quality.psnr_uint8,
            xerr=reach if intervals else None,
            fmt=_MARKERS[sizes.index(row.key.size) % len(_MARKERS)],
            color=colours[labels[row.key]],
            mfc="none" if row.baseline else colours[labels[row.key]],
            ms=7,
            alpha=0.9,
        )
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("PSNR, dB")
    axes.grid(True, alpha=0.4)
    _plain_log_ticks(axes.xaxis)
    _legend(axes, colours, {labels[row.key] for row in rows if row.baseline}, sizes)


def _legend(axes: Any, colours: dict[str, str], baselines: Set[str], sizes: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker="o", color=c, mfc="none" if name in baselines else c, label=name)
        for name, c in colours.items()
    ]
    if len(sizes) > 1:
        handles += [
            Line2D([], [], ls="", marker=_MARKERS[n % len(_MARKERS)], color=_INK, mfc="none", label=size)
            for n, size in enumerate(sizes)
        ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _latencies(axes: Any, rows: Sequence[Row]) -> None:
    labels = _labels(rows)
    colours = _colours(labels)
    for position, row in enumerate(reversed(rows)):
        if row.latency is None:
            continue
        colour = colours[labels[row.key]]
        values = [value for one in row.latency.rounds for value in one]
        axes.boxplot(
            [values],
            positions=[position],
            orientation="horizontal",
            widths=0.5,
            whis=(1, 99),
            showfliers=False,
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            medianprops={"color": _INK, "lw": 1.5},
            manage_ticks=False,
        )
        medians = [sorted(one)[len(one) // 2] for one in row.latency.rounds]
        axes.plot(medians, [position] * len(medians), "o", ms=3, color=colour, alpha=0.5)
    axes.set_yticks(range(len(rows)), [labels[row.key] for row in reversed(rows)])
    axes.set_xscale("log")
    axes.set_xlabel("ms per window")
    axes.grid(True, axis="x", alpha=0.4)
    _plain_log_ticks(axes.xaxis)


def _plain_log_ticks(axis: Any) -> None:
    """1, 2, 5, 10, ... as they are written by people; where there would be too many, 1, 10, 100."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < _MANY else (1,), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _memory(axes: Any, rows: Sequence[Row]) -> None:
    labels = _labels(rows)
    several = len({row.key.size for row in rows}) > 1
    for position, row in enumerate(reversed(rows)):
        peak, base = (row.peak_rss or 0) / 1e6, (row.base_rss or 0) / 1e6
        axes.barh(position, peak, color=_COLOURS[5], height=0.6)
        axes.barh(position, min(base, peak), color=_COLOURS[0], height=0.6)
        axes.annotate(f" {peak:.0f}", (peak, position), va="center", fontsize=8, color=_INK)
    ticks = [labels[row.key] + (f" {row.key.size}" if several else "") for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), ticks)
    axes.set_xlabel("MB")
    axes.grid(True, axis="x", alpha=0.4)
    axes.margins(x=0.1)
