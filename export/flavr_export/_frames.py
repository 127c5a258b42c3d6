"""Frames to verify with: textured, moving, with edges and saturated areas, never noise or constants alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flavr.config import WINDOW


def structured_frames(height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Four consecutive frames of a small scene.

    Two crossing gratings drift, a disc moves in front of them across a hard-edged black and white bar, and
    a little grain covers all of it, so that every channel and every code value range is visited.

    Returns:
        Four uint8 [1, H, W, 3] RGB pictures.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    phases = rng.uniform(0, 2 * np.pi, 3)
    frames = []
    for t in range(WINDOW):
        waves = [
            0.5
            + 0.3 * np.sin((columns + 2.5 * t) * 0.31 + phase)
            + 0.2 * np.cos((rows - 1.5 * t) * 0.17 + phase)
            for phase in phases
        ]
        picture = np.stack(waves, axis=-1)
        picture[:, width // 3 : width // 3 + max(width // 8, 1)] = (0.0, 1.0, 1.0)[t % 3]
        centre = height * 0.5, width * (0.25 + 0.12 * t)
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (min(height, width) / 4) ** 2
        picture[disc] = (0.9, 0.2, 0.1)
        picture += rng.normal(0, 0.02, picture.shape)
        frames.append((picture.clip(0, 1) * 255).round().astype(np.uint8)[None])
    return frames


def extreme_frames(height: int, width: int) -> dict[str, list[NDArray[np.uint8]]]:
    """By name, four pictures uint8 [1, H, W, 3] each that ordinary video hardly has."""
    shape = (1, height, width, 3)
    black, white = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    rng = np.random.default_rng(0)
    return {
        "black frames": [black] * WINDOW,
        "white frames": [white] * WINDOW,
        "flicker between black and white": [black, white] * (WINDOW // 2),
        "noise of 0 and 255": [rng.choice(np.array([0, 255], np.uint8), shape) for _ in range(WINDOW)],
    }
