"""The machine and its state, for the report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

from flavr_benchmarks.gpus import find_gpus
from flavr_benchmarks.machine import Machine
from flavr_benchmarks.schema import Environment
from flavr_runtime.providers import installed_wheels

_LIBRARIES = (
    *("torch", "onnx", "numpy", "opencv-python-headless", "av", "flavr"),
    *("nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "openvino", "tensorrt"),
)
# What decides which kernels run; the rest of the list is noise.
_FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "fphp", "asimdhp", "bf16", "i8mm", "sve", "sve2"),
)


def examine() -> Environment:
    """Look at the machine as it is now."""
    cpuinfo = dict(_cpuinfo())
    memory = psutil.virtual_memory()
    flags = cpuinfo.get("flags", cpuinfo.get("Features", "")).split()
    return Environment(
        cpu=cpuinfo.get("model name") or platform.processor() or platform.machine(),
        cpu_flags=[flag for flag in _FLAGS if flag in flags],
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count() or 1,
        usable_cores=usable_cores(),
        cpu_mhz=Machine().mhz(),
        cpu_governor=_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        hypervisor="hypervisor" in flags,
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        load_average=[round(value, 2) for value in psutil.getloadavg()],
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries=installed_wheels() | dict(_versions()),
        gpus=find_gpus(),
    )


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> Iterator[tuple[str, str]]:
    text = _text(Path("/proc/cpuinfo")) or ""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _versions() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
