"""Why a run stops before its last epoch, and Ctrl-C that waits for the step in progress."""

from __future__ import annotations

import signal
import threading
import time
from enum import IntEnum
from types import FrameType
from typing import Any


class Stop(IntEnum):
    """Reasons to stop; where processes differ, the highest counts."""

    NO = 0
    TIME = 1  # --time-limit
    INTERRUPT = 2  # Ctrl-C, or a request to terminate
    BROKEN = 3  # the loss is not a number any more


class Signals:
    """Takes note of SIGINT and SIGTERM, so that a run can save before it ends. A context manager.

    torchrun forwards the Ctrl-C that its processes have received already: what follows within seconds is the
    same one. A later one interrupts at once; the checkpoint on the disk stays whole even then.
    """

    _SAME = 2.0  # seconds

    def __init__(self) -> None:
        self._first: float | None = None
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._first is not None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        elif now - self._first > self._SAME:
            raise KeyboardInterrupt
