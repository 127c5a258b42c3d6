"""From RGB to 256 colours, chosen for each picture."""

from __future__ import annotations

import av
from av.filter import Graph

__all__ = ["to_palette"]

# Bayer's pattern stays where it is from one picture to the next; diffused errors would swarm.
_FILTERS = (("palettegen", "stats_mode=single"), ("paletteuse", "new=1:dither=bayer:bayer_scale=3"))


def to_palette(picture: av.VideoFrame) -> av.VideoFrame:
    """An rgb24 frame as pal8."""
    graph = Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
    )
    both = graph.add("split")
    colours, use = (graph.add(name, settings) for name, settings in _FILTERS)
    sink = graph.add("buffersink")
    source.link_to(both)
    both.link_to(use, 0, 0)
    both.link_to(colours, 1, 0)
    colours.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.push(picture)
    graph.push(None)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)  # noqa: S101 - a graph of video filters
    result.pts, result.time_base, result.duration = picture.pts, picture.time_base, picture.duration
    return result
