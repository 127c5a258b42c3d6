"""Kinds of 8-bit numbers on ONNX Runtime's CPU provider: what each costs in quality and gains in time.

Unsigned activations with weights of 7 and of 8 bits, and signed ones, beside the float32 forms. Quality is
PSNR against the true frames on windows held out of the calibration; time is the processor time of one thread,
interleaved, as a ratio to conv2d in float32.

    python benchmarks/int8_kinds.py --ckpt model.pth --calibrate clips/
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort

from flavr import load_checkpoint
from flavr_export import ExportSpec
from flavr_export._calibration import read_windows
from flavr_export._quantise import quantise
from flavr_export.graph import build_graph
from flavr_export.targets import Quantisation
from flavr_export.verify import code_values
from machine import cpu_name

KINDS = {
    "u8 x s7": Quantisation("uint8", symmetric=False, reduced_range=True),
    "u8 x s8": Quantisation("uint8", symmetric=False, reduced_range=False),
    "s8 x s8": Quantisation("int8", symmetric=True, reduced_range=False),
}


@click.command()
@click.option("--ckpt", type=click.Path(path_type=Path), required=True)
@click.option("--calibrate", type=click.Path(path_type=Path), required=True)
@click.option("--size", default="256x448", show_default=True, metavar="HxW")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(ckpt: Path, calibrate: Path, size: str, rounds: int, output: Path | None) -> None:
    """Measure the kinds of 8-bit numbers against float32."""
    height, _, columns = size.partition("x")
    checkpoint = load_checkpoint(ckpt)
    config, state = checkpoint.config, checkpoint.state_dict
    as_exported = ExportSpec(sums=False, subpixel=True)  # what flavr-export does for 8 bits
    plain = build_graph(config, state, as_exported)
    calibrating, held_out = read_windows(calibrate, config.factor)
    specs = {"conv2d": ExportSpec(), "winograd": ExportSpec(graph="winograd")}
    graphs = {name: build_graph(config, state, spec) for name, spec in specs.items()}
    lost = {}
    for name, kind in KINDS.items():
        found = quantise(plain, calibrating, held_out, kind, code_values, calibrations=["minmax"])
        lost[name] = found.lost
        graphs[name] = found.applied(plain)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for name, graph in graphs.items()
    }
    rng = np.random.default_rng(0)
    shape = (1, int(height), int(columns), 3)
    frames = {f"frame{t}": rng.integers(0, 256, shape, dtype=np.uint8) for t in range(4)}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            started = time.process_time()
            session.run(None, frames)
            seconds[name].append(time.process_time() - started)
    speedup = {
        name: statistics.median(a / b for a, b in zip(seconds["conv2d"][1:], own[1:], strict=True))
        for name, own in seconds.items()
    }
    for name in graphs:
        told = f"{lost[name]:+.3f} dB lost" if name in lost else ""
        print(f"{name:9} {statistics.median(seconds[name][1:]):6.3f} s  {speedup[name]:.2f}x  {told}")
    if output is not None:
        report = {
            "benchmark": "int8_kinds",
            "network": f"{config.arch} {config.factor}x width {config.width}",
            "input": [int(height), int(columns)],
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "clock": "cpu",
            "threads": 1,
            "seconds": {name: own[1:] for name, own in seconds.items()},
            "speedup_over_conv2d": speedup,
            "psnr_lost_db": lost,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
