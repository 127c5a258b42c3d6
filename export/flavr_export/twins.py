"""More entrances to an exported model: other graph forms and inputs of the same network, without its weights.

A twin is a file of 100 to 200 kB that holds a graph alone and points into its original for the weights, which
all forms without rank 5 store alike. The files must stay in one folder, and the original as it is: a twin
knows its SHA-256, and the runtime refuses another.

    python -m flavr_export.twins model.onnx model.pth   # writes model_float.onnx, model_winograd.onnx, ...
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, external_data_helper

from flavr.checkpoints import Checkpoint, load_checkpoint
from flavr.errors import FlavrError
from flavr_export.errors import ExportError
from flavr_export.exporter import export
from flavr_export.spec import ExportSpec, GraphForm, Io, Padding

__all__ = ["TWINS", "Twin", "write_twins"]

_SMALLEST = 1024  # bytes; what is smaller, such as shapes, stays in the graph, where it can be folded
_ORIGINAL = {"flavr.graph": "conv2d", "flavr.io": "uint8", "flavr.precision": "fp32"}


@dataclass(frozen=True, slots=True)
class Twin:
    """What is different from the original, which is conv2d and uint8."""

    graph: GraphForm
    io: Io

    def path(self, original: Path) -> Path:
        """NAME_winograd_float.onnx for NAME.onnx; what is as in the original is not said."""
        parts = [original.stem]
        parts += [part for part in (self.graph, self.io) if part not in _ORIGINAL.values()]
        return original.with_name(f"{'_'.join(parts)}.onnx")


TWINS = (Twin("conv2d", "float"), Twin("winograd", "uint8"), Twin("winograd", "float"))


def write_twins(
    original: Path, checkpoint: Checkpoint | Path, twins: Sequence[Twin] = TWINS
) -> tuple[Path, ...]:
    """Write the twins of a model of flavr-export's beside it, all of them or none.

    Each is exported from the checkpoint, and so verified against PyTorch, before its weights are taken out.

    Args:
        original: as flavr-export writes it without options; `--size`, `--opset` and `--padding` may differ.
            Of a link, the twins are written beside the file that it leads to, and named after that.
        checkpoint: what it was exported from.

    Raises:
        flavr.CheckpointError: the checkpoint cannot be used.
        ExportError: another kind of original, or not of this checkpoint; or it is written otherwise now; or
            the twins cannot be written.
    """
    original = Path(os.path.realpath(original))  # ONNX takes no weights from a link
    model = _load(original)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    for name, value in _ORIGINAL.items():
        if facts.get(name) != value:
            raise ExportError(
                f"{original}: {name} is {facts.get(name, 'not there')}, but twins are made of {value} "
                "models; export it with flavr-export --graph conv2d --io uint8"
            )
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    if facts.get("flavr.checkpoint_sha256") != checkpoint.sha256:
        raise ExportError(
            f"{original} was not exported from this checkpoint: first flavr-export --ckpt CHECKPOINT "
            f"-o {original}"
        )
    for twin in twins:  # else the first of them would be written already when a later one cannot be
        if (place := twin.path(original)).is_dir():
            raise ExportError(f"{place} is a folder, and would be a twin of {original.name}; remove it")
    data = original.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    weights = {each.name: each.raw_data for each in model.graph.initializer}
    with contextlib.ExitStack() as stack, _explained(original):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flavr-twins-")))
        done: dict[Path, Path] = {}
        for twin in twins:
            place = twin.path(original)
            whole = onnx.load(export(checkpoint, folder / place.name, _spec(twin, facts)).path)
            _take_out(whole, weights, data, original)
            whole.metadata_props.add(key="flavr.weights", value=original.name)
            whole.metadata_props.add(key="flavr.weights_sha256", value=digest)
            partial = place.with_name(f".{place.name}.partial")  # beside the weights, to be checked with them
            stack.callback(partial.unlink, missing_ok=True)
            onnx.save(whole, partial)
            onnx.checker.check_model(str(partial))
            done[partial] = place
        for partial, place in done.items():
            partial.replace(place)
    return tuple(done.values())


@contextlib.contextmanager
def _explained(original: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot write the twins of {original}: {error.strerror or error}") from error


def _load(original: Path) -> ModelProto:
    try:
        return onnx.load(original)
    except Exception as error:  # of protobuf, or a file that is not there
        raise ExportError(f"{original} cannot be read as ONNX: {error}") from error


def _spec(twin: Twin, facts: dict[str, str]) -> ExportSpec:
    size = None
    if facts["flavr.size"] != "dynamic":
        height, width = map(int, facts["flavr.size"].split("x"))
        size = height, width
    padding: Padding = "slices" if facts["flavr.padding"] == "slices" else "pad"
    return ExportSpec(twin.graph, twin.io, size, int(facts["flavr.opset"]), padding)


def _take_out(whole: ModelProto, weights: dict[str, bytes], data: bytes, original: Path) -> None:
    """Let every large tensor of the original point into its file."""
    for tensor in whole.graph.initializer:
        stored = weights.get(tensor.name, b"")
        if len(stored) < _SMALLEST:
            continue
        if tensor.data_type != TensorProto.FLOAT or tensor.raw_data != stored:
            raise ExportError(
                f"{original}: {tensor.name} is stored otherwise than this version of flavr-export does; "
                "export it again first"
            )
        external_data_helper.set_external_data(tensor, original.name, data.index(stored), len(stored))
        tensor.ClearField("raw_data")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m flavr_export.twins MODEL.onnx CHECKPOINT")
    try:
        print(*write_twins(Path(sys.argv[1]), Path(sys.argv[2])), sep="\n")  # noqa: T201
    except (ExportError, FlavrError) as failure:
        sys.exit(f"error: {failure}")
