"""What half precision changes: PSNR of the difference to float32, at the sizes that are used.

Two ways of running the fp16 file: ONNX Runtime's CPU provider, which rounds weights and computes in float32,
and with every activation rounded as hardware does that computes in half precision.

    python benchmarks/half_accuracy.py --ckpt release/flavr_lite_2x.pth --size 256x448 --size 1080x1920
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from flavr import load_checkpoint
from flavr.rendering import RenderSpec, render_sequence
from flavr_export import ExportSpec, export
from flavr_export._half import rounding_twin

Array = NDArray[np.float32]


@click.command()
@click.option("--ckpt", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--size", "sizes", multiple=True, default=("256x448",), show_default=True, metavar="HxW")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(ckpt: Path, sizes: tuple[str, ...], output: Path | None) -> None:
    """Measure on rendered frames."""
    checkpoint = load_checkpoint(ckpt)
    report: dict[str, object] = {
        "benchmark": "half_accuracy",
        "checkpoint": ckpt.name,
        "width": checkpoint.config.width,
        "onnxruntime": ort.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            height, _, width = size.partition("x")
            found = measure(ckpt, (int(height), int(width)), Path(folder))
            report[size] = found
            click.echo(f"{size}: " + ", ".join(f"{name} {psnr:.1f} dB" for name, psnr in found.items()))
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")


def measure(ckpt: Path, size: tuple[int, int], folder: Path) -> dict[str, float]:
    """PSNR in dB of each way of running the fp16 file against the fp32 one, float frames in [0, 1]."""
    spec = ExportSpec(io="float", graph="conv2d")
    files = {
        precision: export(ckpt, folder / f"{precision}-{size[0]}.onnx", spec, precision=precision).path
        for precision in ("fp32", "fp16")
    }
    rounding = rounding_twin(onnx.load(files["fp16"])).SerializeToString()
    frames = _frames(size)
    exact = _run(str(files["fp32"]), frames)
    return {
        "cpu_provider": _psnr(_run(str(files["fp16"]), frames), exact),
        "activations_rounded": _psnr(_run(rounding, frames, optimise=False), exact),
    }


def _frames(size: tuple[int, int]) -> list[Array]:
    rendered = render_sequence(RenderSpec(height=size[0], width=size[1], seed=3), 0, frames=4)
    return [np.ascontiguousarray(each.transpose(2, 0, 1)[None] / np.float32(255)) for each in rendered]


def _run(model: str | bytes, frames: list[Array], *, optimise: bool = True) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # one run of a large picture: keep no more than it needs
    if not optimise:  # it would take the rounding out
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {value.name: frame for value, frame in zip(session.get_inputs(), frames, strict=True)}
    return np.asarray(session.run(None, feed)[0], np.float32)


def _psnr(made: Array, exact: Array) -> float:
    return float(-10 * np.log10(np.square(made.astype(np.float64) - exact).mean()))


if __name__ == "__main__":
    main()
