"""What the measurements cost in energy, where the platform has a meter that can be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from flavr_benchmarks.gpus import TOOLS, Tool

RAPL = Path("/sys/class/powercap")
_POLL_SECONDS = 0.2

Span = tuple[float, float]  # time.monotonic


class Meter(Protocol):
    """Something that knows the joules of a span of time that has just passed."""

    @property
    def source(self) -> str: ...

    def joules(self, span: Span) -> float | None: ...

    def read(self) -> None:
        """Take a reading now."""
        ...


@dataclass(frozen=True, slots=True)
class _Zone:
    counter: Path
    limit: int  # where the counter starts again from 0


class Rapl:
    """Intel's and AMD's counters of the CPU packages, which Linux usually shows to root alone."""

    source = "RAPL, whole CPU packages"

    def __init__(self, root: Path = RAPL) -> None:
        self._zones = [
            _Zone(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()))
            for zone in sorted(root.glob("intel-rapl:?"))
            if _readable(zone / "energy_uj")
        ]
        self._readings: list[tuple[float, list[int]]] = []

    @property
    def works(self) -> bool:
        return bool(self._zones)

    def read(self) -> None:
        values = [int(zone.counter.read_text()) for zone in self._zones]
        self._readings.append((time.monotonic(), values))

    def joules(self, span: Span) -> float | None:
        """Between the readings nearest to both ends, scaled to the span."""
        if len(self._readings) < 2:
            return None
        begin = min(self._readings, key=lambda reading: abs(reading[0] - span[0]))
        end = min(self._readings, key=lambda reading: abs(reading[0] - span[1]))
        if end[0] <= begin[0]:
            return None
        used = sum(
            (after - before) % zone.limit
            for zone, before, after in zip(self._zones, begin[1], end[1], strict=True)
        )
        return used / 1e6 * (span[1] - span[0]) / (end[0] - begin[0])


class PolledPower:
    """A GPU's power, asked for again and again."""

    def __init__(self, tool: Tool) -> None:
        self.source = f"{tool.program}, all GPUs, polled"
        self._tool = tool
        self._readings: list[tuple[float, float]] = []

    @property
    def works(self) -> bool:
        self.read()
        return bool(self._readings)

    def read(self) -> None:
        answer = self._tool.ask(self._tool.watts)
        watts = self._tool.parse_watts(answer) if answer else None
        if watts is not None:
            self._readings.append((time.monotonic(), watts))

    def joules(self, span: Span) -> float | None:
        """The mean power within the span, or nearest to it, times its length."""
        inside = [watts for at, watts in self._readings if span[0] <= at <= span[1]]
        if not inside and self._readings:
            middle = sum(span) / 2
            inside = [min(self._readings, key=lambda reading: abs(reading[0] - middle))[1]]
        return sum(inside) / len(inside) * (span[1] - span[0]) if inside else None


class Meters:
    """All the meters there are, read in the background within a `with` block."""

    def __init__(self, *, cpu: Rapl | None, gpu: PolledPower | None) -> None:
        self.cpu = cpu
        self.gpu = gpu
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        meters: list[Meter] = [meter for meter in (self.cpu, self.gpu) if meter is not None]
        if meters:
            self._thread = threading.Thread(target=self._poll, args=(meters,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self, meters: Sequence[Meter]) -> None:
        while True:
            for meter in meters:
                meter.read()
            if self._stop.wait(_POLL_SECONDS):
                return


def find_meters() -> Meters:
    """Those that can be read here."""
    rapl = Rapl()
    gpu = next((power for power in map(PolledPower, TOOLS) if power.works), None)
    return Meters(cpu=rapl if rapl.works else None, gpu=gpu)


def per_window(meter: Meter, spans: Iterable[Span], windows: int) -> float | None:
    """Joules of one window, over all turns of a cell."""
    each = [meter.joules(span) for span in spans]
    known = [value for value in each if value is not None]
    return sum(known) / windows if windows and known and len(known) == len(each) else None


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except OSError:
        return False
    return True
