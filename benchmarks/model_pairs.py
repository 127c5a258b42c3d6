"""Two exported files of one network side by side on ONNX Runtime's CPU provider: time, and what differs.

For what changes a file and not the network, such as leaving out blocks that do nothing
(`python -m flavr.revive --still`). Windows take turns; the ratio is the median over rounds.

    python benchmarks/model_pairs.py before.onnx after.onnx --size 256x448 --size 720x1280 --json pairs.json
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort

from machine import cpu_name


@click.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--size", "sizes", multiple=True, default=("256x448",), show_default=True, metavar="HxW")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=12, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    before: Path, after: Path, sizes: tuple[str, ...], threads: int, rounds: int, output: Path | None
) -> None:
    """Compare BEFORE and AFTER, uint8 files, on drawn windows."""
    sessions = [_session(path, threads) for path in (before, after)]
    rows = []
    for size in sizes:
        height, width = map(int, size.split("x"))
        window = _window(height, width)
        made = [session.run(None, window)[0].astype(int) for session in sessions]
        taken = [[_seconds(session, window) for session in sessions] for _ in range(rounds)]
        ratios = [old / new for old, new in taken]
        low, _, high = statistics.quantiles(ratios, n=4)
        row = {
            "size": size,
            "before_s": statistics.median(old for old, _ in taken),
            "after_s": statistics.median(new for _, new in taken),
            "ratio": statistics.median(ratios),
            "quartiles": [low, high],
            "largest_difference": int(np.abs(made[0] - made[1]).max()),  # in code values
        }
        rows.append(row)
        print(
            f"{size}: {row['before_s']:.3f} s before, {row['after_s']:.3f} s after, {row['ratio']:.2f}x "
            f"({low:.2f} to {high:.2f}), frames differ by {row['largest_difference']} at most"
        )
    if output is not None:
        report = {
            "benchmark": "model_pairs",
            "files": [before.name, after.name],
            "threads": threads,
            "rounds": rounds,
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "sizes": rows,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _window(height: int, width: int) -> dict[str, np.ndarray]:
    """Patches that move by three pixels a frame."""
    patches = np.random.default_rng(0).integers(0, 256, (1, -(-height // 8), -(-width // 8), 3))
    picture = patches.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.uint8)
    return {f"frame{t}": np.roll(picture, 3 * t, axis=2) for t in range(4)}


def _seconds(session: ort.InferenceSession, window: dict[str, np.ndarray]) -> float:
    started = time.perf_counter()
    session.run(None, window)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
