"""One sentence: what to deploy on this machine, and why."""

from __future__ import annotations

from flavr_benchmarks.schema import Report, Row
from flavr_benchmarks.statistics import CONFIDENCE, Interval, median, median_interval
from flavr_benchmarks.views import milliseconds, new_fps, short_names

LARGEST_LOSS = 0.1  # dB against fp32 PyTorch: not visible


def recommend(report: Report) -> list[str]:
    """A sentence per size; what fails and what is unknown is said."""
    sizes = list(dict.fromkeys(row.key.size for row in report.rows))
    return [_sentence(size, [row for row in report.rows if row.key.size == size]) for size in sizes]


def _sentence(size: str, rows: list[Row]) -> str:
    measured = [row for row in rows if row.latency is not None and not row.baseline]
    good = [row for row in measured if _acceptable(row)]
    if not good:
        failed = "no network could be measured" if not measured else "no network keeps its quality"
        return f"At {size}, {failed}: see the reasons in the table."
    ranked = sorted(good, key=lambda row: row.latency.p50 if row.latency else 0.0)
    best = ranked[0]
    fps = new_fps(best)
    names = short_names(row.key.variant for row in rows)
    name = names[best.key.variant]
    if best.latency is None or fps is None:
        raise ValueError("a row without latency was ranked")
    text = (
        f"At {size}, deploy {name}: {milliseconds(best.latency.p50)} per window ({fps:.2f} windows/s)"
        f"{_loss(best)}"
    )
    if len(ranked) > 1:
        text += f", {_against(best, ranked[1], names[ranked[1].key.variant])}"
    too_bad = [row for row in measured if not _acceptable(row)]
    faster = [row for row in too_bad if row.latency is not None and row.latency.p50 < best.latency.p50]
    if faster:
        text += f"; {faster[0].key} is faster but its quality is not the network's"
    simplest = next((row for row in rows if row.key.backend == "average" and row.quality), None)
    if simplest and simplest.quality and best.quality:
        lead = best.quality.psnr_uint8 - simplest.quality.psnr_uint8
        if lead <= 0:
            text += f"; but averaging frames is better on this data, by {-lead:.2f} dB, and costs nothing"
    if best.latency.unstable:
        text += f". Measure again before relying on it ({best.latency.unstable[0]})"
    return f"{text}."


def _acceptable(row: Row) -> bool:
    """Not known to be worse than the network in PyTorch."""
    if row.quality is None:
        return row.quality_failure is None
    return row.quality.loss_db is None or row.quality.loss_db <= LARGEST_LOSS


def _loss(row: Row) -> str:
    if row.quality is None:
        return ", quality not measured"
    if row.quality.loss_db is None:
        return f", PSNR {row.quality.psnr_uint8:.2f} dB"
    loss = row.quality.loss_db
    lost = "nothing" if abs(loss) < 0.005 else f"{loss:.2f} dB"
    return f", {lost} lost against fp32 PyTorch" if loss > -0.005 else f", {-loss:.2f} dB above fp32 PyTorch"


def _against(best: Row, second: Row, name: str) -> str:
    found = speedup(second, best)
    if found is None:
        return f"with {name} next"
    ratio, interval = found
    if interval.confidence < CONFIDENCE:
        return f"{ratio:.1f}x as fast as {name} in the few rounds that there are"
    if interval.low <= 1:
        return f"about as fast as {name}"
    return f"{ratio:.2f}x as fast as {name} ({interval.low:.2f} to {interval.high:.2f})"


def speedup(slow: Row, fast: Row) -> tuple[float, Interval] | None:
    """The slow row's time over the fast one's, with its interval.

    Ratios are taken within the rounds in which both had a turn: what disturbed one disturbed the other.
    """
    if slow.latency is None or fast.latency is None or slow.latency.alone or fast.latency.alone:
        return None
    ratios = [
        median(mine) / median(other)
        for mine, other in zip(slow.latency.rounds, fast.latency.rounds, strict=False)
    ]
    return median(ratios), median_interval(ratios)
