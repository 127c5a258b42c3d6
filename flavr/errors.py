"""Every error that flavr raises on purpose.

FlavrError
├── CheckpointError       a checkpoint that is missing, unreadable, unsafe, or of another network
├── DataError             a data set, image or video that is missing, broken, or too small
├── TrainingError         a training or validation run that cannot start, go on, or be saved
└── UsageError            an option or argument that cannot be honoured (exit code 2 on the command line)

Each message is one line that says what is wrong, with which file, and what to do about it.
"""

__all__ = ["CheckpointError", "DataError", "FlavrError", "TrainingError", "UsageError"]


class FlavrError(Exception):
    """Root of the tree: catch it to catch everything flavr raises on purpose."""


class CheckpointError(FlavrError):
    """A checkpoint that is missing, unreadable, unsafe to load, or does not hold a FLAVR network."""


class DataError(FlavrError):
    """A data set, image or video that is missing, broken, of mixed sizes, or too small for its use."""


class TrainingError(FlavrError):
    """A training or validation run that cannot start, go on, or be saved."""


class UsageError(FlavrError):
    """An option or argument that cannot be honoured, such as the name of a data set that does not exist."""
