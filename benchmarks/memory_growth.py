"""Whether memory grows with the length of a clip: flavr-run on ten seconds and on ten minutes.

Both clips are rendered: 640x360, 24 frames per second, lossless H.264, a picture that stands and changes
every few seconds, which is where the network has something to do. It is a network of width 2 with random
weights: only its speed would differ. Each run is a process of its own, and its peak is the system's count of
what it had in memory.

    python benchmarks/memory_growth.py
    python benchmarks/memory_growth.py --long 60
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import click
import numpy as np
import onnxruntime as ort
import torch

from flavr import Flavr, FlavrConfig, save_checkpoint
from flavr_export import export

WIDTH, HEIGHT, RATE = 640, 360, 24
CHANGE_EVERY = 3  # seconds

_OPTIONS = "--factor 2 --provider cpu --threads 1 --preset ultrafast"
_RUN = """
import sys
from flavr_runtime.cli import command
from flavr_runtime.memory import peak_bytes
command(sys.argv[1:], standalone_mode=False)
print(peak_bytes())
"""


@click.command()
@click.option("--short", default=10, show_default=True, help="Seconds of the short clip.")
@click.option("--long", default=600, show_default=True, help="Seconds of the long clip.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(short: int, long: int, output: Path | None) -> None:
    """Measure the peaks."""
    with tempfile.TemporaryDirectory() as folder:
        model = _model(Path(folder))
        peaks = {seconds: _peak(Path(folder), model, seconds) for seconds in (short, long)}
    growth = peaks[long] - peaks[short]
    for seconds, peak in peaks.items():
        print(f"{seconds:4} s: {peak / 1e6:.1f} MB at most")
    print(f"growth: {growth / 1e6:+.1f} MB")
    if output is not None:
        report = {
            "benchmark": "memory_growth",
            "command": f"flavr-run CLIP -o OUT.mp4 {_OPTIONS}",
            "network": "unet_18 2x width 2, random weights",
            "clip": f"{WIDTH}x{HEIGHT}, {RATE} fps, lossless h264, a change every {CHANGE_EVERY} s",
            "peak_bytes": peaks,
            "growth_bytes": growth,
            "onnxruntime": ort.__version__,
            "av": av.__version__,
            "system": platform.platform(),
        }
        output.write_text(json.dumps(report, indent=1) + "\n")


def _model(folder: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(folder / "random.pth", Flavr(FlavrConfig(width=2)).eval())
    return export(folder / "random.pth", folder / "random.onnx").path


def _peak(folder: Path, model: Path, seconds: int) -> int:
    """Of a run over a clip of that length, in bytes."""
    clip, result = folder / f"{seconds}.mp4", folder / f"{seconds}_2x.mp4"
    _render(clip, seconds)
    arguments = [str(clip), "-o", str(result), "--model", str(model), *_OPTIONS.split()]
    run = subprocess.run([sys.executable, "-c", _RUN, *arguments], check=True, stdout=subprocess.PIPE)
    clip.unlink()
    result.unlink()
    return int(run.stdout)


def _render(path: Path, seconds: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    background = (127 + 60 * np.sin(x / 17) * np.cos(y / 13))[..., None] + rng.normal(
        0, 4, (HEIGHT, WIDTH, 3)
    )
    picture = background.clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(seconds * RATE):
            if index % (CHANGE_EVERY * RATE) == 0:
                left = rng.integers(0, WIDTH - 80)
                picture[140:220, left : left + 80] = rng.integers(0, 256, 3)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
