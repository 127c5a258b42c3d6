"""Where a result goes: a file that appears under its name when it is complete, or a stream."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO, Protocol

from flavr_runtime.errors import OutputError

STDOUT = "-"
_STDOUT_DEVICES = {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}


class Destination(Protocol):
    """`name` is what messages call it."""

    @property
    def name(self) -> str: ...

    def target(self) -> str | BinaryIO:
        """What to open for writing: a path, or an open stream that cannot seek."""
        ...

    def publish(self) -> None:
        """The result is complete."""
        ...

    def discard(self) -> None:
        """The result is not wanted; nothing may stay of it."""
        ...


class FileDestination:
    """Written under a hidden name beside its own."""

    def __init__(self, path: Path, source: Path, overwrite: bool) -> None:
        """Raises OutputError where no file may or can be written at `path`."""
        check_place(path, source, overwrite)
        self._path = path
        self._partial = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")

    @property
    def name(self) -> str:
        return str(self._path)

    def target(self) -> str:
        return str(self._partial)

    def publish(self) -> None:
        self._partial.replace(self._path)

    def discard(self) -> None:
        self._partial.unlink(missing_ok=True)


class _Stream:
    """What is written is gone: there is nothing to publish or to discard, only an end."""

    def __init__(self) -> None:
        self._stream: BinaryIO | None = None

    def publish(self) -> None:
        self._close()

    def discard(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class StdoutDestination(_Stream):
    """Standard output, which is this result's alone from `target` on: what else is printed goes to stderr."""

    @property
    def name(self) -> str:
        return "standard output"

    def target(self) -> BinaryIO:
        try:
            own = os.dup(1)
        except OSError as error:
            raise OutputError(f"standard output cannot be written ({error.strerror})") from error
        if os.isatty(own):
            os.close(own)
            raise OutputError("standard output is a terminal: pipe it into a program, or name a file with -o")
        os.dup2(2, 1)  # libraries print there when they feel like it
        self._stream = os.fdopen(own, "wb", buffering=0)
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                os.dup2(self._stream.fileno(), 1)
        super()._close()


class PipeDestination(_Stream):
    """A named pipe or a device: somebody else has made it, so it is written into and never replaced."""

    def __init__(self, path: Path, source: Path) -> None:
        """Raises OutputError where the result would flow back into its own source."""
        if source.exists() and path.samefile(source):
            raise OutputError(f"{path}: the output is the input; choose another name")
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        return str(self._path)

    def target(self) -> BinaryIO:
        """Waits until somebody reads the pipe."""
        try:
            self._stream = self._path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror})") from error
        if self._stream.isatty():
            self._close()
            raise OutputError(f"{self._path} is a terminal: name a file or a pipe")
        return self._stream


def is_stdout(path: Path | str) -> bool:
    """Whether a path is "-" or a device that stands for it, which may be a terminal, a pipe or a file."""
    return str(path) in (STDOUT, *_STDOUT_DEVICES)


def is_stream(path: Path | str) -> bool:
    """Whether what is written to a path is gone at once, so that nothing of it can be changed later."""
    path = Path(path)
    return is_stdout(path) or path.is_fifo() or path.is_char_device()


def stream_destination(path: Path, source: Path) -> Destination | None:
    """None for a path of a file. Raises OutputError."""
    if not is_stream(path):
        return None
    return StdoutDestination() if is_stdout(path) else PipeDestination(path, source)


def check_place(path: Path, source: Path, overwrite: bool) -> None:
    """Raises OutputError where no file may or can be written at `path`."""
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: the folder {folder} does not exist; create it first")
    if path.is_dir():
        raise OutputError(f"{path}: a folder of that name exists")
    if path.exists() and not path.is_file():  # root could replace even a disk
        raise OutputError(f"{path}: neither a file, a pipe nor a stream; choose another name")
    if path.exists():
        if source.exists() and path.samefile(source):
            raise OutputError(f"{path}: the output is the input; choose another name")
        if not overwrite:
            raise OutputError(f"{path}: the file exists; use --overwrite, or choose another name")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: no permission to write in {folder}")
