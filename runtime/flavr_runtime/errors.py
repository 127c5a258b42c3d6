"""Every error that flavr_runtime raises on purpose.

FlavrRuntimeError
├── UsageError            an option or argument that cannot be honoured (exit code 2 on the command line)
├── ModelError            the .onnx file is missing, unreadable, not a FLAVR export or not understood
│   └── OutOfMemoryError  a window of that size does not fit
├── ProviderError         the execution provider asked for cannot run here
├── InputError            frames or media that cannot be read or interpolated
└── OutputError           a result that cannot be written

Each message is one line that says what is wrong, with which file or value, and what to do about it.
The command line prints it after "error: " and exits 1.
"""

__all__ = [
    "FlavrRuntimeError",
    "InputError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "ProviderError",
    "UsageError",
]


class FlavrRuntimeError(Exception):
    """Root of the tree: catch it to catch everything flavr_runtime raises on purpose."""


class UsageError(FlavrRuntimeError):
    """An option or argument that cannot be honoured, such as a factor the model cannot make."""


class ModelError(FlavrRuntimeError):
    """The model file is missing, unreadable, not a FLAVR export, or of a kind this version does not know."""


class OutOfMemoryError(ModelError):
    """A window of that size does not fit into the memory that the execution provider can have."""


class ProviderError(FlavrRuntimeError):
    """The execution provider asked for is not installed or does not work on this machine."""


class InputError(FlavrRuntimeError):
    """Frames or media that cannot be read or interpolated."""


class OutputError(FlavrRuntimeError):
    """A result that cannot be written: unknown container, encoder refused, disk full, file exists."""
