"""What a user of flavr-run gets from the form that the CPU provider takes of the network that ships.

The same command, `flavr-run CLIP --provider cpu`, by itself and with `--model flavr_lite_2x.onnx` (conv2d, as
it was before there were others), each in a process of its own, in turns; ratios are taken within each round.
So is start-up: an Interpolator made and nothing run. Processor time counts decoding and encoding too.

    python benchmarks/shipped_forms.py clip.mp4
    python benchmarks/shipped_forms.py clip.mp4 --threads 1 --json benchmarks/results/shipped-forms-....json
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import click

from machine import cpu_name

WAYS = {"conv2d": "flavr_lite_2x.onnx", "default": None}
_RUN = "from flavr_runtime.cli import main; main()"
_START = (
    "import sys; from flavr_runtime import Interpolator; "
    "Interpolator(sys.argv[1] or None, provider='cpu', threads=int(sys.argv[2]))"
)


@click.command()
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(clip: Path, rounds: int, threads: int, output: Path | None) -> None:
    """Measure both, and print medians and the median of the ratios."""
    measured: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for way, model in WAYS.items():
                run = [str(clip), "-o", f"{folder}/{way}.mkv", "-y", "-q", "--provider", "cpu"]
                run += ["--threads", str(threads), *(["--model", model] if model else [])]
                start = [model or "", str(threads)]
                for what, code, arguments in (("run", _RUN, run), ("start", _START, start)):
                    for name, value in _measured(code, arguments).items():
                        measured[way].setdefault(f"{what}_{name}", []).append(value)
            print(f"round {number + 1}: {_last(measured)}", flush=True)
    for name, values in measured["default"].items():
        before, after = (statistics.median(measured[way][name]) for way in WAYS)
        ratios = [old / new for old, new in zip(measured["conv2d"][name], values, strict=True)]
        print(f"{name:22} conv2d {before:8.2f}  default {after:8.2f}  {statistics.median(ratios):5.2f}x")
    if output is not None:
        report = {
            "benchmark": "shipped_forms",
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": threads,
            "onnxruntime": version("onnxruntime"),
            "clip": _described(clip),
            "rounds": measured,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _measured(code: str, arguments: Sequence[str]) -> dict[str, float]:
    """Wall and processor seconds and the peak of memory of a process of its own."""
    started = time.perf_counter()
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", code, *arguments], os.environ)
    _, status, used = os.wait4(process, 0)
    if status:
        raise click.ClickException(f"{' '.join(arguments)} failed")
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_megabytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
    }


def _last(measured: dict[str, dict[str, list[float]]]) -> str:
    return ", ".join(f"{way} {found['run_cpu_seconds'][-1]:.1f} CPU s" for way, found in measured.items())


def _described(clip: Path) -> str:
    """Size and length; imported late, since a process begins with the peak of the one that starts it."""
    from flavr_runtime.reader import VideoReader

    with VideoReader(clip) as reader:
        info = reader.info
        return f"{info.width}x{info.height}, {info.frame_count} frames, {info.description}"


if __name__ == "__main__":
    main()
