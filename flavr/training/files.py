"""Writing a run's files so that each is whole or absent, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from flavr.errors import TrainingError

_PARTIAL = ".{}.partial"  # one fixed name per file: what a killed run left behind is overwritten by the next


def write_checkpoint(path: Path, content: Mapping[str, Any], *, best: Path | None = None) -> None:
    """Write a checkpoint under its name only when it is complete and on the disk, and the same as `best`.

    A kill at any moment leaves the previous checkpoint or this one. `best` is put in place first: a run
    resumed from the previous checkpoint then finds the same best again.

    Raises:
        TrainingError: it cannot be written, such as for want of space; what was there before is untouched.
    """
    with complete(path) as partial:
        with partial.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())  # else the rename can reach the disk before the content does
        if best is not None:
            with complete(best) as second:
                _copy(partial, second)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under its name only when it is complete.

    Raises:
        TrainingError: it cannot be written.
    """
    with complete(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def complete(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well, and goes away when it does not.

    Raises:
        TrainingError: the block raised what a full disk, a lost mount or a forbidden folder raises.
    """
    partial = _partial(path)
    partial.unlink(missing_ok=True)
    try:
        with _explained(path):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def make_folder(folder: Path, *files: Path) -> None:
    """Make a run's folder, and delete what a killed run may have left beside these files in it.

    Raises:
        TrainingError: it cannot be made.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            _partial(file).unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(_PARTIAL.format(path.name))


def _copy(source: Path, target: Path) -> None:
    """The same content under a second name, without writing it again where the file system has links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what a full disk, a lost mount or a forbidden folder raises into one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save replaces the OSError of a full disk by a RuntimeError that hides the reason
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        reason = "the disk is full" if cause.errno == errno.ENOSPC else cause.strerror or str(cause)
        kept = "; the previous one is untouched" if path.exists() else ""
        raise TrainingError(f"cannot save {path}: {reason}{kept}") from error
