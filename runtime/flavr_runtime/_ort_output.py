"""What ONNX Runtime prints while a session is made: kept off the terminal, and mined for the real reason.

When a provider's library cannot be loaded, the exception (where there is one) says only that nodes ended on
the CPU. The missing file is named on the C++ side, which writes to the process's own file descriptors.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from typing import IO

_LIMIT = 300  # characters of a reason that are shown; MIGraphX and TensorRT can say pages

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LIBRARY = re.compile(r"Failed to load library (?P<library>\S.*?) with error: (?P<why>.+)")
_LOGGED_ERROR = re.compile(r"^.*\[E:onnxruntime:[^\]]*\] (?P<message>.+)$", re.MULTILINE)
_STATUS = re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(
    r"^\S+\.(?:cc|cpp|h|hpp):\d+ [^(]*(?:\([^()]*\))+(?: const)?"
    r"(?: \[with [^\]]*\])?(?:::<lambda\([^()]*\)>)? "
)
_TRAIL = re.compile(r"^.*Exception from \S+:\d+: ")  # OpenVINO's way down to the cause
_DETAIL = re.compile(r" ; GPU=.*$")  # CUDA appends device, host name, file and line


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Keep everything printed inside the block, by Python and by native code, off the terminal.

    Yields a list that holds the text once the block has ended. File descriptors belong to the whole
    process: what other threads print meanwhile is swallowed too, so keep the block short.
    """
    printed = io.StringIO()
    text: list[str] = []
    with _scratch_file() as native, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        saved: list[tuple[int, int]] = []
        try:
            for descriptor in (1, 2):
                with contextlib.suppress(OSError):  # closed, as in a Windows program without a console
                    saved.append((descriptor, os.dup(descriptor)))
                    os.dup2(native.fileno(), descriptor)
            yield text
        finally:
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)
            native.seek(0)
            text.append(native.read().decode(errors="replace") + printed.getvalue())


def one_line_reason(error: str, output: str) -> str:
    """The cause of a failure on one line.

    error: the exception's text; output: what was printed meanwhile. A library that could not be loaded
    outranks the exception, which is only its consequence.
    """
    output = _COLOUR.sub("", output)
    if match := _LIBRARY.search(f"{output}\n{error}"):
        library = re.split(r"[\\/]", match["library"])[-1]
        reason = f"{library} cannot be loaded: {match['why']}"
    elif match := _LOGGED_ERROR.search(output):
        reason = match["message"]
    elif "fallback to CPU EP has been explicitly disabled" in error:
        reason = "it took none of the work, which would all have run on the CPU"
    else:
        reason = error
    reason = " ".join(reason.split())
    reason = _SOURCE.sub("", _STATUS.sub("", reason)).removeprefix("[ERROR] ")
    reason = _DETAIL.sub("", _TRAIL.sub("", reason)).rstrip(" .")
    return reason if len(reason) <= _LIMIT else f"{reason[:_LIMIT].rstrip()}..."


def _scratch_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # a read-only container: the noise is still kept away, only its text is lost
        return open(os.devnull, "r+b")  # noqa: PTH123 - a device, and the caller closes it
