"""The `flavr-run` command: parse, validate everything, run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flavr_runtime._cli import cli_errors, interrupt_on_termination, version_option
from flavr_runtime.providers import PROVIDER_CHOICES

if TYPE_CHECKING:
    from flavr_runtime.frames import FrameSink
    from flavr_runtime.interpolator import CutMode, Interpolator
    from flavr_runtime.pipeline import Progress
    from flavr_runtime.scenes import CutMarker
    from flavr_runtime.session import ModelInfo
    from flavr_runtime.timing_plan import Timing
    from flavr_runtime.traits import MediaSource

_EXAMPLES = """
\b
Examples:
  flavr-run clip.mp4                                 clip_2x.mp4, on the fastest provider that works here
  flavr-run clip.mp4 -o smooth.mkv --factor 4 --provider rocm
  flavr-run clip.mp4 -o smooth.mp4 --fps 60          from any rate, 24000/1001 too
  flavr-run clip.mp4 -o slow.mp4 --factor 8 --slowmo
  flavr-run clip.mp4 -o smooth.mp4 --model model.onnx --crf 20
  flavr-run frames/ -o smooth.mp4 --framerate 24     a folder of images, as 48 fps video
  flavr-run clip.mp4 -o frames/                      the result as a folder of PNG images
"""


# What people type for the NTSC rates, which are exactly 1000/1001 of a whole number.
_NTSC = {"23.976": 24, "23.98": 24, "29.97": 30, "47.952": 48, "47.95": 48, "59.94": 60, "119.88": 120}


class _Rate(click.ParamType[Fraction]):
    name = "rate"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if str(value) in _NTSC:
            return Fraction(_NTSC[str(value)] * 1000, 1001)
        try:
            rate = Fraction(str(value))
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if rate <= 0:
            self.fail(f"{value!r} is not a rate; write 25, 23.976 or 24000/1001", param, ctx)
        return rate


@dataclass(frozen=True, slots=True)
class _Options:
    """The command line, parsed."""

    input: Path
    output: str | None
    model: Path | None
    provider: str
    factor: int | None
    fps: Fraction | None
    slowmo: bool
    cuts: str
    cut_mode: CutMode
    framerate: Fraction
    codec: str | None
    crf: int | None
    preset: str | None
    audio: bool
    drop_alpha: bool
    overwrite: bool
    threads: int | None
    quiet: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything checked and ready; nothing slow has happened yet."""

    source: MediaSource
    model: ModelInfo
    timing: Timing
    mark_cuts: CutMarker | None
    output: str
    sink: FrameSink


@click.command(
    epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.argument("input", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    help="Video file (its suffix chooses the container) or folder of images. "
    "[default: INPUT's name with _2x, in the current folder]",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="M.onnx",
    help="A file written by flavr-export. [default: the small 2x network that ships with flavr]",
)
@click.option(
    "--provider",
    type=click.Choice(PROVIDER_CHOICES),
    default="auto",
    show_default=True,
    help="What to run on; auto takes the fastest that works here. See flavr-providers.",
)
@click.option(
    "--factor",
    type=int,
    metavar="N",
    help="Multiply the frames by this, in several passes where the model's own factor is smaller. "
    "[default: the model's own factor]",
)
@click.option(
    "--fps",
    type=_Rate(),
    metavar="R",
    help="Frames per second of the result instead of --factor: 60, 59.94 or 60000/1001. Each is the nearest "
    "to its instant of what the model makes; only those are computed.",
)
@click.option("--slowmo", is_flag=True, help="Keep the rate and let the result last longer, without sound.")
@click.option(
    "--cuts",
    default="auto",
    show_default=True,
    metavar="auto|off|FILE",
    help="Where scenes begin: found, nowhere, or listed in FILE, one frame number (from 0) or time a line.",
)
@click.option(
    "--cut-mode",
    type=click.Choice(["repeat", "blend"]),
    default="repeat",
    show_default=True,
    help="What is shown between the two frames around a cut: the nearer one, or a fade.",
)
@click.option(
    "--framerate",
    type=_Rate(),
    default="25",
    show_default=True,
    help="Frames per second of a folder of images.",
)
@click.option(
    "--codec",
    metavar="NAME",
    help="Video codec: h264, h265, av1, vp9, ffv1. [default: the container's usual one]",
)
@click.option("--crf", type=int, help="Quality: lower is better and larger. [default: visually lossless]")
@click.option("--preset", metavar="NAME", help="The encoder's speed preset.")
@click.option(
    "--audio/--no-audio", default=True, show_default=True, help="Copy the sound, without re-encoding."
)
@click.option("--drop-alpha", is_flag=True, help="Go on with an input that has transparency, without it.")
@click.option("-y", "--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    metavar="N",
    help="CPU threads for the network. [default: one per physical core]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@version_option
@cli_errors()
def command(**values: object) -> None:
    """Interpolate a video, or a folder of images: n frames become (n - 1) * factor + 1.

    Source frames are passed on in their own pixel format; new ones get the same colours, and the sound is
    copied.
    """
    options = _Options(**values)  # type: ignore[arg-type]  # click has checked the types
    with contextlib.ExitStack() as stack:
        job = _validated(options, stack)
        _run(job, options)


def main() -> None:
    """The entry point of `flavr-run`."""
    interrupt_on_termination()
    command(prog_name="flavr-run")


def _validated(options: _Options, stack: contextlib.ExitStack) -> _Job:
    """Check input, model, factor and output against each other."""
    from flavr_runtime.encoders import EncodeOptions
    from flavr_runtime.media import open_sink, open_source
    from flavr_runtime.session import DEFAULT_MODEL, check_size, read_model_info
    from flavr_runtime.timing_plan import plan_timing

    source = stack.enter_context(open_source(options.input, options.framerate, drop_alpha=options.drop_alpha))
    model = read_model_info(options.model or DEFAULT_MODEL)
    timing = plan_timing(
        source.info, model.factor, factor=options.factor, fps=options.fps, slowmo=options.slowmo
    )
    check_size(model, source.info.width, source.info.height)
    output = str(_default_output(options, timing)) if options.output is None else options.output
    sink = open_sink(
        output,
        source,
        timing.rate,
        EncodeOptions(codec=options.codec, crf=options.crf, preset=options.preset),
        audio=options.audio and timing.stretch == 1,
        overwrite=options.overwrite,
        constant_rate=True if options.fps is not None else None,
        stretch=timing.stretch,
    )
    return _Job(source, model, timing, _cut_marker(options.cuts), output, sink)


def _cut_marker(cuts: str) -> CutMarker | None:
    from flavr_runtime.scenes import detected_cuts, listed_cuts

    if cuts in ("auto", "off"):
        return detected_cuts if cuts == "auto" else None
    return listed_cuts(Path(cuts))


def _default_output(options: _Options, timing: Timing) -> Path:
    """The input's name with what is done to it, in the current folder; MP4 where that cannot be written."""
    from flavr_runtime.encoders import CONTAINERS

    suffix = "" if options.input.is_dir() else options.input.suffix
    if suffix and suffix.lower() not in CONTAINERS:
        suffix = ".mp4"
    done = f"{timing.factor}x" if options.fps is None else f"{float(options.fps):g}fps"
    return Path(f"{options.input.absolute().with_suffix('').name}_{done}{'_slow' * options.slowmo}{suffix}")


def _run(job: _Job, options: _Options) -> None:
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.pipeline import interpolate

    interpolator = Interpolator(job.model, provider=options.provider, threads=options.threads)
    if not options.quiet:
        _print_plan(job, interpolator)
    with job.sink, _progress_bar(quiet=options.quiet) as on_progress:
        result = interpolate(
            job.source,
            job.sink,
            interpolator,
            job.timing,
            mark_cuts=job.mark_cuts,
            cut_mode=options.cut_mode,
            on_progress=on_progress,
        )
    if not options.quiet:
        _print_result(job, result)


def _print_plan(job: _Job, interpolator: Interpolator) -> None:
    info = job.source.info
    kind = "" if info.constant_rate else " on average, variable rate kept"
    click.echo(
        f"{info.path}: {info.width}x{info.height}, {_rate_text(info.rate)} fps{kind}, "
        f"{info.frame_count} frames, {info.description}",
        err=True,
    )
    click.echo(f"model: {interpolator.model}", err=True)
    click.echo(f"provider: {interpolator.provider} ({interpolator.placement})", err=True)
    if job.timing.stretch != 1 and job.source.traits.audio:
        click.echo("note: the sound is left out of slow motion", err=True)
    for notice in [*job.source.notices, *job.sink.notices, *interpolator.notices]:
        click.echo(f"note: {notice}", err=True)


def _print_result(job: _Job, result: Progress) -> None:
    speed = result.written / result.seconds if result.seconds else 0.0
    repeated = f", {result.repeated} repeated where nothing moves or a scene ends" if result.repeated else ""
    click.echo(
        f"{job.output}: {_rate_text(job.timing.rate)} fps, {result.written} frames "
        f"({result.passed} from the source, {result.synthesised} new{repeated}; {result.cuts} cuts) "
        f"in {result.seconds:.1f} s, {speed:.1f} frames/s",
        err=True,
    )


@contextlib.contextmanager
def _progress_bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar with rate and time left on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _progress: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.1f} frames/s"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None, speed=0.0)

        def update(progress: Progress) -> None:
            speed = progress.written / progress.seconds if progress.seconds else 0.0
            bar.update(
                task, completed=progress.written, total=max(progress.total, progress.written), speed=speed
            )

        yield update


def _rate_text(rate: Fraction) -> str:
    return str(rate) if rate.denominator == 1 else f"{float(rate):.3f} ({rate})"


if __name__ == "__main__":
    main()
