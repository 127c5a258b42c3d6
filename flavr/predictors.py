"""What can be validated: a network in PyTorch, an exported file in ONNX Runtime, plain averaging."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flavr.config import MULTIPLE, WINDOW
from flavr.errors import CheckpointError, TrainingError
from flavr.network import Flavr
from flavr.views import View, mean_over

if TYPE_CHECKING:
    import onnxruntime

PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor(Protocol):
    """Makes the frames between the middle two of four."""

    @property
    def device(self) -> torch.device:
        """Where it takes its input and leaves its output."""
        ...

    def __call__(self, frames: Tensor) -> Tensor:
        """float [B, 3, 4, H, W] in [0, 1] of any size to float [B, n, 3, H, W], not clamped."""
        ...


@dataclass(frozen=True, slots=True)
class Averaging:
    """The average of the two middle frames, which every network has to beat."""

    n_outputs: int
    device: torch.device

    def __call__(self, frames: Tensor) -> Tensor:
        middle = frames[:, :, WINDOW // 2 - 1 : WINDOW // 2 + 1].mean(dim=2)
        return middle.unsqueeze(1).expand(-1, self.n_outputs, -1, -1, -1)


@dataclass(frozen=True, slots=True)
class TorchPredictor:
    """A network, with pictures of any size padded to what it takes.

    As in the exported graph, the mean is that of the real pixels; the right and bottom edges are repeated.
    """

    network: Flavr
    device: torch.device
    precision: str = "fp32"

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        mean = frames.mean(dim=(2, 3, 4), keepdim=True)
        padded = F.pad(frames, (0, -width % MULTIPLE, 0, -height % MULTIPLE, 0, 0), mode="replicate")
        reduced = self.precision != "fp32"
        with torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=reduced):
            mids = self.network.synthesise(padded, mean)
        return mids[..., :height, :width].float()


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The mean of what a predictor makes of several views of a window."""

    predictor: Predictor
    views: Sequence[View]

    @property
    def device(self) -> torch.device:
        """The predictor's own."""
        return self.predictor.device

    def __call__(self, frames: Tensor) -> Tensor:
        return mean_over(self.views, self.predictor, frames)


Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _IoKind:
    """How one kind of exported graph takes a batch [B, 4, 3, H, W] and gives its frames."""

    inputs: tuple[str, ...]
    feed: Callable[[Array], Sequence[Array]]  # one array per input
    frames: Callable[[Sequence[Array]], Array]  # outputs to float [B, n, 3, H, W]


def _bytes(frames: Array) -> list[Array]:
    codes = np.rint(frames * 255).clip(0, 255).astype(np.uint8)
    return [np.ascontiguousarray(codes[:, t].transpose(0, 2, 3, 1)) for t in range(WINDOW)]


_FRAME_INPUTS = tuple(f"frame{t}" for t in range(WINDOW))
_IO_KINDS: Mapping[str, _IoKind] = {
    "uint8": _IoKind(
        _FRAME_INPUTS,
        _bytes,
        lambda outputs: np.stack([mid.transpose(0, 3, 1, 2) for mid in outputs], axis=1) / np.float32(255),
    ),
    "float": _IoKind(
        _FRAME_INPUTS,
        lambda frames: [np.ascontiguousarray(frames[:, t]) for t in range(WINDOW)],
        lambda outputs: np.stack(outputs, axis=1),
    ),
    "packed": _IoKind(
        ("frames",),
        lambda frames: [frames.reshape(len(frames), -1, *frames.shape[3:])],
        lambda outputs: outputs[0].reshape(len(outputs[0]), -1, 3, *outputs[0].shape[2:]),
    ),
}


_FORMATS = ("1",)  # versions of what the files promise


@dataclass(frozen=True, slots=True)
class OnnxProvider:
    """A row of the table of ONNX Runtime's execution providers."""

    engines: tuple[str, ...]  # its names there, in order of preference
    pip: str


PROVIDERS: Mapping[str, OnnxProvider] = {
    "cpu": OnnxProvider(("CPUExecutionProvider",), "'flavr[cpu]'"),
    "cuda": OnnxProvider(("CUDAExecutionProvider",), "'flavr[cuda]'"),
    "tensorrt": OnnxProvider(("TensorrtExecutionProvider",), "'flavr[cuda]' 'tensorrt-cu13==10.*'"),
    "rocm": OnnxProvider(("MIGraphXExecutionProvider", "ROCMExecutionProvider"), "'flavr[rocm]'"),
    "migraphx": OnnxProvider(("MIGraphXExecutionProvider",), "'flavr[rocm]'"),
    "openvino": OnnxProvider(("OpenVINOExecutionProvider",), "'flavr[openvino]'"),
    "directml": OnnxProvider(("DmlExecutionProvider",), "'flavr[directml]'"),
    "coreml": OnnxProvider(("CoreMLExecutionProvider",), "'flavr[cpu]'"),
}


class OnnxPredictor:
    """A file written by flavr-export, on one execution provider and no other."""

    device = torch.device("cpu")  # ONNX Runtime copies to and from its own device

    def __init__(self, path: Path, provider: str) -> None:
        """Load it.

        Raises:
            CheckpointError: it is not there, cannot be read, or is no export of flavr's.
            TrainingError: the provider is not in this ONNX Runtime, or does not run the graph.
        """
        import onnxruntime as ort

        if not path.is_file():
            raise CheckpointError(f"{path} does not exist; write one with flavr-export --ckpt model.pth")
        row, available = PROVIDERS[provider], ort.get_available_providers()
        self.engine = next((engine for engine in row.engines if engine in available), "")
        if not self.engine:
            raise TrainingError(
                f"--provider {provider} is not in this ONNX Runtime; pip install {row.pip} brings it"
            )
        if provider in ("cuda", "tensorrt") and hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from pip lie where the dynamic linker does not look
        self._session = _session(ort, path, self.engine)
        placed = self._session.get_providers()[0]
        if placed != self.engine:
            raise TrainingError(f"{self.engine} cannot run {path}: ONNX Runtime placed it on {placed}")
        self._path = path
        self._read_metadata(self._session.get_modelmeta().custom_metadata_map)

    def _read_metadata(self, metadata: Mapping[str, str]) -> None:
        io, factor, size = (metadata.get(f"flavr.{name}", "") for name in ("io", "factor", "size"))
        if io not in _IO_KINDS or not factor.isdecimal() or metadata.get("flavr.format") not in _FORMATS:
            raise CheckpointError(
                f"{self._path} is no file that this version of flavr understands (by its flavr.* metadata); "
                "write one with flavr-export --ckpt model.pth"
            )
        self._check_weights(metadata)
        self._io = _IO_KINDS[io]
        self.quantised = io == "uint8"
        self.n_outputs = int(factor) - 1
        self._size = tuple(int(side) for side in size.split("x")) if "x" in size else None
        # files of fixed size and packed ones take one window at a time
        self._one_by_one = self._size is not None or io == "packed"
        self.title = f"{io} {metadata.get('flavr.precision', '')}".strip()

    def _check_weights(self, metadata: Mapping[str, str]) -> None:
        """A twin points to places in another file; in any but its own, other numbers lie there."""
        if "flavr.weights" not in metadata:
            return
        other = self._path.parent / Path(metadata["flavr.weights"]).name  # whatever an unknown file names
        found = hashlib.sha256(other.read_bytes()).hexdigest() if other.is_file() else None
        if found is None or found != metadata.get("flavr.weights_sha256"):
            raise CheckpointError(
                f"{self._path} was made for another {other.name} than that beside it; bring that one back, "
                "or make the twins again: python -m flavr_export.twins"
            )

    def __call__(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        if self._size is not None and (height, width) != self._size:
            raise TrainingError(
                f"{self._path} takes {self._size[1]}x{self._size[0]} pictures, these are {width}x{height}; "
                "export it without --size"
            )
        batch: Array = frames.transpose(1, 2).contiguous().numpy()
        parts = [batch[i : i + 1] for i in range(len(batch))] if self._one_by_one else [batch]
        return torch.from_numpy(np.concatenate([self._run(part) for part in parts]))

    def _run(self, batch: Array) -> Array:
        feed = dict(zip(self._io.inputs, self._io.feed(batch), strict=True))
        try:
            outputs = self._session.run(None, feed)
        except Exception as error:  # ONNX Runtime has no error base class short of this
            line = next(iter(str(error).splitlines()), type(error).__name__)
            raise TrainingError(f"{self.engine} failed on {self._path}: {line}") from error
        mids: Array = self._io.frames(outputs).astype(np.float32, copy=False)
        return mids


def _session(ort: Any, path: Path, engine: str) -> onnxruntime.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        # enable_fallback=0: else a provider that fails is replaced by the CPU
        return ort.InferenceSession(str(path), options, providers=[engine], enable_fallback=0)
    except Exception as error:  # as above
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"ONNX Runtime {ort.__version__} cannot load {path} on {engine}: {line}"
        ) from error
