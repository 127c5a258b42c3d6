"""A whole run: export, measure, score, and put the report together."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from flavr_benchmarks import ceiling
from flavr_benchmarks.backends import BASELINES, Backend
from flavr_benchmarks.cells import Cell, Size, matrix, size_name
from flavr_benchmarks.datasets import QualitySet, rendered_clip, save_windows, timed_windows
from flavr_benchmarks.end_to_end import clip_frames, run_clip, write_clip
from flavr_benchmarks.energy import Meters, find_meters, per_window
from flavr_benchmarks.environment import examine
from flavr_benchmarks.flops import gflop
from flavr_benchmarks.gpus import device_memory
from flavr_benchmarks.machine import Machine
from flavr_benchmarks.process import CellError, CellProcess
from flavr_benchmarks.scheduling import Course, Limits, take_turns
from flavr_benchmarks.schema import (
    Energy,
    Environment,
    Latency,
    Network,
    Report,
    Round,
    Row,
    Start,
)
from flavr_benchmarks.scoring import Scorer
from flavr_benchmarks.stability import doubts
from flavr_benchmarks.statistics import percentile
from flavr_benchmarks.strips import Strip, strips
from flavr_benchmarks.variants import Subject, onnx_variants
from flavr_benchmarks.workload import Phases, Task
from flavr_export.spec import ALLOWED


class Say(Protocol):
    """Tells the user what is being done; `passing` is not worth a line in a log."""

    def __call__(self, text: str, *, passing: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, checked."""

    subject: Subject
    backends: Sequence[Backend]
    named: bool  # by the user; else they are all that work here
    graphs: Sequence[str]
    precisions: Sequence[str]
    sizes: Sequence[Size]
    threads: int | None
    limits: Limits
    timeout: float
    warm_up: int
    calibrate: Path | None
    quality: QualitySet | None
    end_to_end: bool
    command: Sequence[str]
    settings: Mapping[str, str]


@dataclass(slots=True)
class Outcome:
    """The report, and what does not fit into it."""

    report: Report
    strips: Sequence[Strip] = ()


def run(plan: Plan, say: Say) -> Outcome:
    """Measure everything; a cell that fails is a row with its reason."""
    started = time.monotonic()
    environment = examine()
    devices = ["cpu", *(["cuda"] if environment.gpus else [])]
    with tempfile.TemporaryDirectory(prefix="flavr-bench-") as name:
        folder = Path(name)
        say("measuring the machine's ceiling")
        before = {device: ceiling.measure(device, plan.threads) for device in devices}
        # What flavr-export never writes is a row of its own only where somebody asked for its backend.
        exported = [each for each in plan.precisions if plan.named or each in ALLOWED]
        variants = onnx_variants(plan.subject, plan.graphs, exported, folder, plan.calibrate, say)
        cells = matrix(
            [*plan.backends, *(row for row in BASELINES if row not in plan.backends)],
            variants,
            plan.subject.checkpoint,
            plan.precisions,
            plan.sizes,
            plan.threads,
            named=plan.named,
        )
        bench = Bench(plan, folder, environment, say)
        bench.measure_all(cells)
        bench.score_reference()
        shown = [] if plan.quality is None else strips(plan.quality, bench.scorer.predictions)
        say("measuring the machine's ceiling once more")
        after = {device: ceiling.measure(device, plan.threads) for device in devices}
    report = Report(
        flavr=environment.libraries.get("flavr", "not installed"),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=list(plan.command),
        seconds=round(time.monotonic() - started, 1),
        settings=dict(plan.settings),
        environment=environment,
        networks=bench.networks,
        ceilings=[
            each for device in devices for each in ceiling.ceilings(device, before[device], after[device])
        ],
        data=plan.quality.data if plan.quality is not None else None,
        rows=bench.rows,
        rounds=bench.rounds,
    )
    return Outcome(report, shown)


class Bench:
    """Measures cells, those of one size side by side."""

    def __init__(self, plan: Plan, folder: Path, environment: Environment, say: Say) -> None:
        self.rows: list[Row] = []
        self.rounds: list[Round] = []
        self._plan = plan
        self._folder = folder
        self._cores = environment.usable_cores
        self._physical = min(environment.physical_cores or self._cores, self._cores)
        self._say = say
        self._machine = Machine()
        self.networks = [
            Network(
                name=facts.name,
                arch=facts.arch,
                width=facts.width,
                factor=plan.subject.factor,
                sha256=facts.sha256,
                gflop={size_name(size): gflop(facts, plan.subject.factor, size) for size in plan.sizes},
            )
            for facts in plan.subject.networks
        ]
        self._by_name = {network.name: network for network in self.networks}
        self.scorer = Scorer(plan.quality, folder)
        if plan.quality is not None:
            save_windows(self.scorer.source, plan.quality.windows)

    def measure_all(self, cells: Sequence[Cell]) -> None:
        for size in self._plan.sizes:
            self._measure_size([cell for cell in cells if cell.size == size])

    def score_reference(self) -> None:
        """fp32 PyTorch on the same windows, where it was not measured anyway, and the losses against it."""
        from flavr_benchmarks.backends import BACKENDS

        checkpoint = self._plan.subject.checkpoint
        if checkpoint is not None and self._plan.quality is not None and self.scorer.reference is None:
            self._say("making the reference in fp32 PyTorch")
            eager = BACKENDS["torch-eager"]
            path = self._windows_file(self._plan.sizes[0])
            task = Task({}, str(checkpoint), "fp32", self._plan.threads, self._plan.subject.factor)
            try:
                with CellProcess(eager.adapter, task, path, warm_up=0, timeout=self._plan.timeout) as process:
                    process.load()
                    self.scorer.make_reference(process)
            except (CellError, ValueError) as failed:  # ValueError: frames that cannot be scored
                self._say(f"the reference failed: {failed}")
        reference = None if checkpoint is None else self._by_name[checkpoint.stem].sha256
        same = {network.name for network in self.networks if network.sha256 == reference}
        self.scorer.compare_all([row for row in self.rows if row.baseline or row.key.model in same])

    def _measure_size(self, cells: Sequence[Cell]) -> None:
        rows = {cell: self._new_row(cell) for cell in cells}
        self.rows += rows.values()
        starved = self._side_by_side([cell for cell in cells if rows[cell].failure is None], rows)
        for cell in starved:  # for want of memory beside the others: once more, alone
            self._say(f"{cell.key}: once more, alone")
            rows[cell].failure = None
            self._side_by_side([cell], rows)
            latency = rows[cell].latency
            if latency is not None:
                latency.alone = True
                latency.unstable.append("measured alone: there was too little memory beside the others")
        if self._plan.end_to_end:
            for cell, row in rows.items():
                self._run_clip(cell, row)

    def _side_by_side(self, cells: Sequence[Cell], rows: Mapping[Cell, Row]) -> list[Cell]:
        """Measure cells in turns. Returns those that lacked memory while others were alive."""
        with ExitStack() as stack, find_meters() as meters:
            processes: dict[Cell, CellProcess] = {}
            for cell in cells:
                process = stack.enter_context(self._process(cell))
                try:
                    self._load(cell, process, rows[cell])
                except CellError as failed:
                    rows[cell].failure = failed.failure
                    process.close()
                    self._say(f"{cell.key}: {failed}")
                else:
                    processes[cell] = process
            if processes:
                self._take_turns(processes, rows, meters)
            for cell, process in processes.items():
                if rows[cell].failure is None:
                    self._finish(cell, process, rows[cell])
        crowded = len(cells) > 1
        return [
            cell
            for cell in cells
            if crowded and (failure := rows[cell].failure) is not None and failure.kind == "out of memory"
        ]

    def _process(self, cell: Cell) -> CellProcess:
        task = Task(
            dict(cell.backend.options),
            None if cell.variant.path is None else str(cell.variant.path),
            cell.variant.precision,
            cell.threads,
            self._plan.subject.factor,
            cell.size,
        )
        return CellProcess(
            cell.backend.adapter,
            task,
            self._windows_file(cell.size),
            warm_up=self._plan.warm_up,
            timeout=self._plan.timeout,
        )

    def _windows_file(self, size: Size) -> Path:
        path = self._folder / f"timed-{size_name(size)}.npy"
        if not path.exists():
            np.save(path, timed_windows(size))
        return path

    def _new_row(self, cell: Cell) -> Row:
        return Row(
            key=cell.key,
            title=cell.backend.title,
            baseline=cell.backend.is_baseline,
            failure=cell.variant.failure,
            gflop=self._gflop(cell),
        )

    def _gflop(self, cell: Cell) -> float | None:
        network = self._by_name.get(cell.variant.model)
        return None if network is None else network.gflop[size_name(cell.size)]

    def _load(self, cell: Cell, process: CellProcess, row: Row) -> None:
        self._say(f"{cell.key}: loading")
        loaded = process.load()
        description = loaded["description"]
        row.device = description["device"]
        row.placement = description["placement"]
        row.used_threads = description["threads"] or cell.threads
        row.model_bytes = description["model_bytes"]
        row.notes = description["notes"]
        row.base_rss = loaded["base_rss"]
        row.start = Start(
            import_seconds=loaded["import_seconds"],
            load_seconds=loaded["load_seconds"],
            first_seconds=loaded["first_seconds"],
            warm_up_windows=self._plan.warm_up,
        )
        self.scorer.describe(row.key, quantised=description["quantised"], split=description["split"])

    def _take_turns(
        self, processes: Mapping[Cell, CellProcess], rows: Mapping[Cell, Row], meters: Meters
    ) -> None:
        size = size_name(next(iter(processes)).size)

        def on_round(number: int, live: int) -> None:
            self._say(
                f"{size}: round {number}, {live} of {len(processes)} cells are not settled yet", passing=True
            )

        courses, rounds = take_turns(processes, self._plan.limits, self._machine, size, on_round)
        self.rounds += rounds
        for cell, course in courses.items():
            row = rows[cell]
            if course.failure is not None:
                row.failure = course.failure
                self._say(f"{cell.key}: {course.failure.reason}")
                continue
            on_cpu = row.device.startswith("CPU") and not row.baseline
            threads = row.used_threads or (self._physical if on_cpu else 1)
            unstable = doubts(course, rounds, self._plan.limits, threads=threads, cores=self._cores)
            row.latency = latency_of(course, unstable, split=self.scorer.split[row.key])
            meter = meters.cpu if row.device.startswith("CPU") else meters.gpu
            if meter is not None:
                joules = per_window(meter, course.spans, row.latency.windows)
                if joules is not None:
                    row.energy = Energy(joules_per_window=joules, source=meter.source)

    def _finish(self, cell: Cell, process: CellProcess, row: Row) -> None:
        try:
            memory = process.memory()
            row.peak_rss = memory["peak_rss"]
            row.device_memory = memory["device_memory"]
            if row.device_memory is None and not row.device.startswith("CPU"):
                row.device_memory = device_memory(process.pid)
            if self.scorer.wants(row.key):
                self._say(f"{cell.key}: making the data set's frames")
            self.scorer.score(row, process)
        except CellError as failed:
            row.quality_failure = f"{failed.failure.kind}: {failed}"

    def _run_clip(self, cell: Cell, row: Row) -> None:
        provider = cell.backend.options.get("provider")
        if row.latency is None or provider is None or cell.variant.path is None:
            return
        if any(side % 2 for side in cell.size):
            row.end_to_end_failure = "H.264 needs even height and width"
            return
        frames = clip_frames(row.latency.p50, self._plan.limits.budget)
        clip = self._folder / f"clip-{size_name(cell.size)}-{frames}.mp4"
        if not clip.exists():
            write_clip(clip, rendered_clip(cell.size, frames))
        self._say(f"{cell.key}: a clip of {frames} frames through flavr-run")
        try:
            row.end_to_end = run_clip(
                clip,
                self._folder / "result.mp4",
                cell.variant.path,
                provider,
                cell.threads,
                self._plan.timeout + 10 * self._plan.limits.budget,
            )
        except CellError as failed:
            row.end_to_end_failure = str(failed)


def latency_of(course: Course, unstable: list[str], *, split: bool) -> Latency:
    """The figures of a cell's course."""
    phases = [phase for turn in course.turns for phase in turn.phases]
    total = [1000 * phase.total for phase in phases]

    def median_of(part: Callable[[Phases], float]) -> float:
        return round(percentile([1000 * part(phase) for phase in phases], 50), 4)

    interval = course.interval
    return Latency(
        p50=round(percentile(total, 50), 4),
        p90=round(percentile(total, 90), 4),
        p99=round(percentile(total, 99), 4),
        low=round(interval.low, 4),
        high=round(interval.high, 4),
        confidence=round(interval.confidence, 4),
        upload=median_of(lambda phase: phase.upload) if split else None,
        compute=median_of(lambda phase: phase.compute),
        download=median_of(lambda phase: phase.download) if split else None,
        cpu=round(percentile(course.cpu_medians, 50), 4),
        rounds=[[round(value, 3) for value in turn.milliseconds] for turn in course.turns],
        unstable=unstable,
    )
