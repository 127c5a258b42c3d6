"""Where the chroma samples of a decoded frame lie."""

from __future__ import annotations

import re

import av
import av.filter
import av.logging

from flavr_runtime.colour import is_420
from flavr_runtime.traits import CHROMA_SITES, ChromaSite

__all__ = ["chroma_site_of"]

_SAID = re.compile(r"\bcl:(\w+)")


def chroma_site_of(frame: av.VideoFrame) -> ChromaSite | None:
    """None where the frame does not say, or is not 4:2:0.

    PyAV does not hand out that field of a frame, but FFmpeg's filter `showinfo` prints it.
    """
    if not is_420(frame.format.name):
        return None
    graph = av.filter.Graph()
    start = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    show, end = graph.add("showinfo", "checksum=0"), graph.add("buffersink")
    start.link_to(show)
    show.link_to(end)
    graph.configure()
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as printed:
            graph.push(frame)
            graph.pull()
    finally:
        av.logging.set_level(level)
    found = _SAID.search("".join(text for _, _, text in printed))
    return next((site for site in CHROMA_SITES if found is not None and site == found[1]), None)
