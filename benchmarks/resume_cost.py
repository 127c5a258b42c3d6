"""What it costs to pass over frames that an interrupted run has left, against making them.

Both are timed per source frame in one process, in turns: decoding a clip, finding its cuts and planning its
windows without looking at new pictures (what --resume does for frames that are kept), and the network alone.

    python benchmarks/resume_cost.py clip.mp4
"""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

import click

from flavr_runtime import Interpolator
from flavr_runtime.reader import VideoReader
from flavr_runtime.scenes import detected_cuts


@click.command()
@click.argument("clip", type=click.Path(exists=True, path_type=Path))
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="[default: the shipped one]")
@click.option("--provider", default="cpu", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--frames", default=40, show_default=True, help="Passed over in each round.")
def main(clip: Path, model: Path | None, provider: str, rounds: int, frames: int) -> None:
    """Print the seconds per source frame of both, and their ratio."""
    interpolator = Interpolator(model, provider=provider)
    with VideoReader(clip) as reader:
        window = [frame.rgb for frame in itertools.islice(reader.frames(), 4)]
    interpolator.between(*window)  # the warm-up
    passing, making = [], []
    for _round in range(rounds):
        with VideoReader(clip) as reader:
            started = time.perf_counter()
            source = itertools.islice(detected_cuts(reader.frames()), frames)
            count = sum(1 for _ in interpolator.expand(source, interpolator.model.factor))
            passing.append((time.perf_counter() - started) * interpolator.model.factor / count)
        started = time.perf_counter()
        interpolator.between(*window)
        making.append(time.perf_counter() - started)
    each = f"passing over {statistics.median(passing):.4f} s, making {statistics.median(making):.4f} s"
    ratio = statistics.median(make / skip for make, skip in zip(making, passing, strict=True))
    click.echo(f"{clip.name} {window[0].shape[1]}x{window[0].shape[0]}: {each}; {ratio:.0f}x")


if __name__ == "__main__":
    main()
