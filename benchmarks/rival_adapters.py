"""Engines that `rivals.py` measures and flavr-bench does not, with the interface of `workload.Workload`.

Both take a file of four float32 [1, 3, H, W] inputs. Only the run itself is timed.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flavr_benchmarks.workload import Description, Phases, Pictures, Task
from flavr_runtime.frames import Rgb

Planes = NDArray[np.float32]  # [1, 3, H, W]


class _FloatWorkload(ABC):
    def __init__(self, task: Task) -> None:
        self._threads = task.threads or 0
        path = task.file
        weights = path.with_name(f"{path.name}.data")  # where torch.onnx.export puts them
        self._bytes = sum(each.stat().st_size for each in (path, weights) if each.exists())

    @abstractmethod
    def _version(self) -> str: ...

    @abstractmethod
    def _infer(self, planes: Sequence[Planes]) -> NDArray[np.float32]:
        """What the file's output is, of whatever shape."""

    def describe(self) -> Description:
        return Description(
            device="CPU", threads=self._threads or None, model_bytes=self._bytes, notes=[self._version()]
        )

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        planes = _planes(frames)
        started = time.perf_counter()
        made = self._infer(planes)
        seconds = time.perf_counter() - started
        codes = (_pictures(made, frames[0]).clip(0, 1) * 255).round().astype(np.uint8)
        return list(codes), Phases(0.0, seconds, 0.0)

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        return _pictures(self._infer(_planes(frames)), frames[0]).copy()

    def device_memory(self) -> int | None:
        return None


class OrtWorkload(_FloatWorkload):
    """ONNX Runtime's CPU provider, with its defaults."""

    def __init__(self, task: Task) -> None:
        import onnxruntime as ort

        super().__init__(task)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = ort.InferenceSession(task.file, options, providers=["CPUExecutionProvider"])
        self._names = [each.name for each in self._session.get_inputs()]

    def _version(self) -> str:
        import onnxruntime as ort

        return f"onnxruntime {ort.__version__}"

    def _infer(self, planes: Sequence[Planes]) -> NDArray[np.float32]:
        (made,) = self._session.run(None, dict(zip(self._names, planes, strict=True)))
        return np.asarray(made, np.float32)


class OpenVinoWorkload(_FloatWorkload):
    """OpenVINO's own package on the CPU, tuned for latency; the option `compute` is its precision hint."""

    def __init__(self, task: Task) -> None:
        import openvino

        super().__init__(task)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": task.options["compute"],
        }
        if self._threads:
            settings["INFERENCE_NUM_THREADS"] = self._threads
        self._request = openvino.Core().compile_model(task.file, "CPU", settings).create_infer_request()

    def _version(self) -> str:
        import openvino

        return f"openvino {openvino.__version__.split('-')[0]}"

    def _infer(self, planes: Sequence[Planes]) -> NDArray[np.float32]:
        made = self._request.infer(list(planes), share_inputs=True, share_outputs=True)
        return np.asarray(made[0], np.float32)


def _planes(frames: Sequence[Rgb]) -> list[Planes]:
    return [
        np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))
        for frame in frames
    ]


def _pictures(made: NDArray[np.float32], like: Rgb) -> Pictures:
    """[n, H, W, 3]"""
    return made.reshape(-1, 3, *like.shape[:2]).transpose(0, 2, 3, 1)
