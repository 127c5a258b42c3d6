"""The options of `flavr-train` as a table. Defaults are those of `TrainingConfig`, written nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import click

from flavr._options import KeyValue
from flavr.config import BLOCKS
from flavr.training.config import TrainingConfig, option

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class _Row:
    """An option: `field` is that of TrainingConfig, and gives the name and the default."""

    field: str
    kind: Any  # click's type; None: a switch that only turns on; bool: on and off
    help: str
    metavar: str | None = None
    aliases: tuple[str, ...] = ()  # other spellings, those of the published scripts
    unset: str | None = None  # what None means, where the default is None


_TABLE: Mapping[str, Sequence[_Row]] = {
    "Data": (
        _Row("data_root", _FOLDER, "Where the data is.", "DIR"),
        _Row(
            "dataset",
            str,
            "vimeo90K_septuplet (also for what flavr-data makes), gopro, or video: any folder of videos.",
            "NAME",
        ),
        _Row("n_outputs", int, "New frames per window: 1 makes 2x, 3 makes 4x, 7 makes 8x.", "N", unset="1"),
        _Row(
            "val_fraction",
            float,
            "With --dataset video: the share of the videos to validate on.",
            unset="0.1",
        ),
        _Row("val_windows", int, "Validate on so many windows, evenly spread.", "N", unset="all"),
        _Row(
            "data_options",
            KeyValue(),
            "Anything else the data set understands, such as max_side=540 for video; repeatable.",
        ),
        _Row(
            "val_data_options",
            KeyValue(),
            "The same for validation alone, where it differs there; repeatable.",
        ),
        _Row("check_data", None, "Read every image first, and name all that are missing or damaged."),
        _Row(
            "num_workers",
            int,
            "Processes that read images, for each process that trains.",
            "N",
            unset="one per core, at most 16; 1 when training on the CPU",
        ),
        _Row(
            "cache",
            click.Choice(["none", "device"]),
            "device: for --dataset video, hold decoded frames where the network trains, cut batches there.",
        ),
    ),
    "Augmentation": (
        _Row("crop", int, "Height and width of the random crops.", "PIXELS"),
        _Row(
            "crop_places",
            int,
            "With --cache device: of so many random places, crop where most moves.",
            "N",
        ),
        _Row(
            "crop_drift",
            int,
            "With --cache device: half of the crops wander, by up to so many pixels a frame.",
            "PIXELS",
        ),
        _Row("flip", bool, "Mirror half of the samples, horizontally and vertically."),
        _Row("jitter", float, "Change brightness, contrast, saturation and hue by up to this much."),
        _Row("reverse", bool, "Run half of the samples backwards in time."),
        _Row(
            "permute_channels", bool, "Reorder R, G and B at random: for few videos, which hold few colours."
        ),
        _Row("turn", bool, "Swap rows and columns of half of the samples, whose motion turns with them."),
    ),
    "Network": (
        _Row("arch", click.Choice(list(BLOCKS)), "Depth.", aliases=("--model",), unset="unet_18"),
        _Row("width", int, "Channels of the first layer; 64 is the published network.", "N", unset="64"),
        _Row(
            "join",
            click.Choice(["concat", "add", "none"]),
            "How decoder and encoder features meet.",
            aliases=("--joinType",),
            unset="concat",
        ),
        _Row(
            "upmode", click.Choice(["transpose", "upsample"]), "How the decoder enlarges.", unset="transpose"
        ),
        _Row(
            "encoder_bias",
            bool,
            "Biases in the encoder.",
            unset="as published, none for 2x; with --init blend always",
        ),
        _Row(
            "init",
            click.Choice(["published", "blend"]),
            "published: random. blend: starts as the average of the middle frames, which random weights take "
            "tens of thousands of crops to reach; for small networks and short runs.",
        ),
        _Row("load_from", _FILE, "Start from all weights of this checkpoint.", "FILE"),
        _Row(
            "pretrained",
            _FILE,
            "Start from those weights of this checkpoint that fit; the others are listed.",
            "FILE",
        ),
    ),
    "Learning from a network": (
        _Row(
            "teacher",
            _FILE,
            "Mix what this network makes of a window into what is to be learnt from it: a larger one, or the "
            "same, which is better over several views than over one.",
            "FILE",
        ),
        _Row("teacher_share", float, "The teacher's share of a target; the rest is the true frame."),
        _Row(
            "teacher_ensemble",
            int,
            "Its mean over so many views of a window: 2 adds the one run backwards, 4 those turned upside "
            "down, 8 mirrored ones, 16 those with rows and columns swapped.",
            "N",
        ),
    ),
    "Optimisation": (
        _Row(
            "loss",
            str,
            "A sum of L1, MSE, RMSE, PSNR, Huber, Charbonnier, SSIM, MS-SSIM: 1*L1+0.1*SSIM.",
            "SUM",
        ),
        _Row("batch_size", int, "Windows per step, over all processes together.", "N"),
        _Row("max_epoch", int, "Epochs in all, those before a --resume included.", "N"),
        _Row("steps_per_epoch", int, "Steps until the next validation.", "N", unset="once through the data"),
        _Row(
            "optimizer",
            click.Choice(["adam", "muon"]),
            "adam, as published; or muon, whose steps are orthogonal matrices (but Adam's for biases and the "
            "like): more from short runs.",
        ),
        _Row("lr", float, "Learning rate."),
        _Row("beta1", float, "Adam's decay of the gradient's mean."),
        _Row("beta2", float, "Adam's decay of its square's mean."),
        _Row(
            "schedule",
            click.Choice(["plateau", "cosine", "trapezoid"]),
            "plateau: halve the rate when the validation loss has not fallen for 5 epochs, as published. "
            "cosine: warm up, then fall to a hundredth by the last step; for runs of a known length. "
            "trapezoid: warm up, stay, fall to a hundredth over the last fifth; until there, --max-epoch can "
            "be changed.",
        ),
        _Row(
            "warmup_steps",
            int,
            "With cosine and trapezoid.",
            "N",
            unset="a twentieth of the run, at most 1000",
        ),
        _Row(
            "clip_grad", float, "Limit the norm of the gradient, against steps that ruin the weights.", "NORM"
        ),
        _Row(
            "centre",
            bool,
            "Step as if what goes into convolutions had no mean; biases make up for it. Steadier.",
        ),
        _Row(
            "outer_rate",
            float,
            "With muon: the share of the rate for the first and last layers and the gates, whose steps "
            "change the frames most.",
            "SHARE",
        ),
        _Row(
            "ema",
            float,
            "Validate and save a running mean of the weights, decaying by this, such as 0.999: steadier.",
            "DECAY",
        ),
        _Row("seed", int, "Of weights, order and augmentation.", aliases=("--random-seed",)),
    ),
    "Hardware": (
        _Row(
            "num_gpu",
            int,
            "0 trains on the CPU, more than 1 in as many processes.",
            "N",
            unset="1 if there is one",
        ),
        _Row("num_procs", int, "Processes, when training on the CPU.", "N"),
        _Row(
            "precision",
            click.Choice(["fp32", "bf16", "fp16"]),
            "Of the network's arithmetic; weights, loss and optimizer stay fp32. bf16 is faster on GPUs "
            "(Ampere, MI200 and newer) and CPUs with AVX512_BF16, slower on others. fp16 scales the loss.",
        ),
        _Row(
            "channels_last",
            bool,
            "Memory layout: channels innermost.",
            unset="on for bf16 and fp16 on a GPU, and below width 64 on a CPU",
        ),
        _Row(
            "winograd",
            bool,
            "Compute convolutions by Winograd's algorithm, with fewer multiplications.",
            unset="on for fp32 on a CPU without AVX-512",
        ),
        _Row("compile", None, "torch.compile: minutes to start, then faster steps."),
    ),
    "The run": (
        _Row("checkpoint_dir", _FOLDER, "Runs are folders in here.", "DIR"),
        _Row("exp_name", str, "Name of this run's folder.", "NAME", unset="the data set's name"),
        _Row("resume", None, "Go on from the run's checkpoint.pth."),
        _Row("time_limit", float, "Stop after so long with a checkpoint that --resume takes up.", "MINUTES"),
        _Row("test_batch_size", int, "Windows per batch in validation; lower it for large frames.", "N"),
        _Row("val_freq", int, "Validate every so many epochs.", "N"),
        _Row("tensorboard", bool, "Write TensorBoard's files.", aliases=("--use-tensorboard",)),
        _Row("log_iter", int, "Steps between TensorBoard's points of the training loss.", "N"),
    ),
}


def sections() -> dict[str, list[click.Option]]:
    """Heading to click options, in the order of --help."""
    defaults = {
        field.name: None if field.default is MISSING else field.default for field in fields(TrainingConfig)
    }
    return {heading: [_click(row, defaults[row.field]) for row in rows] for heading, rows in _TABLE.items()}


def _click(row: _Row, default: Any) -> click.Option:
    name = option(row.field)
    names = [name, *row.aliases, row.field]
    text = row.help
    if default is None and row.unset is not None:
        text += f"  [default: {row.unset}]"
    shown = default is not None
    if row.kind is None:
        return click.Option(names, is_flag=True, default=False, help=text)
    if row.kind is bool:
        return click.Option(
            [f"{name}/--no-{name[2:]}", *names[1:]], default=default, show_default=shown, help=text
        )
    metavar = row.metavar
    if isinstance(row.kind, click.Choice):
        metavar = f"[{'|'.join(row.kind.choices)}]"  # click's own has the underscores replaced
    given: dict[str, Any] = {"default": default, "show_default": True} if shown else {}
    return click.Option(
        names,
        type=row.kind,
        metavar=metavar,
        required=row.field == "data_root",
        multiple=isinstance(row.kind, KeyValue),
        help=text,
        **given,  # not default=None, which click takes for a value
    )
