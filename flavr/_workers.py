"""What torch's DataLoader workers need to fail and stop politely."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TypeVar

from flavr.errors import FlavrError, TrainingError

_Item = TypeVar("_Item")


def quiet_worker(_worker: int) -> None:
    """`worker_init_fn`: leave Ctrl-C, which reaches every process of a terminal, to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the inherited handler, which only takes a note


def unwrapped(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, with the errors of workers as they were before torch put their traceback into them."""
    try:
        yield from items
    except FlavrError as error:
        _, found, message = str(error).rpartition(f"{type(error).__name__}: ")
        raise type(error)(message.strip() if found else str(error)) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error) and "exited unexpectedly" in str(error):
            raise TrainingError(
                "a process that reads images was killed, maybe for lack of memory: try a lower --num-workers"
            ) from error
        raise
