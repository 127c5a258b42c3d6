"""How long one training step takes (forward, L1, backward, Adam) by width, precision, layout and algorithm.

Everything runs in one process, interleaved, so that a noisy machine slows all of it; ratios are taken within
each round. The defaults of flavr-train's --precision, --channels-last and --winograd come from these figures.

    python benchmarks/training_step.py                                  # width 16, and 64 with fewer rounds
    python benchmarks/training_step.py --device cuda --crop 256 --batch 32 --rounds 20 --json h200.json
"""

from __future__ import annotations

import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch

from flavr import Flavr, FlavrConfig
from flavr._winograd import quicken
from flavr.initialise import initialise
from flavr.losses import parse_loss
from flavr.predictors import PRECISIONS
from flavr.training.summary import network_cost

PRECISION_NAMES = ("fp32", "bf16")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
WINOGRAD = "winograd"  # float32 only
BASE = "fp32 contiguous"
SLOW = 10  # a variant so many times slower than the base is timed twice: its ratio needs no decimals
BACKWARD = 3  # a step is counted as three forward passes: the backward one multiplies every weight twice

Step = Callable[[], None]


@click.command()
@click.option("--width", "widths", multiple=True, default=(16, 64), show_default=True)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISION_NAMES),
    default=PRECISION_NAMES,
    show_default=True,
)
@click.option("--crop", default=96, show_default=True)
@click.option("--batch", default=4, show_default=True, help="A quarter of it at width 64 on a CPU.")
@click.option("--rounds", default=10, show_default=True, help="A third of them at width 64.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=0, show_default=True, help="0: one per physical core.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    widths: tuple[int, ...],
    precisions: tuple[str, ...],
    crop: int,
    batch: int,
    rounds: int,
    device: str,
    threads: int,
    output: Path | None,
) -> None:
    """Measure training steps."""
    if threads:
        torch.set_num_threads(threads)
    where = torch.device(device)
    report: dict[str, object] = {
        "benchmark": "training_step",
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "crop": crop,
    }
    for width in widths:
        wide = width >= 64
        windows = max(1, batch // 4) if wide and where.type == "cpu" else batch
        figures = measure(width, precisions, crop, windows, max(2, rounds // 3) if wide else rounds, where)
        report[f"width {width}"] = figures
        _print(width, figures)
        if output is not None:
            output.write_text(json.dumps(report, indent=1) + "\n")


def measure(
    width: int, precisions: tuple[str, ...], crop: int, batch: int, rounds: int, device: torch.device
) -> dict[str, object]:
    """Seconds of every step of every variant, and what follows from them."""
    steps = {
        f"{precision} {layout}": _step(width, crop, batch, precision, layout, device)
        for precision, layout in itertools.product(precisions, LAYOUTS)
    }
    if "fp32" in precisions:
        steps |= {
            f"fp32 {layout} {WINOGRAD}": _step(width, crop, batch, "fp32", layout, device, winograd=True)
            for layout in LAYOUTS
        }
    # The first step warms up, and makes Adam's state.
    first = {name: _seconds(step, device) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        timed = [name for name in steps if number < 2 or first[name] < SLOW * first[BASE]]
        for name in timed if number % 2 == 0 else reversed(timed):
            seconds[name].append(_seconds(steps[name], device))
    gflop = BACKWARD * network_cost(FlavrConfig(width=width), crop, crop).gflops * batch
    return {
        "windows_per_step": batch,
        "rounds": rounds,
        "gflop_per_step": gflop,
        "seconds": seconds,
        "median_s": {name: statistics.median(times) for name, times in seconds.items()},
        "fastest_s": {name: min(times) for name, times in seconds.items()},
        "windows_per_s": {name: batch / statistics.median(times) for name, times in seconds.items()},
        "speedup_over_fp32_contiguous": {
            name: statistics.median(a / b for a, b in zip(seconds[BASE], times, strict=False))
            for name, times in seconds.items()
        },
    }


def _step(
    width: int,
    crop: int,
    batch: int,
    precision: str,
    layout: str,
    device: torch.device,
    *,
    winograd: bool = False,
) -> Step:
    network = Flavr(FlavrConfig(width=width, encoder_bias=True))
    initialise(network, "blend", seed=0)
    if winograd:
        quicken(network)
    network.to(device).train()
    if layout == "channels_last":
        for parameter in network.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, betas=(0.9, 0.99))
    loss = parse_loss("1*L1")
    random = torch.Generator().manual_seed(0)
    frames = torch.rand(batch, 3, 4, crop, crop, generator=random).to(device)
    targets = torch.rand(batch, 1, 3, crop, crop, generator=random).to(device)

    def step() -> None:
        inputs = frames.contiguous(memory_format=LAYOUTS[layout])
        with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
            prediction = network(inputs)
        value = loss(prediction, targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _seconds(step: Step, device: torch.device) -> float:
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _print(width: int, figures: dict[str, object]) -> None:
    medians, ratios = figures["median_s"], figures["speedup_over_fp32_contiguous"]
    rates = figures["windows_per_s"]
    assert isinstance(medians, dict) and isinstance(ratios, dict) and isinstance(rates, dict)  # noqa: S101, PT018
    for name, median in medians.items():
        print(
            f"width {width}  {name:27} {median:7.3f} s a step, {rates[name]:6.2f} windows/s, "
            f"{ratios[name]:.2f}x {BASE}"
        )


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    flags = [flag for flag in known if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.processor())} ({' '.join(flags)})"


if __name__ == "__main__":
    main()
