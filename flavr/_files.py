"""Writing files so that each is whole or absent, whatever happens meanwhile. Imports no PyTorch."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from flavr.errors import FlavrError

_PARTIAL = ".{}.partial"  # one name per file: what a killed program left is overwritten by the next


@contextlib.contextmanager
def complete(path: Path, kind: type[FlavrError]) -> Iterator[Path]:
    """A name to write to, which becomes `path` when the block ends well, and goes away when it does not.

    Raises:
        kind: the block raised what a full disk, a lost mount or a forbidden folder raises; what was there
            before is untouched.
    """
    partial = partial_of(path)
    try:
        with explained(path, kind):
            partial.unlink(missing_ok=True)
            yield partial
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):  # of a lost mount: the first error says more
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def explained(path: Path, kind: type[FlavrError]) -> Iterator[None]:
    """Turn what a full disk, a lost mount or a forbidden folder raises into one line.

    Raises:
        kind: such an error.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save replaces the OSError of a full disk by a RuntimeError that hides the reason; only of a
        # file that it is given open does that error keep it
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        reason = "the disk is full" if cause.errno == errno.ENOSPC else cause.strerror or str(cause)
        kept = "; the previous one is untouched" if path.exists() else ""
        raise kind(f"cannot save {path}: {reason}{kept}") from error


def partial_of(path: Path) -> Path:
    """The name under which `complete` has a file written."""
    return path.with_name(_PARTIAL.format(path.name))
