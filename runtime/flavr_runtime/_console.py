"""What `flavr-run` says on the terminal: the plan, a progress bar, the result."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flavr_runtime._job import Job
    from flavr_runtime.dry_run import Estimate
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.pipeline import Progress
    from flavr_runtime.profile import Profile


def print_plan(job: Job, interpolator: Interpolator, memory: str) -> None:
    """What goes in, what it runs on, and what the user should know."""
    info = job.source.info
    kept = " kept" if _keeps_times(job) and not job.timing.is_constant(info) else ""
    kind = "" if info.constant_rate else f", variable rate{kept}"
    click.echo(
        f"{info.path}: {info.width}x{info.height}, "
        f"{rate_text(info.rate, constant=info.constant_rate)} fps{kind}, "
        f"{f'{info.frame_count} frames, ' if info.frame_count is not None else ''}{info.description}",
        err=True,
    )
    views = f", the mean over {interpolator.ensemble} views" if interpolator.ensemble > 1 else ""
    click.echo(f"model: {interpolator.model}{views}", err=True)
    click.echo(f"provider: {interpolator.provider} ({interpolator.placement})", err=True)
    click.echo(memory, err=True)
    for notice in [*job.notices, *interpolator.notices]:
        click.echo(f"note: {notice}", err=True)


def _keeps_times(job: Job) -> bool:
    """Whether the output says when each frame is shown: images do not."""
    from flavr_runtime.compare import Comparison
    from flavr_runtime.image_writer import ImageWriter

    sink = job.sink.sink if isinstance(job.sink, Comparison) else job.sink
    return not isinstance(sink, ImageWriter)


def memory_text(job: Job, interpolator: Interpolator) -> str:
    """What the run will take at most, and how pictures are cut for it, before anything has run."""
    from flavr_runtime.memory import available_bytes, planned_bytes

    info = job.source.info
    tiling = interpolator.tiling(info.height, info.width)
    if interpolator.runs_in_main_memory:
        available = available_bytes()
        planned = planned_bytes(job.model, (tiling.tile_height, tiling.tile_width), info)
        left = "" if available is None else f", {_size_text(available)} free"
        text = f"memory: about {_size_text(planned)} at most{left}"
    else:
        text = f"memory: what {interpolator.provider} takes is not known before"
    return text if tiling.is_whole else f"{text}; a picture in {tiling}"


def _size_text(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def print_result(job: Job, result: Progress, interpolator: Interpolator) -> None:
    """What came out, and how fast."""
    repeated = f", {result.repeated} repeated where nothing moves or a scene ends" if result.repeated else ""
    held = f"; {result.held} held frames smoothed" if result.held else ""
    kept = f"; {result.kept} kept from before" if result.kept else ""
    new = f"{result.synthesised} new{repeated}"
    click.echo(
        f"{job.output}: {_result_rate(job)} fps, {result.written} frames "
        f"({result.passed} from the source, {new}; {result.cuts} cuts{held}{kept}) "
        f"in {result.seconds:.1f} s, {result.speed:.1f} frames/s{_peak_text()}",
        err=True,
    )
    for notice in [*job.late_notices, *interpolator.late_notices]:
        click.echo(f"note: {notice}", err=True)


def _peak_text() -> str:
    from flavr_runtime.memory import peak_bytes

    peak = peak_bytes()
    return "" if peak is None else f", {_size_text(peak)} of memory at most"


def print_estimate(job: Job, estimate: Estimate, memory: str, *, smooth: bool = False) -> None:
    """What --dry-run has found out, on standard output; with `smooth`, held frames take more windows."""
    frames = "frames as long as the input lasts"
    if estimate.frames is not None and estimate.duration is not None:
        frames = f"{estimate.frames} frames, {float(estimate.duration):.2f} s"
    click.echo(f"would write {job.output}: {_result_rate(job)} fps, {frames}")
    click.echo(memory)
    each = f"{estimate.window_seconds:.3g} s for a window of the network"
    if estimate.seconds is None:
        click.echo(f"time: {each}")
    else:
        most = ", more where held frames are smoothed" if smooth else " at most"
        click.echo(f"time: about {time_text(estimate.seconds)} ({estimate.windows} windows{most}, {each})")


def time_text(seconds: float) -> str:
    """42 s, 3 min 20 s, 5 h 12 min."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def print_damage(job: Job) -> None:
    """What of the input could not be read; not even --quiet hides it."""
    for each in job.damage:
        click.echo(f"damage: {each}", err=True)


def print_profile(profile: Profile) -> None:
    """A row for each thing that a stage spent a thousandth of the time or more on."""
    click.echo(f"{'stage':<9}{'time spent on':<26}{'seconds':>9}{'share':>8}", err=True)
    for stage, activities in profile.stages().items():
        for activity, seconds in sorted(activities.items(), key=lambda each: -each[1]):
            if seconds >= profile.wall / 1000:
                share = f"{seconds / profile.wall:.1%}"
                click.echo(f"{stage:<9}{activity:<26}{seconds:>9.2f}{share:>8}", err=True)
    click.echo(
        f"{profile.wall:.2f} s in all, {profile.share('session.run'):.1%} of it in session.run; the stages "
        "overlap, each adds up to the whole",
        err=True,
    )


@contextlib.contextmanager
def kept_frames_stated(job: Job) -> Iterator[None]:
    """Where a run ends early, say what is left of it and how to go on."""
    try:
        yield
    except BaseException:
        kept, total = job.sink.kept, job.timing.frame_count(job.source.info)
        if kept and job.work.path.is_dir():
            click.echo(
                f"note: {kept} of {total} frames are kept: the same command with --resume goes on from there",
                err=True,
            )
        raise


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
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
        TextColumn("{task.fields[cuts]} cuts"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None, speed=0.0, cuts=0)

        def update(progress: Progress) -> None:
            total = None if progress.total is None else max(progress.total, progress.written)
            bar.update(
                task, completed=progress.written, total=total, speed=progress.speed, cuts=progress.cuts
            )

        yield update


def rate_text(rate: Fraction, *, constant: bool = True) -> str:
    """25, or 23.976 (24000/1001); "usually 30" where that is the rate of the usual interval only."""
    text = str(rate) if rate.denominator == 1 else f"{float(rate):.3f} ({rate})"
    return text if constant else f"usually {text}"


def _result_rate(job: Job) -> str:
    return rate_text(job.timing.rate, constant=job.timing.is_constant(job.source.info))
