"""The `flavr-export` command."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from flavr_export.spec import (
    ALLOWED,
    CALIBRATIONS,
    DEFAULT_OPSET,
    OLDEST_OPSET,
    Calibration,
    ExportSpec,
    GraphForm,
    Io,
    Padding,
    Precision,
)
from flavr_export.targets import TARGETS, best_graph

if TYPE_CHECKING:
    from flavr_export._quantise import Quantised
    from flavr_export.exporter import Exported

_EXAMPLES = """
\b
Examples:
  flavr-export --ckpt model.pth
  flavr-export --ckpt model.pth --for cpu                         (fastest on a CPU)
  flavr-export --ckpt model.pth -o model_720p.onnx --size 720x1280 --for tensorrt
  flavr-export --ckpt model.pth --precision int8 --calibrate clips/ --report-sensitivity
  flavr-export --ckpt model.pth --io packed --size 1080x1920      (for vs-mlrt)
  flavr-export --ckpt model.pth --io float --padding slices --size 720x1280 --for coreml
"""


class _Size(click.ParamType[tuple[int, int]]):
    name = "HxW"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)[xX](\d+)", str(value))
        if match is None or not int(match[1]) or not int(match[2]):
            self.fail(f"{value!r} is not a size; write height x width, such as 720x1280", param, ctx)
        return int(match[1]), int(match[2])


@click.command(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--ckpt",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="FLAVR checkpoint (.pth, .pt, .ckpt, .safetensors). Depth, width, factor and variant are "
    "read off its tensors.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write. [default: the checkpoint's name with .onnx, beside it]",
)
@click.option(
    "--graph",
    type=click.Choice(["auto", "conv2d", "conv3d", "winograd"]),
    default="auto",
    show_default=True,
    help="conv2d: no tensor of rank 5, runs everywhere. winograd: the same with far fewer multiplications, "
    "1.6x to 2.6x faster on CPUs, several times the memory for weights. conv3d: as published. "
    "auto: the fastest of them on all of the providers named with --for, conv2d without.",
)
@click.option(
    "--precision",
    type=click.Choice(list(ALLOWED)),
    default="fp32",
    show_default=True,
    help="Arithmetic of the network. fp16: weights and activations of 16 bits, for GPUs; the ends, the means "
    "and the last convolution stay in float32. int8: convolutions of 8 bits, calibrated with --calibrate.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    metavar="CLIP_OR_DIR",
    help="For int8: real frames, like those it will see. A clip, a folder of images, or a folder of those. "
    "Of each the first 60 frames are looked at; 14 at least for a 2x network, 26 for 4x, 50 for 8x.",
)
@click.option(
    "--calibration",
    type=click.Choice(["auto", *CALIBRATIONS]),
    default="auto",
    show_default=True,
    help="For int8: how ranges are found. auto: the one that costs least on frames held out.",
)
@click.option(
    "--report-sensitivity", is_flag=True, help="For int8: list what quantising each layer alone costs."
)
@click.option(
    "--io",
    type=click.Choice(["uint8", "float", "packed"]),
    default="uint8",
    show_default=True,
    help="uint8: RGB [B,H,W,3] per frame, 0 to 255. float: RGB [B,3,H,W] per frame in [0,1]. "
    "packed: one [1,12,H,W] tensor in [0,1].",
)
@click.option(
    "--size",
    type=_Size(),
    metavar="HxW",
    help="Fix height and width (and batch 1): for TensorRT, MIGraphX, NPUs. [default: dynamic]",
)
@click.option(
    "--opset",
    type=int,
    default=DEFAULT_OPSET,
    show_default=True,
    help=f"ONNX opset, {OLDEST_OPSET} up to the newest that the installed onnx and ONNX Runtime know.",
)
@click.option(
    "--padding",
    type=click.Choice(["pad", "slices"]),
    default="pad",
    show_default=True,
    help="slices: write borders with Slice and Concat, for runtimes without reflect Pad.",
)
@click.option(
    "--for",
    "targets",
    multiple=True,
    type=click.Choice(list(TARGETS)),
    metavar="PROVIDER",
    help=f"Check every node against what this provider runs; repeatable. One of {', '.join(TARGETS)}.",
)
@click.version_option(package_name="flavr")
def flavr_export(
    ckpt: Path,
    output: Path | None,
    graph: GraphForm | Literal["auto"],
    precision: Precision,
    calibrate: Path | None,
    calibration: Calibration | Literal["auto"],
    report_sensitivity: bool,
    io: Io,
    size: tuple[int, int] | None,
    opset: int,
    padding: Padding,
    targets: tuple[str, ...],
) -> None:
    """Write a FLAVR checkpoint as one self-contained ONNX file, verified against PyTorch.

    The graph is run in ONNX Runtime on structured frames and compared with PyTorch; a file is left only when
    they agree. One of a --size above 512x512 pixels is loaded but not run: the same graph without a size is.
    """
    from flavr_export.exporter import export

    form = best_graph(targets, precision) if graph == "auto" else graph
    spec = ExportSpec(graph=form, io=io, size=size, opset=opset, padding=padding)
    output = output or ckpt.parent / f"{ckpt.stem}.onnx"
    if precision != "int8" and (calibration != "auto" or report_sensitivity):
        option = "--report-sensitivity" if report_sensitivity else "--calibration"
        raise click.UsageError(f"{option} is for --precision int8")
    exported = export(
        ckpt,
        output,
        spec,
        precision=precision,
        targets=targets,
        calibrate=calibrate,
        calibrations=CALIBRATIONS if calibration == "auto" else (calibration,),
        scan=report_sensitivity,
    )
    for notice in exported.checkpoint.notices:
        click.echo(f"note: {notice}", err=True)
    _print_summary(exported)


def _print_summary(exported: Exported) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    allowed = ALLOWED[exported.precision]
    config, spec, parity = exported.checkpoint.config, exported.spec, exported.parity
    variant = [f"{config.arch}, {config.factor}x, width {config.width}"]
    if config.join != "concat":
        variant.append(f"joinType {config.join}")
    if config.upmode != "transpose":
        variant.append(f"upmode {config.upmode}")
    if config.batchnorm:
        variant.append("BatchNorm folded")
    sizes = ", ".join(f"{height}x{width}" for height, width in parity.sizes)
    shape = "dynamic batch, height, width" if spec.size is None else f"{spec.size[0]}x{spec.size[1]}, batch 1"
    difference = f"max abs {parity.max_abs:.1e}, PSNR of the difference {parity.psnr:.1f} dB"
    rows = {
        "file": f"{exported.path} ({exported.size_bytes / 1e6:.1f} MB, {exported.nodes} nodes)",
        "network": ", ".join(variant),
        "graph": f"{spec.graph}, {exported.precision}, opset {spec.opset}",
        "in and out": f"{spec.io}, {shape}",
        "against PyTorch": f"{difference} at {sizes}",
        "allowed": f"max abs {allowed.max_abs:.0e}, PSNR {allowed.psnr:g} dB, rounding to code values aside",
    }
    if exported.quantised is not None:
        rows |= quantisation_rows(exported.quantised, exported.targets)
    if exported.targets:
        rows["checked for"] = ", ".join(TARGETS[name].title for name in exported.targets)
    table = Table(box=box.SIMPLE, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value, style=None)
    Console(soft_wrap=True, markup=False, emoji=False).print(table)  # a path may hold [brackets] or :colons:
    click.echo(f"Next: flavr-run clip.mp4 --model {shlex.quote(str(exported.path))}")


def quantisation_rows(quantised: Quantised, targets: tuple[str, ...]) -> dict[str, str]:
    """What the summary says of an int8 file, one row each: which numbers, from what, at what cost."""
    numbers = str(quantised.how)
    slower = [TARGETS[name].title for name in targets if TARGETS[name].quantisation != quantised.how]
    if slower:
        numbers += f"; {', '.join(slower)} may be slow with these: a file of its own would have others"
    tried = ", ".join(f"{name} {lost:+.3f}" for name, lost in quantised.tried.items())
    rows = {
        "8-bit numbers": numbers,
        "calibration": f"{quantised.calibration}; dB lost on frames held out: {tried}",
        "8 bits cost": f"{quantised.lost:.3f} dB against the true frames",
    }
    if quantised.float_layers:
        rows["kept in float32"] = ", ".join(quantised.float_layers)
    if quantised.sensitivity:
        ordered = sorted(quantised.sensitivity.items(), key=lambda item: -item[1])
        rows["each layer alone"] = "\n".join(f"{lost:+.4f} dB  {layer}" for layer, lost in ordered)
    return rows


def main() -> None:
    """Entry point: one line for every error that is meant for people, exit code 1."""
    from flavr._cli import allow_any_name

    debug = os.environ.get("FLAVR_DEBUG") == "1"
    allow_any_name()
    try:
        flavr_export.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except ModuleNotFoundError as error:
        if debug or error.name not in ("torch", "onnx", "onnxruntime", "safetensors"):
            raise
        _fail(f"flavr-export needs {error.name}: pip install 'flavr[export,cpu]'")
    except Exception as error:
        from flavr._memory import is_out_of_memory
        from flavr.errors import FlavrError
        from flavr_export.errors import ExportError

        if not debug and is_out_of_memory(error):
            _fail("there is not enough memory for this network and size")
        if debug or not isinstance(error, (FlavrError, ExportError)):
            raise
        _fail(str(error))


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
