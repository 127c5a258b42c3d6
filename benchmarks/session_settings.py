"""What ONNX Runtime's session settings are worth on a CPU, side by side in one process.

One model, one frame size, a session for each setting. Runs are interleaved and ratios taken within each
round, so that a noisy machine slows all of them; the CPU time beside them shows what a setting burns in
waiting, and means more where others use the machine. Windows are also run several at once, with the default
settings: seconds are those of one. Then the time to load the model, as it is and as ONNX
Runtime has optimised and saved it before.

    python benchmarks/session_settings.py                                  # the network that ships
    python benchmarks/session_settings.py --model big.onnx --size 256x256 --rounds 5
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime as ort

from flavr_runtime.model_info import read_model_info
from flavr_runtime.shipped import DEFAULT_MODEL

Setting = Callable[[Any], None]  # given an ort.SessionOptions
PROVIDERS = ["CPUExecutionProvider"]
AT_ONCE = {"2 windows at once": 2, "4 windows at once": 4}


def _unchanged(options: Any) -> None:
    pass


def _no_spinning(options: Any) -> None:
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def _threads(count: int) -> Setting:
    def apply(options: Any) -> None:
        options.intra_op_num_threads = count

    return apply


def _without(field: str) -> Setting:
    def apply(options: Any) -> None:
        setattr(options, field, False)

    return apply


def _level(name: str) -> Setting:
    def apply(options: Any) -> None:
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)

    return apply


def _fixed(height: int, width: int) -> Setting:
    def apply(options: Any) -> None:
        for name, value in (("batch", 1), ("height", height), ("width", width)):
            options.add_free_dimension_override_by_name(name, value)

    return apply


def _settings(height: int, width: int) -> dict[str, Setting]:
    cores = os.cpu_count() or 1
    return {
        "default": _unchanged,
        "1 thread": _threads(1),
        f"{cores} threads": _threads(cores),
        f"{2 * cores} threads": _threads(2 * cores),
        "no spinning": _no_spinning,
        "no arena": _without("enable_cpu_mem_arena"),
        "no memory pattern": _without("enable_mem_pattern"),
        "fixed size": _fixed(height, width),
        "extended optimisation": _level("ORT_ENABLE_EXTENDED"),
        **dict.fromkeys(AT_ONCE, _unchanged),
    }


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), default=DEFAULT_MODEL)
@click.option("--size", default="180x320", show_default=True, metavar="HxW")
@click.option("--rounds", default=8, show_default=True)
@click.option("--only", multiple=True, help="Measure these settings against the default, by name.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(model: Path, size: str, rounds: int, only: tuple[str, ...], output: Path | None) -> None:
    """Measure the settings against each other."""
    info = read_model_info(model)
    if info.io != "uint8":
        raise click.BadParameter(f"{model} has {info.io} inputs; export it with --io uint8")
    height, width = (int(each) for each in size.split("x"))
    settings = {
        name: setting
        for name, setting in _settings(height, width).items()
        if not only or name in only or name == "default"
    }
    rng = np.random.default_rng(0)
    frames = {
        f"frame{t}": rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)  # its values cost nothing
        for t in range(4)
    }
    sessions = {name: _session(model, setting) for name, setting in settings.items()}
    wanted = _run(sessions["default"], frames)
    for name in sessions:  # also the warm-up
        if np.abs(_run(sessions[name], frames, AT_ONCE.get(name, 1)).astype(int) - wanted).max() > 1:
            raise click.ClickException("a setting changes the result")
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(rounds):
        names = list(sessions)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started, burnt = time.perf_counter(), time.process_time()
            _run(sessions[name], frames, windows := AT_ONCE.get(name, 1))
            seconds[name].append((time.perf_counter() - started) / windows)
            cpu_seconds[name].append((time.process_time() - burnt) / windows)
    loading = _loading(model, max(3, rounds // 2))
    _print(seconds, cpu_seconds, loading)
    if output is not None:
        report = {
            "benchmark": "session_settings",
            "model": str(info),
            "size": [height, width],
            "onnxruntime": ort.__version__,
            "logical_cores": os.cpu_count(),
            "load_average_before_and_after": os.getloadavg(),
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "loading_seconds": loading,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _session(model: Path, setting: Setting) -> ort.InferenceSession:
    options = ort.SessionOptions()
    setting(options)
    return ort.InferenceSession(model, options, providers=PROVIDERS)


def _run(session: ort.InferenceSession, frames: dict[str, Any], windows: int = 1) -> Any:
    return session.run(None, {name: frame.repeat(windows, axis=0) for name, frame in frames.items()})[0]


def _loading(model: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to a session: of the file, and of what ONNX Runtime has saved of it, fully optimised."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "optimised.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3  # it warns that the file is for this kind of processor
        options.optimized_model_filepath = str(saved)
        ort.InferenceSession(model, options, providers=PROVIDERS)
        unoptimised = ort.SessionOptions()
        unoptimised.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        taken: dict[str, list[float]] = {"as exported": [], "optimised before": []}
        for _ in range(rounds):
            for name, path, each in (
                ("as exported", model, ort.SessionOptions()),
                ("optimised before", saved, unoptimised),
            ):
                started = time.process_time()
                ort.InferenceSession(path, each, providers=PROVIDERS)
                taken[name].append(time.process_time() - started)
        return taken


def _print(
    seconds: dict[str, list[float]], cpu_seconds: dict[str, list[float]], loading: dict[str, list[float]]
) -> None:
    base, burnt = seconds["default"], cpu_seconds["default"]
    print(f"{'setting':<24}{'s':>8}{'speed':>9}  (quartiles)      {'CPU s':>8}{'ratio':>7}")
    for name, taken in seconds.items():
        low, middle, high = _ratios(base, taken)
        cpu = statistics.median(cpu_seconds[name])
        print(
            f"{name:<24}{statistics.median(taken):>8.3f}{middle:>8.2f}x  ({low:.2f} to {high:.2f})"
            f"{cpu:>12.3f}{statistics.median(burnt) / cpu:>6.2f}x"
        )
    for name, taken in loading.items():
        print(f"loading, {name}: {statistics.median(taken):.3f} s of CPU time")


def _ratios(base: list[float], other: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles([b / o for b, o in zip(base, other, strict=True)], n=4)
    return low, middle, high


if __name__ == "__main__":
    main()
