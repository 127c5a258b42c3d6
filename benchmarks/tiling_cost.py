"""What tiles cost: how far a picture made of tiles is from the one made at once, on real frames.

FLAVR's gates pool over the whole picture and its mean is taken over it, so that a tile is not the same part
of the whole. For each overlap this prints the PSNR of tiled against whole, the block of 16x16 pixels that
differs most (which is what an eye could find), and what it does to the PSNR against the frame that was left
out: of seven neighbouring frames every other one is given, and the middle one is the truth.

Two more rows say what would be won by giving the tiles the whole picture's statistics: its mean alone, and
its mean and the pooled features of every gate. They are taken from a run of the whole picture, which is what
one that does not fit cannot have: no more than this could be won.

    python benchmarks/tiling_cost.py clip.mp4 other.mp4 --side 240
    python benchmarks/tiling_cost.py clip.mp4 --side 480 --scale 2        # upscaled, for lack of larger clips
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from flavr_runtime.frames import Rgb
from flavr_runtime.model_info import read_model_info
from flavr_runtime.reader import VideoReader
from flavr_runtime.shipped import DEFAULT_MODEL
from flavr_runtime.tiles import OVERLAP, run_tiled, tiles_of_side

BLOCK = 16


@dataclass(frozen=True)
class Window:
    clip: str
    frames: tuple[Rgb, ...]  # what the network is given
    truth: Rgb


class Network:
    """A model of factor 2 whose statistics can be read, and replaced by those of another run."""

    def __init__(self, path: Path, threads: int) -> None:
        model = onnx.load(str(path))
        means = [node for node in model.graph.node if node.op_type == "ReduceMean"]
        inner = {name for node in means for name in node.input}
        ends = {node.output[0] for node in means} - inner
        joined = {name for node in model.graph.node if node.op_type == "Concat" for name in node.input}
        self.statistics = sorted(ends - joined)
        self.mean = [name for name in self.statistics if name.startswith("input/")]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self.statistics
        )
        self._reading = _session(model, threads)
        self._threads, self._model = threads, model
        self._replacing: dict[tuple[str, ...], ort.InferenceSession] = {}

    def run(self, frames: Sequence[Rgb]) -> list[Rgb]:
        (middle,) = self._reading.run(["mid1"], _feed(frames))
        return [middle[0]]

    def statistics_of(self, frames: Sequence[Rgb]) -> dict[str, NDArray[np.float32]]:
        found = self._reading.run(self.statistics, _feed(frames))
        return dict(zip(self.statistics, found, strict=True))

    def run_with(self, given: Mapping[str, NDArray[np.float32]], frames: Sequence[Rgb]) -> list[Rgb]:
        """`run` with some statistics given instead of computed."""
        names = tuple(sorted(given))
        if names not in self._replacing:
            self._replacing[names] = _session(_with_inputs(self._model, names), self._threads)
        (middle,) = self._replacing[names].run(["mid1"], _feed(frames) | dict(given))
        return [middle[0]]


def _with_inputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[1:]
    kept = [node for node in changed.graph.node if node.output[0] not in names]
    del changed.graph.node[:]
    changed.graph.node.extend(kept)
    changed.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", None, 1, 1])
        for name in names
    )
    return changed


def _session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _feed(frames: Sequence[Rgb]) -> dict[str, Any]:
    return {f"frame{n}": frame[None] for n, frame in enumerate(frames)}


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default=DEFAULT_MODEL, type=click.Path(path_type=Path), help="A 2x uint8 model.")
@click.option("--side", default=240, show_default=True, help="Largest side of a tile, in pixels.")
@click.option("--overlaps", default="0,16,32,64,96", show_default=True)
@click.option("--scale", default=1, show_default=True, help="Enlarge the clips by this first.")
@click.option("--start", default=40, show_default=True, help="First frame taken of each clip.")
@click.option("--threads", default=0, show_default=True, help="0: one per physical core.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(
    clips: tuple[Path, ...],
    model: Path,
    side: int,
    overlaps: str,
    scale: int,
    start: int,
    threads: int,
    output: Path | None,
) -> None:
    """Compare tiled with whole pictures."""
    network = Network(model, threads)
    rows: dict[str, list[dict[str, float]]] = {}
    for clip in clips:
        window = _window(clip, start, scale)
        (whole,) = network.run(window.frames)
        given = network.statistics_of(window.frames)
        height, width = whole.shape[:2]
        for overlap in map(int, overlaps.split(",")):
            tiling = tiles_of_side(height, width, side, overlap)
            ways: dict[str, Callable[[Sequence[Rgb]], list[Rgb]]] = {"": network.run}
            if overlap == OVERLAP:
                mean = {name: given[name] for name in network.mean}
                ways[", mean of the whole"] = partial(network.run_with, mean)
                ways[", all statistics of the whole"] = partial(network.run_with, given)
            for way, run in ways.items():
                (tiled,) = run_tiled(run, tiling, window.frames)
                rows.setdefault(f"overlap {overlap}{way}", []).append(
                    {
                        "psnr_to_whole": _psnr(tiled, whole),
                        "worst_block": _worst_block(tiled, whole),
                        "psnr_change": _psnr(tiled, window.truth) - _psnr(whole, window.truth),
                        "pixels": tiling.pixels / (height * width),
                    }
                )
    print(f"{'':42} PSNR to whole, dB   worst block, codes   PSNR to truth   pixels")
    for name, figures in rows.items():
        column = {key: [row[key] for row in figures] for key in figures[0]}
        to_whole, blocks = column["psnr_to_whole"], column["worst_block"]
        print(
            f"{name:42} {statistics.median(to_whole):5.1f} (min {min(to_whole):.1f})"
            f"   {statistics.median(blocks):5.2f} (max {max(blocks):.2f})"
            f"   {statistics.mean(column['psnr_change']):+8.3f} dB"
            f"   {statistics.mean(column['pixels']):7.2f}x"
        )
    if output is not None:
        report = {
            "benchmark": "tiling_cost",
            "model": str(read_model_info(model)),
            "clips": [clip.name for clip in clips],
            "side": side,
            "scale": scale,
            "first_frame": start,
            "onnxruntime": ort.__version__,
            "rows": rows,
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _window(clip: Path, start: int, scale: int) -> Window:
    with VideoReader(clip) as reader:
        frames = [frame.rgb for frame in itertools.islice(reader.frames(), start, start + 7)]
    if len(frames) < 7:
        raise click.ClickException(f"{clip} has less than {start + 7} frames; choose another --start")
    large = [
        np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        for frame in frames
    ]
    return Window(clip.name, tuple(large[::2]), large[3])


def _psnr(one: Rgb, other: Rgb) -> float:
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _worst_block(one: Rgb, other: Rgb) -> float:
    """Mean difference of the block that differs most, in codes of 0..255."""
    difference = cv2.absdiff(one, other).astype(np.float32).mean(axis=2)
    size = (difference.shape[1] // BLOCK, difference.shape[0] // BLOCK)
    return float(cv2.resize(difference, size, interpolation=cv2.INTER_AREA).max())


if __name__ == "__main__":
    main()
