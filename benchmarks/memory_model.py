"""What a window really takes in memory on a CPU, against what flavr_runtime.memory predicts.

Networks with random weights (memory does not depend on them), each graph form and size in a process of its
own: what loading the model takes, and the peak over two windows, less what the loaded model has. With --run a
whole flavr-run per size, over a clip that mostly stands still, against what it states before.

    python benchmarks/memory_model.py
    python benchmarks/memory_model.py --case 64:conv2d:720x1280 --run 1080x1920
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import onnxruntime as ort

from flavr_runtime.memory import loaded_bytes, window_bytes
from flavr_runtime.model_info import read_model_info

DEFAULT_CASES = (
    "2:conv2d:360x640",
    "16:conv2d:256x256",
    "16:conv2d:360x640",
    "16:conv2d:720x1280",
    "16:conv3d:256x256",
    "16:conv3d:360x640",
    "16:winograd:256x256",
    "16:winograd:360x640",
    "16:winograd:720x1280",
    "64:conv2d:256x256",
    "64:conv3d:256x256",
    "64:winograd:256x256",
)

_EXPORT = """
import sys, torch
from flavr import Flavr, FlavrConfig, save_checkpoint
from flavr_export import ExportSpec, export
torch.manual_seed(0)
width, graph, path = sys.argv[1:]
save_checkpoint(path + ".pth", Flavr(FlavrConfig(width=int(width))).eval())
export(path + ".pth", path, ExportSpec(graph=graph))
"""

_WINDOW = """
import sys
import numpy as np
from flavr_runtime import Interpolator
from flavr_runtime.memory import peak_bytes, resident_bytes
path, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
import onnxruntime
without = resident_bytes()
interpolator = Interpolator(path, provider="cpu", tile="off")
loading, loaded = peak_bytes() - without, resident_bytes()
rng = np.random.default_rng(0)
frames = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]
for _ in range(2):
    interpolator.between(*frames)
print(loading, loaded, peak_bytes())
"""

_CLIP = """
import sys
import av
import numpy as np
path, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
picture = np.full((height, width, 3), 90, np.uint8)
with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "qp": "0"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    for index in range(70):
        if index < 3:
            picture[: 8 * (index + 1)] = 30 * index
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts = index
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
"""

_RUN = """
import sys
from flavr_runtime import memory
from flavr_runtime.cli import command
planned = []
plan = memory.planned_bytes
memory.planned_bytes = lambda *facts: planned.append(plan(*facts)) or planned[-1]
command(sys.argv[1:], standalone_mode=False)
print(planned[0], memory.peak_bytes())
"""


@click.command()
@click.option("--case", "cases", multiple=True, metavar="WIDTH:GRAPH:HxW", help="[default: eight of them]")
@click.option("--run", "runs", multiple=True, metavar="HxW", help="A whole flavr-run with width 2.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(cases: tuple[str, ...], runs: tuple[str, ...], output: Path | None) -> None:
    """Measure, and compare with the prediction."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases or (() if runs else DEFAULT_CASES):
            width, graph, size = case.split(":")
            row = _window(_model(Path(folder), width, graph), size)
            found.append({"case": case, **row})
            print(_line(case, row), flush=True)
        for size in runs:
            row = _whole_run(_model(Path(folder), "2", "conv2d"), size, Path(folder))
            found.append({"case": f"flavr-run {size}", **row})
            print(_line(f"flavr-run {size}", row), flush=True)
    if output is not None:
        report = {
            "benchmark": "memory_model",
            "onnxruntime": ort.__version__,
            "system": platform.platform(),
            "cases": found,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _line(case: str, row: dict[str, int]) -> str:
    measured, predicted = row["measured_bytes"], row["predicted_bytes"]
    text = (
        f"{case:20} {measured / 1e6:8.0f} MB measured {predicted / 1e6:8.0f} MB predicted "
        f"{predicted / measured - 1:+7.1%}"
    )
    if "loading_bytes" not in row:
        return text
    loading, expected = row["loading_bytes"], row["predicted_loading_bytes"]
    return f"{text}; to load {loading / 1e6:5.0f} MB measured {expected / 1e6:5.0f} MB predicted"


def _model(folder: Path, width: str, graph: str) -> Path:
    path = folder / f"{width}_{graph}.onnx"
    if not path.exists():
        _output_of(_EXPORT, width, graph, path)
    return path


def _window(model: Path, size: str) -> dict[str, int]:
    height, width = map(int, size.split("x"))
    loading, loaded, peak = map(int, _output_of(_WINDOW, model, height, width).split())
    info = read_model_info(model)
    return {
        "loading_bytes": loading,  # at its peak
        "predicted_loading_bytes": loaded_bytes(info),
        "loaded_bytes": loaded,  # with the program
        "measured_bytes": peak - loaded,
        "predicted_bytes": window_bytes(info, height, width),
    }


def _whole_run(model: Path, size: str, folder: Path) -> dict[str, int]:
    clip = folder / "clip.mp4"
    _output_of(_CLIP, clip, *size.split("x"))
    arguments = [clip, "-o", folder / "out.mp4", "-y", "--model", model, "--provider", "cpu", "--tile", "off"]
    planned, peak = map(int, _output_of(_RUN, *arguments).split())
    return {"measured_bytes": peak, "predicted_bytes": planned}


def _output_of(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
