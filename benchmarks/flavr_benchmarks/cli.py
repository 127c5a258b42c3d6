"""The `flavr-bench` command: parse, validate everything, measure, write the report."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flavr_benchmarks._main import run_program
from flavr_benchmarks._parameters import FAIL_BELOW, Listed

if TYPE_CHECKING:
    from flavr_benchmarks.gates import Gates
    from flavr_benchmarks.run import Plan

_EXAMPLES = """\b
Examples:
  flavr-bench --quick                                    the network that ships with flavr, in a few minutes
  flavr-bench --ckpt model.pth --graph conv2d,conv3d --size 256x448,720p
  flavr-bench --model a.onnx --model b.onnx --backend ort-cuda --size 1080p
  flavr-bench --ckpt model.pth --backend ort-cpu,torch-eager --data datasets/vimeo_septuplet --windows 100
  flavr-bench --ckpt model.pth --precision fp32,int8 --calibrate clips --fail-below loss=0.2
  flavr-bench compare before/report.json after/report.json --fail-below slowdown=10
  flavr-bench table benchmarks/results/report-*.json --into README.md
  flavr-bench plot report.json -o speed-quality.svg
"""

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_QUICK = {"budget": 6.0, "least_rounds": 6, "windows": 6, "warm_up": 1}
_FULL = {"budget": 30.0, "least_rounds": 10, "windows": 24, "warm_up": 2}


def _graphs() -> tuple[str, ...]:
    from typing import get_args

    from flavr_export.spec import GraphForm

    return get_args(GraphForm)


@click.group(
    invoke_without_command=True,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--model",
    "models",
    type=_FILE,
    multiple=True,
    metavar="M.onnx",
    help="A file of flavr-export's; repeatable.  [default: the network that ships, in all its forms]",
)
@click.option(
    "--ckpt",
    "checkpoint",
    type=_FILE,
    metavar="C.pth",
    help="A checkpoint: exported in every form asked for, run in PyTorch, and what quality is compared with.",
)
@click.option(
    "--backend",
    "backends",
    type=Listed(),
    metavar="LIST",
    help="ort-cpu, ort-cuda, ort-rocm, ort-openvino, ..., torch-eager, torch-compile.  "
    "[default: all that work here]",
)
@click.option(
    "--precision",
    "precisions",
    type=Listed(("fp32", "fp16", "bf16", "int8")),
    default="fp32",
    show_default=True,
    metavar="LIST",
    help="Of a checkpoint's exports and of PyTorch: fp32, fp16, bf16, int8.",
)
@click.option(
    "--graph",
    "graphs",
    type=Listed(),
    default="conv2d",
    show_default=True,
    metavar="LIST",
    help="Of a checkpoint's exports: conv2d, conv3d, winograd; several with commas.",
)
@click.option(
    "--size",
    "sizes",
    type=Listed(),
    default="256x448",
    show_default=True,
    metavar="LIST",
    help="Height x width of the timed windows, or 480p, 720p, 1080p, 4k.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    metavar="N",
    help="CPU threads.  [default: each engine's own choice]",
)
@click.option("--quick", is_flag=True, help="Less time and fewer windows: for a first look.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0.1),
    metavar="S",
    help="Seconds of measuring for each cell, at most.  [default: 30; 6 with --quick]",
)
@click.option(
    "--warm-up",
    type=click.IntRange(0),
    metavar="N",
    help="Windows after the first that are not measured.  [default: 2; 1 with --quick]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    metavar="S",
    help="Give a cell up that does not answer for so long.",
)
@click.option(
    "--data",
    default="mini",
    show_default=True,
    metavar="mini|none|FOLDER|NAME:FOLDER",
    help="What quality is measured on: rendered scenes, nothing, a folder in Vimeo's layout or of videos (a "
    "tenth of them is scored), or a data set that flavr-test knows.",
)
@click.option(
    "--data-option",
    "data_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="As flavr-test's: val_fraction=0.5 and so on.",
)
@click.option(
    "--windows",
    type=click.IntRange(1),
    metavar="N",
    help="Of the data set, evenly spread.  [default: 24; 6 with --quick]",
)
@click.option(
    "--calibrate",
    type=_PATH,
    metavar="CLIP_OR_DIR",
    help="What int8 exports are calibrated with, as flavr-export's.",
)
@click.option("--end-to-end/--no-end-to-end", default=True, show_default=True, help="Also run whole clips.")
@FAIL_BELOW
@click.option(
    "-o",
    "--output",
    type=_FOLDER,
    default="flavr-bench",
    show_default=True,
    metavar="DIR",
    help="Folder for report.json, report.md and report.html.",
)
@click.option("-y", "--overwrite", is_flag=True, help="Replace a report that is there.")
@click.version_option(package_name="flavr")
@click.pass_context
def flavr_bench(context: click.Context, /, **values: Any) -> None:
    """Measure which backend, precision and size to deploy, and what it costs in quality.

    Every cell of the matrix runs in its own process; one that fails is a row with its reason. Cells take
    turns, so that a noisy machine slows all of them, until the median's confidence interval is narrow.
    Averaging, optical flow and ffmpeg's interpolation are measured and scored beside the networks.
    """
    if context.invoked_subcommand is None:
        _bench(**values)


def _bench(*, gates: tuple[tuple[str, float], ...], output: Path, overwrite: bool, **values: Any) -> None:
    from flavr_benchmarks.errors import UsageError
    from flavr_benchmarks.gates import Gates
    from flavr_benchmarks.outputs import make_folder, refuse_existing, write_outputs

    limits = Gates.given(gates)
    if "slowdown" in limits.limits:
        raise UsageError("--fail-below slowdown is for flavr-bench compare, which has two reports")
    refuse_existing(output, overwrite=overwrite)
    plan = _plan(limits, **values)
    make_folder(output)
    from flavr_benchmarks.console import Teller, print_report
    from flavr_benchmarks.run import run

    with Teller() as teller:
        outcome = run(plan, teller)
    write_outputs(output, outcome)
    print_report(outcome.report, output)
    limits.check(outcome.report)


def _plan(
    gates: Gates,
    *,
    models: tuple[Path, ...],
    checkpoint: Path | None,
    backends: tuple[str, ...] | None,
    precisions: tuple[str, ...],
    graphs: tuple[str, ...],
    sizes: tuple[str, ...],
    threads: int | None,
    quick: bool,
    budget: float | None,
    warm_up: int | None,
    timeout: float,
    data: str,
    data_options: tuple[str, ...],
    windows: int | None,
    calibrate: Path | None,
    end_to_end: bool,
) -> Plan:
    """Check everything, before the first slow step."""
    from flavr_benchmarks.backends import choose
    from flavr_benchmarks.cells import parse_size, size_name
    from flavr_benchmarks.datasets import MINI, NONE, open_set
    from flavr_benchmarks.errors import UsageError
    from flavr_benchmarks.run import Plan
    from flavr_benchmarks.scheduling import Limits
    from flavr_benchmarks.variants import examine_subject

    defaults = _QUICK if quick else _FULL
    for graph in graphs:
        if graph not in _graphs():
            raise UsageError(f"--graph {graph}: flavr-export writes {', '.join(_graphs())}")
    if checkpoint is None and (tuple(graphs) != ("conv2d",) or tuple(precisions) != ("fp32",)):
        raise UsageError("--graph and --precision are for checkpoints; an .onnx file has its own. Add --ckpt")
    if "int8" in precisions and calibrate is None:
        raise UsageError("--precision int8 is calibrated on real frames; name a clip or folder: --calibrate")
    if "int8" not in precisions and calibrate is not None:
        raise UsageError("--calibrate is for --precision int8; add it, or leave --calibrate away")
    if data in (MINI, NONE) and data_options:
        raise UsageError(f"--data-option is for data sets; --data {data} has no options")
    if data == NONE and gates.need_quality:
        raise UsageError("--fail-below psnr, ssim and loss need a data set; leave --data none away")
    if checkpoint is None and "loss" in gates.limits:
        raise UsageError("--fail-below loss is against fp32 PyTorch; add --ckpt model.pth")
    parsed = list(dict.fromkeys(parse_size(size) for size in sizes))
    chosen = choose(backends or (), has_checkpoint=checkpoint is not None)
    subject = examine_subject(models, checkpoint)
    quality = None
    count = windows or int(defaults["windows"])
    if data != NONE:
        quality = open_set(data, count, subject.factor, _data_options(data_options))
    limits = Limits(budget=budget or float(defaults["budget"]), least_rounds=int(defaults["least_rounds"]))
    return Plan(
        subject=subject,
        backends=chosen,
        named=backends is not None,
        graphs=graphs,
        precisions=precisions,
        sizes=parsed,
        threads=threads,
        limits=limits,
        timeout=timeout,
        warm_up=int(defaults["warm_up"]) if warm_up is None else warm_up,
        calibrate=calibrate,
        quality=quality,
        end_to_end=end_to_end,
        command=["flavr-bench", *_without_folders(sys.argv[1:])],
        settings={
            "sizes": ", ".join(map(size_name, parsed)),
            "threads": "each engine's own choice" if threads is None else str(threads),
            "budget per cell": f"{limits.budget:g} s",
            "interval": f"at most ±{limits.narrow:.0%} of the median, from {limits.least_rounds} rounds",
            "data": MINI if data == MINI else data.partition(":")[0] if ":" in data else Path(data).name,
        },
    )


def _without_folders(arguments: list[str]) -> list[str]:
    """The command line without the folders of the machine it ran on."""
    return [re.sub(r"(?:^|(?<=[=:]))[/~]\S*", lambda path: Path(path[0]).name, word) for word in arguments]


def _data_options(texts: tuple[str, ...]) -> dict[str, object]:
    from flavr._options import KeyValue

    return dict(KeyValue().convert(text, None, None) for text in texts)


@flavr_bench.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  flavr-bench compare before/report.json after/report.json
  flavr-bench compare main.json branch.json --fail-below slowdown=10 --fail-below psnr=30
""",
)
@click.argument("before", type=_FILE, metavar="A.json")
@click.argument("after", type=_FILE, metavar="B.json")
@FAIL_BELOW
def compare(before: Path, after: Path, gates: tuple[tuple[str, float], ...]) -> None:
    """What changed from one report to another, and what of that is more than noise."""
    from flavr_benchmarks.comparison import compare as compared
    from flavr_benchmarks.console import print_comparison
    from flavr_benchmarks.gates import Gates
    from flavr_benchmarks.schema import read_report

    limits = Gates.given(gates)
    comparison = compared(read_report(before), read_report(after))
    print_comparison(comparison)
    limits.check(comparison.after, comparison)


@flavr_bench.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  flavr-bench table benchmarks/results/report-*.json
  flavr-bench table benchmarks/results/report-*.json --into README.md
  flavr-bench table benchmarks/results/report-*.json --into README.md --check
""",
)
@click.argument("reports", type=_FILE, nargs=-1, required=True, metavar="REPORT.json...")
@click.option(
    "--into",
    type=_FILE,
    metavar="FILE",
    help="Replace what is between the two marks of flavr-bench in this file.",
)
@click.option("--check", is_flag=True, help="Change nothing; fail where the file would change.")
def table(reports: tuple[Path, ...], into: Path | None, check: bool) -> None:
    """The short table of a README, made of reports."""
    from flavr_benchmarks.errors import UsageError
    from flavr_benchmarks.readme import put_into, readme_table
    from flavr_benchmarks.schema import read_report

    if into is None and check:
        raise UsageError("--check compares with a file; name it: --into README.md")
    text = readme_table([read_report(path) for path in sorted(reports)])
    if into is None:
        click.echo(text)
    else:
        put_into(into, text, check=check)


@flavr_bench.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("reports", type=_FILE, nargs=-1, required=True, metavar="REPORT.json...")
def markdown(reports: tuple[Path, ...]) -> None:
    """Write each report's Markdown anew, beside it, in the words of this version."""
    from flavr_benchmarks.markdown import markdown as as_markdown
    from flavr_benchmarks.schema import read_report, write_text

    for path in reports:
        write_text(path.with_suffix(".md"), as_markdown(read_report(path)))


@flavr_bench.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("report", type=_FILE, metavar="REPORT.json")
@click.option(
    "-o", "--output", type=_FILE, required=True, metavar="FILE.svg", help="The picture, on a white ground."
)
@click.option("--cpu-time", is_flag=True, help="CPU time of a window instead of the time it takes.")
def plot(report: Path, output: Path, cpu_time: bool) -> None:
    """The plot of speed and quality as a picture of its own, for a README."""
    from flavr_benchmarks.errors import UsageError
    from flavr_benchmarks.plots import speed_quality_svg
    from flavr_benchmarks.schema import read_report, write_text

    if output.suffix.lower() != ".svg":
        raise UsageError(f"-o {output}: the picture is SVG; give it a name that ends in .svg")
    write_text(output, speed_quality_svg(read_report(report), cpu_time=cpu_time))


def main() -> None:
    """The entry point of `flavr-bench`."""
    run_program(flavr_bench, "flavr-bench")


if __name__ == "__main__":
    main()
