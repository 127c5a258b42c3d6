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

import contextlib
import errno
import os
from collections.abc import Iterator

__all__ = [
    "FlavrRuntimeError",
    "InputError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "ProviderError",
    "UsageError",
    "system_errors",
]

# By the system's number; what is not here is said in the system's own words.
_CAUSES = dict.fromkeys(
    (errno.EACCES, errno.EPERM),
    "no permission; change the rights of the file or of the folders that it is in",
) | {errno.ENAMETOOLONG: "the name is too long; shorten it"}


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


@contextlib.contextmanager
def system_errors(kind: type[FlavrRuntimeError] = FlavrRuntimeError) -> Iterator[None]:
    """What the system says of a file by its name, as one of these errors.

    Even to ask whether a file exists can be refused: in a folder without permission, under too long a name.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read it has seen enough
    except OSError as error:
        if error.filename is None:
            raise
        cause = _CAUSES.get(error.errno or 0) or error.strerror or str(error)
        raise kind(f"{os.fsdecode(error.filename)}: {cause}") from error
