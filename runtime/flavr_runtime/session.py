"""A FLAVR model loaded into ONNX Runtime on one execution provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flavr_runtime._io_kinds import IO_KINDS, IoKind
from flavr_runtime.errors import InputError, ModelError
from flavr_runtime.frames import Rgb
from flavr_runtime.profile import spent
from flavr_runtime.providers import Selected, session_providers

if TYPE_CHECKING:
    import onnxruntime

WINDOW = 4  # frames that the network looks at
FORMATS = ("1",)  # versions of the file format that this runtime understands

DEFAULT_MODEL = Path(__file__).with_name("models") / "flavr_lite_2x.onnx"
DEEP_MODEL = Path(__file__).with_name("models") / "flavr_lite_2x_float.onnx"
"""The same network with float ends, for pictures of more than 8 bits; its weights lie in DEFAULT_MODEL."""


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

    def __str__(self) -> str:
        shape = "" if self.size is None else f", {self.size[0]}x{self.size[1]} only"
        return (
            f"{self.path.name} ({self.arch} {self.factor}x, width {self.width}, "
            f"{self.graph} {self.precision}{shape})"
        )


class Session:
    """Runs windows of four frames. Safe to share between threads, as ONNX Runtime's sessions are."""

    def __init__(
        self, model: ModelInfo | Path | str, selected: Selected, *, threads: int | None = None
    ) -> None:
        """Load a file written by flavr-export.

        Args:
            model: its path, or what `read_model_info` returned for it.
            threads: CPU threads for one window; None leaves it to ONNX Runtime (one per physical core).

        Raises:
            ModelError: the file is missing, damaged, no FLAVR export, or does not run on the provider.
        """
        # Metadata first, from a session that optimises nothing: engines of some providers take minutes.
        self.info = model if isinstance(model, ModelInfo) else read_model_info(Path(model))
        self.selected = selected
        self._io: IoKind = IO_KINDS[self.info.io]
        self._session = _load(self.info.path, session_providers(selected), threads=threads)
        actual = self._session.get_providers()[0]
        if actual != selected.execution_provider:
            raise ModelError(
                f"{self.info.path} was placed on {actual}: {selected.execution_provider} cannot run this "
                "graph; check it with flavr-export --for, or choose another --provider"
            )
        self.placement = _placement(self._session)
        self._running: set[onnxruntime.RunOptions] = set()
        self.runtime_version = _runtime_version()

    @property
    def engine(self) -> onnxruntime.InferenceSession:
        """ONNX Runtime's own session, for I/O binding and whatever else is not offered here."""
        return self._session

    @property
    def io(self) -> IoKind:
        """How pictures become the graph's inputs, and its outputs pictures."""
        return self._io

    def run(self, frames: Sequence[Rgb]) -> list[Rgb]:
        """The new frames between the middle two of four, in time order.

        They are uint16 if one of the four is and the model's ends are float, else uint8.

        Args:
            frames: four pictures of one size, uint8 or uint16 [H, W, 3] RGB.

        Raises:
            InputError: wrong number, type or size of frames.
            ModelError: ONNX Runtime failed, for want of memory perhaps.
        """
        import onnxruntime as ort

        _check_frames(frames, self.info)
        with spent("convert for the network"):
            feed = self._io.feed(frames)
        options = ort.RunOptions()
        self._running.add(options)
        try:
            with spent("session.run"):
                outputs = self._session.run(None, feed, options)
        except Exception as error:  # ONNX Runtime has no error base class short of this
            height, width = frames[0].shape[:2]
            raise ModelError(
                f"{self.selected.execution_provider} failed on a {width}x{height} window of "
                f"{self.info.path.name}: {_first_line(error)}"
            ) from error
        finally:
            self._running.discard(options)
        with spent("convert from the network"):
            return self._io.pictures(outputs, 16 if any(frame.dtype == np.uint16 for frame in frames) else 8)

    def cancel(self) -> None:
        """Let the runs that are going on in other threads end at their next node, with a ModelError."""
        for options in tuple(self._running):
            options.terminate = True


def read_model_info(path: Path) -> ModelInfo:
    """Read and check the metadata and the graph's inputs and outputs.

    Raises:
        ModelError: missing, not an ONNX file, not a FLAVR export, or one this version does not understand.
    """
    if not path.is_file():
        raise ModelError(f"model {path} does not exist; write one with flavr-export --ckpt model.pth")
    session = _load(path, ["CPUExecutionProvider"], optimise=False)
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
    size = None
    if value("size") != "dynamic":
        height, _, width = value("size").partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise ModelError(f"{path} has flavr.size = {value('size')!r}; HxW or dynamic is understood")
        size = int(height), int(width)
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
    )


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


def check_picture(picture: object, position: int) -> None:
    """Refuse what is no picture.

    Raises:
        InputError: naming the frame by its position.
    """
    if not isinstance(picture, np.ndarray):
        raise InputError(
            f"frame {position} is a {type(picture).__name__}; a NumPy array uint8 [H, W, 3] is needed"
        )
    if (
        picture.dtype not in (np.uint8, np.uint16)
        or picture.ndim != 3
        or picture.shape[2] != 3
        or not picture.size
    ):
        raise InputError(
            f"frame {position} is {picture.dtype} {list(picture.shape)}; "
            "uint8 [H, W, 3] RGB is needed, or uint16"
        )


def _check_frames(frames: Sequence[Rgb], info: ModelInfo) -> None:
    if len(frames) != WINDOW:
        raise InputError(f"{len(frames)} frames were given; FLAVR looks at {WINDOW}")
    for position, frame in enumerate(frames):
        check_picture(frame, position)
        if frame.shape != frames[0].shape:
            raise InputError(
                f"frame {position} is {frame.shape[1]}x{frame.shape[0]}, "
                f"frame 0 is {frames[0].shape[1]}x{frames[0].shape[0]}; one size is needed"
            )
    check_size(info, frames[0].shape[1], frames[0].shape[0])


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


def _load(
    path: Path, providers: list[Any], *, threads: int | None = None, optimise: bool = True
) -> onnxruntime.InferenceSession:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = 4  # what goes wrong is raised; the log would repeat it on the terminal
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # enable_fallback=0: else a provider that fails is replaced by the CPU, with a line on stdout
        return ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no error base class short of this
        if "INVALID_PROTOBUF" in str(error):
            raise ModelError(
                f"{path} is not an ONNX file, or is truncated or damaged; write one with flavr-export"
            ) from error
        raise ModelError(
            f"ONNX Runtime {ort.__version__} cannot load {path}: {_first_line(error)}"
        ) from error


def _placement(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """Execution provider -> nodes it runs, counted before providers fuse them."""
    counts: Counter[str] = Counter()
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}  # ONNX Runtime 1.23 does not tell
    for subgraph in session.get_provider_graph_assignment_info():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts)


def _runtime_version() -> str:
    import onnxruntime as ort

    return str(ort.__version__)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
