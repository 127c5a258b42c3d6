"""What a model file says of itself, checked before anything is computed with it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flavr_runtime._io_kinds import IO_KINDS
from flavr_runtime._ort_session import load
from flavr_runtime.errors import InputError, ModelError
from flavr_runtime.shipped import shipped_file
from flavr_runtime.windows import LARGEST_FACTOR

if TYPE_CHECKING:
    import onnxruntime

FORMATS = ("1",)  # versions of the file format that this runtime understands


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the metadata of a model file says."""

    path: Path
    factor: int
    arch: str
    width: int
    graph: str
    precision: str
    io: str
    size: tuple[int, int] | None  # (height, width) where the file fixes them
    opset: int
    checkpoint_sha256: str
    join: str = "concat"
    upmode: str = "transpose"
    batchnorm: bool = False
    weights: Path | None = None  # the file beside it that holds its weights, where it does not itself

    def __str__(self) -> str:
        shape = "" if self.size is None else f", {self.size[0]}x{self.size[1]} only"
        return (
            f"{self.path.name} ({self.arch} {self.factor}x, width {self.width}, "
            f"{self.graph} {self.precision}{shape})"
        )


def read_model_info(path: Path) -> ModelInfo:
    """Read and check the metadata, the graph's inputs and outputs, and where the weights are.

    Args:
        path: a file; the mere name of one that ships with flavr is understood anywhere.

    Raises:
        ModelError: missing, not an ONNX file, not a FLAVR export, or one this version does not understand.
    """
    if not path.is_file() and path.name == str(path):
        path = shipped_file(path.name) or path
    if not path.is_file():
        raise ModelError(f"model {path} does not exist; write one with flavr-export --ckpt model.pth")
    session = load(path, ["CPUExecutionProvider"], threads=1, optimise=False)
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    if "flavr.format" not in metadata:
        raise ModelError(
            f"{path} is not a FLAVR export (it has no flavr.* metadata); write one with "
            "flavr-export --ckpt model.pth"
        )
    if metadata["flavr.format"] not in FORMATS:
        raise ModelError(
            f"{path} has format {metadata['flavr.format']}; this version of flavr reads "
            f"{', '.join(FORMATS)}: update flavr, or export the model again"
        )
    info = _parse(path, metadata)
    _check_signature(session, info)
    return info


def _parse(path: Path, metadata: Mapping[str, str]) -> ModelInfo:
    def value(name: str) -> str:
        if f"flavr.{name}" not in metadata:
            raise ModelError(f"{path} lacks the metadata flavr.{name}; export it again with flavr-export")
        return metadata[f"flavr.{name}"]

    def number(name: str) -> int:
        try:
            return int(value(name))
        except ValueError:
            raise ModelError(f"{path} has flavr.{name} = {value(name)!r}, which is not a number") from None

    if value("io") not in IO_KINDS:
        raise ModelError(f"{path} has inputs of kind {value('io')!r}; known are {', '.join(IO_KINDS)}")
    if number("factor") < 2:
        raise ModelError(f"{path} has flavr.factor = {number('factor')}; at least 2 is possible")
    if number("factor") > LARGEST_FACTOR:
        raise ModelError(
            f"{path} has flavr.factor = {number('factor')}; at most {LARGEST_FACTOR} is possible"
        )
    if number("width") < 1:
        raise ModelError(f"{path} has flavr.width = {number('width')}; at least 1 is possible")
    size = None
    if value("size") != "dynamic":
        sides = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", value("size"))
        if sides is None:
            raise ModelError(f"{path} has flavr.size = {value('size')!r}; HxW or dynamic is understood")
        size = int(sides[1]), int(sides[2])
        if min(size) < 1:
            raise ModelError(f"{path} has flavr.size = {value('size')!r}; at least 1x1 is possible")
    return ModelInfo(
        path=path,
        factor=number("factor"),
        arch=value("arch"),
        width=number("width"),
        graph=value("graph"),
        precision=value("precision"),
        io=value("io"),
        size=size,
        opset=number("opset"),
        checkpoint_sha256=value("checkpoint_sha256"),
        join=metadata.get("flavr.join", "concat"),
        upmode=metadata.get("flavr.upmode", "transpose"),
        batchnorm=metadata.get("flavr.batchnorm") == "true",
        weights=_weights(path, metadata),
    )


def _weights(path: Path, metadata: Mapping[str, str]) -> Path | None:
    """The other file that the weights are in, checked: so a model's own hash stands for all that it is."""
    if "flavr.weights" not in metadata:
        return None
    name = metadata["flavr.weights"]
    other = path.with_name(name) if name not in ("", ".", "..") and name == Path(name).name else None
    if other is None or not other.is_file():
        raise ModelError(f"{path} takes its weights from {name!r}, which is no file beside it")
    with other.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != metadata.get("flavr.weights_sha256"):
        raise ModelError(
            f"{path} takes its weights from {name}, but was made for another one than that beside it; bring "
            "that one back, or make the twins again: python -m flavr_export.twins"
        )
    return other


def _check_signature(session: onnxruntime.InferenceSession, info: ModelInfo) -> None:
    kind = IO_KINDS[info.io]
    for what, declared, needed in (
        ("inputs", session.get_inputs(), kind.input_names),
        ("outputs", session.get_outputs(), kind.output_names(info.factor)),
    ):
        names = tuple(value.name for value in declared)
        if names != needed:
            raise ModelError(f"{info.path} has the {what} {', '.join(names)} instead of {', '.join(needed)}")
        wrong = next((value for value in declared if value.type != kind.tensor_type), None)
        if wrong is not None:
            raise ModelError(f"{info.path}: {wrong.name} is {wrong.type} instead of {kind.tensor_type}")


def check_size(info: ModelInfo, width: int, height: int) -> None:
    """Refuse pictures that a model of fixed size does not take.

    Raises:
        InputError: naming both sizes and the export option that helps.
    """
    if info.size is not None and info.size != (height, width):
        raise InputError(
            f"{info.path.name} takes {info.size[1]}x{info.size[0]} pictures, these are {width}x{height}; "
            f"export it with --size {height}x{width}, or without --size"
        )
