"""What the adapters of all backends have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flavr_runtime.frames import Rgb

Pictures = NDArray[np.float32]
"""float32 [n, H, W, 3] in [0, 1], neither clamped nor rounded where the backend does not do so itself."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a cell's process is to load."""

    options: Mapping[str, str]
    path: str | None  # of the model or checkpoint
    precision: str
    threads: int | None
    factor: int
    size: tuple[int, int] | None = None  # height and width of the windows that are timed

    @property
    def file(self) -> Path:
        if self.path is None:
            raise ValueError("this backend needs a file")
        return Path(self.path)


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of one window."""

    upload: float  # 8-bit pictures to what the network takes, on its device
    compute: float
    download: float  # the result to 8-bit pictures in main memory

    @property
    def total(self) -> float:
        return self.upload + self.compute + self.download


@dataclass(slots=True)
class Description:
    """What is known of a loaded backend."""

    device: str
    placement: dict[str, int] = field(default_factory=dict)  # execution provider -> nodes
    threads: int | None = None  # as the engine says, where it does
    model_bytes: int | None = None
    split: bool = True  # whether upload and download are told apart from compute
    quantised: bool = False  # results are rounded to 8 bits
    notes: list[str] = field(default_factory=list)


class Workload(Protocol):
    """A loaded backend."""

    def __init__(self, task: Task) -> None: ...

    def describe(self) -> Description: ...

    def window(self, frames: Sequence[Rgb]) -> tuple[list[Rgb], Phases]:
        """The new frames between the middle two of four."""
        ...

    def exact(self, frames: Sequence[Rgb]) -> Pictures:
        """The same, as the backend computes them, before any rounding that it can be spared."""
        ...

    def device_memory(self) -> int | None:
        """Peak bytes on the device, where there is one that tells."""
        ...


class UnsupportedError(Exception):
    """Raised by an adapter for what it cannot run, with the reason and what would help."""


class Stopwatch:
    """Times of consecutive laps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return seconds


def unrounded(pictures: Sequence[Rgb]) -> Pictures:
    """8-bit pictures as `Pictures`."""
    return np.stack(pictures).astype(np.float32) / np.float32(255)
