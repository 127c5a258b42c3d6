"""Where the tensors of frames live between the windows that use them: the CPU's memory, or a device's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flavr_runtime._io_kinds import Tensor
from flavr_runtime._provider_table import DeviceMemory

if TYPE_CHECKING:
    import onnxruntime

Placed = Any
"""A tensor as its memory holds it: a NumPy array, or ONNX Runtime's OrtValue."""


class Memory(Protocol):
    """Takes tensors once, and runs sessions on them."""

    def place(self, tensor: Tensor) -> Placed: ...

    def run(
        self,
        session: onnxruntime.InferenceSession,
        feed: Mapping[str, Placed],
        options: onnxruntime.RunOptions,
    ) -> Sequence[Tensor]: ...


class HostMemory:
    """The CPU's: nothing has to be moved."""

    def place(self, tensor: Tensor) -> Placed:
        return tensor

    def run(
        self,
        session: onnxruntime.InferenceSession,
        feed: Mapping[str, Placed],
        options: onnxruntime.RunOptions,
    ) -> Sequence[Tensor]:
        outputs: Sequence[Tensor] = session.run(None, dict(feed), options)
        return outputs


class BoundMemory:
    """A device's: a frame goes up once, though four windows use it, and new pictures come down when made."""

    def __init__(self, memory: DeviceMemory, device_id: int = 0) -> None:
        """Try it.

        Raises:
            RuntimeError: this build of ONNX Runtime cannot put tensors there, or reads others back.
        """
        self._where = (memory.kind, device_id) + ((memory.vendor,) if memory.vendor >= 0 else ())
        sample = np.arange(6, dtype=np.uint8)
        try:
            returned = self.place(sample).numpy()
        except Exception as error:  # an unsupported device raises a plain Exception
            raise RuntimeError(str(error)) from error
        if not np.array_equal(returned, sample):
            raise RuntimeError(f"it reads back {returned} for {sample}")

    def place(self, tensor: Tensor) -> Placed:
        import onnxruntime as ort

        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor), *self._where)

    def run(
        self,
        session: onnxruntime.InferenceSession,
        feed: Mapping[str, Placed],
        options: onnxruntime.RunOptions,
    ) -> Sequence[Tensor]:
        binding = session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, value)
        for output in session.get_outputs():
            binding.bind_output(output.name)  # to the CPU, where they are encoded
        session.run_with_iobinding(binding, options)
        outputs: Sequence[Tensor] = binding.copy_outputs_to_cpu()
        return outputs
