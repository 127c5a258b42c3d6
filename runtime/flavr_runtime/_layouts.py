"""Which loudspeakers sound is for, and what an encoder makes of that."""

from __future__ import annotations

import av

__all__ = ["encodable_layout", "layout_name", "mixed_down"]

# Of sound whose layout is not stored; other numbers of channels are left to FFmpeg.
_UNSTORED = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
# What each takes, the fewest channels first. AAC would take others, with a table that few players read.
_TAKEN = {
    "aac": ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1"),
    "libopus": ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"),
    "libmp3lame": ("mono", "stereo"),
}
# Side and back are two names for the surround of a room with one pair of them: DVDs and Blu-rays say side.
_SAME_PLACE = {"SL": "BL", "SR": "BR"}


def layout_name(layout: av.AudioLayout) -> str:
    """FFmpeg's name, a guess where the source stores only a number of channels."""
    unknown = layout.name.endswith("channels")
    return _UNSTORED.get(layout.nb_channels, layout.name) if unknown else layout.name


def encodable_layout(name: str, encoder: str) -> str:
    """`name`, or the smallest layout of the encoder that has all its channels, or else its largest."""
    taken = _TAKEN.get(encoder, (name,))
    if name in taken:
        return name
    wanted = _places(name)
    return next((each for each in taken if wanted <= _places(each)), taken[-1])


def mixed_down(name: str, encoder: str) -> bool:
    """Whether channels are lost in the layout that the encoder takes instead."""
    fewer = av.AudioLayout(encodable_layout(name, encoder)).nb_channels
    return fewer < av.AudioLayout(name).nb_channels


def _places(name: str) -> set[str]:
    channels = {channel.name for channel in av.AudioLayout(name).channels}
    both = channels >= {*_SAME_PLACE, *_SAME_PLACE.values()}
    return channels if both else {_SAME_PLACE.get(each, each) for each in channels}
