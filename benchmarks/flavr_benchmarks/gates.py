"""Limits that a report has to keep, for CI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from flavr_benchmarks.errors import GateError, UsageError
from flavr_benchmarks.schema import Report, Row

if TYPE_CHECKING:
    from flavr_benchmarks.comparison import Comparison

GATES: Mapping[str, str] = MappingProxyType(
    {
        "psnr": "dB at least, on 8-bit pictures",
        "ssim": "at least, standard, on 8-bit pictures",
        "loss": "dB at most, against fp32 PyTorch",
        "slowdown": "percent at most, against the other report",
    }
)
_OF_QUALITY = ("psnr", "ssim", "loss")


@dataclass(frozen=True, slots=True)
class Gates:
    """What --fail-below asks for."""

    limits: Mapping[str, float]

    @classmethod
    def given(cls, gates: Sequence[tuple[str, float]]) -> Gates:
        """Of one name, one limit: of two, one would count for nothing. Raises UsageError."""
        limits: dict[str, float] = {}
        for name, limit in gates:
            if name in limits:
                raise UsageError(
                    f"--fail-below {name} is given twice, {limits[name]:g} and {limit:g}; leave one"
                )
            limits[name] = limit
        return cls(limits)

    @property
    def need_quality(self) -> bool:
        return any(name in self.limits for name in _OF_QUALITY)

    def check(self, report: Report, comparison: Comparison | None = None) -> None:
        """Hold every network of a report to the limits. One that failed cannot keep any.

        Raises:
            GateError: every breach, in one line.
            UsageError: nothing that could be held to them.
        """
        if not self.limits:
            return
        networks = [row for row in report.rows if not row.baseline]
        if not networks:
            raise UsageError("--fail-below: the report has no network")
        breaches = [breach for row in networks for breach in self._breaches(row)]
        if "slowdown" in self.limits:
            if comparison is None:
                raise UsageError("--fail-below slowdown needs two reports: flavr-bench compare A.json B.json")
            breaches += comparison.slower_than(self.limits["slowdown"])
        if breaches:
            raise GateError("; ".join(breaches))

    def _breaches(self, row: Row) -> Iterator[str]:
        if row.failure is not None:
            yield f"{row.key} failed ({row.failure.kind}: {row.failure.reason})"
            return
        if not self.need_quality:
            return
        quality = row.quality
        if quality is None:
            yield f"{row.key} has no quality ({row.quality_failure or 'it was not measured'})"
            return
        floor = self.limits.get("psnr")
        if floor is not None and not quality.psnr_uint8 >= floor:
            yield f"{row.key}: PSNR {quality.psnr_uint8:.2f} dB, below {floor:g}"
        floor = self.limits.get("ssim")
        if floor is not None and not quality.ssim_uint8 >= floor:
            yield f"{row.key}: SSIM {quality.ssim_uint8:.4f}, below {floor:g}"
        most = self.limits.get("loss")
        if most is not None and quality.loss_db is None:
            yield f"{row.key} has no loss: there was no fp32 PyTorch to compare with"
        elif most is not None and quality.loss_db is not None and not quality.loss_db <= most:
            yield f"{row.key}: {quality.loss_db:.2f} dB lost, more than {most:g}"
