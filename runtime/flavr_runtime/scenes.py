"""Where one scene ends and the next begins: nothing may be interpolated across."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flavr_runtime.colour import Plane, at_depth
from flavr_runtime.errors import InputError
from flavr_runtime.frames import Frame, Rgb
from flavr_runtime.holds import runs

if TYPE_CHECKING:
    from scenedetect import FrameTimecode

__all__ = ["CutMarker", "ListedCuts", "detected_cuts"]

CutMarker = Callable[[Iterable[Frame]], Iterator[Frame]]
"""Passes frames on, with `starts_scene` set on the first one of every scene but the first."""

# A cut is a change far above those around it: this many times their mean, and at least this much of the mean
# change of hue, saturation and value in 0..255. PySceneDetect's own defaults, made for the same purpose.
_RATIO, _LEAST_CHANGE, _AROUND = 3.0, 15.0, 2
# Of hue, saturation, value and edges. The hue of grey and dark areas is noise: with it, 2 of 23 cuts found in
# 70 real clips were steps of a fade from black.
_WEIGHTS = (0.0, 1.0, 1.0, 0.0)
_DETECTION_WIDTH = 256  # pixels; finer detail costs time and adds noise (PySceneDetect scales down likewise)
_CLOCK = Fraction(1000)  # frames per second: the detector counts frames, any rate will do


def detected_cuts(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Mark the cuts that PySceneDetect's adaptive detector finds. Looks two distinct pictures ahead.

    Repeats are not shown to it: among them, every step of a drawing on threes would stand out as a cut does.
    """
    from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

    detector = AdaptiveDetector(
        adaptive_threshold=_RATIO,
        min_scene_len=1,
        window_width=_AROUND,
        min_content_val=_LEAST_CHANGE,
        weights=ContentDetector.Components(*_WEIGHTS),
    )
    waiting: deque[list[Frame]] = deque()
    for number, (run, picture) in enumerate(_mirrored(runs(frames))):
        cuts: list[FrameTimecode] = detector.process_frame(FrameTimecode(number, _CLOCK), picture)
        if run is not None:
            waiting.append(run)
        if number >= 2 * _AROUND and waiting:  # the detector has decided on the picture _AROUND before this
            decided = number - _AROUND
            first, *repeats = waiting.popleft()
            # The very first frame starts no new scene, though its mirror image may look like it.
            found = decided > _AROUND and any(cut.frame_num == decided for cut in cuts)
            first.starts_scene = first.starts_scene or found
            yield from (first, *repeats)


def _mirrored(held: Iterable[list[Frame]]) -> Iterator[tuple[list[Frame] | None, Rgb]]:
    """Small pictures of the runs, going backwards into the first one and out of the last.

    The detector compares each change with those around it, and says nothing where there are too few.
    Mirrored, only a scene of a single picture at either end can go unnoticed: its cut stands beside its own
    image.
    """
    recent: deque[Rgb] = deque(maxlen=_AROUND + 1)
    lead: list[list[Frame]] = []
    started = False
    for run in held:
        recent.append(_small(run[0].rgb))
        if started:
            yield run, recent[-1]
            continue
        lead.append(run)
        if len(lead) > _AROUND:
            started = True
            yield from _led_in(lead, list(recent))
    if not started and lead:
        yield from _led_in(lead, list(recent))
    pictures = list(recent)
    for n in range(_AROUND if pictures else 0):
        yield None, pictures[max(len(pictures) - 2 - n, 0)]


def _led_in(lead: list[list[Frame]], pictures: list[Rgb]) -> Iterator[tuple[list[Frame] | None, Rgb]]:
    for n in range(_AROUND, 0, -1):
        yield None, pictures[min(n, len(pictures) - 1)]
    yield from zip(lead, pictures, strict=True)


class ListedCuts:
    """Marks the cuts listed in a text file: one a line, the first frame of the new scene.

    A whole number is a frame, counted from 0; `12.48` and `0:01:02.5` are times. Empty lines and what
    follows a # are ignored.

    Raises:
        InputError: the file cannot be read, or a line is none of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unreached: list[
            str
        ] = []  # as they are written: what lies past the last frame, once that was seen
        self._numbers: dict[int, str] = {}
        self._times: list[_Time] = []
        for position, line in enumerate(_lines(path), start=1):
            text = line.partition("#")[0].strip()
            if text.isdecimal():
                self._numbers[int(text)] = text
            elif re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
                self._times.append(_Time.read(text))
            elif text:
                raise InputError(
                    f"{path}, line {position}: {text!r} is no cut; write a frame number, 12.48 or 0:01:02.5"
                )
        self._times.sort(key=lambda time: time.seconds)

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on, marked."""
        pending, before, count = deque(self._times), Fraction(0), 0
        for number, frame in enumerate(frames):
            reached = False
            # A time that was rounded up lies a little after its frame, but nearer to it than to the next.
            half, before, count = (frame.time - before) / 2, frame.time, number + 1
            while pending and pending[0].seconds <= frame.time + min(pending[0].rounding, half):
                pending.popleft()
                reached = True
            if number > 0 and (number in self._numbers or reached):
                frame.starts_scene = True
            yield frame
        past = [text for number, text in sorted(self._numbers.items()) if number >= count]
        self.unreached = past + [time.text for time in pending]


@dataclass(frozen=True, slots=True)
class _Time:
    text: str
    seconds: Fraction
    rounding: Fraction  # how far off it may be written, in seconds

    @classmethod
    def read(cls, text: str) -> _Time:
        parts = enumerate(reversed(text.split(":")))
        digits = len(text.partition(".")[2])
        seconds = sum((Fraction(part) * 60**n for n, part in parts), Fraction(0))
        return cls(text, seconds, Fraction(1, 2 * 10 ** (digits or 3)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8-sig").splitlines()  # Windows' Notepad begins files with a mark
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InputError(
            f"{path}: the list of cuts cannot be read ({why}); give auto, off, or a text file"
        ) from error


def _small(rgb: Rgb) -> Rgb:
    """BGR, as OpenCV and PySceneDetect have it, at most 256 pixels wide."""
    height, width = rgb.shape[:2]
    small: Plane = rgb
    if width > _DETECTION_WIDTH:
        size = (_DETECTION_WIDTH, max(1, round(height * _DETECTION_WIDTH / width)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
    return np.ascontiguousarray(at_depth(small, 8)[..., ::-1], np.uint8)
