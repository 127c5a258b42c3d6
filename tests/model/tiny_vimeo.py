"""A set in Vimeo-90K's layout, small enough to train on in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

FRAMES = 7


def write_tiny_vimeo(root: Path, *, train: int = 6, test: int = 2, size: tuple[int, int] = (40, 48)) -> Path:
    """Drifting smooth noise: `train` and `test` septuplets of size (height, width)."""
    height, width = size
    rng = np.random.default_rng(3)
    names = [f"00001/{number:04d}" for number in range(train + test)]
    for name in names:
        folder = root / "sequences" / name
        folder.mkdir(parents=True)
        scene = cv2.GaussianBlur(rng.random((height + 32, width + 32, 3)), (0, 0), 2)
        scene = ((scene - scene.min()) / np.ptp(scene) * 255).astype(np.uint8)
        down, right = rng.integers(-2, 3, 2)
        for t in range(FRAMES):
            top, left = 16 + down * (t - 3), 16 + right * (t - 3)
            picture = scene[top : top + height, left : left + width]
            assert cv2.imwrite(str(folder / f"im{t + 1}.png"), picture)
    (root / "sep_trainlist.txt").write_text("\n".join(names[:train]) + "\n")
    (root / "sep_testlist.txt").write_text("\n".join(names[train:]) + "\n")
    return root
