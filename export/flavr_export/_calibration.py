"""Windows of real frames: what quantisation is calibrated with and what its loss is measured on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flavr._video import decode, find_videos
from flavr.config import MULTIPLE, WINDOW
from flavr.errors import DataError
from flavr_export.errors import CalibrationError

Rgb = NDArray[np.uint8]

WINDOWS = 12
"""Half of them calibrate, the others are held out."""

_HALF = WINDOWS // 2

_LONGEST_SIDE = 192  # pixels: ranges hardly depend on the size, time does
_LONGEST_LOOK = 60  # frames decoded of one video, or as many as the windows of both halves need


@dataclass(frozen=True, slots=True)
class Window:
    """Four frames of a video, and the ones between the middle two, which a network should make."""

    frames: Sequence[Rgb]  # [1, H, W, 3]
    between: Sequence[Rgb]


def read_windows(place: Path, factor: int) -> tuple[list[Window], list[Window]]:
    """Windows to calibrate with and windows held out, of a clip, a folder of images, or a folder of those.

    A window of a network of `factor` is made of every `factor`-th frame: those between are the truth. No
    frame is in windows of both kinds.

    Raises:
        CalibrationError: there is nothing to read, or too little of it.
    """
    try:
        videos = find_videos([place])
        per_video = -(-_HALF // len(videos))
        step = max(1, len(videos) // _HALF)  # of many videos, some from everywhere
        calibrating, held_out = list[Window](), list[Window]()
        for video in videos[::step]:
            first, second = _halves(decode(video, _LONGEST_SIDE), factor, per_video)
            if not second and len(held_out) < len(calibrating):
                first, second = second, first
            calibrating += first
            held_out += second
    except DataError as error:
        raise CalibrationError(f"cannot calibrate: {error}") from error
    if not (calibrating and held_out):
        needed = 2 * _frames_needed(factor)
        raise CalibrationError(
            f"{place} holds too little to calibrate with: a video of {needed} frames or more is needed"
        )
    calibrating, held_out = calibrating[:_HALF], held_out[:_HALF]
    alike = _of_one_size([*calibrating, *held_out])
    return alike[: len(calibrating)], alike[len(calibrating) :]


def _frames_needed(factor: int) -> int:
    return (WINDOW - 1) * factor + 1


def _halves(frames: Iterator[Rgb], factor: int, count: int) -> tuple[list[Window], list[Window]]:
    """Up to `count` windows of each half of a video, which share no frame; one of a short video."""
    needed = _frames_needed(factor)
    seen = list(itertools.islice(frames, max(_LONGEST_LOOK, 2 * (needed + _HALF - 1))))
    if len(seen) < 2 * needed:
        return list(_windows(seen, factor, 1)), []
    middle = len(seen) // 2
    return list(_windows(seen[:middle], factor, count)), list(_windows(seen[middle:], factor, count))


def _windows(seen: Sequence[Rgb], factor: int, count: int) -> Iterator[Window]:
    """Up to `count` windows, spread over these frames."""
    last = len(seen) - _frames_needed(factor)
    if last < 0:
        return
    for start in sorted({int(position) for position in np.linspace(0, last, count)}):
        taken = [frame[None] for frame in seen[start : start + _frames_needed(factor)]]
        yield Window(taken[::factor], taken[factor + 1 : 2 * factor])


def _of_one_size(windows: Sequence[Window]) -> list[Window]:
    """Cropped to what all have, in multiples of 8.

    The quantiser wants one size, and ranges are not to be learnt from padding.
    """
    sides = [min(window.frames[0].shape[axis] for window in windows) for axis in (1, 2)]
    height, width = (max(side - side % MULTIPLE, min(side, MULTIPLE)) for side in sides)
    return [
        Window(*([frame[:, :height, :width] for frame in part] for part in (window.frames, window.between)))
        for window in windows
    ]
