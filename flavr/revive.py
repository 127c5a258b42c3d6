"""Idle blocks back to training, or out of the way: `python -m flavr.revive MODEL.pth -o NEW.pth`.

`flavr.idle` says how a residual block comes to do nothing. Its convolutions and its gate begin anew here, its
second convolution at zero, so that the block passes its input on as a new one would; channels that it
withheld come out at a tenth of their size, by which the network's frames hardly change.

With `--still` it says in its weights what it does anyway: none are left but a bias that withholds channels,
and `flavr-export` writes no convolutions for such a block. Files are smaller and faster for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flavr._cli import main_with_errors
from flavr._options import SETTINGS, KeyValue, version_option

if TYPE_CHECKING:
    from torch import Tensor

    from flavr.idle import Use
    from flavr.network import Block, Flavr
    from flavr.predictors import Predictor
    from flavr.validate import WindowBatch

# Of what a block withheld, so much comes out again. Before the first step, 0.1 costs the network that ships
# 0.1 dB, 0.2 costs it 0.4 dB; with none of it the channels would have no gradient.
_SHARE = 0.1
_GATE = 0.5  # of a gate without weights or bias
_FAR = 1e4  # features are a thousandth of this; half precision holds it
_WINDOWS = 24


@dataclass(frozen=True, slots=True)
class Revived:
    """A block that was changed."""

    name: str
    shut: int  # channels that its gate had let nothing through of
    withheld: int  # channels that it had kept below 0


@dataclass(frozen=True, slots=True)
class _Change:
    """What it did to the frames of real windows."""

    before: float  # PSNR, dB
    now: float
    largest: float  # difference, of [0, 1]


def revive(network: Flavr, uses: Mapping[str, Use], *, seed: int = 0) -> list[Revived]:
    """Let the idle blocks of a network begin anew, in place.

    Args:
        uses: what `flavr.idle.watched` counted over windows of real frames.
        seed: of the new weights.

    Raises:
        CheckpointError: one cannot: the network has BatchNorm, or the block a projection of its input.
    """
    found = _idle(network, uses)
    for number, (name, block) in enumerate(found.items()):
        _begin_anew(block, uses[name].withheld, seed + number)
    return [_counted(name, uses[name]) for name in found]


def still(network: Flavr, uses: Mapping[str, Use]) -> list[Revived]:
    """Take the weights out of the idle blocks of a network, in place.

    They do what they did, but for what gates below `flavr.idle.SHUT` had let through.

    Raises:
        CheckpointError: as `revive`; or a block withholds channels and has no bias to do it with.
    """
    import torch

    from flavr.errors import CheckpointError

    found = _idle(network, uses)
    for name, block in found.items():
        withheld = uses[name].withheld
        if withheld and not network.config.encoder_bias:
            raise CheckpointError(f"{name} withholds channels, which takes a bias to go on with; it has none")
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.zero_()
            if withheld:
                block.get_parameter("conv2.0.bias")[withheld] = -_FAR / _GATE
    return [_counted(name, uses[name]) for name in found]


def _idle(network: Flavr, uses: Mapping[str, Use]) -> dict[str, Block]:
    from flavr.errors import CheckpointError
    from flavr.idle import residual_blocks

    found = {name: block for name, block in residual_blocks(network) if uses[name].idle}
    for name, block in found.items():
        if network.config.batchnorm or block.downsample is not None:
            part = "BatchNorm" if network.config.batchnorm else "a projection"
            raise CheckpointError(f"{name} does nothing, and a block with {part} cannot be changed here")
    return found


def _counted(name: str, use: Use) -> Revived:
    return Revived(name, int((use.opened == 0).sum()), len(use.withheld))


def _begin_anew(block: Block, withheld: Sequence[int], seed: int) -> None:
    """First convolution random (He et al. 2015), second and gate zero, but for what withheld channels need.

    Inputs are above 0, so a channel that the first convolution copies passes its ReLU, and the second can
    subtract from it what is not to come out.
    """
    import torch

    parameters = dict(block.named_parameters())
    first, second = parameters["conv1.0.weight"], parameters["conv2.0.weight"]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.zero_()
        first.copy_(torch.randn(first.shape, generator=generator) * math.sqrt(2 / first[0].numel()))
        for channel in withheld:
            first[channel] = 0
            first[channel, channel, 1, 1, 1] = 1
            second[channel, channel, 1, 1, 1] = -(1 - _SHARE) / _GATE


def _run(
    checkpoint: Path,
    output: Path,
    dataset: str,
    data_root: Path,
    data_options: tuple[tuple[str, object], ...],
    windows: int,
    seed: int,
    is_still: bool,
) -> None:
    from flavr._paths import check_new_checkpoint
    from flavr.checkpoints import load_checkpoint, save_checkpoint
    from flavr.datasets import open_dataset
    from flavr.idle import watched
    from flavr.validate import evaluate, evenly, window_batches

    check_new_checkpoint(output)
    loaded = load_checkpoint(checkpoint)
    for notice in loaded.notices:
        click.echo(f"note: {notice}", err=True)
    network = loaded.network()
    data = open_dataset(dataset, data_root, "train", n_outputs=network.config.n_outputs, **dict(data_options))
    batches = list(window_batches(data, evenly(len(data), windows), 1, 0))
    was = copy.deepcopy(network)
    with watched(network) as uses:
        evaluate({"": _predictor(network)}, batches)
    revived = still(network, uses) if is_still else revive(network, uses, seed=seed)
    if not revived:
        click.echo(f"{checkpoint}: every block does something on {len(batches)} windows; nothing is written")
        return
    for block in revived:
        counts = f"{block.shut} channels never passed its gate, {block.withheld} never left it"
        click.echo(f"{block.name} {'has no weights now' if is_still else 'begins anew'}: {counts}")
    change = _change(was, network, batches)
    click.echo(
        f"PSNR on {len(batches)} windows: {change.before:.2f} dB before, {change.now:.2f} dB now; "
        f"frames differ by {255 * change.largest:.3g} code values at most"
    )
    save_checkpoint(output, network, assumed=bool(loaded.notices))
    click.echo(f"Next: {'flavr-export --ckpt' if is_still else 'flavr-train --load-from'} {output}")


def _change(was: Flavr, network: Flavr, batches: Sequence[WindowBatch]) -> _Change:
    from flavr.validate import evaluate

    largest = 0.0

    def compare(_batch: WindowBatch, made: Mapping[str, Tensor]) -> None:
        nonlocal largest
        largest = max(largest, float((made["now"] - made["before"]).abs().max()))

    predictors = {"before": _predictor(was), "now": _predictor(network)}
    tallies = evaluate(predictors, batches, watch=compare)
    before, now = (tallies[name].scores.means()["psnr"] for name in predictors)
    return _Change(before, now, largest)


def _predictor(network: Flavr) -> Predictor:
    import torch

    from flavr.predictors import TorchPredictor

    return TorchPredictor(network, torch.device("cpu"), "fp32")


_FILE = click.Path(path_type=Path, dir_okay=False)
_PARAMS: list[click.Parameter] = [
    click.Argument(["checkpoint"], type=_FILE, metavar="CHECKPOINT"),
    click.Option(["-o", "--output"], type=_FILE, required=True, metavar="FILE.pth", help="The result."),
    click.Option(
        ["--data-root"],
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        metavar="DIR",
        help="Frames to find idle blocks with, those to train on.",
    ),
    click.Option(
        ["--dataset"],
        default="vimeo90K_septuplet",
        show_default=True,
        metavar="NAME",
        help="As of flavr-train.",
    ),
    click.Option(
        ["--data-option", "data_options"],
        type=KeyValue(),
        multiple=True,
        metavar="KEY=VALUE",
        help="As of flavr-train; repeatable.",
    ),
    click.Option(
        ["--windows"],
        type=click.IntRange(1),
        default=_WINDOWS,
        show_default=True,
        metavar="N",
        help="Look at so many, evenly spread.",
    ),
    click.Option(
        ["--seed"],
        type=click.IntRange(0, 2**63 - 1),  # as of flavr-train
        default=0,
        show_default=True,
        metavar="N",
        help="Of the new weights.",
    ),
    click.Option(
        ["--still", "is_still"],
        is_flag=True,
        help="Take their weights out instead: flavr-export then leaves such blocks out, and its "
        "files are smaller and faster.",
    ),
    version_option(),
]
command = click.Command(
    "python -m flavr.revive",
    help="Let residual blocks that do nothing any more begin anew, hardly changing what the network makes; "
    "or leave them out.",
    callback=_run,
    params=_PARAMS,
    context_settings=SETTINGS,
)

if __name__ == "__main__":
    main_with_errors(command)
