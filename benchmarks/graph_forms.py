"""How fast the exported graph forms run on ONNX Runtime's CPU provider, side by side in one process.

Four files of one network with random weights: what `torch.onnx.export` writes of the published network
unchanged (the plain export), and flavr-export's --graph conv3d, conv2d and winograd. Runs are interleaved, so
that a noisy machine slows all of them, and ratios are taken within each round.

    python benchmarks/graph_forms.py                        # unet_18 2x, 256x256
    python benchmarks/graph_forms.py --width 16 --size 256x448 --rounds 20
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from flavr import Flavr, FlavrConfig, save_checkpoint
from flavr_export import ExportSpec, export
from machine import cpu_name
from plain_export import write_plain_export

FORMS = ("plain", "conv3d", "conv2d", "winograd")


@click.command()
@click.option("--width", default=64, show_default=True)
@click.option("--size", default="256x256", show_default=True, metavar="HxW")
@click.option("--rounds", default=10, show_default=True)
@click.option("--threads", default=0, show_default=True, help="0: one per physical core.")
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: processor time, for one thread on a machine that others use too.",
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(width: int, size: str, rounds: int, threads: int, clock: str, output: Path | None) -> None:
    """Measure the graph forms against each other."""
    if clock == "cpu" and threads != 1:
        raise click.UsageError("--clock cpu counts waiting threads as work; add --threads 1")
    now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    height, _, columns = size.partition("x")
    shape = (1, 3, int(height), int(columns))
    with tempfile.TemporaryDirectory() as folder:
        files = _write_files(Path(folder), width, shape)
        sessions = {form: _session(path, threads) for form, path in files.items()}
    frames = _moving_frames(shape)
    outputs = {form: _run(session, frames) for form, session in sessions.items()}  # also the warm-up
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for round_number in range(rounds):
        for form in FORMS if round_number % 2 == 0 else reversed(FORMS):
            started = now()
            _run(sessions[form], frames)
            seconds[form].append(now() - started)
    report = {
        "benchmark": "graph_forms",
        "network": f"unet_18 2x width {width}",
        "input": list(shape),
        "rounds": rounds,
        "onnxruntime": ort.__version__,
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "clock": clock,
        "threads": threads or "one per physical core",
        "seconds": seconds,
        "speedup_over_plain": {form: _ratios(seconds["plain"], seconds[form]) for form in FORMS},
        "max_abs_difference_to_plain": {
            form: float(np.abs(outputs[form] - outputs["plain"]).max()) for form in FORMS
        },
    }
    for form in FORMS:
        median, (low, middle, high) = statistics.median(seconds[form]), report["speedup_over_plain"][form]
        print(f"{form:8} {median:6.3f} s  {middle:.2f}x the plain export (quartiles {low:.2f} to {high:.2f})")
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")


def _write_files(folder: Path, width: int, shape: tuple[int, int, int, int]) -> dict[str, Path]:
    torch.manual_seed(0)
    network = Flavr(FlavrConfig(width=width)).eval()
    files = {form: folder / f"{form}.onnx" for form in FORMS}
    save_checkpoint(folder / "random.pth", network)
    for form in ("conv3d", "conv2d", "winograd"):
        export(folder / "random.pth", files[form], ExportSpec(graph=form, io="float", size=shape[2:]))
    write_plain_export(network, files["plain"], shape[2:])
    return files


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, frames: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    (mid,) = session.run(None, frames)
    return np.asarray(mid, np.float32).reshape(-1)


def _moving_frames(shape: tuple[int, int, int, int]) -> dict[str, NDArray[np.float32]]:
    """A drifting grating with grain: zeros or constants would flatter some kernels."""
    rng = np.random.default_rng(0)
    columns = np.arange(shape[3])
    return {
        f"frame{t}": (0.5 + 0.4 * np.sin((columns + 3 * t) / 9) + rng.normal(0, 0.02, shape)).astype(
            np.float32
        )
        for t in range(4)
    }


def _ratios(base: list[float], other: list[float]) -> tuple[float, float, float]:
    """Quartiles of the ratios within each round."""
    low, middle, high = statistics.quantiles([b / o for b, o in zip(base, other, strict=True)], n=4)
    return low, middle, high


if __name__ == "__main__":
    main()
