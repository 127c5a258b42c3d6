"""How much memory a run takes, and how much there is."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flavr_runtime.frames import StreamInfo
from flavr_runtime.model_info import ModelInfo

__all__ = [
    "WINDOW_SHARE",
    "available_bytes",
    "loaded_bytes",
    "peak_bytes",
    "planned_bytes",
    "resident_bytes",
    "window_bytes",
]

_MULTIPLE = 8  # to which the graph pads height and width


@dataclass(frozen=True, slots=True)
class Activations:
    """Bytes of a window for each pixel at its peak: `per_width` by the network's width, plus `more`."""

    per_width: float
    more: float
    from_width: int = 0  # narrower networks are written in other ways


# Measured by benchmarks/memory_model.py: ONNX Runtime 1.32 on a CPU, widths 2 to 64. The figures are in
# benchmarks/results/. The 2-D graph holds two feature maps of full size at its peak, the 3-D one also unfolds
# the picture for its convolutions. The winograd graph of a wide network transforms maps of half the size in
# height and width too. Depth and number of new frames change little: their maps are smaller.
ACTIVATIONS: Mapping[str, tuple[Activations, ...]] = MappingProxyType(
    {
        "conv2d": (Activations(50, 60),),
        "conv3d": (Activations(305, 120),),
        "winograd": (Activations(73, 170), Activations(127, 0, from_width=48)),
    }
)

LOADED: Mapping[str, float] = MappingProxyType({"conv2d": 6, "conv3d": 2.5, "winograd": 11.5})
"""What a loaded model takes for each byte of its weights, from the same measurements: as stored, cut for the
edge frames or transformed, and packed for the kernels."""

PIPELINE_BYTES = 290
"""For each pixel: decoded frames, RGB and the encoder's own. Measured with H.264 at 360 and 1080 lines."""

PIPELINE_FIXED = 20_000_000
"""Bytes for what is loaded with the first frame: the cut detector, threads."""

WINDOW_SHARE = 0.8
"""Of the available memory, what a window may take: the rest is for the pipeline and for other programs."""

TYPICAL_PROGRAM = 200_000_000
"""What a program has taken with a small model loaded, where the system does not tell."""


def window_bytes(model: ModelInfo, height: int, width: int) -> int:
    """What ONNX Runtime needs on a CPU for one window of that size, beyond the loaded model.

    A graph that is not known is taken for the largest that is. Half precision and int8 are computed on a CPU
    with as much as float32 or less.
    """
    rows = ACTIVATIONS.get(model.graph, ACTIVATIONS["conv3d"])
    known = [row for row in rows if row.from_width <= model.width][-1]
    pixels = -(-height // _MULTIPLE) * -(-width // _MULTIPLE) * _MULTIPLE**2
    return round(pixels * (known.per_width * model.width + known.more))


def loaded_bytes(model: ModelInfo) -> int:
    """What ONNX Runtime takes on a CPU for a loaded model."""
    held = (model.weights or model.path).stat().st_size
    return round(LOADED.get(model.graph, max(LOADED.values())) * held)


def planned_bytes(model: ModelInfo, tile: tuple[int, int], info: StreamInfo) -> int:
    """The most that a run on a CPU will have in memory, as far as it is known once the model is loaded.

    Args:
        tile: height and width of what the network is given at once.
    """
    deep = 2 if info.bits > 8 else 1
    carried = info.height * info.width * PIPELINE_BYTES * deep
    running = (resident_bytes() or TYPICAL_PROGRAM) + PIPELINE_FIXED + carried + window_bytes(model, *tile)
    return max(
        running, peak_bytes() or 0
    )  # to load a large model can take more than to run it on small pictures


def available_bytes() -> int | None:
    """What this process can still take without swapping; None where the system does not tell."""
    limits = [each for each in (_unused(), _left_in_group(), _left_of_address_space()) if each is not None]
    return min(limits, default=None)


def resident_bytes() -> int | None:
    """What this process has in memory now; None where the system does not tell."""
    return _status("VmRSS")


def peak_bytes() -> int | None:
    """The most that this process has had in memory so far; None where the system does not tell."""
    with contextlib.suppress(ImportError):  # Windows has none
        import resource

        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        # Linux counts that of the program which started this one too, unless its own count is asked for.
        return _status("VmHWM") or own
    return None


def _status(field: str) -> int | None:
    return _kibibytes(Path("/proc/self/status"), field)


def _unused() -> int | None:
    """Memory that is free, or holds what can be read again."""
    found = _kibibytes(Path("/proc/meminfo"), "MemAvailable")
    if found is None and sys.platform == "win32":
        return _unused_on_windows()
    return found


def _left_in_group() -> int | None:
    """What the control group (a container, a systemd unit) may still take."""
    folder = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        group = re.search(r"^0::(/.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        own = folder / group[1].lstrip("/") if group else folder
        places = [each for each in (own, *own.parents) if each == folder or folder in each.parents]
        return min((left for each in places if (left := _left_in(each)) is not None), default=None)
    return None


def _left_in(group: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        limit = int((group / "memory.max").read_text())
        # What has been read from files is given up when it is needed.
        inactive = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        used = int((group / "memory.current").read_text()) - (int(inactive[1]) if inactive else 0)
        return max(0, limit - used)
    return None


def _left_of_address_space() -> int | None:
    """What `ulimit -v` leaves."""
    with contextlib.suppress(ImportError):
        import resource

        limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _status("VmSize")
        if limit != resource.RLIM_INFINITY and used is not None:
            return max(0, limit - used)
    return None


def _unused_on_windows() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "p1", "p2", "p3", "p4", "p5")),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - known to type checkers on Windows only
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _kibibytes(path: Path, field: str) -> int | None:
    with contextlib.suppress(OSError):
        found = re.search(rf"^{field}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None
