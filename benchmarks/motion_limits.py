"""How fast a thing may move before a network loses it: PSNR and pictures over known speeds.

Scenes are rendered, so that their pictures may be shown and every speed is exact: a pan over a texture, a
disc and thin bars over a still background. Averaging and DIS flow stand beside the network.

    python benchmarks/motion_limits.py --json limits.json --strips strips.jpg --plot limits.svg
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from flavr.rendering import RenderSpec, render_sequence
from flavr_benchmarks.baselines import DisFlow, Method, average
from flavr_runtime import Interpolator
from flavr_runtime.frames import Rgb

Image = NDArray[np.float32]  # [H, W, 3] in [0, 1]

SIDE = 256
SPEEDS = (1, 2, 4, 8, 16, 32)  # pixels from frame to frame
SHOWN = (4, 8, 16)
SCENES_EACH = 4  # of each kind and speed, with other textures and directions
TIMES = (-1.5, -0.5, 0.5, 1.5, 0.0)  # of the four frames, and of the one to be made
CROP = 128  # of a strip's panels, around the middle


def pan(texture: Image, _other: Image, move: NDArray[np.float64]) -> Image:
    """The whole picture moves."""
    return _shifted(texture, move)


def disc(texture: Image, other: Image, move: NDArray[np.float64]) -> Image:
    """A textured disc, a quarter of the picture wide, over a still background."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = np.hypot(columns - move[0], rows - move[1])
    alpha = np.clip(SIDE / 8 - distance + 0.5, 0, 1)[..., None]
    return np.asarray(
        _shifted(texture, np.zeros(2)) * (1 - alpha) + _shifted(other, move) * alpha, np.float32
    )


def bars(texture: Image, _other: Image, move: NDArray[np.float64]) -> Image:
    """Three upright bars two pixels wide, over a still background."""
    columns = np.arange(SIDE) - SIDE / 2
    distance = np.min([np.abs(columns - move[0] - 24 * n) for n in (-1, 0, 1)], axis=0)
    rows = np.abs(np.arange(SIDE) - SIDE / 2 - move[1]) < SIDE / 8
    alpha = (np.clip(1.5 - distance, 0, 1) * rows[:, None])[..., None]
    colour = np.round(1 - texture[SIDE:-SIDE, SIDE:-SIDE].mean(axis=(0, 1)))  # stands out
    return np.asarray(_shifted(texture, np.zeros(2)) * (1 - alpha) + colour * alpha, np.float32)


KINDS: dict[str, Callable[[Image, Image, NDArray[np.float64]], Image]] = {
    "pan": pan,
    "disc": disc,
    "thin bars": bars,
}


def _shifted(texture: Image, move: NDArray[np.float64]) -> Image:
    """The middle of a texture of three times the side, moved by so many pixels."""
    matrix = np.array([[1, 0, move[0] - SIDE], [0, 1, move[1] - SIDE]], np.float64)
    return np.asarray(cv2.warpAffine(texture, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC), np.float32)


def textures() -> list[Image]:
    """Pictures with many details: rendered scenes of another size."""
    spec = RenderSpec(height=3 * SIDE, width=3 * SIDE, seed=7)
    return [
        np.asarray(render_sequence(spec, number, frames=1)[0] / 255, np.float32)
        for number in range(2 * SCENES_EACH)
    ]


def frames_of(kind: str, number: int, speed: float, pictures: Sequence[Image]) -> list[Rgb]:
    """The four frames and the true one between them, uint8 [256, 256, 3]."""
    angle = 2 * np.pi * (number + 0.3) / SCENES_EACH
    direction = speed * np.array([np.cos(angle), np.sin(angle)])
    texture, other = pictures[2 * number], pictures[2 * number + 1]
    drawn = [KINDS[kind](texture, other, time * direction) for time in TIMES]
    return [np.asarray((each.clip(0, 1) * 255).round(), np.uint8) for each in drawn]


def measure(methods: dict[str, Method]) -> dict[str, dict[str, dict[str, float]]]:
    """Kind, speed and method to mean PSNR in dB, of what moves and 8 pixels around it."""
    pictures = textures()
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for kind in KINDS:
        scores[kind] = {}
        for speed in SPEEDS:
            found: dict[str, list[float]] = {name: [] for name in methods}
            for number in range(SCENES_EACH):
                *frames, truth = frames_of(kind, number, speed, pictures)
                moving = _moving(frames)
                for name, method in methods.items():
                    found[name].append(_psnr(method(frames, 2)[0], truth, moving))
            scores[kind][str(speed)] = {name: fmean(values) for name, values in found.items()}
    return scores


def _moving(frames: Sequence[Rgb]) -> NDArray[np.bool_]:
    changed = (frames[1] != frames[2]).any(axis=2).astype(np.uint8)
    return cv2.dilate(changed, np.ones((17, 17), np.uint8)).astype(bool)


def _psnr(made: Rgb, truth: Rgb, where: NDArray[np.bool_]) -> float:
    error = (made.astype(np.float64) - truth)[where]
    return float(10 * np.log10(255**2 / max(1e-9, np.square(error).mean())))


def strips(methods: dict[str, Method]) -> Rgb:
    """A row for each kind and shown speed: the frame before, every method's, the truth, the frame after."""
    pictures = textures()
    part = slice((SIDE - CROP) // 2, (SIDE + CROP) // 2)
    rows = []
    for kind in KINDS:
        for speed in SHOWN:
            *frames, truth = frames_of(kind, 0, speed, pictures)
            panels = {"before": frames[1]} | {name: method(frames, 2)[0] for name, method in methods.items()}
            panels |= {"truth": truth, "after": frames[2]}
            row = [_titled(panel[part, part], f"{kind} {speed}: {name}") for name, panel in panels.items()]
            rows.append(np.hstack(row))
    return np.vstack(rows)


def _titled(panel: Rgb, title: str) -> Rgb:
    framed = cv2.copyMakeBorder(panel, 14, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, title, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)
    return np.asarray(framed, np.uint8)


def plot(scores: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """PSNR over speed, a panel per kind."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "flavr"
    figure, axes = plt.subplots(1, len(scores), figsize=(9, 3.2), layout="constrained", sharey=True)
    for panel, (kind, by_speed) in zip(axes, scores.items(), strict=True):
        for name in next(iter(by_speed.values())):
            panel.plot(SPEEDS, [by_speed[str(speed)][name] for speed in SPEEDS], marker="o", label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks(SPEEDS, [str(speed) for speed in SPEEDS])
        panel.set(title=kind, xlabel="pixels from frame to frame")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("PSNR of what moves, dB")
    axes[-1].legend()
    figure.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="Of flavr-export.  [default: what ships]")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
@click.option("--strips", "strip", type=click.Path(path_type=Path), help="Draw examples: .jpg or .png.")
@click.option("--plot", "chart", type=click.Path(path_type=Path), help="Draw the figures: .svg or .png.")
def main(model: Path | None, output: Path | None, strip: Path | None, chart: Path | None) -> None:
    """Measure and draw."""
    interpolator = Interpolator(model)
    dis = DisFlow(None)

    def flavr(frames: Sequence[Rgb], factor: int) -> list[Rgb]:
        del factor
        return interpolator.between(frames[0], frames[1], frames[2], frames[3])

    methods: dict[str, Method] = {"average": average, "FLAVR": flavr, "DIS flow": dis}
    scores = measure(methods)
    for kind, by_speed in scores.items():
        for speed, found in by_speed.items():
            values = "  ".join(f"{name} {value:5.2f}" for name, value in found.items())
            click.echo(f"{kind:<10} {speed:>3} px  {values}")
    if output is not None:
        report = {"benchmark": "motion_limits", "model": interpolator.model.path.name, "psnr_db": scores}
        output.write_text(json.dumps(report, indent=1) + "\n")
    if strip is not None:
        picture = cv2.cvtColor(strips(methods), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(strip), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if chart is not None:
        plot(scores, chart)


if __name__ == "__main__":
    main()
