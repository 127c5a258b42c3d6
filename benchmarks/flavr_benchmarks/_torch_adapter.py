"""Checkpoints in PyTorch, as they are and through torch.compile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flavr.checkpoints import load_checkpoint
from flavr.predictors import TorchPredictor
from flavr.validate import as_frames
from flavr_benchmarks.workload import Description, Phases, Pictures, Stopwatch, Task
from flavr_runtime.frames import Rgb


class TorchWorkload:
    """flavr's own predictor, on the GPU where PyTorch finds one."""

    def __init__(self, task: Task) -> None:
        if task.threads is not None:
            torch.set_num_threads(task.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True  # the warm-up pays for it
        if task.precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False  # the reference has 24 bits, not 11
        network = load_checkpoint(task.file).network().to(self._device)
        self._bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
        if task.options.get("compile"):
            network.synthesise = torch.compile(network.synthesise)  # type: ignore[method-assign]
        self._predict = TorchPredictor(network, self._device, task.precision)

    def describe(self) -> Description:
        on_gpu = self._device.type == "cuda"
        return Description(
            device=torch.cuda.get_device_name(self._device) if on_gpu else "CPU",
            threads=torch.get_num_threads(),
            model_bytes=self._bytes,
            notes=[f"torch {torch.__version__}"],
        )

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        watch = Stopwatch()
        inputs = self._uploaded(frames)
        upload = watch.lap()
        mids = self._predict(inputs)
        self._wait()
        compute = watch.lap()
        codes = (mids[0].clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [np.asarray(picture, np.uint8) for picture in codes], Phases(upload, compute, watch.lap())

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        mids = self._predict(self._uploaded(frames))
        return np.ascontiguousarray(mids[0].permute(0, 2, 3, 1).cpu().numpy(), np.float32)

    def device_memory(self) -> int | None:
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else None

    def _uploaded(self, frames: Sequence[Rgb]) -> Tensor:
        planes = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).unsqueeze(0)
        inputs = as_frames(planes, self._device)
        self._wait()
        return inputs

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
