"""Where one scene ends and the next begins: nothing may be interpolated across."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flavr_runtime.errors import InputError
from flavr_runtime.frames import Frame, Rgb

if TYPE_CHECKING:
    from scenedetect import FrameTimecode

__all__ = ["CutMarker", "detected_cuts", "listed_cuts"]

CutMarker = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Passes frames on, with `starts_scene` set on the first one of every scene but the first."""

# A cut is a change far above those around it: this many times their mean, and at least this much of the mean
# change of hue, saturation and value in 0..255. PySceneDetect's own defaults, made for the same purpose.
_RATIO, _LEAST_CHANGE, _AROUND = 3.0, 15.0, 2
_DETECTION_WIDTH = 256  # pixels; finer detail costs time and adds noise (PySceneDetect scales down likewise)
_CLOCK = Fraction(1000)  # frames per second: the detector counts frames, any rate will do


def detected_cuts(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Mark the cuts that PySceneDetect's adaptive detector finds. Looks two frames ahead."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector = AdaptiveDetector(
        adaptive_threshold=_RATIO, min_scene_len=1, window_width=_AROUND, min_content_val=_LEAST_CHANGE
    )
    waiting: deque[tuple[int, Frame]] = deque()
    cuts: set[int] = set()

    def look_at(number: int, picture: Rgb) -> None:
        found: list[FrameTimecode] = detector.process_frame(FrameTimecode(number, _CLOCK), picture)
        cuts.update(cut.frame_num for cut in found)

    def marked() -> Frame:
        number, frame = waiting.popleft()
        frame.starts_scene = frame.starts_scene or number in cuts
        cuts.discard(number)
        return frame

    # The detector says nothing of frames that have fewer than two neighbours at either side, where a cut
    # would morph like any other: still pictures before the first and after the last give them these.
    number = 0
    small = np.zeros((1, 1, 3), np.uint8)
    for frame in frames:
        small = _small(frame.rgb)
        while number < _AROUND:
            look_at(number, small)
            number += 1
        waiting.append((number, frame))
        look_at(number, small)
        number += 1
        if len(waiting) > _AROUND:
            yield marked()
    if waiting:
        look_at(number, small)
        look_at(number + 1, small)
    while waiting:
        yield marked()


def listed_cuts(path: Path) -> CutMarker:
    """Mark the cuts listed in a text file: one a line, the first frame of the new scene.

    A whole number is a frame, counted from 0; `12.48` and `0:01:02.5` are times. Empty lines and what
    follows a # are ignored.

    Raises:
        InputError: the file cannot be read, or a line is none of these.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the list of cuts cannot be read ({error})") from error
    numbers, times = set[int](), list[Fraction]()
    for position, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if text.isdecimal():
            numbers.add(int(text))
        elif re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
            times.append(
                sum((Fraction(part) * 60**n for n, part in enumerate(reversed(text.split(":")))), Fraction(0))
            )
        elif text:
            raise InputError(
                f"{path}, line {position}: {text!r} is no cut; write a frame number, 12.48 or 0:01:02.5"
            )
    times.sort()

    def mark(frames: Iterable[Frame]) -> Iterator[Frame]:
        pending = deque(times)
        for number, frame in enumerate(frames):
            reached = False
            # A time written with three digits may lie a little after its frame.
            while pending and pending[0] <= frame.time + Fraction(1, 2000):
                pending.popleft()
                reached = True
            frame.starts_scene = number > 0 and (number in numbers or reached)
            yield frame

    return mark


def _small(rgb: Rgb) -> Rgb:
    """BGR, as OpenCV and PySceneDetect have it, at most 256 pixels wide."""
    height, width = rgb.shape[:2]
    if width > _DETECTION_WIDTH:
        size = (_DETECTION_WIDTH, max(1, round(height * _DETECTION_WIDTH / width)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.ascontiguousarray(rgb[..., ::-1])
