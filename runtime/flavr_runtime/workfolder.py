"""The hidden folder beside an output in which a run keeps what is done, so that another can go on with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from flavr_runtime.errors import OutputError

__all__ = ["DISK_FULL", "WorkFolder", "sync_folder", "write_durably"]

DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""What the system says when a disk or a quota is used up."""

_STATE = "state.json"
_LOCK = "lock"


class WorkFolder:
    """`.NAME.flavr-parts` beside the output NAME, held by one run at a time.

    `identity` names all that the result depends on. What an interrupted run has left is continued only where
    every part of it is the same; nothing is ever mixed.
    """

    def __init__(
        self,
        output: Path,
        *,
        resume: bool = False,
        identity: Mapping[str, str] | None = None,
        lasting: bool = True,
    ) -> None:
        """Without `lasting` nothing is kept: the input is a stream, which cannot be read again.

        Raises OutputError if `resume` cannot be honoured, naming what has changed.
        """
        place = output.resolve() if output.is_dir() else output.absolute()
        self.path = place.with_name(f".{place.name}.flavr-parts")
        self._output = output
        self.resume = resume
        self._lasting = lasting
        self._identity: dict[str, str] = {}
        self._lock: IO[bytes] | None = None
        self.identify(identity or {})

    @property
    def held(self) -> bool:
        """Whether this run has taken the folder; else what is in it is another's."""
        return self._lock is not None

    @property
    def notices(self) -> list[str]:
        """What the user should know before the run, one sentence each."""
        found = any(self._finished())
        if self.resume and not found:
            return [f"nothing is left of an earlier run to {self._output.name}: it starts at the beginning"]
        if found and not self.resume:
            return [
                f"what an interrupted run to {self._output.name} has left is thrown away; "
                "--resume would have continued it"
            ]
        return []

    def identify(self, facts: Mapping[str, str]) -> None:
        """Add to what the result depends on.

        Raises OutputError where the interrupted run had another value.
        """
        self._identity.update(facts)
        if self.resume and any(self._finished()):
            self._check(self._begun_with(), facts)

    def amend(self, name: str, value: str) -> None:
        """Note what the result depends on from here on: a run that is resumed must go on with that.

        Raises OSError where the disk refuses it.
        """
        if self._identity.get(name) != value:
            self._identity[name] = value
            if self.held:
                self._note()

    def open(self) -> None:
        """Take the folder, empty but for what is to be continued.

        Raises:
            OutputError: another run holds it, or something has changed.
        """
        try:
            self.path.mkdir(exist_ok=True)
            self._take()
        except BaseException:  # a signal between the two, before `close` would know that the folder is ours
            with contextlib.suppress(OSError):
                self.path.rmdir()  # only if it is empty
            raise
        continued = self.resume and any(self._finished())
        if continued:
            try:
                begun = self._begun_with()
                self._check(begun, {*begun, *self._identity})
            except OutputError:
                self._let_go()  # `close` would remove what another run may continue
                raise
        for each in [*self.path.rglob("*.partial")] if continued else [*self.path.iterdir()]:
            if each.name != _LOCK:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        self._note()

    def close(self, *, remove: bool) -> None:
        """Let go of the folder; with `remove`, leave nothing of it."""
        if self._lock is not None:
            self._let_go()
            if remove or not self._lasting:
                shutil.rmtree(self.path, ignore_errors=True)

    def _note(self) -> None:
        write_durably(self.path / _STATE, json.dumps(self._identity, indent=1).encode())

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _finished(self) -> Iterator[Path]:
        """What is whole in the folder."""
        with contextlib.suppress(OSError):
            for each in self.path.rglob("*"):
                if each.name not in (_STATE, _LOCK) and each.suffix != ".partial" and each.is_file():
                    yield each

    def _check(self, begun: Mapping[str, str], names: Iterable[str]) -> None:
        for name in sorted(names):
            was, now = begun.get(name, "unknown"), self._identity.get(name, "unknown")
            if was != now:
                raise OutputError(
                    f"{self._output}: cannot be resumed: {name} was {was}, now it is {now}; go back to what "
                    "it was begun with, or start over without --resume"
                )

    def _begun_with(self) -> dict[str, str]:
        try:
            found = json.loads((self.path / _STATE).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{self._output}: cannot be resumed: {self.path / _STATE} is unreadable; start over without "
                "--resume"
            ) from error
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    def _take(self) -> None:
        self._lock = (self.path / _LOCK).open("ab")
        try:
            _lock_file(self._lock)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise OutputError(
                f"{self._output}: another run is writing it; wait for that one, or choose another name"
            ) from error


def write_durably(path: Path, data: bytes) -> None:
    """A file that is whole on the disk or not there, whatever happens."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring new names in `folder` to the disk, where the system can."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and does this by itself
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock_file(file: IO[bytes]) -> None:
    """Lock it until it is closed or its process ends, however that happens. Raises OSError if it is taken."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
