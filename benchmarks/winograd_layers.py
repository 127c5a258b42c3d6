"""Both ways of writing a layer of the winograd form, and the conv2d form, measured layer by layer.

Prints what each takes, and the numbers that `flavr_export._costs` should hold for this machine: two per way,
fitted so that relative errors are least. CPU time of one thread, the least of a few interleaved runs: other
processes then disturb little.

    python benchmarks/winograd_layers.py
    python benchmarks/winograd_layers.py --json benchmarks/results/winograd-layers-....json
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import click
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from flavr.config import WINDOW
from flavr_export._builder import FLOAT, GraphBuilder
from flavr_export._conv2d import Conv2dForm
from flavr_export._costs import COSTS, Costs, Layer, Way, faster_way, work
from flavr_export._winograd import WinogradForm
from flavr_export.spec import DEFAULT_OPSET, ExportSpec
from machine import cpu_name

# inputs, outputs, height, width, transposed: layers of width 64 at 256x256 and of width 16 at 256x448
LAYERS = (
    (512, 512, 32, 32, False),
    (256, 256, 32, 32, False),
    (128, 128, 64, 64, False),
    (64, 64, 128, 128, False),
    (128, 64, 128, 128, False),
    (128, 128, 32, 56, False),
    (64, 64, 32, 56, False),
    (32, 32, 64, 112, False),
    (16, 16, 128, 224, False),
    (32, 16, 128, 224, False),
    (512, 128, 32, 32, True),
    (256, 64, 64, 64, True),
    (128, 64, 128, 128, True),
    (128, 32, 32, 56, True),
    (64, 16, 64, 112, True),
    (32, 16, 128, 224, True),
)
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True, slots=True)
class _Measured:
    name: str
    layer: Layer
    pixels: int  # of the input
    milliseconds: Mapping[str, float]  # form or way -> CPU time


class _OneWay(WinogradForm):
    """The winograd form with every layer written in one way."""

    way: Way

    def _way(self, layer: Layer) -> Way:  # noqa: ARG002
        return self.way


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(rounds: int, output: Path | None) -> None:
    """Measure layers in all forms and fit the cost model."""
    rows = []
    for inputs, outputs, height, width, transposed in LAYERS:
        row = _Measured(
            name=f"{'transposed ' if transposed else ''}{inputs}->{outputs} at {height}x{width}",
            layer=Layer(inputs, 4 * outputs if transposed else outputs, 2 if transposed else 3, 1),
            pixels=height * width,
            milliseconds=measure_layer(inputs, outputs, height, width, transposed, rounds),
        )
        rows.append(row)
        told = "  ".join(
            f"{form} {value:7.2f} ms ({row.milliseconds['conv2d'] / value:.2f}x)"
            for form, value in row.milliseconds.items()
        )
        print(f"{row.name:32} {told}  chosen: {faster_way(row.layer)}")
    fitted = {way: _fit(rows, way) for way in WAYS}
    for way, costs in fitted.items():
        print(f"{way}: fitted {costs}, in use {COSTS[way]}")
    lost = _lost(rows)
    print(f"the model's choices cost {100 * lost:.1f} % more than the best ones")
    if output is not None:
        report = {
            "benchmark": "winograd_layers",
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "threads": 1,
            "time": "CPU time, the least of the rounds",
            "rounds": rounds,
            "layers": [
                {"layer": row.name, "milliseconds": row.milliseconds, "chosen": faster_way(row.layer)}
                for row in rows
            ],
            "fitted": {way: asdict(costs) for way, costs in fitted.items()},
            "lost_by_model": lost,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def measure_layer(
    inputs: int, outputs: int, height: int, width: int, transposed: bool, rounds: int
) -> dict[str, float]:
    """Milliseconds of one layer in the conv2d form and in both ways of winograd."""
    rng = np.random.default_rng(0)
    shape = (inputs, outputs, 3, 4, 4) if transposed else (outputs, inputs, 3, 3, 3)
    weights = {"layer.weight": rng.standard_normal(shape, dtype=np.float32)}
    x = rng.standard_normal((1, WINDOW * inputs, height, width), dtype=np.float32)
    sessions = {
        form: _session(form, weights, inputs, height, width, transposed) for form in ("conv2d", *WAYS)
    }
    parts = {f"x{t}": part for t, part in enumerate(np.split(x, WINDOW, axis=1))}
    least: dict[str, float] = {}
    for _ in range(rounds + 1):  # one for warming up, which is never the least
        for form, session in sessions.items():
            feeds = parts if form == "conv2d" else {"x": x}
            started = time.process_time()
            session.run(None, feeds)
            least[form] = min(least.get(form, np.inf), 1e3 * (time.process_time() - started))
    return least


def _session(
    form: str,
    weights: dict[str, NDArray[np.float32]],
    channels: int,
    height: int,
    width: int,
    transposed: bool,
) -> ort.InferenceSession:
    """One layer. It reads and writes features as they are between the layers of a network."""
    g, spec = GraphBuilder(DEFAULT_OPSET), ExportSpec(io="float", size=(8 * height, 8 * width))
    writer: Conv2dForm | _OneWay
    if form == "conv2d":
        writer = Conv2dForm(g, weights, spec)
        x = tuple(g.input(f"x{t}", FLOAT, [1, channels, height, width]) for t in range(WINDOW))
    else:
        writer = _OneWay(g, weights, spec)
        writer.way = "time" if form == "time" else "space"
        x = writer.feature(g.input("x", FLOAT, [1, WINDOW * channels, height, width]), channels, 8)
    made = writer.conv_transpose(x, "layer") if transposed else writer.conv(x, "layer")
    made = writer.relu(made, "relu")
    for number, part in enumerate(made):
        g.rename_output(part, f"y{number}")
        g.output(f"y{number}", FLOAT, ["b", "c", "h", "w"])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        g.model("layer").SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _fit(rows: Sequence[_Measured], way: Way) -> Costs:
    """Least squares of the relative error."""
    equations = []
    for row in rows:
        taken = 1e6 * row.milliseconds[way] / row.pixels
        equations.append([part / taken for part in work(row.layer, way)])
    solution, *_ = np.linalg.lstsq(np.array(equations), np.ones(len(equations)), rcond=None)
    product, move = (round(float(value), 4) for value in solution)
    return Costs(product, move)


def _lost(rows: Sequence[_Measured]) -> float:
    """How much longer the chosen ways take than the faster ones, over all layers."""
    chosen = sum(row.milliseconds[faster_way(row.layer)] for row in rows)
    best = sum(min(row.milliseconds[way] for way in WAYS) for row in rows)
    return chosen / best - 1


if __name__ == "__main__":
    main()
