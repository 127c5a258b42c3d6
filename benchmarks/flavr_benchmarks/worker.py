"""The process of one cell: commands come in and answers go out as lines of JSON.

A backend that crashes, hangs or eats the memory takes this process with it and nothing else. Whatever the
backend prints goes to stderr, which the parent keeps for the reason.
"""

from __future__ import annotations

import time

_STARTED = time.perf_counter()  # before the heavy imports, which are part of the start

import contextlib  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from dataclasses import asdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import IO, Any  # noqa: E402

import numpy as np  # noqa: E402

from flavr_benchmarks._memory import peak_rss  # noqa: E402
from flavr_benchmarks.workload import Phases, Task, UnsupportedError, Workload  # noqa: E402
from flavr_runtime.frames import Rgb  # noqa: E402

Answer = Mapping[str, Any]

_LEAD_IN_SHARE = 0.25
"""A turn begins with an unmeasured window, to warm the caches, where that takes less than this of it."""

_MOST_WINDOWS = 100  # in a turn

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "bad_alloc", "failed to allocate", "alloc failed")


class Cell:
    """A loaded backend and the windows it is measured on."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        module, _, name = content["adapter"].partition(":")
        self._windows = [list(window) for window in np.load(content["windows"])]
        base = peak_rss()
        adapter = getattr(importlib.import_module(module), name)
        imported = time.perf_counter()
        self._workload: Workload = adapter(Task(**content["task"]))
        loaded = time.perf_counter()
        self._next = 0
        self._one()
        first = time.perf_counter()
        self._typical = first - loaded
        for _ in range(content["warm_up"]):
            self._typical = self._one().total
        self.loaded: Answer = {
            "import_seconds": imported - _STARTED,
            "load_seconds": loaded - imported,
            "first_seconds": first - loaded,
            "base_rss": base,
            "description": asdict(self._workload.describe()),
        }

    def measure(self, content: Mapping[str, Any]) -> Answer:
        """Windows for `seconds`, one at least and not many more than statistics can use."""
        asked = _cpu_seconds()
        if self._typical < content["seconds"] * _LEAD_IN_SHARE:
            self._one()
        used, phases = _cpu_seconds(), list[Phases]()
        started = time.perf_counter()
        while not phases or (
            len(phases) < _MOST_WINDOWS and time.perf_counter() - started < content["seconds"]
        ):
            phases.append(self._one())
        self._typical = float(np.median([each.total for each in phases]))
        return {
            "phases": [[each.upload, each.compute, each.download] for each in phases],
            "seconds": time.perf_counter() - started,
            "cpu_seconds": (ended := _cpu_seconds()) - used,
            "all_cpu_seconds": ended - asked,
        }

    def predict(self, content: Mapping[str, Any]) -> Answer:
        """The new frames of the data set's windows, one file each."""
        source, target = Path(content["source"]), Path(content["target"])
        for path in sorted(source.glob("*.npz")):
            with np.load(path) as window:
                pictures = self._workload.exact(list(window["inputs"]))
            np.save(target / f"{path.stem}.npy", pictures)
        return {}

    def memory(self, _content: Mapping[str, Any]) -> Answer:
        return {"peak_rss": peak_rss(), "device_memory": self._workload.device_memory()}

    def _one(self) -> Phases:
        frames: list[Rgb] = self._windows[self._next % len(self._windows)]
        self._next += 1
        return self._workload.window(frames)[1]


def main() -> None:
    """Answer until the parent closes its end."""
    with _answers() as answers:
        cell: Cell | None = None
        for line in sys.stdin:
            content = json.loads(line)
            try:
                if cell is None:
                    cell = Cell(content)
                    answer = cell.loaded
                else:
                    methods: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
                        "measure": cell.measure,
                        "predict": cell.predict,
                        "memory": cell.memory,
                    }
                    answer = methods[content["do"]](content)
                reply: Answer = {"ok": answer}
            except Exception as error:  # whatever a backend raises is the answer
                reply = {"failed": {"kind": failure_kind(error), "reason": _reason(error)}}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()


def _cpu_seconds() -> float:
    """Of all threads, and of programs that were run."""
    return time.process_time() + sum(os.times()[2:4])


def failure_kind(error: BaseException) -> str:
    """As `schema.FailureKind` names it."""
    if isinstance(error, UnsupportedError):
        return "unsupported"
    if isinstance(error, MemoryError) or looks_like_no_memory(str(error)):
        return "out of memory"
    return "error"


def looks_like_no_memory(text: str) -> bool:
    return any(words in text.lower() for words in _OUT_OF_MEMORY)


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    name = type(error).__name__
    ours = type(error).__module__.startswith("flavr")
    return (lines[0] if ours else f"{name}: {lines[0]}") if lines else name


@contextlib.contextmanager
def _answers() -> Any:
    """The parent's pipe, kept for answers alone: from here on, what is printed goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    stream: IO[str]
    with os.fdopen(own, "w", encoding="utf-8") as stream:
        yield stream


if __name__ == "__main__":
    main()
