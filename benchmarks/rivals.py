"""Everything that could run the network on a CPU, side by side in one run, each in a process of its own.

The base of all ratios is the plain 3-D `torch.onnx.export` on ONNX Runtime. Beside it: flavr-export's forms
on ONNX Runtime and on OpenVINO, OpenVINO on the plain export, PyTorch as it is and compiled. Rivals take
turns, one window each in a round, in another order every time; ratios are taken within rounds. An engine that
is missing, or a precision that the CPU has no instructions for, is a row with the reason.

    pip install openvino                                       # lives beside onnxruntime
    python benchmarks/rivals.py                                # unet_18 2x, random weights, 256x256
    python benchmarks/rivals.py --ckpt model.pth --calibrate clips/ --size 256x448
    python benchmarks/rivals.py --python openvino=venv/bin/python    # OpenVINO in an environment of its own
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from flavr_benchmarks import ceiling
from flavr_benchmarks.environment import examine
from flavr_benchmarks.flops import useful_gflop
from flavr_benchmarks.machine import Machine
from flavr_benchmarks.process import CellError, CellProcess
from flavr_benchmarks.scheduling import Course, Limits, take_turns
from flavr_benchmarks.statistics import median, median_interval
from flavr_benchmarks.variants import NetworkFacts, facts_of
from flavr_benchmarks.workload import Task
from machine import cpu_name
from rival_files import write_files

_ORT, _OPENVINO = "rival_adapters:OrtWorkload", "rival_adapters:OpenVinoWorkload"
_TORCH = "flavr_benchmarks._torch_adapter:TorchWorkload"
_BF16 = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True, slots=True)
class Rival:
    """One way to run the network."""

    engine: str
    adapter: str
    graph: str = ""  # plain, or as flavr-export calls it; PyTorch takes the checkpoint
    precision: str = "fp32"
    options: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # instructions, one of which makes it worth measuring

    @property
    def name(self) -> str:
        return " ".join(part for part in (self.engine, self.graph, self.precision) if part)

    @property
    def file(self) -> str:
        """As `rival_files` calls it."""
        if not self.graph:
            return "checkpoint"
        return f"{self.graph}-int8" if self.precision.startswith("int8") else self.graph


_F32, _B16 = {"compute": "f32"}, {"compute": "bf16"}
TABLE = (
    Rival("ort", _ORT, "plain"),
    Rival("ort", _ORT, "conv2d"),
    Rival("ort", _ORT, "winograd"),
    Rival("ort", _ORT, "conv2d", "int8"),
    Rival("torch-eager", _TORCH),
    Rival("torch-compile", _TORCH, options={"compile": "yes"}),
    Rival("openvino", _OPENVINO, "plain", options=_F32),
    Rival("openvino", _OPENVINO, "conv2d", options=_F32),
    Rival("openvino", _OPENVINO, "winograd", options=_F32),
    Rival("openvino", _OPENVINO, "conv2d", "int8", options=_F32),
    Rival("openvino", _OPENVINO, "plain", "bf16", options=_B16, needs=_BF16),
    Rival("openvino", _OPENVINO, "conv2d", "bf16", options=_B16, needs=_BF16),
    Rival("openvino", _OPENVINO, "winograd", "bf16", options=_B16, needs=_BF16),
    Rival("openvino", _OPENVINO, "conv2d", "int8+bf16", options=_B16, needs=_BF16),
)
RIVALS: Mapping[str, Rival] = {rival.name: rival for rival in TABLE}
BASE, REFERENCE = "ort plain fp32", "torch-eager fp32"  # of the ratios; of the PSNR of differences


@click.command()
@click.option("--ckpt", type=click.Path(path_type=Path, exists=True), help="[default: random, of --width]")
@click.option("--width", default=64, show_default=True)
@click.option("--size", default="256x256", show_default=True, metavar="HxW")
@click.option("--rounds", default=7, show_default=True)
@click.option("--threads", default=os.cpu_count() or 1, show_default=True)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path, exists=True),
    help="Clips for int8. [default: a drawn one, which random weights deserve]",
)
@click.option("--only", multiple=True, type=click.Choice(list(RIVALS)), help="And the base; repeatable.")
@click.option("--python", "pythons", multiple=True, metavar="ENGINE=PATH", help="An engine's interpreter.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder for the files, used again if they are there."
)
@click.option(
    "--json", "output", type=click.Path(path_type=Path), help="Also write the figures here, with .md."
)
def main(
    ckpt: Path | None,
    width: int,
    size: str,
    rounds: int,
    threads: int,
    calibrate: Path | None,
    only: tuple[str, ...],
    pythons: tuple[str, ...],
    keep: Path | None,
    output: Path | None,
) -> None:
    """Measure the rivals against each other."""
    height, _, columns = size.partition("x")
    shape = int(height), int(columns)
    interpreters = dict(_interpreter(text) for text in pythons)
    chosen = [rival for name, rival in RIVALS.items() if not only or name in (*only, BASE)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        _say("writing the files")
        files = write_files(folder, {rival.file for rival in chosen}, ckpt, width, shape, calibrate)
        facts = _facts(files["checkpoint"])
        report: dict[str, Any] = {
            "benchmark": "rivals",
            "network": f"{facts.arch} 2x width {facts.width}, {'trained' if ckpt else 'random weights'}",
            "input": list(shape),
            "threads": threads,
            "rounds": rounds,
            "useful_gflop": float(f"{useful_gflop(facts, 2, shape):.4g}"),
            "cpu": cpu_name(),
            "libraries": dict(examine().libraries),
        }
        rows, (before, after) = _measure(chosen, files, shape, rounds, threads, interpreters, Path(scratch))
    report["ceiling_gflop_per_second"] = {
        each.precision: each.failure or each.gflop_per_second
        for each in ceiling.ceilings("cpu", before, after)
    }
    report["rivals"] = rows
    text = markdown(report)
    print(text)
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")
        output.with_suffix(".md").write_text(text)


def markdown(report: Mapping[str, Any]) -> str:
    """The table for people."""
    height, columns = report["input"]
    ceilings = report["ceiling_gflop_per_second"]
    lines = [
        f"{report['network']}, {height}x{columns}, {report['threads']} threads, {report['rounds']} rounds, "
        f"{report['cpu']}; {report['useful_gflop']} GFLOP a window (10 taps over time, not 12). "
        "Ceilings, GFLOP/s of a matrix product: "
        + ", ".join(f"{name} {told}" for name, told in ceilings.items() if not isinstance(told, str))
        + ".",
        "",
        "| rival | s, p50 (interval) | to the plain export (interval) | GFLOP/s | of its ceiling "
        "| ready after | peak memory | file | to eager |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in report["rivals"].items():
        if "failure" in row:
            lines.append(f"| {name} | {row['failure']} | | | | | | | |")
            continue
        (low, high), (least, most) = row["seconds_interval"], row["speedup_interval"]
        top = ceilings.get({"int8+bf16": "int8"}.get(row["precision"], row["precision"]))
        share = "" if isinstance(top, str | None) else f"{100 * row['gflop_per_second'] / top:.0f} %"
        psnr = row["psnr_to_eager_db"]
        cells = (
            name,
            f"{row['seconds']:.3f} ({low:.3f} to {high:.3f})",
            f"{row['speedup']:.2f}x ({least:.2f} to {most:.2f})",
            f"{row['gflop_per_second']:.0f}",
            share,
            f"{row['load_seconds'] + row['first_seconds']:.1f} s",
            f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['file_bytes'] / 1e6:.1f} MB",
            "" if psnr is None else f"{psnr:.0f} dB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _measure(
    chosen: Sequence[Rival],
    files: Mapping[str, Path],
    size: tuple[int, int],
    rounds: int,
    threads: int,
    interpreters: Mapping[str, str],
    scratch: Path,
) -> tuple[dict[str, dict[str, Any]], tuple[ceiling.Measured, ceiling.Measured]]:
    """The rows, and the machine's ceilings just before the rounds and after."""
    from flavr_benchmarks.datasets import timed_windows

    windows, source = scratch / "windows.npy", scratch / "source"
    pictures = timed_windows(size, 1)
    np.save(windows, pictures)
    source.mkdir()
    np.savez(source / "window.npz", inputs=pictures[0])
    _let_workers_import()
    flags = examine().cpu_flags
    rows: dict[str, dict[str, Any]] = {rival.name: {"precision": rival.precision} for rival in chosen}
    with ExitStack() as stack:
        live: dict[str, CellProcess] = {}
        for rival in chosen:
            row = rows[rival.name]
            if rival.needs and not set(rival.needs) & set(flags):
                row["failure"] = f"not measured: this CPU has none of {', '.join(rival.needs)}"
                continue
            task = Task(dict(rival.options), str(files[rival.file]), "fp32", threads, 2)
            python = interpreters.get(rival.engine, sys.executable)
            process = stack.enter_context(
                CellProcess(rival.adapter, task, windows, warm_up=0, timeout=900, python=python)
            )
            _say(f"{rival.name}: loading")
            try:
                loaded = process.load()
            except CellError as failed:
                row["failure"] = f"{failed.failure.kind}: {failed}"
                process.close()
                continue
            row["load_seconds"] = loaded["load_seconds"]
            row["first_seconds"] = loaded["first_seconds"]
            row["file_bytes"] = loaded["description"]["model_bytes"]
            row["engine"] = loaded["description"]["notes"]
            live[rival.name] = process
        _say("measuring")
        before = ceiling.measure("cpu", threads)
        started = time.monotonic()
        limits = Limits(budget=float("inf"), narrow=float("inf"), least_rounds=rounds, turn=0)
        courses, _ = take_turns(
            live,
            limits,
            Machine(),
            f"{size[0]}x{size[1]}",
            lambda done, _live: _say(f"round {done}, {time.monotonic() - started:.0f} s"),
        )
        after = ceiling.measure("cpu", threads)
        made: dict[str, NDArray[np.float32]] = {}
        for name, course in courses.items():
            _finish(name, course, live[name], rows[name], source, scratch, made)
    gflop = useful_gflop(_facts(files["checkpoint"]), 2, size)
    base = rows[BASE].get("round_seconds")
    for name, row in rows.items():
        if "failure" not in row:
            _compare(row, base, gflop, made[name], made.get(REFERENCE))
    return rows, (before, after)


def _finish(
    name: str,
    course: Course,
    process: CellProcess,
    row: dict[str, Any],
    source: Path,
    scratch: Path,
    made: dict[str, NDArray[np.float32]],
) -> None:
    """What is asked of a rival after its last turn."""
    try:
        if course.failure is not None:
            raise CellError(course.failure.kind, course.failure.reason)
        row["peak_bytes"] = process.memory()["peak_rss"]
        target = scratch / name.replace(" ", "-")
        target.mkdir()
        process.predict(source, target)
        made[name] = np.load(target / "window.npy")
    except CellError as failed:
        row["failure"] = f"{failed.failure.kind}: {failed}"
        return
    row["round_seconds"] = [median([phases.compute for phases in turn.phases]) for turn in course.turns]
    row["cpu_seconds"] = median(course.cpu_medians) / 1000


def _compare(
    row: dict[str, Any],
    base: Sequence[float] | None,
    gflop: float,
    made: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
) -> None:
    own = row["round_seconds"]
    if base is None:
        raise click.ClickException(f"{BASE} could not be measured, to which all ratios are")
    ratios = [b / o for b, o in zip(base, own, strict=True)]
    interval, spread = median_interval(own), median_interval(ratios)
    row["seconds"], row["seconds_interval"] = median(own), [interval.low, interval.high]
    row["speedup"], row["speedup_interval"] = median(ratios), [spread.low, spread.high]
    row["confidence"] = interval.confidence
    row["gflop_per_second"] = gflop / row["seconds"]
    row["psnr_to_eager_db"] = None
    if reference is not None and made is not reference:
        error = float(((made.astype(np.float64) - reference) ** 2).mean())
        row["psnr_to_eager_db"] = -10 * float(np.log10(max(error, 1e-20)))


def _facts(ckpt: Path) -> NetworkFacts:
    from flavr import load_checkpoint

    checkpoint = load_checkpoint(ckpt)
    return facts_of(ckpt.stem, checkpoint.config, checkpoint.sha256)


def _let_workers_import() -> None:
    """Interpreters that flavr is not installed in find it too, and this folder's modules."""
    import flavr_benchmarks
    import flavr_runtime

    here = Path(__file__).resolve().parent
    homes = [here, *(Path(str(package.__file__)).parents[1] for package in (flavr_benchmarks, flavr_runtime))]
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, homes), *([known] if known else [])])


def _interpreter(text: str) -> tuple[str, str]:
    engine, _, path = text.partition("=")
    if engine not in {rival.engine for rival in TABLE} or not Path(path).is_file():
        known = ", ".join(dict.fromkeys(rival.engine for rival in TABLE))
        raise click.BadParameter(f"{text!r} is no ENGINE=PATH of an interpreter; engines: {known}")
    return engine, path


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
