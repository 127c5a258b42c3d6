"""How many training samples a second the data sets deliver: read from PNG, cropped and augmented.

Renders a set of Vimeo's size (448x256) into a temporary folder, reads every sample once so that the files
are in the page cache, and then times the parts of the work in one process with one thread, the loader with
several numbers of workers, and the frame bank that `--dataset video` trains from. Rounds are interleaved, so
that a noisy machine slows all of them; the CPU time of this process, which it slows less, is given as well.

    python benchmarks/loader_throughput.py
    python benchmarks/loader_throughput.py --workers 0 --workers 8 --crop 128 --json loader.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import cv2
import torch
from torch.utils.data import DataLoader

from flavr.augment import Augmentation, AugmentedDataset
from flavr.datasets import InterpolationDataset, open_dataset
from flavr.datasets.bank import BankVideo, FrameBank
from flavr.rendering import RenderSpec, render_set

_BATCH = 8


@click.command()
@click.option("--sequences", default=48, show_default=True)
@click.option("--crop", default=256, show_default=True)
@click.option("--workers", "worker_counts", multiple=True, type=int, default=(0, 1, 2), show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the figures here.")
def main(sequences: int, crop: int, worker_counts: tuple[int, ...], rounds: int, output: Path | None) -> None:
    """Measure samples per second."""
    # Python 3.12 warns of forking next to threads, which is what DataLoader does.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        render_set(root, RenderSpec(train=sequences, test=1, height=256, width=448))
        dataset = open_dataset("vimeo90K_septuplet", root, "train")
        tasks = _tasks(dataset, crop, worker_counts)
        wall: dict[str, list[float]] = {name: [] for name in tasks}
        cpu: dict[str, list[float]] = {name: [] for name in tasks}
        for task in tasks.values():
            task()
        for _ in range(rounds):
            for name, task in tasks.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                task()
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)
    figures = {
        name: {
            "samples_per_second": len(dataset) / statistics.median(wall[name]),
            "cpu_ms_per_sample": 1000 * statistics.median(cpu[name]) / len(dataset),
        }
        for name in tasks
    }
    for name, row in figures.items():
        rate, cpu_ms = row["samples_per_second"], row["cpu_ms_per_sample"]
        print(f"{name:26} {rate:7.1f} samples/s {cpu_ms:7.2f} ms CPU each")
    if output is not None:
        conditions = {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "opencv": cv2.__version__,
            "crop": crop,
            "rounds": rounds,
        }
        output.write_text(json.dumps({"conditions": conditions, "figures": figures}, indent=2) + "\n")


def _tasks(
    dataset: InterpolationDataset, crop: int, worker_counts: tuple[int, ...]
) -> dict[str, Callable[[], object]]:
    """What to time; each makes as many samples as the set has."""
    count = len(dataset)
    published, plain = Augmentation(crop), Augmentation(crop, jitter=0.0)
    samples = [dataset[index] for index in range(count)]
    generator = torch.Generator().manual_seed(0)
    videos = [
        BankVideo(s.name, torch.cat([s.inputs[:2], s.targets, s.inputs[2:]]).repeat(2, 1, 1, 1))
        for s in samples
    ]
    windows = torch.tensor([[number, 0, 1] for number in range(count)])
    bank = FrameBank(videos, windows, torch.ones(count), n_outputs=1)
    loaders = {
        workers: DataLoader(
            AugmentedDataset(dataset, published),
            batch_size=_BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for workers in worker_counts
    }

    def single(work: Callable[[], object]) -> Callable[[], object]:
        """With one thread, as in a loader's worker."""

        def run() -> None:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            work()
            torch.set_num_threads(threads)

        return run

    return {
        "decode 5 PNG": single(lambda: [dataset[index] for index in range(count)]),
        "augment, with jitter": single(lambda: [published(sample, generator) for sample in samples]),
        "augment, without jitter": single(lambda: [plain(sample, generator) for sample in samples]),
        **{f"loader, {workers} workers": partial(list, loader) for workers, loader in loaders.items()},
        "frame bank": single(
            lambda: [bank.sample_batch(_BATCH, crop, generator) for _ in range(count // _BATCH)]
        ),
    }


if __name__ == "__main__":
    main()
