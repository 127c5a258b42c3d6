"""What the figures were measured on."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_name() -> str:
    """The CPU with those of its instruction sets that decide how fast a network runs."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    stripped = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [
        flag
        for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")
        if flag in stripped.get("flags", "")
    ]
    return f"{stripped.get('model name', platform.processor())} ({' '.join(flags)})"
