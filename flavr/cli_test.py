"""The `flavr-test` command: parse, validate everything, run, print."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flavr._cli import main_with_errors
from flavr._options import SETTINGS, KeyValue, SectionedCommand, version_option
from flavr._paths import check_outside, check_writable
from flavr.config import ENSEMBLES
from flavr.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from flavr.datasets import InterpolationDataset
    from flavr.predictors import Predictor
    from flavr.validate import Tally

_HELP = """Score a checkpoint or an exported ONNX file on a data set.

The table has PSNR and SSIM in the authors' definition (neither clamped nor rounded; 3-D Gaussian SSIM), in
which the paper's figures are, and in the standard one on 8-bit pictures (scikit-image's with gaussian_weights
and sigma 1.5). The average of the two middle frames is scored on the same windows; of
--dataset video, also for each video, with the mean over videos.
"""

_EXAMPLES = """\b
Examples:
  flavr-test --dataset vimeo90K_septuplet --data_root datasets --load_from model.pth --n_outputs 1
  flavr-test --dataset ucf101 --data-root ucf101 --load-from model.pth --precision bf16 --json scores.json
  flavr-test --dataset vimeo90K_septuplet --data-root datasets --load-from model.onnx --provider cuda
  flavr-test --dataset video --data-root clips --load-from model.onnx --ensemble 4
  flavr-test --dataset middlebury --data-root middlebury --load-from model.pth --save-images results
"""

_NETWORK, _AVERAGE = "FLAVR", "average"
_COLUMNS = ("dataset", "method", "PSNR", "SSIM", "PSNR 8 bits", "SSIM 8 bits", "ms per window", "device")


@dataclass(frozen=True, slots=True)
class _Options:
    """The command line, parsed."""

    dataset: str
    data_root: Path
    load_from: Path
    n_outputs: int | None
    ensemble: int
    split: str
    max_windows: int | None
    data_options: dict[str, object]
    check_data: bool
    test_batch_size: int
    num_workers: int
    num_gpu: int | None
    precision: str
    provider: str | None
    json_file: Path | None
    save_images: Path | None


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is tested."""

    predictor: Predictor
    n_outputs: int
    device: str  # for people
    note: str | None = None


_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_PRECISIONS = ("fp32", "bf16", "fp16")
_PROVIDERS = ("cpu", "cuda", "tensorrt", "rocm", "migraphx", "openvino", "directml", "coreml")

_SECTIONS = {
    "What to test": [
        click.Option(
            ["--load-from"],
            type=_FILE,
            required=True,
            metavar="FILE",
            help="A checkpoint, or an exported .onnx file.",
        ),
        click.Option(
            ["--n-outputs"],
            type=click.IntRange(1),
            metavar="N",
            help="New frames per window.  [default: the file's]",
        ),
        click.Option(
            ["--ensemble"],
            type=click.Choice(list(map(str, ENSEMBLES))),
            callback=lambda _context, _option, value: int(value),
            default="1",
            metavar="N",
            help="Test the mean over N views of a window: as it is, run backwards, upside down, mirrored; 16 "
            "have rows and columns swapped, too.",
        ),
    ],
    "On what": [
        click.Option(["--data-root"], type=_FOLDER, required=True, metavar="DIR", help="Where the data is."),
        click.Option(
            ["--dataset"],
            default="vimeo90K_septuplet",
            show_default=True,
            metavar="NAME",
            help="vimeo90K_septuplet, gopro, ucf101, davis, middlebury, or video: any folder of videos, of "
            "which a tenth is scored (--data-option val_fraction=0.5: half).",
        ),
        click.Option(["--split"], type=click.Choice(["test", "train"]), default="test", show_default=True),
        click.Option(
            ["--max-windows"],
            type=click.IntRange(1),
            metavar="N",
            help="So many, evenly spread.  [default: all]",
        ),
        click.Option(
            ["--data-option", "data_options"],
            type=KeyValue(),
            multiple=True,
            metavar="KEY=VALUE",
            help="Anything else the data set understands; repeatable. video: val_fraction=0.5 max_side=540.",
        ),
        click.Option(
            ["--check-data"],
            is_flag=True,
            help="Read every image first, and name all that are missing or damaged.",
        ),
    ],
    "How": [
        click.Option(
            ["--test-batch-size"],
            type=click.IntRange(1),
            default=1,
            show_default=True,
            metavar="N",
            help="Windows of one size at a time. The time per window is the batch's divided by N.",
        ),
        click.Option(
            ["--num-workers"],
            type=click.IntRange(0),
            default=2,
            show_default=True,
            metavar="N",
            help="Processes that read images.",
        ),
        click.Option(
            ["--num-gpu"],
            type=click.IntRange(0, 1),
            metavar="N",
            help="A checkpoint: 0 runs on the CPU.  [default: 1 if there is one]",
        ),
        click.Option(
            ["--precision"],
            type=click.Choice(_PRECISIONS),
            default="fp32",
            show_default=True,
            help="A checkpoint: arithmetic of the network. An .onnx file has its own.",
        ),
        click.Option(
            ["--provider"],
            type=click.Choice(_PROVIDERS),
            help="An .onnx file: what to run it on; refused where that cannot load the file. "
            "flavr-run names nodes that are left to the CPU.  [default: cpu]",
        ),
    ],
    "Results": [
        click.Option(["--json", "json_file"], type=_FILE, metavar="FILE", help="Also write them as JSON."),
        click.Option(
            ["--save-images"],
            type=_FOLDER,
            metavar="DIR",
            help="Write new frames as DIR/WINDOW/mid1.png and so on; middlebury's as the leaderboard wants.",
        ),
    ],
}


def _run(**values: Any) -> None:
    values["data_options"] = dict(values["data_options"])
    options = _Options(**values)
    if options.json_file is not None:
        check_writable(options.json_file)
        if os.path.realpath(options.json_file) == os.path.realpath(options.load_from):
            raise UsageError(f"--json {options.json_file} is the file that --load-from names; choose another")
    if options.save_images is not None:
        check_outside(options.save_images, options.data_root)
    subject = _subject(options)
    dataset = _dataset(options, subject.n_outputs)
    tallies, indices = _evaluate(options, subject, dataset)
    if options.json_file is not None:  # first: printing can fail, such as into a pipe that is closed
        _write_json(options.json_file, options, subject, tallies, len(indices))
    _report(options, subject, tallies, len(indices))


def _subject(options: _Options) -> _Subject:
    """Load what is tested, and refuse options that it has no use for."""
    onnx = options.load_from.suffix.lower() == ".onnx"
    if not onnx and options.provider is not None:
        raise UsageError("--provider is for .onnx files; a checkpoint runs in PyTorch, on --num-gpu 0 or 1")
    if onnx and (options.precision != "fp32" or options.num_gpu is not None):
        raise UsageError(
            "--precision and --num-gpu are for checkpoints; an .onnx file has its precision, and --provider "
            "says where it runs"
        )
    subject = _onnx_subject(options) if onnx else _torch_subject(options)
    if options.ensemble > 1:
        from flavr.predictors import Ensemble
        from flavr.views import VIEWS

        predictor = Ensemble(subject.predictor, VIEWS[: options.ensemble])
        device = f"{subject.device}, ensemble of {options.ensemble}"
        subject = replace(subject, predictor=predictor, device=device)
    if options.n_outputs not in (None, subject.n_outputs):
        raise CheckpointError(
            f"{options.load_from} is a {subject.n_outputs + 1}x network, which has --n-outputs "
            f"{subject.n_outputs}; {options.n_outputs} was asked for"
        )
    return subject


def _torch_subject(options: _Options) -> _Subject:
    import torch

    from flavr.checkpoints import load_checkpoint
    from flavr.errors import TrainingError
    from flavr.predictors import TorchPredictor

    found = torch.cuda.is_available()
    if options.num_gpu and not found:
        raise TrainingError("--num-gpu 1: PyTorch finds no GPU here; --num-gpu 0 tests on the CPU")
    device = torch.device("cuda" if found and options.num_gpu != 0 else "cpu")
    torch.backends.cudnn.benchmark = True  # the warm-up pays for it, once per size of picture
    checkpoint = load_checkpoint(options.load_from)
    for notice in checkpoint.notices:
        click.echo(f"note: {notice}", err=True)
    network = checkpoint.network().to(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    predictor = TorchPredictor(network, device, options.precision)
    return _Subject(predictor, network.config.n_outputs, f"{name}, PyTorch {options.precision}")


def _onnx_subject(options: _Options) -> _Subject:
    from flavr.predictors import OnnxPredictor

    predictor = OnnxPredictor(options.load_from, options.provider or "cpu")
    note = None
    if predictor.quantised:
        note = (
            "the file takes and gives 8-bit pictures: all figures are of rounded results; "
            "flavr-export --io float makes one that is comparable with the paper's"
        )
    device = f"{predictor.engine.removesuffix('ExecutionProvider')}, ONNX Runtime, {predictor.title}"
    return _Subject(predictor, predictor.n_outputs, device, note)


def _dataset(options: _Options, n_outputs: int) -> InterpolationDataset:
    from flavr.datasets import open_dataset
    from flavr.datasets.video import VideoDataset
    from flavr.errors import DataError

    dataset = open_dataset(
        options.dataset,
        options.data_root,
        "train" if options.split == "train" else "test",
        n_outputs=n_outputs,
        **options.data_options,
    )
    problems = dataset.check(decode=True) if options.check_data else []
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise DataError(f"{options.data_root}: {len(problems)} problems in the data, named above")
    for notice in dataset.notices if isinstance(dataset, VideoDataset) else ():
        click.echo(f"note: {notice}", err=True)
    return dataset


def _evaluate(
    options: _Options, subject: _Subject, dataset: InterpolationDataset
) -> tuple[Mapping[str, Tally], list[int]]:
    from flavr._image_saver import image_saver
    from flavr._progress import counted
    from flavr.datasets.bank import FrameBank
    from flavr.datasets.video import VideoDataset
    from flavr.predictors import Averaging
    from flavr.validate import evaluate, evenly, window_batches

    indices = evenly(len(dataset), options.max_windows)
    batches = window_batches(dataset, indices, options.test_batch_size, options.num_workers)
    predictors = {
        _NETWORK: subject.predictor,
        _AVERAGE: Averaging(subject.n_outputs, subject.predictor.device),
    }
    watch = (
        None if options.save_images is None else image_saver(options.save_images, options.dataset, _NETWORK)
    )
    shown = counted(batches, len(indices), lambda batch: len(batch.names))
    group_of = FrameBank.video_of if isinstance(dataset, VideoDataset) else None
    return evaluate(predictors, shown, timed=True, watch=watch, group_of=group_of), indices


def _report(options: _Options, subject: _Subject, tallies: Mapping[str, Tally], windows: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*_COLUMNS, box=box.SIMPLE_HEAD)
    results = {name: _figures(tally) for name, tally in tallies.items()}
    for name, figures in results.items():
        device = subject.device if name == _NETWORK else ""
        cells = [_cell(figures[key], digits) for key, digits in _DIGITS.items()]
        table.add_row(options.dataset, name, *cells[:-1], cells[-1] if name == _NETWORK else "", device)
    Console(width=_WIDE, highlight=False).print(table)
    ours = results[_NETWORK]
    scored = tallies[_NETWORK].scores.pictures
    click.echo(f"{windows} windows, {scored} new frames with a known truth, of {options.load_from}")
    for line in _by_group(tallies):
        click.echo(line)
    click.echo(f"FLAVR | {_cell(ours['psnr'], 2)} | {_cell(ours['ssim'], 4)}")
    if subject.note is not None:
        click.echo(f"note: {subject.note}")


def _by_group(tallies: Mapping[str, Tally]) -> Iterator[str]:
    """PSNR of each video, and the mean over videos; nothing where the data set has no such groups."""
    ours, averages = tallies[_NETWORK], tallies[_AVERAGE]
    for name, scores in sorted(ours.groups.items()):
        psnr, average = (each.means()["psnr"] for each in (scores, averages.groups[name]))
        yield f"{name}: {_cell(psnr, 2)} dB, averaging {_cell(average, 2)}, {scores.pictures} frames"
    if ours.groups:
        means = [_cell(each.group_means()["psnr"], 3) for each in (ours, averages)]
        yield f"mean over {len(ours.groups)} videos: {means[0]} dB, averaging {means[1]}"


_WIDE = 200  # a narrower terminal wraps, which beats cutting names off
_DIGITS = {"psnr": 3, "ssim": 4, "psnr_uint8": 3, "ssim_uint8": 4, "ms_per_window": 1}


def _figures(tally: Tally) -> dict[str, float]:
    return {**tally.scores.means(), "ms_per_window": tally.ms_per_window}


def _cell(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _write_json(
    path: Path, options: _Options, subject: _Subject, tallies: Mapping[str, Tally], windows: int
) -> None:
    from flavr.training.files import write_bytes

    def clean(figures: Mapping[str, float]) -> dict[str, float | None]:
        return {key: None if math.isnan(value) else value for key, value in figures.items()}

    content = {
        "dataset": options.dataset,
        "split": options.split,
        "windows": windows,
        "frames": tallies[_NETWORK].scores.pictures,
        "file": str(options.load_from),
        "ensemble": options.ensemble,
        "device": subject.device,
        "batch": options.test_batch_size,
        "note": subject.note,
        "results": {name: clean(_figures(tally)) for name, tally in tallies.items()},
    }
    if tallies[_NETWORK].groups:
        content["videos"] = {
            name: {group: clean(scores.means()) for group, scores in sorted(tally.groups.items())}
            for name, tally in tallies.items()
        }
        content["mean_over_videos"] = {name: clean(tally.group_means()) for name, tally in tallies.items()}
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


command = SectionedCommand(
    "flavr-test",
    callback=_run,
    help=_HELP,
    epilog=_EXAMPLES,
    context_settings=SETTINGS,
    sections=_SECTIONS,
    params=[version_option()],
)


def main() -> None:
    """The entry point of `flavr-test`."""
    main_with_errors(command)


if __name__ == "__main__":
    main()
