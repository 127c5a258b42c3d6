"""Rendered septuplets: small sets to train, test and measure on, without a download. Imports no PyTorch.

A scene is a moving background with three to five textured shapes in front, which hide it and each other.
Everything moves smoothly but not uniformly: it drifts, accelerates or swings, turns, grows, and some of it
ripples. There is motion blur, lack of focus and sensor noise. A sequence depends on the seed and its number
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from flavr._images import Rgb
from flavr._paths import new_folder
from flavr._septuplets import SEPTUPLET, write_lists, write_septuplet

Image = NDArray[np.float32]  # [H, W, 3] in [0, 1], or [H, W, 4] with the colours multiplied by the alpha

_BLUR_SAMPLES = 4  # exposures that make up a blurred frame
_MARGIN = 1.5  # a background's texture is this much larger than the view; beyond, it is mirrored
_SPEED = 2.0  # pixels a frame: the median; one in ten moves four times as fast


@dataclass(frozen=True, slots=True)
class RenderSpec:
    """What to render."""

    train: int = 64  # sequences
    test: int = 8
    height: int = 256
    width: int = 320
    seed: int = 0


def render_set(folder: Path, spec: RenderSpec, on_sequence: Callable[[], None] = lambda: None) -> None:
    """Render a set in Vimeo layout; the folder appears when it is complete.

    Raises:
        DataError: the folder exists and is not empty, or cannot be written.
    """
    names = [f"{number // 1000 + 1:05d}/{number % 1000 + 1:04d}" for number in range(spec.train + spec.test)]
    with new_folder(folder) as partial, ThreadPoolExecutor() as pool:

        def write(number: int) -> None:
            write_septuplet(partial, names[number], render_sequence(spec, number))
            on_sequence()

        # Collecting the results raises the first error there was.
        list(pool.map(write, range(len(names))))
        write_lists(partial, names[: spec.train], names[spec.train :])


def render_sequence(spec: RenderSpec, number: int, frames: int = SEPTUPLET) -> list[Rgb]:
    """The frames of one sequence, uint8 RGB [height, width, 3]."""
    random = np.random.default_rng([spec.seed, number])
    layers = [_background(random, spec.height, spec.width)]
    layers += [_shape(random, spec.height, spec.width) for _ in range(random.integers(3, 6))]
    shutter = random.uniform(0.1, 0.7) if random.random() < 0.5 else 0.0
    noise = random.uniform(0, 2 / 255) if random.random() < 0.5 else 0.0
    return [
        _exposed(random, layers, (spec.height, spec.width), at - (frames - 1) / 2, shutter, noise)
        for at in range(frames)
    ]


@dataclass(frozen=True, slots=True)
class _Path:
    """A quantity over time, in frames from the middle one: start + speed t + bend t^2 / 2 + a swing."""

    start: float
    speed: float = 0.0
    bend: float = 0.0
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0

    def at(self, time: float) -> float:
        swung = self.swing * np.sin(self.rate * time + self.phase)
        return float(self.start + self.speed * time + self.bend * time**2 / 2 + swung)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A texture and how it moves over the view."""

    texture: Image  # [h, w, 4]
    x: _Path  # of the texture's centre in the view
    y: _Path
    angle: _Path  # radians
    zoom: _Path  # logarithm
    ripple: _Path  # phase of a wave that runs through the texture
    ripple_height: float  # pixels; 0: rigid
    ripple_length: float
    border: int  # what cv2 shall do beyond the texture


def _exposed(
    random: Generator,
    layers: Sequence[_Layer],
    size: tuple[int, int],
    time: float,
    shutter: float,
    noise: float,
) -> Rgb:
    offsets = np.linspace(-shutter / 2, shutter / 2, _BLUR_SAMPLES) if shutter else [0.0]
    image = np.mean([_drawn(layers, size, time + float(offset)) for offset in offsets], axis=0)
    if noise:
        image = image + noise * random.standard_normal(image.shape, np.float32)
    return np.asarray((image * 255).round().clip(0, 255), np.uint8)


def _drawn(layers: Sequence[_Layer], size: tuple[int, int], time: float) -> Image:
    image = np.zeros((*size, 3), np.float32)
    for layer in layers:
        rows, columns = _box(layer, size, time)
        if rows.start < rows.stop and columns.start < columns.stop:
            warped = _warped(layer, rows, columns, time)
            image[rows, columns] *= 1 - warped[..., 3:]
            image[rows, columns] += warped[..., :3]
    return image


def _box(layer: _Layer, size: tuple[int, int], time: float) -> tuple[slice, slice]:
    """The part of the view that a layer can reach."""
    if layer.border != cv2.BORDER_CONSTANT:
        return slice(0, size[0]), slice(0, size[1])
    reach = np.hypot(*layer.texture.shape[:2]) / 2 * np.exp(layer.zoom.at(time)) + layer.ripple_height + 1
    (top, bottom), (left, right) = (
        np.clip([middle - reach, middle + reach], 0, length).astype(int).tolist()
        for middle, length in ((layer.y.at(time), size[0]), (layer.x.at(time), size[1]))
    )
    return slice(top, bottom), slice(left, right)


def _warped(layer: _Layer, view_rows: slice, view_columns: slice, time: float) -> Image:
    """A layer as part of the view sees it: every pixel there looks up its place in the texture."""
    scale, angle = np.exp(-layer.zoom.at(time)), layer.angle.at(time)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    x, y = layer.x.at(time) - view_columns.start, layer.y.at(time) - view_rows.start
    height, width = view_rows.stop - view_rows.start, view_columns.stop - view_columns.start
    centre_x, centre_y = layer.texture.shape[1] / 2, layer.texture.shape[0] / 2
    matrix = np.array(
        [[cos, sin, centre_x - cos * x - sin * y], [-sin, cos, centre_y + sin * x - cos * y]], np.float32
    )
    if not layer.ripple_height:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(layer.texture, matrix, (width, height), flags=flags, borderMode=layer.border)
        return np.asarray(warped, np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    u = matrix[0, 0] * columns + matrix[0, 1] * rows + matrix[0, 2]
    v = matrix[1, 0] * columns + matrix[1, 1] * rows + matrix[1, 2]
    wave, phase = 2 * np.pi / layer.ripple_length, layer.ripple.at(time)
    moved_u = u + layer.ripple_height * np.sin(wave * v + phase)
    moved_v = v + layer.ripple_height * np.cos(wave * u + phase)
    warped = cv2.remap(
        layer.texture,
        moved_u.astype(np.float32),
        moved_v.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=layer.border,
    )
    return np.asarray(warped, np.float32)


def _background(random: Generator, height: int, width: int) -> _Layer:
    size = round(height * _MARGIN), round(width * _MARGIN)
    texture = _texture(random, *size)
    opaque = np.dstack([texture, np.ones(size, np.float32)])
    return _moving(random, opaque, width / 2, height / 2, calm=0.5, border=cv2.BORDER_REFLECT_101)


def _shape(random: Generator, height: int, width: int) -> _Layer:
    side = int(random.uniform(0.25, 0.8) * min(height, width))
    alpha = _outline(random, side)[..., None]
    texture = np.dstack([_texture(random, side, side) * alpha, alpha])
    x, y = random.uniform(0, width), random.uniform(0, height)
    return _moving(random, texture, x, y, calm=1.0, border=cv2.BORDER_CONSTANT)


def _moving(random: Generator, texture: Image, x: float, y: float, *, calm: float, border: int) -> _Layer:
    speed = calm * _SPEED * np.exp(random.normal(0, 1.1))
    direction = random.uniform(0, 2 * np.pi)
    if random.random() < 0.3:  # out of focus; blurring colours multiplied by alpha leaves no dark seam
        texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), random.uniform(0.6, 2.0)), np.float32)

    def path(start: float, drift: float) -> _Path:
        bend = random.normal(0, 0.15) * abs(drift)
        swings = random.random() < 0.3
        swing = random.uniform(0, 1.5) * abs(drift) if swings else 0.0
        return _Path(start, drift, bend, swing, random.uniform(0.3, 0.9), random.uniform(0, 2 * np.pi))

    return _Layer(
        texture,
        x=path(x, speed * np.cos(direction)),
        y=path(y, speed * np.sin(direction)),
        angle=path(random.uniform(0, 2 * np.pi) if calm == 1 else 0.0, random.normal(0, 0.02) * calm),
        zoom=path(0.0, random.normal(0, 0.01) * calm),
        ripple=_Path(random.uniform(0, 2 * np.pi), random.normal(0, 0.3)),
        ripple_height=random.uniform(0.5, 3.0) if random.random() < 0.3 else 0.0,
        ripple_length=random.uniform(20, 80),
        border=border,
    )


def _outline(random: Generator, side: int) -> Image:
    """Alpha [side, side] of a shape that is round, angular or jagged, with a soft edge of one pixel."""
    corners = int(random.choice([3, 4, 5, 7, 12, 40]))
    angles = np.sort(random.uniform(0, 2 * np.pi, corners)) if corners < 40 else np.linspace(0, 2 * np.pi, 40)
    radii = side * (random.uniform(0.25, 0.48, corners) if corners < 40 else np.full(corners, 0.45))
    squeeze = random.uniform(0.5, 1)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles) * squeeze], axis=1) + side / 2
    alpha = np.zeros((side, side), np.uint8)
    cv2.fillPoly(alpha, [points.round().astype(np.int32)], 255, cv2.LINE_AA)
    return _unit(alpha)


def _texture(random: Generator, height: int, width: int) -> Image:
    kind = _TEXTURES[random.integers(len(_TEXTURES))]
    grain = 0.015 * random.standard_normal((height, width, 1), np.float32)  # no surface is quite smooth
    shade = cv2.resize(random.random((3, 3), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    shaded = kind(random, height, width) * (0.6 + 0.4 * shade[..., None])
    return np.asarray((shaded + grain).clip(0, 1), np.float32)


def _clouds(random: Generator, height: int, width: int) -> Image:
    image, weight = np.zeros((height, width, 3), np.float32), 0.0
    for octave in range(2, 8):
        cells = min(2**octave, height, width)
        share = random.uniform(0.4, 1.0) / 1.6**octave
        coarse = random.random((cells, cells, 3), np.float32)
        image += share * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        weight += share
    return _two_colours(random, image / weight * 2 - 0.5)


def _stripes(random: Generator, height: int, width: int) -> Image:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle, length = random.uniform(0, np.pi), random.uniform(5, 40)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) * (2 * np.pi / length)
    return _two_colours(random, (0.5 + random.uniform(0.5, 2) * np.sin(along))[..., None])


def _checks(random: Generator, height: int, width: int) -> Image:
    side = int(random.integers(6, 32))
    cells = random.random((height // side + 1, width // side + 1, 3), np.float32)
    grid = cells.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
    return _two_colours(random, grid)


def _discs(random: Generator, height: int, width: int) -> Image:
    image = _plain(random, height, width)
    for _ in range(max(8, height * width // 1200)):
        centre = int(random.integers(width)), int(random.integers(height))
        cv2.circle(image, centre, int(random.integers(2, 16)), _ink(random), -1, cv2.LINE_AA)
    return _unit(image)


def _writing(random: Generator, height: int, width: int) -> Image:
    image = _plain(random, height, width)
    ink, size = _ink(random), random.uniform(0.4, 1.4)
    for bottom in range(int(14 * size), height + int(28 * size), int(28 * size) + 4):
        line = "".join(map(chr, random.integers(33, 127, width // int(12 * size) + 2)))
        cv2.putText(image, line, (0, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, ink, 2, cv2.LINE_AA)
    return _unit(image)


def _unit(image: NDArray[np.uint8]) -> Image:
    return np.asarray(image / 255, np.float32)


def _plain(random: Generator, height: int, width: int) -> Rgb:
    return np.full((height, width, 3), _ink(random), np.uint8)


def _ink(random: Generator) -> list[int]:
    colour: list[int] = random.integers(0, 256, 3).tolist()
    return colour


def _two_colours(random: Generator, mix: Image) -> Image:
    low, high = random.random(3, np.float32), random.random(3, np.float32)
    return np.asarray(low + (high - low) * mix.clip(0, 1), np.float32)


_TEXTURES: tuple[Callable[[Generator, int, int], Image], ...] = (_clouds, _stripes, _checks, _discs, _writing)
