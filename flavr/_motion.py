"""How much moves from frame to frame, and where scenes change. Imports no PyTorch.

Everything is measured on grey thumbnails: that averages noise away, and what it says of a clip hardly depends
on the clip's resolution.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr._images import Rgb

_SHORT_SIDE = 64  # of a thumbnail
# A scene change is a large difference, far above its neighbours' (else it is fast motion), and leaves little
# likeness (else it is a flash or a fade). In 70 clips of all kinds every change lay above 30, 3.5 times and
# below 0.5; fast motion reached 30, or 5 times, but then above 0.8.
_CUT_DIFFERENCE = 8.0
_CUT_RATIO = 2.5
_CUT_LIKENESS = 0.7
_NEIGHBOURS = 5  # on each side

MIN_MOTION = 0.3  # below it nothing moves that a viewer would see: a still, or a frame that was repeated

Differences = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Motion:
    """What a `MotionMeter` found in a video."""

    frames: int
    differences: dict[int, Differences]  # by lag: [i] between frames i and i + lag, in grey levels of 255
    cuts: NDArray[np.int64]  # a scene begins with each of these frames


@dataclass(frozen=True, slots=True)
class Found:
    """Where usable windows start, in order, and how much moves in each."""

    starts: NDArray[np.int64]
    motions: Differences  # mean difference between neighbours among the window's frames


class MotionMeter:
    """Measures a video while it is decoded; memory does not grow with its length but by 16 bytes per frame.

    Args:
        lags: the distances between frames to compare.
    """

    def __init__(self, lags: Iterable[int]) -> None:
        self._lags = sorted({1, *lags})
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=self._lags[-1])
        self._differences: dict[int, list[float]] = {lag: [] for lag in self._lags}
        self._likeness: list[float] = []
        self._count = 0

    def add(self, frame: Rgb) -> None:
        thumbnail = _thumbnail(frame)
        for lag in self._lags:
            if lag <= len(self._recent):
                self._differences[lag].append(float(np.abs(thumbnail - self._recent[-lag]).mean()))
        if self._recent:
            self._likeness.append(_correlation(thumbnail, self._recent[-1]))
        self._recent.append(thumbnail)
        self._count += 1

    def result(self) -> Motion:
        differences = {lag: np.array(values) for lag, values in self._differences.items()}
        return Motion(self._count, differences, _cuts(differences[1], np.array(self._likeness)))


def find_windows(
    motion: Motion, length: int, *, stride: int = 1, min_motion: float = MIN_MOTION, step: int = 1
) -> Found:
    """The windows in which no scene changes and no frame is a repetition of the one before.

    Args:
        motion: measured with `stride` among its lags.
        length: frames of a window, `stride` apart. Those that a network never sees count, too: a repeated one
            among them makes the motion of the others jerk.
        stride: distance between neighbours.
        min_motion: least difference between neighbours.
        step: least distance between the starts of two windows.
    """
    span = (length - 1) * stride
    starts = np.arange(max(0, motion.frames - span))
    differences = motion.differences[stride]
    steps = np.stack([differences[starts + stride * place] for place in range(length - 1)])
    # The number of scenes that have begun by a frame is the same at both ends of a window within one scene.
    scene = np.searchsorted(motion.cuts, np.arange(motion.frames), side="right")
    good = (steps >= min_motion).all(axis=0) & (scene[starts] == scene[starts + span])
    kept = _spaced(starts[good], step)
    return Found(kept, steps[:, kept].mean(axis=0))


def _spaced(starts: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    kept: list[int] = []
    for start in starts.tolist():
        if not kept or start >= kept[-1] + step:
            kept.append(start)
    return np.array(kept, np.int64)


def _thumbnail(frame: Rgb) -> NDArray[np.float32]:
    height, width = frame.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else 0.0


def _cuts(differences: Differences, likeness: NDArray[np.float64]) -> NDArray[np.int64]:
    candidates = np.flatnonzero((differences > _CUT_DIFFERENCE) & (likeness < _CUT_LIKENESS))
    cuts = []
    for at in candidates.tolist():
        around = [*differences[max(0, at - _NEIGHBOURS) : at], *differences[at + 1 : at + 1 + _NEIGHBOURS]]
        if differences[at] > _CUT_RATIO * (np.median(around) if around else 0):
            cuts.append(at + 1)
    return np.array(cuts, np.int64)
