"""How much memory this process has taken at most."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss() -> int | None:
    """Bytes; None where the system does not say."""
    # Not getrusage on Linux: a new process starts with its parent's peak there.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
