"""What methods without a network score on a folder of videos, on the windows that flavr-test takes.

python benchmarks/baseline_scores.py clips --val-fraction 0.2 --min-motion 2 --json scores.json
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import click
import numpy as np
import torch

from flavr._motion import MIN_MOTION
from flavr.datasets.bank import FrameBank
from flavr.datasets.video import open_video
from flavr.metrics import ScoreSums
from flavr_benchmarks.baselines import DisFlow, Method, Minterpolate, average


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--val-fraction", default=0.1, show_default=True)
@click.option("--min-motion", default=MIN_MOTION, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(folder: Path, val_fraction: float, min_motion: float, output: Path | None) -> None:
    """Score averaging, DIS flow and ffmpeg's minterpolate at 2x on the validation videos of FOLDER."""
    methods: dict[str, Method] = {
        "average": average,
        "dis": DisFlow(None),
        "minterpolate": Minterpolate(None),
    }
    windows = open_video(folder, "test", n_outputs=1, val_fraction=val_fraction, min_motion=min_motion)
    scores: dict[str, dict[str, ScoreSums]] = {name: defaultdict(ScoreSums) for name in methods}
    for index in range(len(windows)):
        sample = windows[index]
        frames = [np.ascontiguousarray(each.permute(1, 2, 0).numpy()) for each in sample.inputs]
        truth = sample.targets.float() / 255
        for name, method in methods.items():
            made = torch.from_numpy(np.stack(method(frames, 2))).permute(0, 3, 1, 2).float() / 255
            scores[name][FrameBank.video_of(sample.name)].add(made, truth)
    report = {
        name: {
            "mean_over_videos": {key: fmean(s.means()[key] for s in videos.values()) for key in _KEYS},
            "videos": {video: {key: s.means()[key] for key in _KEYS} for video, s in videos.items()},
        }
        for name, videos in scores.items()
    }
    for name, videos in scores.items():
        mean = fmean(each.means()["psnr_uint8"] for each in videos.values())
        click.echo(f"{name:<13} {mean:.2f} dB, mean over {len(videos)} videos, {len(windows)} windows")
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")


# They all make 8-bit pictures.
_KEYS = ("psnr_uint8", "ssim_uint8")


if __name__ == "__main__":
    main()
