"""Backends with known behaviour, for the tests of the harness."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

import numpy as np

from flavr_benchmarks.workload import Description, Phases, Pictures, Task, UnsupportedError
from flavr_runtime.frames import Rgb


class Sleeper:
    """Takes options["ms"] per window and makes black frames."""

    def __init__(self, task: Task) -> None:
        self._seconds = float(task.options["ms"]) / 1000

    def describe(self) -> Description:
        return Description(device="CPU")

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        started = time.perf_counter()
        time.sleep(self._seconds)
        return [np.zeros_like(frames[0])], Phases(0.0, time.perf_counter() - started, 0.0)

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        return np.zeros((1, *frames[0].shape), np.float32)

    def device_memory(self) -> int | None:
        return None


class Burner(Sleeper):
    """Keeps a core busy for options["ms"] per window."""

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        started = time.process_time()
        while time.process_time() - started < self._seconds:
            pass
        return [np.zeros_like(frames[0])], Phases(0.0, self._seconds, 0.0)


class Misbehaving(Sleeper):
    """Fails as options["how"] says, when loaded or at the window that options["at"] counts."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._how = task.options["how"]
        self._left = int(task.options.get("at", "0"))
        if not self._left:
            _fail(self._how)

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        self._left -= 1
        if self._left == 0:
            _fail(self._how)
        return super().window(frames)


def _fail(how: str) -> None:
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        print("the driver said no", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(7)
    if how == "hang":
        time.sleep(60)
    if how == "memory":
        raise MemoryError
    if how == "allocator":
        raise RuntimeError("Failed to allocate memory for requested buffer of size 99\nmore")
    if how == "unsupported":
        raise UnsupportedError("this provider is not here; install it with: pip install it")
    raise ValueError("the graph has a node that I do not know")


class Chatty(Sleeper):
    """Prints on standard output, where the answers are."""

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        print('{"ok": "from the backend"}', flush=True)  # noqa: T201
        os.write(1, b"and from native code\n")
        return super().window(frames)
