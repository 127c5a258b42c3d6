"""How many processor cores this process may really use, where that is less than the machine has.

ONNX Runtime starts a thread per physical core of the machine. Where `taskset`, a container's cpuset or its
CPU quota allows fewer, those threads wait for each other instead of working: docs/providers.md has figures.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_SYSTEM = Path("/sys")
_PROCESS_GROUP = Path("/proc/self/cgroup")


def allowed_threads(system: Path = _SYSTEM, process_group: Path = _PROCESS_GROUP) -> int | None:
    """Threads for one window where the process is confined; None: it has the whole machine, or who knows."""
    if not hasattr(os, "sched_getaffinity"):  # Linux only
        return None
    machine = {int(path.name[3:]) for path in (system / "devices/system/cpu").glob("cpu[0-9]*")}
    cores = _physical(machine, system)
    allowed = _physical(os.sched_getaffinity(0) & machine, system)
    quota = _quota(system, process_group)
    if quota is not None:
        allowed = min(allowed, max(1, math.floor(quota + 0.5)))
    return allowed if 0 < allowed < cores else None


def _physical(processors: set[int], system: Path) -> int:
    """Cores among logical processors: siblings share one."""
    siblings = set()
    for number in processors:
        try:
            topology = system / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list"
            siblings.add(topology.read_text(encoding="ascii").strip())
        except OSError:
            siblings.add(str(number))
    return len(siblings)


def _quota(system: Path, process_group: Path) -> float | None:
    """Processors' worth of time that the control group (version 2), or one above it, allows."""
    try:
        lines = process_group.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return None
    root = system / "fs/cgroup"
    place = root / own
    quotas = []
    for group in (place, *place.parents):
        try:
            granted, period = (group / "cpu.max").read_text(encoding="ascii").split()
            quotas.append(int(granted) / int(period))
        except (OSError, ValueError):  # none here, or "max"
            pass
        if group == root:
            break
    return min(quotas, default=None)
