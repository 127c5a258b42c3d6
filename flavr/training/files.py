"""Writing a run's files, each by `flavr._files`: whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from flavr._files import complete, explained, partial_of
from flavr.errors import TrainingError


def write_checkpoint(path: Path, content: Mapping[str, Any], *, best: Path | None = None) -> None:
    """Write a checkpoint under its name only when it is complete and on the disk, and the same as `best`.

    A kill at any moment leaves the previous checkpoint or this one. `best` is put in place first: a run
    resumed from the previous checkpoint then finds the same best again.

    Raises:
        TrainingError: it cannot be written, such as for want of space; what was there before is untouched.
    """
    with complete(path, TrainingError) as partial:
        with partial.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())  # else the rename can reach the disk before the content does
        if best is not None:
            with complete(best, TrainingError) as second:
                _copy(partial, second)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under its name only when it is complete.

    Raises:
        TrainingError: it cannot be written.
    """
    with complete(path, TrainingError) as partial:
        partial.write_bytes(content)


def make_folder(folder: Path, *files: Path) -> None:
    """Make a run's folder, and delete what a killed run may have left beside these files in it.

    Raises:
        TrainingError: it cannot be made.
    """
    with explained(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            partial_of(file).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """The same content under a second name, without writing it again where the file system has links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
