"""From frames to pictures in the pixel format that is written."""

from __future__ import annotations

from collections import deque

import av

from flavr_runtime.colour import ColourSpec, convert, from_rgb, reordered
from flavr_runtime.frames import Frame
from flavr_runtime.residue import Residue, give_back, residue_of

PLANAR_TWINS = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""Formats with interleaved chroma, and those with the same samples in planes."""


class Pictures:
    """Makes pictures of one pixel format; a source frame that has it already is passed on itself."""

    def __init__(self, pixel_format: str, source: ColourSpec, target: ColourSpec) -> None:
        self._wanted = pixel_format
        self._pixel_format = PLANAR_TWINS.get(pixel_format, pixel_format)
        self._source, self._target = source, target
        self._residues: deque[tuple[Frame, Residue]] = deque(maxlen=2)

    def of(self, frame: Frame) -> av.VideoFrame:
        if isinstance(frame.source, av.VideoFrame) and frame.source.format.name == self._wanted:
            return frame.source
        picture = self._planar(frame)
        if self._wanted == self._pixel_format:
            return picture
        return reordered(picture, self._wanted)

    def _planar(self, frame: Frame) -> av.VideoFrame:
        if isinstance(frame.source, av.VideoFrame):
            return convert(frame.source, self._pixel_format, self._source, self._target)
        picture = from_rgb(frame.rgb, self._pixel_format, self._target)
        if frame.between is not None:
            before, after = (self._residue(each) for each in frame.between)
            give_back(picture, before, after)
        return picture

    def _residue(self, frame: Frame) -> Residue:
        """That of a source frame, kept while its intervals at both sides are written."""
        for known, residue in self._residues:
            if known is frame:
                return residue
        residue = residue_of(self._planar(frame), frame.rgb, self._target)
        self._residues.append((frame, residue))
        return residue
