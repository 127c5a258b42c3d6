"""Several processes that train one network: starting them, and what they must agree on."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flavr import errors
from flavr._memory import is_out_of_memory_text
from flavr.errors import FlavrError, TrainingError, UsageError
from flavr.training.config import TrainingConfig

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

INTERRUPTED = 130
"""Exit code of a process that was interrupted and has saved: 128 and SIGINT's number, as in shells."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
# Validation of one process can end long before another's, and a full epoch's images take a while to read.
_PATIENCE = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together; alone by default."""

    device: torch.device
    rank: int = 0
    count: int = 1
    _control: dist.ProcessGroup | None = field(default=None, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that reports and saves."""
        return self.rank == 0

    def agree(self, code: int) -> int:
        """The highest code of all processes. Goes through the CPU, so no GPU has to wait for it."""
        if self._control is None:
            return code
        codes = torch.tensor([code])
        dist.all_reduce(codes, dist.ReduceOp.MAX, group=self._control)
        return int(codes)

    def total(self, values: list[float]) -> list[float]:
        """Element by element, the sum over all processes."""
        if self._control is None:
            return values
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums, group=self._control)
        result: list[float] = sums.tolist()
        return result

    def gather(self, value: _Result) -> list[_Result]:
        """The value of every process, in order of rank."""
        if self._control is None:
            return [value]
        values: list[_Result | None] = [None] * self.count
        dist.all_gather_object(values, value, group=self._control)
        return [item for item in values if item is not None]

    def share(self, indices: list[int]) -> list[int]:
        """This process's part of a list."""
        return indices[self.rank :: self.count]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are means over all processes."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)


def check_devices(config: TrainingConfig) -> None:
    """Raise TrainingError where there are fewer GPUs than asked for."""
    found = torch.cuda.device_count()
    if config.num_gpu and config.num_gpu > found:
        cure = f"--num-gpu {found}" if found else "--num-gpu 0 trains on the CPU"
        raise TrainingError(f"--num-gpu {config.num_gpu}: PyTorch finds {found} here; {cure}")


def _one_gpu_by_default(config: TrainingConfig) -> bool:
    return torch.cuda.is_available() and config.num_procs == 1


def launched() -> bool:
    """Whether torchrun, or `launch`, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def open_ranks(config: TrainingConfig) -> Iterator[Ranks]:
    """Join the processes that torchrun or `launch` started, or be alone."""
    use_gpu = config.num_gpu > 0 if config.num_gpu is not None else _one_gpu_by_default(config)
    if not launched():
        yield Ranks(torch.device("cuda", torch.cuda.current_device()) if use_gpu else torch.device("cpu"))
        return
    count, local = int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0"))
    if config.batch_size % count:
        raise UsageError(f"--batch-size {config.batch_size} cannot be shared evenly by {count} processes")
    device = torch.device("cuda", local) if use_gpu else torch.device("cpu")
    if use_gpu:
        if local >= torch.cuda.device_count():
            found = torch.cuda.device_count()
            raise TrainingError(f"process {local} of this machine has no GPU: PyTorch finds {found} here")
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if use_gpu else "gloo", timeout=_PATIENCE)  # RCCL goes by NCCL's name
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Ranks(device, dist.get_rank(), count, control)
    finally:
        dist.destroy_process_group()


def launch(
    function: Callable[_Arguments, _Result],
    processes: int,
    *args: _Arguments.args,
    **_no: _Arguments.kwargs,
) -> _Result:
    """Run `function(*args)` in several processes of this machine, through torchrun's launcher.

    Returns:
        What the first process returned.

    Raises:
        TrainingError: one of them failed; the message is that of the first to fail.
        MemoryError: the same, for want of memory.
        KeyboardInterrupt: it was interrupted; the processes have been given the time to save, for which older
            versions of PyTorch allow half a minute, whatever is asked.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in logging.root.manager.loggerDict:
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they repeat at length what is raised below
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    try:
        with tempfile.TemporaryDirectory(prefix="flavr-") as folder:
            plan = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=processes,
                run_id="flavr",
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                max_restarts=0,
                monitor_interval=0.1,
                logs_specs=DefaultLogsSpecs(folder),  # by default it leaves a folder behind
                **_time_to_save(LaunchConfig),
            )
            results: dict[int, _Result] = elastic_launch(plan, function)(*args)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode == INTERRUPTED:
            raise KeyboardInterrupt from error
        raise _error_of(first) from error
    except SignalException as error:
        raise KeyboardInterrupt from error
    return results[0]


def _time_to_save(plan: type[LaunchConfig]) -> dict[str, Any]:
    """For the step or validation batch in progress, and the checkpoint; what takes longer is killed."""
    known = {option.name for option in fields(plan)}
    return {"shutdown_timeout": int(_PATIENCE.total_seconds())} if "shutdown_timeout" in known else {}


def _error_of(failure: ProcessFailure) -> Exception:
    """The error that ended a process, from the record that torchrun keeps of it."""
    record = failure.message  # text, or what its recorder wrote
    text = str(record.get("message")) if isinstance(record, Mapping) else str(record)
    kind, _, message = text.partition(": ")
    if kind in errors.__all__:
        kept: FlavrError = getattr(errors, kind)(message)
        return kept
    if is_out_of_memory_text(kind, message):
        return MemoryError(message)
    trace = record.get("extraInfo", {}).get("py_callstack", text) if isinstance(record, Mapping) else text
    return TrainingError(f"a training process ended with exit code {failure.exitcode}: {trace}")
