"""The parent's side of a cell's process: every way in which it can end is a `CellError` with a reason."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flavr_benchmarks.schema import Failure, FailureKind
from flavr_benchmarks.worker import looks_like_no_memory
from flavr_benchmarks.workload import Phases, Task

_LAST_WORDS = 300  # characters of stderr that a reason quotes


class CellError(Exception):
    """A cell that cannot be measured any further."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.failure = Failure(kind, reason)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a cell measured before the next one had its turn."""

    phases: list[Phases]
    seconds: float
    cpu_seconds: float  # of its own process
    all_cpu_seconds: float  # with the window before those that were measured

    @property
    def milliseconds(self) -> list[float]:
        return [1000 * each.total for each in self.phases]


class CellProcess:
    """One cell's process. Use it with `with`: it never outlives the block."""

    def __init__(
        self,
        adapter: str,
        task: Task,
        windows: Path,
        *,
        warm_up: int,
        timeout: float,
        python: str = sys.executable,
    ) -> None:
        """Start loading.

        Args:
            adapter: module:class with the interface of `Workload`.
            windows: uint8 [n, 4, H, W, 3] as .npy, to be measured on in turn.
            warm_up: windows that are not measured, after the first.
            timeout: seconds to wait for any answer.
            python: the interpreter, where a backend needs packages that exclude others'; it imports this one
                by PYTHONPATH.
        """
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [python, "-m", "flavr_benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._first = {
            "adapter": adapter,
            "task": asdict(task),
            "windows": str(windows),
            "warm_up": warm_up,
        }

    @property
    def pid(self) -> int:
        return self._process.pid

    def load(self) -> Mapping[str, Any]:
        """What the worker says once it is warm. Raises CellError."""
        return self._ask(self._first)

    def measure(self, seconds: float) -> Turn:
        """Windows for at least so long. Raises CellError."""
        answer = self._ask({"do": "measure", "seconds": seconds})
        phases = [Phases(*each) for each in answer["phases"]]
        return Turn(phases, answer["seconds"], answer["cpu_seconds"], answer["all_cpu_seconds"])

    def predict(self, source: Path, target: Path) -> None:
        """Make the new frames of the windows in `source`. Raises CellError."""
        self._ask({"do": "predict", "source": str(source), "target": str(target)}, many=True)

    def memory(self) -> Mapping[str, int | None]:
        """Peaks, in bytes. Raises CellError."""
        return self._ask({"do": "memory"})

    def close(self) -> None:
        """End the process, at once."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be written to a dead process
                    stream.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, content: Mapping[str, Any], *, many: bool = False) -> Mapping[str, Any]:
        stdin = self._process.stdin
        if stdin is None:
            raise ValueError("the process has no standard input")
        try:
            stdin.write(json.dumps(content) + "\n")
            stdin.flush()
            line = self._answers.get(timeout=self._timeout * (10 if many else 1))
        except queue.Empty:
            self._process.kill()
            raise CellError("timeout", f"no answer for {self._timeout:g} s; --timeout allows more") from None
        except OSError:  # it has died since the last answer
            line = ""
        if not line:
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise CellError(answer["failed"]["kind"], answer["failed"]["reason"])
        result: Mapping[str, Any] = answer["ok"]
        return result

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._answers.put(line)
        self._answers.put("")

    def _death(self) -> CellError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        words = f": {lines[-1].strip()[:_LAST_WORDS]}" if lines else ""
        if code == -getattr(signal, "SIGKILL", 9):  # Windows has no such name
            return CellError("out of memory", "the system killed it, which it does when memory runs out")
        if any(looks_like_no_memory(line) for line in lines[-5:]):
            return CellError("out of memory", f"it ended{words}")
        if code < 0:
            return CellError("crash", f"{_signal_name(-code)}{words}")
        return CellError("crash", f"exit code {code}{words}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
