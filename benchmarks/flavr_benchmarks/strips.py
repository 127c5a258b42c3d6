"""Picture strips: what went in, what is true, what each backend made of it, and how far off that is."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from flavr_benchmarks.datasets import QualitySet, QualityWindow
from flavr_benchmarks.quality import codes
from flavr_benchmarks.scoring import Predictions
from flavr_benchmarks.views import short_names
from flavr_runtime.frames import Rgb

AMPLIFIED = 4
_WINDOWS = 3
_SIDE = 208  # pixels of the square that is shown
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a strip, as a data: URL."""

    title: str
    url: str
    error_url: str | None = None  # its amplified difference to the truth
    psnr: float | None = None  # of the part that is shown


@dataclass(frozen=True, slots=True)
class Strip:
    """One window of the data set."""

    title: str
    pictures: list[Picture]

    @property
    def first_result(self) -> str | None:
        """The title of the first picture that was made, with which a new line begins."""
        return next((picture.title for picture in self.pictures if picture.error_url is not None), None)


def strips(quality: QualitySet, predictions: Predictions) -> list[Strip]:
    """Of the windows in which most moves."""
    motion = [
        float(np.abs(window.inputs[1].astype(np.int16) - window.inputs[2]).mean())
        for window in quality.windows
    ]
    chosen = sorted(np.argsort(motion)[::-1][:_WINDOWS].tolist())
    return [_strip(quality.windows[number], number, predictions) for number in chosen]


def _strip(window: QualityWindow, number: int, predictions: Predictions) -> Strip:
    rows, columns = _liveliest(window)
    pictures = [Picture(f"input {n}", _url(frame[rows, columns])) for n, frame in enumerate(window.inputs)]
    middle = len(window.truth) // 2
    truth = window.truth[middle][rows, columns]
    pictures.append(Picture("truth", _url(truth)))
    names = short_names(predictions.by_variant)
    for variant, frames in predictions.by_variant.items():
        picture = codes(frames[number])[middle][rows, columns]
        pictures.append(
            Picture(names[variant], _url(picture), _url(_error(picture, truth)), _psnr(picture, truth))
        )
    return Strip(window.name, pictures)


def _liveliest(window: QualityWindow) -> tuple[slice, slice]:
    """The square in which the two middle frames differ most."""
    difference = np.abs(window.inputs[1].astype(np.float32) - window.inputs[2]).mean(axis=2)
    height, width = difference.shape
    side = (min(_SIDE, height), min(_SIDE, width))
    sums = cv2.boxFilter(difference, -1, (side[1], side[0]), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = np.asarray(sums)[: height - side[0] + 1, : width - side[1] + 1]
    top, left = (int(value) for value in np.unravel_index(int(inside.argmax()), inside.shape))
    return slice(top, top + side[0]), slice(left, left + side[1])


def _error(picture: Rgb, truth: Rgb) -> Rgb:
    difference = np.abs(picture.astype(np.int16) - truth) * AMPLIFIED
    return np.asarray(difference.clip(0, 255), np.uint8)


def _psnr(picture: Rgb, truth: Rgb) -> float:
    squared = float(np.square(picture.astype(np.float64) - truth).mean())
    return float(10 * np.log10(255**2 / max(squared, 1e-5)))


def _url(picture: Rgb) -> str:
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError("OpenCV could not encode a picture")
    return "data:image/jpeg;base64," + base64.b64encode(np.asarray(data).tobytes()).decode("ascii")
