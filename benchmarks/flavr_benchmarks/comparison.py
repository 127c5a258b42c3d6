"""What changed from one report to another, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from flavr_benchmarks.schema import Key, Report, Row
from flavr_benchmarks.statistics import FEWEST, Interval, median, ratio_interval
from flavr_benchmarks.views import figure, milliseconds

Verdict = Literal["faster", "slower", "same", "worse", "failed", "works now", "new", "gone", "not comparable"]

SMALLEST_CHANGE = 0.02  # of the time: less is nobody's concern, however significant
SMALLEST_LOSS = 0.05  # dB
_CEILING_DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """One cell, in both reports."""

    key: Key
    before: Row | None
    after: Row | None
    ratio: float | None  # time after over time before
    interval: Interval | None
    psnr_change: float | None  # dB, positive is better
    verdict: Verdict
    doubtful: bool  # one of the two was flagged as unstable

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        times = [
            row.latency.p50 if row is not None and row.latency else None for row in (self.before, self.after)
        ]
        interval = (
            "-" if self.interval is None else f"{self.interval.low - 1:+.1%} to {self.interval.high - 1:+.1%}"
        )
        return (
            str(self.key),
            milliseconds(times[0]),
            milliseconds(times[1]),
            "-" if self.ratio is None else f"{self.ratio - 1:+.1%}",
            interval,
            "-" if self.psnr_change is None else f"{figure(self.psnr_change + 0.0, 2)} dB",
            self.verdict + (" (unstable)" if self.doubtful else ""),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells of two reports."""

    after: Report
    changes: list[Change]
    remarks: list[str]

    def slower_than(self, percent: float) -> list[str]:
        """The cells that are surely slower than by this much, and those that could be but have no figure."""
        found = []
        for change in self.changes:
            if change.before is None or change.before.baseline or change.before.latency is None:
                continue
            if change.verdict in ("failed", "gone"):
                found.append(f"{change.key}: {change.verdict}, where the other report has a time")
            elif change.ratio is not None and change.ratio - 1 > percent / 100:
                told = f"{change.key}: {change.ratio - 1:+.1%} time, more than {percent:g} %"
                if change.interval is None:
                    found.append(f"{told}, in too few rounds to be sure; measure longer (--budget)")
                elif change.interval.low > 1:
                    found.append(told)
        return found


def compare(before: Report, after: Report) -> Comparison:
    """Match the cells by backend, model, graph, precision, size and threads.

    Whether a change is significant is judged by the rounds of each run: the interval knows the noise within
    both, and the remarks say what is known of the difference between them.
    """
    first, second = ({row.key: row for row in report.rows} for report in (before, after))
    keys = list(dict.fromkeys([*first, *second]))
    same_data = _set(before) == _set(after)  # else two figures of quality mean nothing to each other
    changes = [_change(key, first.get(key), second.get(key), same_data=same_data) for key in keys]
    return Comparison(after, changes, list(_remarks(before, after)))


def _change(key: Key, before: Row | None, after: Row | None, *, same_data: bool) -> Change:
    ratio = interval = psnr_change = None
    doubtful = False
    if before is not None and after is not None and before.latency and after.latency:
        now, then = (
            [median(values) for values in latency.rounds] for latency in (after.latency, before.latency)
        )
        interval = ratio_interval(now, then) if min(len(now), len(then)) >= FEWEST else None
        ratio = median(now) / median(then)
        doubtful = bool(before.latency.unstable or after.latency.unstable)
        if same_data and before.quality and after.quality:
            psnr_change = after.quality.psnr_uint8 - before.quality.psnr_uint8
    verdict = _verdict(before, after, ratio, interval, psnr_change)
    return Change(key, before, after, ratio, interval, psnr_change, verdict, doubtful)


def _verdict(
    before: Row | None,
    after: Row | None,
    ratio: float | None,
    interval: Interval | None,
    psnr_change: float | None,
) -> Verdict:
    if before is None or after is None:
        return "new" if before is None else "gone"
    if before.failure is not None or after.failure is not None:
        if before.failure is None:
            return "failed"
        return "works now" if after.failure is None else "not comparable"
    if psnr_change is not None and psnr_change < -SMALLEST_LOSS:
        return "worse"
    if ratio is None or interval is None:
        return "not comparable"
    if abs(ratio - 1) <= SMALLEST_CHANGE or interval.low <= 1 <= interval.high:
        return "same"
    return "slower" if ratio > 1 else "faster"


def _remarks(before: Report, after: Report) -> Iterator[str]:
    one, other = before.environment, after.environment
    for what, first, second in (
        ("CPU", one.cpu, other.cpu),
        ("CPU flags", " ".join(one.cpu_flags), " ".join(other.cpu_flags)),
        ("cores", str(one.usable_cores), str(other.usable_cores)),
        ("GPUs", ", ".join(gpu.name for gpu in one.gpus), ", ".join(gpu.name for gpu in other.gpus)),
        ("system", one.system, other.system),
        ("Python", one.python, other.python),
    ):
        if first != second:
            yield f"{what}: {first or 'none'} before, {second or 'none'} after"
    for name in sorted(one.libraries.keys() | other.libraries.keys()):
        versions = [environment.libraries.get(name, "absent") for environment in (one, other)]
        if versions[0] != versions[1]:
            yield f"{name}: {versions[0]} before, {versions[1]} after"
    then, now = _threads(before), _threads(after)
    if then != now:
        yield f"threads: {then} before, {now} after; cells of other threads are other cells"
    if {network.sha256 for network in before.networks} != {network.sha256 for network in after.networks}:
        yield "the networks have other weights"
    if _set(before) != _set(after):
        yield f"quality was measured on {_set(before)} before, on {_set(after)} after"
    for ceiling in after.ceilings:
        was = before.ceiling(ceiling.device, ceiling.precision)
        if was and ceiling.failure is None:
            change = ceiling.gflop_per_second / was - 1
            if abs(change) > _CEILING_DRIFT:
                how = "faster" if change > 0 else "slower"
                product = f"its {ceiling.precision} matrix product"
                yield f"the machine itself: {product} is {abs(change):.0%} {how} after"


def _threads(report: Report) -> str:
    counts = {row.key.threads for row in report.rows}
    return ", ".join(sorted("each engine's own" if count is None else str(count) for count in counts))


def _set(report: Report) -> str:
    data = report.data
    return "nothing" if data is None else f"{data.windows} windows of {data.name} ({data.description})"
