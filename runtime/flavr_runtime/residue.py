"""What a picture's way through RGB loses, and giving it back to new frames where nothing moves.

Decoded video holds colours that RGB cannot: at the edge of a saturated area, 4:2:0 chroma reaches over pixels
too dark or too bright for it. Clamping them to RGB shifts luma there by up to 15 code values, and since every
other frame of the result is an untouched source frame, that would be seen as flicker.
"""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from flavr_runtime.colour import ColourSpec, from_rgb, plane_of
from flavr_runtime.frames import Rgb
from flavr_runtime.profile import spending

__all__ = ["Residue", "give_back", "residue_of"]

Residue = list[NDArray[np.int32]]
"""Per plane: the picture's code values less those that come back from its RGB form."""


@spending("convert back")
def residue_of(picture: av.VideoFrame, rgb: Rgb, spec: ColourSpec) -> Residue:
    """What `picture` has that `rgb`, made from it, has not. Empty for RGB formats, which lose nothing."""
    name = picture.format.name
    if not name.startswith(("yuv", "nv12", "gray")):
        return []
    returned = from_rgb(rgb, name, spec)
    return [
        plane_of(picture, index).astype(np.int32) - plane_of(returned, index)
        for index in range(len(picture.planes))
    ]


@spending("convert back")
def give_back(picture: av.VideoFrame, before: Residue, after: Residue) -> None:
    """Add to a new picture what the source frames at both sides have lost alike.

    Where they differ, something moves, and neither residue belongs to the frame between them.
    """
    highest = (1 << picture.format.components[0].bits) - 1
    for index, (first, second) in enumerate(zip(before, after, strict=True)):
        smaller = np.where(np.abs(first) < np.abs(second), first, second)
        shared = np.where(np.sign(first) == np.sign(second), smaller, 0)
        if shared.any():
            plane = plane_of(picture, index)
            plane[...] = (plane + shared).clip(0, highest)
