"""The `flavr-data` command: makes data sets, and shows what they look like."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flavr._cli import main_with_errors

if TYPE_CHECKING:
    from rich.progress import Progress

    from flavr._cutting import Cut

_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}
_OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="The set to make; it appears under this name when it is complete.",
)


class _Size(click.ParamType[tuple[int, int]]):
    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX](\d+)", str(value))
        if match is None or int(match[1]) < 16 or int(match[2]) < 16:
            self.fail(f"{value!r} is no size; write height x width, 16 or more, such as 256x448", param, ctx)
        return int(match[1]), int(match[2])


@click.group(
    context_settings=_SETTINGS,
    epilog="""
\b
Examples:
  flavr-data render -o datasets/mini
  flavr-data cut holiday.mp4 clips/ -o datasets/mine
  flavr-data layouts gopro
""",
)
@click.version_option(package_name="flavr")
def flavr_data() -> None:
    """Make data sets for flavr-train and flavr-test."""


@flavr_data.command(
    context_settings=_SETTINGS,
    epilog="""
\b
Examples:
  flavr-data cut holiday.mp4 clips/ -o datasets/mine
  flavr-data cut film.mkv -o datasets/film --val-fraction 0 --max-per-video 500
  flavr-data cut clips/ -o datasets/hd --size 720x1280 --stride 2
""",
)
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="VIDEO...")
@_OUTPUT
@click.option(
    "--size",
    type=_Size(),
    metavar="HxW",
    default="256x448",
    help="Height x width of the result: frames are reduced until they just cover it, then cropped.",
)
@click.option(
    "--stride", type=click.IntRange(min=1), default=1, help="2 takes every second frame, and so on."
)
@click.option(
    "--min-motion",
    type=click.FloatRange(min=0),
    default=0.3,
    help="Least difference between neighbouring frames, in grey levels: drops stills and repeated frames.",
)
@click.option(
    "--max-motion",
    type=click.FloatRange(min=0),
    default=None,
    help="Largest mean difference between neighbouring frames.  [default: no limit]",
)
@click.option(
    "--max-per-video",
    type=click.IntRange(min=1),
    default=None,
    help="At most so many sequences of one video, spread evenly.  [default: no limit]",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(min=0, max=0.9),
    default=0.1,
    help="Share of the videos for testing, chosen by the hash of their names; 0 makes an empty test list.",
)
def cut(
    videos: tuple[Path, ...],
    output: Path,
    size: tuple[int, int],
    stride: int,
    min_motion: float,
    max_motion: float | None,
    max_per_video: int | None,
    val_fraction: float,
) -> None:
    """Cut videos into a set in the Vimeo-90K layout.

    VIDEO is a video file, a folder of numbered images, or a folder to search for those. Sequences are seven
    frames in which something moves and no scene changes. No two share a frame, and all of a video's are
    either for training or for testing.
    """
    from flavr._cutting import CutSpec, cut_set

    if max_motion is not None and max_motion < min_motion:
        raise click.UsageError(f"--max-motion {max_motion:g} is below --min-motion {min_motion:g}")
    spec = CutSpec(
        *size,
        stride=stride,
        min_motion=min_motion,
        max_motion=max_motion,
        max_per_video=max_per_video,
        val_fraction=val_fraction,
    )
    with _progress() as progress:
        tasks = {"measure": progress.add_task("looking for motion", total=None)}

        def on_video(stage: str, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task("writing", total=total)
            progress.update(tasks[stage], total=total, advance=1)

        cuts = cut_set(videos, output, spec, on_video)
    _print_cuts(output, cuts)


def _print_cuts(output: Path, cuts: list[Cut]) -> None:
    for item in cuts:
        if not item.starts:
            click.echo(f"note: {item.video.path} is left out: it {item.why_none}", err=True)
    train, test = ([item for item in cuts if item.split == split] for split in ("train", "test"))
    _print_set(
        output,
        f"{sum(len(item.starts) for item in train)} sequences of {len(train)} videos to train on, "
        f"{sum(len(item.starts) for item in test)} of {len(test)} to test",
        trainable=bool(test),
    )


@flavr_data.command(
    context_settings=_SETTINGS,
    short_help="Render a small set in the Vimeo-90K layout.",
    epilog="""
\b
Examples:
  flavr-data render -o datasets/mini
  flavr-data render -o datasets/tiny --train 8 --test 2 --size 64x96
""",
)
@_OUTPUT
@click.option("--train", type=click.IntRange(min=1), default=64, help="Sequences to train on.")
@click.option("--test", type=click.IntRange(min=0), default=8, help="Sequences to test on.")
@click.option("--size", type=_Size(), metavar="HxW", default="256x320", help="Height x width.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed renders other scenes.")
def render(output: Path, train: int, test: int, size: tuple[int, int], seed: int) -> None:
    """Render a small set in the Vimeo-90K layout: no download, and the same frames for the same options."""
    from flavr.rendering import RenderSpec, render_set

    with _progress() as progress:
        task = progress.add_task("rendering", total=train + test)
        render_set(output, RenderSpec(train, test, *size, seed), lambda: progress.advance(task))
    _print_set(output, f"{train} sequences to train on, {test} to test", trainable=test > 0)


@flavr_data.command(context_settings=_SETTINGS, short_help="Show how the folder of a data set looks.")
@click.argument("name", required=False)
def layouts(name: str | None) -> None:
    """Show how the folder of the data set NAME looks, or of all there are."""
    from flavr.datasets import DATASETS, dataset_name

    for known in [dataset_name(name)] if name else DATASETS:
        kind = DATASETS[known]
        click.secho(f"{known}: {kind.summary}", bold=True)
        click.echo("".join(f"  {line}\n" for line in kind.layout.splitlines()))


def _print_set(output: Path, contents: str, *, trainable: bool) -> None:
    click.echo(f"{output}: {contents}")
    if not trainable:
        click.echo("Its test list is empty: flavr-train needs one to validate on")
        return
    click.echo(f"Next: flavr-train --dataset vimeo90K_septuplet --data_root {shlex.quote(str(output))}")


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    # A log file is no place for a bar.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def main() -> None:
    """Entry point."""
    main_with_errors(flavr_data)


if __name__ == "__main__":
    main()
