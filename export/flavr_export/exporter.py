"""From a checkpoint to a verified ONNX file: the Python interface behind `flavr-export`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from flavr.checkpoints import Checkpoint, load_checkpoint
from flavr_export._calibration import read_windows
from flavr_export._half import halved, rounding_twin
from flavr_export._quantise import Quantised, quantise
from flavr_export.compatibility import Blocker, blockers
from flavr_export.errors import CalibrationError, ExportError, UnsupportedError
from flavr_export.graph import build_graph
from flavr_export.opsets import check_opset
from flavr_export.spec import ALLOWED, CALIBRATIONS, FORMAT_VERSION, Calibration, ExportSpec, Precision
from flavr_export.targets import NO_BYTES, TARGETS, best_quantisation
from flavr_export.verify import LARGEST_VERIFIED, Parity, code_values, verify, verify_extremes


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file and what is known of it."""

    path: Path
    checkpoint: Checkpoint
    spec: ExportSpec
    precision: Precision
    parity: Parity
    nodes: int
    size_bytes: int
    targets: tuple[str, ...]  # providers it was checked for
    quantised: Quantised | None = None  # of an int8 file: how, and what it costs


def export(
    checkpoint: Checkpoint | Path | str,
    output: Path | str,
    spec: ExportSpec | None = None,
    *,
    precision: Precision = "fp32",
    targets: Sequence[str] = (),
    overwrite: bool = True,
    calibrate: Path | str | None = None,
    calibrations: Sequence[Calibration] = CALIBRATIONS,
    scan: bool = False,
) -> Exported:
    """Write a checkpoint as a self-contained ONNX file, verified against PyTorch.

    The file appears under its name only when the graph is checker-clean, every node suits the `targets`, and
    ONNX Runtime computes what PyTorch computes.

    Args:
        targets: provider names of `TARGETS` that the graph must suit.
        calibrate: for int8, a clip, a folder of images or a folder of those: frames like those it will see.
        calibrations: for int8, the ways of finding ranges to try.
        scan: for int8, measure what each layer alone costs.

    Raises:
        flavr.CheckpointError: the checkpoint cannot be used.
        UnsupportedError: an opset, precision or target that cannot be served; the blocking nodes are named.
        CalibrationError: nothing to calibrate int8 with, or int8 costs too much.
        MismatchError: the graph does not compute what PyTorch computes.
        ExportError: the output cannot be written.
    """
    spec, output = spec or ExportSpec(), Path(output)
    check_opset(spec.opset, quantised=precision == "int8")
    _check_names(precision, targets)
    _check_precision(precision, spec, calibrate, targets)
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    _check_output(output, overwrite, checkpoint.path)
    quantised = None
    if precision == "int8" and calibrate is not None:
        spec = replace(spec, sums=False, subpixel=True)
        calibrating, held_out = read_windows(Path(calibrate), checkpoint.config.factor)
        as_float = ExportSpec(opset=spec.opset, sums=spec.sums, subpixel=spec.subpixel)
        plain = build_graph(checkpoint.config, checkpoint.state_dict, as_float)
        how = best_quantisation(targets)
        quantised = quantise(
            plain, calibrating, held_out, how, code_values, calibrations=calibrations, scan=scan
        )
    model = _build(checkpoint, spec, precision, quantised)
    _assert_form(model, spec)
    _refuse_blockers({TARGETS[target].title: blockers(model, TARGETS[target]) for target in targets})
    parity = _verified(model, checkpoint, spec, precision, quantised)
    facts = _metadata(model, checkpoint, spec, precision, parity)
    if quantised is not None:
        facts |= {"flavr.calibration": quantised.calibration, "flavr.psnr_lost_db": f"{quantised.lost:.3f}"}
    onnx.helper.set_model_props(model, facts)
    _write(model, output)
    return Exported(
        path=output,
        checkpoint=checkpoint,
        spec=spec,
        precision=precision,
        parity=parity,
        nodes=len(model.graph.node),
        size_bytes=output.stat().st_size,
        targets=tuple(targets),
        quantised=quantised,
    )


def _build(
    checkpoint: Checkpoint, spec: ExportSpec, precision: Precision, quantised: Quantised | None
) -> onnx.ModelProto:
    model = build_graph(checkpoint.config, checkpoint.state_dict, spec)
    if quantised is not None:
        return quantised.applied(model)
    return halved(model) if precision == "fp16" else model


def _verified(
    model: onnx.ModelProto,
    checkpoint: Checkpoint,
    spec: ExportSpec,
    precision: Precision,
    quantised: Quantised | None,
) -> Parity:
    """Compare with PyTorch: at two sizes, and at a fixed one as far as it can be run in reasonable time.

    A graph of fixed shape is stood in for by its twin of dynamic shape, which has the same layers.
    """
    network, allowed = checkpoint.network(), ALLOWED[precision]
    dynamic = replace(spec, size=None)
    twin = model if spec.size is None else _build(checkpoint, dynamic, precision, quantised)
    parity = verify(twin.SerializeToString(), network, dynamic, allowed)
    if precision == "fp16":
        # ONNX Runtime's CPU provider computes half precision in float32, where nothing overflows.
        verify_extremes(rounding_twin(twin).SerializeToString(), network, dynamic)
    if spec.size is None:
        return parity
    small = spec.size[0] * spec.size[1] <= LARGEST_VERIFIED
    fixed = verify(model.SerializeToString(), network, spec, allowed, (spec.size,) if small else ())
    return Parity(
        max(parity.max_abs, fixed.max_abs), min(parity.psnr, fixed.psnr), parity.sizes + fixed.sizes
    )


def _behind(output: Path) -> Path:
    """The file that a link names, which is to be written; the link stays one."""
    return Path(os.path.realpath(output)) if output.is_symlink() else output


def _check_output(output: Path, overwrite: bool, checkpoint: Path) -> None:
    if output.suffix != ".onnx":
        raise UnsupportedError(f"output {output} must end in .onnx")
    folder = _behind(output).parent
    if not folder.is_dir():
        raise ExportError(f"cannot write {output}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise ExportError(f"cannot write {output}: no permission in {folder}; choose another place with -o")
    if os.path.realpath(output) == os.path.realpath(checkpoint):
        raise ExportError(f"{output} is the checkpoint {checkpoint}; choose another name with -o")
    if output.is_dir() or (output.exists() and not overwrite):
        raise ExportError(f"{output} exists already; choose another name with -o")


def _check_names(precision: Precision, targets: Sequence[str]) -> None:
    if precision not in ALLOWED:
        raise UnsupportedError(f"precision {precision} is not known; known: {', '.join(ALLOWED)}")
    for target in targets:
        if target not in TARGETS:
            raise UnsupportedError(f"provider {target} is not known; known: {', '.join(TARGETS)}")


def _check_precision(
    precision: Precision, spec: ExportSpec, calibrate: Path | str | None, targets: Sequence[str]
) -> None:
    if precision != "fp32" and spec.graph == "winograd":
        raise UnsupportedError(
            f"the winograd graph cannot be written in {precision}: its sums and differences need float32's "
            "digits; use --graph conv2d"
        )
    if precision == "int8" and spec.graph != "conv2d":
        raise UnsupportedError(
            f"the {spec.graph} graph cannot be written in int8: 3-D convolutions have no 8-bit kernels; "
            "use --graph conv2d"
        )
    if precision == "int8" and calibrate is None:
        raise CalibrationError(
            "int8 is calibrated on real frames; name a clip, a folder of images or a folder of clips with "
            "--calibrate"
        )
    without = [TARGETS[each].title for each in targets if "int8" not in TARGETS[each].dtypes]
    if precision == "int8" and without:  # known before minutes of calibration
        raise UnsupportedError(f"{', '.join(without)} cannot run 8-bit graphs; {NO_BYTES}")
    if precision != "int8" and calibrate is not None:
        raise UnsupportedError(
            f"{precision} is not calibrated; leave --calibrate out or add --precision int8"
        )


def _assert_form(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """What the file promises, checked on the file: opset, standard operators, no functions, rank."""
    domains = {entry.domain: entry.version for entry in model.opset_import}
    if domains != {"": spec.opset}:
        raise ExportError(f"the graph came out with opsets {domains} instead of {spec.opset}; please report")
    if model.functions or any(node.domain for node in model.graph.node):
        raise ExportError("the graph came out with custom operators or local functions; please report")
    if spec.graph != "conv3d":
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in typed.value_info}
        ranks |= {tensor.name: len(tensor.dims) for tensor in typed.initializer}
        deep = [name for name, rank in ranks.items() if rank > 4]
        if deep:
            raise ExportError(f"the {spec.graph} graph came out with 5-D tensors ({deep[0]}); please report")


def _refuse_blockers(found: Mapping[str, Sequence[Blocker]]) -> None:
    """Raise with one entry per provider and reason, so that all the options to change are seen at once."""
    refusals = []
    for title, blocking in found.items():
        groups: dict[tuple[str, str, str], list[str]] = {}
        for blocker in blocking:
            groups.setdefault((blocker.operator, blocker.reason, blocker.cure), []).append(blocker.node)
        entries = [
            f"{operator} {nodes[0]}{_more(nodes)}: {reason} ({cure})"
            for (operator, reason, cure), nodes in groups.items()
        ]
        if entries:
            refusals.append(f"{title} cannot run this graph: {'; '.join(entries)}")
    if refusals:
        raise UnsupportedError("; ".join(refusals))


def _more(nodes: Sequence[str]) -> str:
    return f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""


def _metadata(
    model: onnx.ModelProto, checkpoint: Checkpoint, spec: ExportSpec, precision: Precision, parity: Parity
) -> dict[str, str]:
    config = checkpoint.config
    facts = {
        "format": FORMAT_VERSION,
        "factor": config.factor,
        "arch": config.arch,
        "width": config.width,
        "join": config.join,
        "upmode": config.upmode,
        "batchnorm": str(config.batchnorm).lower(),
        "graph": spec.graph,
        "precision": precision,
        "io": spec.io,
        "size": "dynamic" if spec.size is None else f"{spec.size[0]}x{spec.size[1]}",
        "padding": spec.padding,
        "opset": spec.opset,
        "producer_version": model.producer_version,
        "checkpoint_sha256": checkpoint.sha256,
        "parity_max_abs": f"{parity.max_abs:.3g}",
        "parity_psnr_db": f"{parity.psnr:.2f}",
    }
    return {f"flavr.{name}": str(value) for name, value in facts.items()}


def _write(model: onnx.ModelProto, output: Path) -> None:
    # in memory: onnx opens no file whose name is not UTF-8
    content = model.SerializeToString()
    onnx.checker.check_model(content, full_check=True)
    target = _behind(output)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.partial-", dir=target.parent) as folder:
            partial = Path(folder) / target.name
            partial.write_bytes(content)
            partial.replace(target)
    except OSError as error:
        raise ExportError(f"cannot write {output}: {error.strerror or error}") from error
