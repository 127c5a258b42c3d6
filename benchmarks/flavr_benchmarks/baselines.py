"""What every network has to beat: fading, optical flow, and ffmpeg's motion compensation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from flavr_benchmarks.workload import UnsupportedError
from flavr_runtime.frames import Rgb

Method = Callable[[Sequence[Rgb], int], list[Rgb]]
"""Four frames and a factor to the factor - 1 frames between the middle two."""

Field = NDArray[np.float32]

_AGREEMENT = 5.0
"""Code values by which the two ends of a flow may differ before it is believed a third as much."""

_NEIGHBOURHOOD = 2.0
"""Standard deviation, in pixels, of the surroundings that are compared."""

_FFMPEG_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method without a network."""

    open: Callable[[int | None], Method]  # given the number of threads; raises UnsupportedError
    notes: tuple[str, ...] = ()


def average(frames: Sequence[Rgb], factor: int) -> list[Rgb]:
    """The two middle frames, faded into each other."""
    _, before, after, _ = frames
    return [
        np.asarray(cv2.addWeighted(before, 1 - n / factor, after, n / factor, 0), np.uint8)
        for n in range(1, factor)
    ]


class DisFlow:
    """OpenCV's dense inverse search, in both directions, warped to each instant.

    The flow from the first frame and the reversed one from the second each lead from a place in the new frame
    back to the first and on to the second. Where the two ends look alike the flow is right: the two results
    are blended by that.
    """

    def __init__(self, threads: int | None) -> None:
        if threads is not None:
            cv2.setNumThreads(threads)
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, frames: Sequence[Rgb], factor: int) -> list[Rgb]:
        _, before, after, _ = frames
        height, width = before.shape[:2]
        if min(height, width) < 32:
            raise ValueError(f"DIS flow needs pictures of 32x32 or more, not {width}x{height}")
        greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in (before, after)]
        forth, back = self._flow(greys[0], greys[1]), self._flow(greys[1], greys[0])
        return [_between(before, after, (forth, -back), n / factor) for n in range(1, factor)]

    def _flow(self, start: NDArray[Any], end: NDArray[Any]) -> Field:
        nothing: Any = None  # to start from; OpenCV's types do not know that it is optional
        return np.asarray(self._search.calc(start, end, nothing), np.float32)


def _between(before: Rgb, after: Rgb, flows: Sequence[Field], time: float) -> Rgb:
    total, weights = np.zeros(before.shape, np.float32), np.zeros((*before.shape[:2], 1), np.float32)
    for flow in flows:
        start, end = _looked_up(before, -time * flow), _looked_up(after, (1 - time) * flow)
        unlike = cv2.GaussianBlur(np.abs(start - end).mean(axis=2), (0, 0), _NEIGHBOURHOOD)
        weight = np.exp(-np.asarray(unlike, np.float32) / _AGREEMENT)[..., None] + np.float32(1e-4)
        total += weight * ((1 - time) * start + time * end)
        weights += weight
    return np.asarray((total / weights).round().clip(0, 255), np.uint8)


def _looked_up(picture: NDArray[np.generic], flow: Field) -> Field:
    """`picture` as it is at the end of each pixel's flow."""
    rows, columns = np.indices(flow.shape[:2], np.float32)
    found = cv2.remap(
        picture.astype(np.float32, copy=False),
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found, np.float32)


class Minterpolate:
    """ffmpeg's minterpolate filter, one run of the program per window."""

    def __init__(self, threads: int | None) -> None:
        program = shutil.which("ffmpeg")
        if program is None:
            raise UnsupportedError("ffmpeg is not installed; apt-get install ffmpeg, or its like, brings it")
        self._program = program
        self._threads = [] if threads is None else ["-filter_threads", str(threads)]

    def __call__(self, frames: Sequence[Rgb], factor: int) -> list[Rgb]:
        height, width = frames[0].shape[:2]
        # The filter keeps frames back at both ends: the outer ones are given twice more.
        given = [*[frames[0]] * 2, *frames, *[frames[-1]] * 2]
        description = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        options = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
        command = [
            *(self._program, "-v", "error", "-nostdin", *self._threads),
            *(*description, "-r", "1", "-i", "pipe:0"),
            *("-vf", f"minterpolate=fps={factor}:{options}", *description[:4], "pipe:1"),
        ]
        try:
            done = subprocess.run(
                command,
                input=b"".join(frame.tobytes() for frame in given),
                capture_output=True,
                timeout=_FFMPEG_SECONDS,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            reason = (
                " ".join(error.stderr.decode(errors="replace").split()) or f"exit code {error.returncode}"
            )
            raise ValueError(f"ffmpeg's minterpolate failed: {reason}") from error
        made = np.frombuffer(done.stdout, np.uint8)
        count = len(made) // frames[0].size
        pictures = made[: count * frames[0].size].reshape(count, height, width, 3)
        first = 3 * factor  # frames[1] is the fourth that was given
        if count < first + factor:
            raise ValueError(f"ffmpeg's minterpolate gave {count} frames; {first + factor} were needed")
        return [pictures[first + n].copy() for n in range(1, factor)]


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "average": Baseline(lambda _threads: average),
        "dis-flow": Baseline(DisFlow, (f"OpenCV {cv2.__version__}",)),
        "minterpolate": Baseline(Minterpolate, ("the time includes the start of ffmpeg",)),
    }
)
