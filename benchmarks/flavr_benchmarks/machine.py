"""The state of the machine while it is measured: how fast it is just now, and who else is using it."""

from __future__ import annotations

import os
import time

import numpy as np
import psutil

_CANARY_RUNS = 3
_NOT_BUSY = {"idle", "iowait", "guest", "guest_nice"}  # guests are part of user time already


class Machine:
    """Reads clocks and counters, and times a fixed piece of work."""

    def __init__(self) -> None:
        self._numbers = np.random.default_rng(0).random(100_000)

    def canary(self) -> float:
        """Milliseconds of some arithmetic on one core: the best of a few, so that lasting changes show."""
        times = []
        for _ in range(_CANARY_RUNS):
            started = time.perf_counter()
            np.sort(np.sin(self._numbers))
            times.append(time.perf_counter() - started)
        return 1000 * min(times)

    def busy_seconds(self) -> float | None:
        """CPU time since the machine started of all programs, on the cores that this process may use."""
        cores = psutil.cpu_times(percpu=True)
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
        if not allowed or max(allowed) >= len(cores):  # places in the list are no numbers of cores here
            allowed = set(range(len(cores)))
        # Added up, not taken off the sum of all: idle time's rounding would make it fall now and then.
        return float(
            sum(
                seconds
                for number, times in enumerate(cores)
                if number in allowed
                for kind, seconds in times._asdict().items()
                if kind not in _NOT_BUSY
            )
        )

    def mhz(self) -> float | None:
        """The clock now, where the system tells; virtual machines often tell a constant."""
        try:
            frequency = psutil.cpu_freq()
        except (AttributeError, OSError, NotImplementedError):  # psutil lacks it on some systems
            return None
        return float(frequency.current) if frequency is not None and frequency.current else None
