"""What OpenVINO's bf16 and 8-bit arithmetic cost: PSNR against the true frames of real clips, beside float32.

Every second frame of a clip is left out and made again, in the middle 256x448 pixels of two places per clip.
Losses are those against `conv2d` in float32 on the same windows.

    python benchmarks/openvino_accuracy.py --ckpt release/flavr_lite_2x.pth --clips clips/
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import openvino
from numpy.typing import NDArray

from flavr import load_checkpoint
from flavr._video import decode, find_videos
from flavr_export import ExportSpec, export
from flavr_export.spec import GraphForm, Precision
from machine import cpu_name

Planes = NDArray[np.float32]
Rgb = NDArray[np.uint8]

SIZE = (256, 448)
SPAN = 7  # frames of a 2x window, those in between counted
STARTS = (4, 20)
FORMS: tuple[tuple[str, GraphForm, Precision], ...] = (
    ("conv2d", "conv2d", "fp32"),
    ("winograd", "winograd", "fp32"),
    ("conv2d int8", "conv2d", "int8"),
)
HINTS = ("f32", "bf16")
BASE = "conv2d f32"


@click.command()
@click.option("--ckpt", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--clips", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--every", default=2, show_default=True, help="Take every Nth clip.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(ckpt: Path, clips: Path, every: int, output: Path | None) -> None:
    """Measure precisions on OpenVINO's CPU device against true frames."""
    checkpoint = load_checkpoint(ckpt)
    requests = {}
    with tempfile.TemporaryDirectory() as scratch:
        for form, graph, precision in FORMS:
            file = Path(scratch, "model.onnx")
            calibrate = clips if precision == "int8" else None
            export(
                checkpoint,
                file,
                ExportSpec(graph=graph, io="float", size=SIZE),
                precision=precision,
                calibrate=calibrate,
            )
            for hint in HINTS:
                settings = {"INFERENCE_PRECISION_HINT": hint}
                compiled = openvino.Core().compile_model(file, "CPU", settings)
                requests[f"{form} {hint}"] = compiled.create_infer_request()
    psnr: dict[str, list[float]] = {name: [] for name in requests}
    difference: dict[str, list[float]] = {name: [] for name in requests}
    names = []
    for video in find_videos([clips])[::every]:
        for start, frames in _windows(decode(video)):
            planes = [_planes(frame) for frame in frames]
            made = {
                name: np.array(request.infer(planes[::2])[0], np.float32).reshape(1, 3, *SIZE)
                for name, request in requests.items()
            }
            names.append(f"{video.name} {start}")
            for name, picture in made.items():
                psnr[name].append(_psnr(np.clip(picture, 0, 1), planes[SPAN // 2]))
                difference[name].append(_psnr(picture, made[BASE]))
    if not names:
        height, width = SIZE
        raise click.UsageError(
            f"no clip below {clips} has {SPAN + STARTS[0]} frames of {width}x{height} or more"
        )
    lost = {name: np.subtract(psnr[BASE], own) for name, own in psnr.items()}
    print(f"{len(names)} windows of {SIZE[0]}x{SIZE[1]}, OpenVINO {openvino.__version__}, {cpu_name()}")
    for name, own in lost.items():
        told = f"{np.mean(psnr[name]):6.2f} dB, lost {own.mean():.3f} dB, at worst {own.max():.3f}"
        beside = "" if name == BASE else f"; {np.mean(difference[name]):.1f} dB to float32"
        print(f"{name:17} {told}{beside}")
    _by_difficulty(psnr, lost)
    if output is not None:
        report = {
            "benchmark": "openvino_accuracy",
            "checkpoint": ckpt.name,
            "input": list(SIZE),
            "openvino": openvino.__version__,
            "cpu": cpu_name(),
            "windows": names,
            "psnr_to_truth_db": {name: [round(each, 3) for each in own] for name, own in psnr.items()},
            "psnr_to_float32_db": {
                name: [round(each, 1) for each in own] for name, own in difference.items() if name != BASE
            },
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _by_difficulty(psnr: dict[str, list[float]], lost: dict[str, NDArray[np.float64]]) -> None:
    """The same in thirds of the windows: where the network itself is good, rounding shows most."""
    thirds = np.array_split(np.argsort(psnr[BASE]), 3)
    for third in thirds:
        own = np.asarray(psnr[BASE])[third]
        told = ", ".join(f"{name} {each[third].mean():.3f}" for name, each in lost.items() if name != BASE)
        print(f"windows of {own.min():.1f} to {own.max():.1f} dB lose: {told}")


def _windows(frames: Iterator[Rgb]) -> Iterator[tuple[int, list[Rgb]]]:
    height, width = SIZE
    seen = list(itertools.islice(frames, STARTS[-1] + SPAN))
    for start in STARTS:
        taken = seen[start : start + SPAN]
        if len(taken) < SPAN or taken[0].shape[0] < height or taken[0].shape[1] < width:
            return
        top, left = (taken[0].shape[0] - height) // 2, (taken[0].shape[1] - width) // 2
        yield start, [frame[top : top + height, left : left + width] for frame in taken]


def _planes(frame: Rgb) -> Planes:
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))


def _psnr(one: Planes, other: Planes) -> float:
    squared = float(np.mean(np.square(one - other), dtype=np.float64))
    return 200.0 if squared == 0 else -10 * float(np.log10(squared))


if __name__ == "__main__":
    main()
