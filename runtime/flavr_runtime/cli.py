"""The `flavr-run` command: parse, validate everything, run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flavr_runtime._cli import (
    Command,
    allow_any_name,
    cli_errors,
    interrupt_on_termination,
    version_option,
)
from flavr_runtime._option_groups import add_options, read_options
from flavr_runtime._run_options import RunOptions

if TYPE_CHECKING:
    from flavr_runtime._job import Job
    from flavr_runtime.pipeline import Progress

EXIT_DAMAGED = 3
"""The result is complete, but parts of the input could not be read."""

_EXAMPLES = """
\b
Examples:
  flavr-run clip.mp4                                 clip_2x.mp4, on the first provider that works here
  flavr-run clip.mp4 -o smooth.mkv --factor 4 --provider rocm
  flavr-run clip.mp4 -o smooth.mp4 --fps 60          from any rate, 24000/1001 too
  flavr-run clip.mp4 -o slow.mp4 --factor 8 --slowmo
  flavr-run clip.mp4 -o smooth.mp4 --model model.onnx --crf 20
  flavr-run frames/ -o smooth.mp4 --framerate 24     a folder of images, as 48 fps video
  flavr-run 'shots/*.png' -o shots2/%05d.tif         globs and numbered names; 16 bits stay 16 bits
  flavr-run clip.mp4 -o frames/                      the result as a folder of PNG images
  ffmpeg -i in.mp4 -f yuv4mpegpipe - | flavr-run - -o - | ffmpeg -i - out.mp4
  flavr-run film.mkv -o smooth.mkv --resume          goes on where this was interrupted
"""


@click.command(
    cls=Command,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.argument("input", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    help="Video file (its suffix chooses the container), folder of images, or - for standard output. "
    "[default: INPUT's name with _2x, in the current folder]",
)
@add_options(RunOptions)
@version_option
@cli_errors()
def command(input: Path, output: str | None, **values: object) -> None:  # noqa: A002 - its name in --help
    """Interpolate a video, images, or a pipe (-): n frames become (n - 1) * factor + 1.

    Source frames are passed on in their own pixel format; new ones get the same colours, and the sound is
    copied. Exit code 3: the result is complete, but parts of the input could not be read.
    """
    from flavr_runtime._job import prepare

    options = read_options(RunOptions, values)
    with contextlib.ExitStack() as stack:
        _run(prepare(input, output, options, stack), options)


def main() -> None:
    """The entry point of `flavr-run`."""
    interrupt_on_termination()
    allow_any_name()
    command(prog_name="flavr-run")


def _run(job: Job, options: RunOptions) -> None:
    from flavr_runtime._console import (
        kept_frames_stated,
        memory_text,
        print_damage,
        print_estimate,
        print_plan,
        print_profile,
        print_result,
        progress_bar,
    )
    from flavr_runtime.dry_run import estimated
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.manifest import manifest_of, manifest_path, write_manifest
    from flavr_runtime.pipeline import interpolate
    from flavr_runtime.profile import profiled, spent

    engine, quiet = options.engine, options.report.quiet
    manifest = (
        manifest_path(job.output, overwrite=options.encoding.overwrite) if options.report.manifest else None
    )
    info = job.source.info
    interpolator = Interpolator(
        job.model,
        provider=job.provider,
        threads=engine.threads,
        size=(info.height, info.width),
        cache=engine.cache_dir,
        strict=engine.strict,
        tile=engine.tile,
        ensemble=engine.ensemble,
    )
    job.work.identify(interpolator.identity)
    memory = memory_text(job, interpolator)
    if not quiet:
        print_plan(job, interpolator, memory)
    interpolator.warm_up()
    job.work.identify({"the tiles": str(interpolator.tiling(info.height, info.width))})
    if options.report.dry_run:
        smooth = options.scenes.duplicates == "smooth"
        print_estimate(job, estimated(job, interpolator), memory, smooth=smooth)
        return
    with (
        kept_frames_stated(job),
        profiled() as profile,
        spent("open and finish"),  # entering and leaving the sink tries the encoder, and joins what it made
        job.sink,
        progress_bar(quiet=quiet) as shown,
    ):

        def on_frame(progress: Progress) -> None:
            shown(progress)
            # Smaller, where one did not fit: what follows is not what whole pictures would have become.
            job.work.amend("the tiles", str(interpolator.tiling(info.height, info.width)))

        result = interpolate(
            job.source,
            job.sink,
            interpolator,
            job.timing,
            mark_cuts=job.mark_cuts,
            cut_mode=options.scenes.cut_mode,
            duplicates=options.scenes.duplicates,
            on_progress=on_frame,
        )
    if not quiet:
        print_result(job, result, interpolator)
    print_damage(job)
    if manifest is not None:
        write_manifest(manifest, manifest_of(job, options, interpolator, result))
    if options.report.profile:
        print_profile(profile)
    if job.damage:
        raise SystemExit(EXIT_DAMAGED)


if __name__ == "__main__":
    main()
