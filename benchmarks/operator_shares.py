"""What share of a window each operator takes on ONNX Runtime's CPU provider, from its own profile.

Convolutions are what a network is for: Conv, ConvTranspose and, in the winograd form, MatMul. Everything else
moves numbers about. For each node the least of several runs counts, on one thread: other processes then
disturb little.

    python benchmarks/operator_shares.py                                  # the network that ships, 256x448
    python benchmarks/operator_shares.py --ckpt model.pth --size 256x256 --graph winograd
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort

from flavr import Flavr, FlavrConfig, save_checkpoint
from flavr_export import ExportSpec, export
from flavr_export.spec import GraphForm
from machine import cpu_name

CONVOLUTIONS = ("Conv", "FusedConv", "ConvTranspose", "MatMul")


@click.command()
@click.option("--ckpt", type=click.Path(path_type=Path), help="[default: random weights of --width]")
@click.option("--width", default=16, show_default=True)
@click.option("--size", default="256x448", show_default=True, metavar="HxW")
@click.option(
    "--graph", "graphs", multiple=True, default=("conv2d", "winograd"), help="Form to profile; repeatable."
)
@click.option("--rounds", default=10, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    ckpt: Path | None, width: int, size: str, graphs: tuple[GraphForm, ...], rounds: int, output: Path | None
) -> None:
    """Profile exported graphs and list the shares of their operators."""
    height, _, columns = size.partition("x")
    shape = int(height), int(columns)
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        if ckpt is None:
            ckpt = Path(folder) / "random.pth"
            save_checkpoint(ckpt, Flavr(FlavrConfig(width=width)).eval())
        for graph in graphs:
            exported = export(ckpt, Path(folder) / f"{graph}.onnx", ExportSpec(graph=graph))
            width = exported.checkpoint.config.width
            shares[graph] = _profiled(exported.path, shape, rounds)
    for graph, operators in shares.items():
        total = sum(operators.values())
        other = total - sum(operators.get(name, 0.0) for name in CONVOLUTIONS)
        print(f"{graph}: {total:.1f} ms, {100 * other / total:.1f} % of it not convolutions")
        for name, milliseconds in operators.items():
            if milliseconds >= total / 1000:
                print(f"  {name:14} {milliseconds:8.2f} ms {100 * milliseconds / total:5.1f} %")
    if output is not None:
        report = {
            "benchmark": "operator_shares",
            "network": f"width {width}",
            "input": list(shape),
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "threads": 1,
            "time": "each node's least of the rounds",
            "rounds": rounds,
            "milliseconds": shares,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _profiled(path: Path, shape: tuple[int, int], rounds: int) -> dict[str, float]:
    """Operator -> milliseconds, as they are after ONNX Runtime's own optimisations."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    frames = {f"frame{t}": rng.integers(0, 256, (1, *shape, 3), dtype=np.uint8) for t in range(4)}
    for _ in range(rounds + 1):  # one for warming up, which is never the least
        session.run(None, frames)
    least: dict[tuple[str, str], float] = {}
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"]
            least[key] = min(least.get(key, np.inf), event["dur"] / 1e3)
    operators: dict[str, float] = {}
    for (operator, _), milliseconds in least.items():
        operators[operator] = operators.get(operator, 0.0) + milliseconds
    return dict(sorted(operators.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
