"""Exported files on ONNX Runtime, loaded exactly as flavr-run loads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from flavr_benchmarks.workload import (
    Description,
    Phases,
    Pictures,
    Stopwatch,
    Task,
    UnsupportedError,
    unrounded,
)
from flavr_runtime.errors import ProviderError
from flavr_runtime.frames import Rgb
from flavr_runtime.providers import PROVIDERS, installed_wheels, select
from flavr_runtime.session import Session

# Providers whose memory ONNX Runtime's I/O binding addresses, by the device's name there. On the CPU there is
# nothing to transfer: upload and download are the conversions of the pictures.
_DEVICES = {"cuda": "cuda", "tensorrt": "cuda"}

_CPU_PROVIDERS = ("cpu", "openvino")  # as flavr_runtime sets them up

_BITS = 8  # of the pictures


class OrtWorkload:
    """A session of flavr_runtime's, timed in its three steps."""

    def __init__(self, task: Task) -> None:
        provider = task.options["provider"]
        try:
            selected = select(provider)
        except ProviderError as error:
            raise UnsupportedError(str(error)) from error
        size = None if task.size is None else (task.size[0], task.size[1])  # JSON has made it a list
        self._session = Session(task.file, selected, threads=task.threads, size=size)
        self._task, self._selected, self._size = task, selected, size
        self._provider = provider
        self._device = _DEVICES.get(provider)
        self._on_cpu = provider in _CPU_PROVIDERS
        self._bytes = (self._session.info.weights or task.file).stat().st_size

    def describe(self) -> Description:
        wheels = ", ".join(f"{name} {version}" for name, version in installed_wheels().items())
        info = self._session.info
        elsewhere = {
            name: count
            for name, count in self._session.placement.items()
            if name != self._session.selected.execution_provider
        }
        return Description(
            device="CPU" if self._on_cpu else PROVIDERS[self._provider].runs_on,
            placement=self._session.placement,
            threads=self._session.threads if self._on_cpu else None,
            model_bytes=self._bytes,
            split=self._on_cpu or self._device is not None,
            quantised=info.io == "uint8",
            notes=[wheels, *(f"{count} nodes run on {name}" for name, count in elsewhere.items())],
        )

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        return self._bound(frames) if self._device else self._plain(frames)

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        session = self._session_for((frames[0].shape[0], frames[0].shape[1]))
        io = session.io
        outputs = session.engine.run(None, io.feed([io.tensor(frame) for frame in frames]))
        if session.info.io == "uint8":
            return unrounded(io.pictures(outputs, _BITS))
        planes = np.concatenate([output[0].reshape(-1, 3, *output.shape[2:]) for output in outputs])
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1), np.float32)

    def device_memory(self) -> int | None:
        return None  # the process that started this one asks the driver

    def _session_for(self, size: tuple[int, int]) -> Session:
        """The one for pictures of this size: providers that are better off with one size are told it."""
        engine = self._selected.engine
        if size != self._size and engine is not None and engine.fixed_shapes:
            self._size = size
            self._session = Session(self._task.file, self._selected, threads=self._task.threads, size=size)
        return self._session

    def _plain(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        io, watch = self._session.io, Stopwatch()
        feed = io.feed([io.tensor(frame) for frame in frames])
        upload = watch.lap()
        outputs = self._session.engine.run(None, feed)
        compute = watch.lap()
        pictures = io.pictures(outputs, _BITS)
        return pictures, Phases(upload, compute, watch.lap())

    def _bound(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        engine, io, device = self._session.engine, self._session.io, self._device
        binding, watch = engine.io_binding(), Stopwatch()
        for name, array in io.feed([io.tensor(frame) for frame in frames]).items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0)
            binding.bind_ortvalue_input(name, value)
        for output in engine.get_outputs():
            binding.bind_output(output.name, device)
        binding.synchronize_inputs()
        upload = watch.lap()
        engine.run_with_iobinding(binding)
        binding.synchronize_outputs()
        compute = watch.lap()
        pictures = io.pictures(binding.copy_outputs_to_cpu(), _BITS)
        return pictures, Phases(upload, compute, watch.lap())
