"""Every error that flavr raises on purpose.

FlavrError
└── CheckpointError       a checkpoint that is missing, unreadable, unsafe, or of another network

Each message is one line that says what is wrong, with which file, and what to do about it.
"""

__all__ = ["CheckpointError", "FlavrError"]


class FlavrError(Exception):
    """Root of the tree: catch it to catch everything flavr raises on purpose."""


class CheckpointError(FlavrError):
    """A checkpoint that is missing, unreadable, unsafe to load, or does not hold a FLAVR network."""
