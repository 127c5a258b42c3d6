"""The report as data: everything raw, in one JSON file whose version is in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from flavr_benchmarks.errors import ReportError

SCHEMA = "flavr-bench/1"

FailureKind = Literal["unsupported", "out of memory", "crash", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no figures."""

    kind: FailureKind
    reason: str


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one row from all others, in this report and in the next one."""

    backend: str
    model: str  # "" for a baseline
    graph: str
    precision: str
    size: str  # HxW or 720p
    threads: int | None  # None: the engine's own choice

    def __str__(self) -> str:
        words = (self.backend, self.model, self.graph, self.precision, self.size)
        return " ".join(word for word in words if word)

    @property
    def variant(self) -> tuple[str, str, str, str]:
        """All but the size: what the quality depends on."""
        return self.backend, self.model, self.graph, self.precision


@dataclass(slots=True, kw_only=True)
class Start:
    """From the start of the process to the first result."""

    import_seconds: float
    load_seconds: float
    first_seconds: float  # the first window, with what is compiled at that moment
    warm_up_windows: int


@dataclass(slots=True, kw_only=True)
class Latency:
    """Time per window, in milliseconds."""

    p50: float
    p90: float
    p99: float
    low: float  # the median's confidence interval, over rounds
    high: float
    confidence: float
    upload: float | None  # medians; None where the engine does not tell them apart
    compute: float
    download: float | None
    cpu: float  # time of all the process' threads: what other programs take away is not in it
    rounds: list[list[float]]  # every window, by the round it was measured in
    unstable: list[str] = field(default_factory=list)  # why not to trust the figure
    alone: bool = False  # not interleaved with the others of its size

    @property
    def windows(self) -> int:
        return sum(map(len, self.rounds))


@dataclass(slots=True, kw_only=True)
class Energy:
    """What a window costs."""

    joules_per_window: float
    source: str  # which meter, and of what


@dataclass(slots=True, kw_only=True)
class EndToEnd:
    """A whole clip through flavr-run's pipeline."""

    frames: int  # written
    seconds: float
    clip: str

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


@dataclass(slots=True, kw_only=True)
class Quality:
    """Means over all new frames of the data set's windows."""

    psnr: float  # the FLAVR authors' definition
    ssim: float
    psnr_uint8: float  # the standard one
    ssim_uint8: float
    windows: int
    quantised: bool  # the authors' figures are of results that were rounded to 8 bits
    loss_db: float | None = None  # psnr_uint8 of fp32 PyTorch, less this
    max_code_error: int | None = None  # largest difference to fp32 PyTorch, of 255
    psnr_by_window: dict[str, float] = field(default_factory=dict)  # psnr_uint8


@dataclass(slots=True, kw_only=True)
class Row:
    """A cell of the matrix and all that was found out about it."""

    key: Key
    title: str
    baseline: bool
    failure: Failure | None = None
    device: str = ""
    used_threads: int | None = None
    placement: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    start: Start | None = None
    latency: Latency | None = None
    peak_rss: int | None = None  # bytes, of the whole process
    base_rss: int | None = None  # before anything was loaded
    device_memory: int | None = None
    model_bytes: int | None = None
    gflop: float | None = None  # of the network as published, per window
    energy: Energy | None = None
    end_to_end: EndToEnd | None = None
    end_to_end_failure: str | None = None
    quality: Quality | None = None
    quality_failure: str | None = None

    @property
    def gflop_per_second(self) -> float | None:
        if self.gflop is None or self.latency is None:
            return None
        return self.gflop / self.latency.p50 * 1000


@dataclass(slots=True, kw_only=True)
class Gpu:
    name: str
    driver: str
    memory_bytes: int | None = None
    clock_mhz: float | None = None
    load_percent: float | None = None


@dataclass(slots=True, kw_only=True)
class Environment:
    """The machine, and the state it was in when the run began."""

    cpu: str
    cpu_flags: list[str]
    physical_cores: int | None
    logical_cores: int
    usable_cores: int  # that this process may run on
    cpu_mhz: float | None
    cpu_governor: str | None
    hypervisor: bool
    memory_bytes: int
    free_memory_bytes: int
    load_average: list[float]
    system: str
    python: str
    libraries: dict[str, str]
    gpus: list[Gpu]


@dataclass(slots=True, kw_only=True)
class Ceiling:
    """The best matrix product that this machine was seen to do."""

    device: str
    precision: str
    gflop_per_second: float  # the better of the two
    before: float  # the run
    after: float
    method: str
    failure: str | None = None


@dataclass(slots=True, kw_only=True)
class Round:
    """The machine during one round of measurements."""

    size: str
    canary_ms: float  # a fixed piece of work: how fast the machine is just now
    others: float | None  # cores that other programs kept busy
    cpu_mhz: float | None


@dataclass(slots=True, kw_only=True)
class Data:
    """What the quality was measured on."""

    name: str
    description: str
    windows: int
    of_windows: int  # that the set has


@dataclass(slots=True, kw_only=True)
class Network:
    """What was measured."""

    name: str  # as the rows' model
    arch: str
    width: int
    factor: int
    sha256: str
    gflop: dict[str, float] = field(default_factory=dict)  # by size


@dataclass(slots=True, kw_only=True)
class Report:
    """One run of flavr-bench."""

    schema: str = SCHEMA
    flavr: str
    created: str  # ISO 8601, UTC
    command: list[str]
    seconds: float
    settings: dict[str, str]
    environment: Environment
    networks: list[Network]
    ceilings: list[Ceiling]
    data: Data | None
    rows: list[Row]
    rounds: list[Round]

    def network(self, row: Row) -> Network | None:
        """What a row ran; None for a baseline."""
        return next((network for network in self.networks if network.name == row.key.model), None)

    def ceiling(self, device: str, precision: str) -> float | None:
        """GFLOP/s, where it was measured."""
        for ceiling in self.ceilings:
            if (ceiling.device, ceiling.precision) == (device, precision) and ceiling.failure is None:
                return ceiling.gflop_per_second
        return None


def write_report(path: Path, report: Report) -> None:
    """Write it under its name only when complete.

    Raises:
        ReportError: it cannot be written.
    """
    import msgspec

    content = _printable(msgspec.to_builtins(report))
    write_text(path, msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n")


def _printable(value: Any) -> Any:
    """The same with "?" for what is no text: the names of files may be any bytes."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(each) for key, each in value.items()}
    return list(map(_printable, value)) if isinstance(value, list | tuple) else value


def read_report(path: Path) -> Report:
    """Read and check a report.

    Raises:
        ReportError: it is missing, no report, damaged, or of a version that is not understood.
    """
    import msgspec

    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(
            f"{path} cannot be read ({error.strerror}); flavr-bench writes report.json"
        ) from error
    try:
        schema = msgspec.json.decode(content, type=dict[str, object]).get("schema")
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} is no report of flavr-bench: {error}") from error
    if schema != SCHEMA:
        raise ReportError(f"{path} has the schema {schema!r}; this version of flavr-bench reads {SCHEMA}")
    try:
        return msgspec.json.decode(content, type=Report)
    except msgspec.DecodeError as error:
        raise ReportError(f"{path} is damaged: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file that appears under its name only when complete. Raises ReportError."""
    target = Path(os.path.realpath(path))  # a link stays one: the file behind it is written
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        partial.replace(target)
    except OSError as error:
        raise ReportError(f"{path} cannot be written ({error.strerror})") from error
