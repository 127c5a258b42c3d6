"""The mean of several checkpoints of one network: `python -m flavr.average A.pth B.pth -o MEAN.pth`.

Weights that training has brought a little apart are, averaged, often better than each of them, and cost
nothing more to run (Izmailov et al. 2018, Wortsman et al. 2022). That holds for checkpoints of one run, or of
a run and what it started from, not for those of runs that began differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flavr._cli import main_with_errors
from flavr._options import SETTINGS, version_option

if TYPE_CHECKING:
    from flavr.checkpoints import Checkpoint, StateDict

_FILE = click.Path(path_type=Path, dir_okay=False)
_NEARLY = 1e-6  # shares are written with a few digits: 0.33 0.33 0.34


def average(checkpoints: Sequence[Checkpoint], shares: Sequence[float] | None = None) -> StateDict:
    """The weighted mean of the weights, in float64 on its way, under their published names.

    Args:
        checkpoints: of networks of one configuration.
        shares: of each, with a sum of 1; None: equal ones.

    Raises:
        UsageError: there are not two, shares do not fit, or networks have BatchNorm, whose statistics are not
            those of averaged weights.
        CheckpointError: networks differ; the first that does is named.
    """
    from flavr.errors import CheckpointError, UsageError

    if len(checkpoints) < 2:
        raise UsageError("a mean takes two checkpoints at least")
    shares = [1 / len(checkpoints)] * len(checkpoints) if shares is None else shares
    if len(shares) != len(checkpoints) or not math.isclose(sum(shares), 1, abs_tol=_NEARLY):
        given = " ".join(f"{share:g}" for share in shares)
        raise UsageError(f"--share {given}: {len(checkpoints)} are needed, with a sum of 1")
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if other.config != first.config:
            raise CheckpointError(f"{other.path} is {other.config}, but {first.path} is {first.config}")
    if first.config.batchnorm:
        raise UsageError(
            f"{first.path} has BatchNorm, whose statistics would not be those of averaged weights"
        )
    return {
        key: sum(
            share * checkpoint.state_dict[key].double()
            for share, checkpoint in zip(shares, checkpoints, strict=True)
        ).float()  # type: ignore[union-attr]  # there are two at least
        for key in first.state_dict
    }


def _run(checkpoints: tuple[Path, ...], shares: tuple[float, ...], output: Path) -> None:
    from flavr._paths import check_new_checkpoint
    from flavr.checkpoints import load_checkpoint, save_checkpoint

    check_new_checkpoint(output)
    loaded = [load_checkpoint(path) for path in checkpoints]
    network = loaded[0].network()
    network.load_state_dict(average(loaded, shares or None))
    notices = dict.fromkeys(notice for checkpoint in loaded for notice in checkpoint.notices)
    for notice in notices:
        click.echo(f"note: {notice}", err=True)
    save_checkpoint(output, network, assumed=bool(notices))
    click.echo(f"{output}: the mean of {len(loaded)} checkpoints; see whether it is better with flavr-test")


_PARAMS: list[click.Parameter] = [
    click.Argument(["checkpoints"], type=_FILE, nargs=-1, required=True, metavar="CHECKPOINT..."),
    click.Option(
        ["--share", "shares"],
        type=float,
        multiple=True,
        metavar="NUMBER",
        help="Of each checkpoint, in their order, 1 in all.  [default: equal ones]",
    ),
    click.Option(["-o", "--output"], type=_FILE, required=True, metavar="FILE.pth", help="The mean."),
    version_option(),
]
command = click.Command(
    "python -m flavr.average",
    help="Average the weights of checkpoints that one run has made.",
    callback=_run,
    params=_PARAMS,
    context_settings=SETTINGS,
)

if __name__ == "__main__":
    main_with_errors(command)
