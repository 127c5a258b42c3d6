"""Stages of a pipeline that overlap: each runs ahead of the next one in a thread of its own.

    with Stages() as stages:
        frames = stages.ahead(decoded(path), "read", limit=2)
        frames = stages.ahead(interpolated(frames), "network", limit=2)
        for frame in frames: ...

Data flows one way, through buffers of a few items. Leaving the block, by an error, an interrupt or in peace,
stops all stages and waits for their threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from flavr_runtime.profile import StageClock, spent, stage_clock

__all__ = ["Stages"]

T = TypeVar("T")

_POLL = 0.5  # seconds: on Windows, Ctrl-C does not wake a thread that waits without a limit


class Stages:
    """The threads of one run."""

    def __init__(self, interrupt: Callable[[], None] | None = None, *, patience: float = 5.0) -> None:
        """Start with no stage.

        Args:
            interrupt: called when the block is left early, to cut short what a stage is doing.
            patience: seconds to wait then for a stage; one may be stuck in a read from a pipe for good.
        """
        self._interrupt = interrupt
        self._patience = patience
        self._running: list[_Stage[object]] = []

    def ahead(self, items: Iterable[T], name: str, *, limit: int) -> Iterator[T]:
        """The same items in the same order, made in a thread by the time they are asked for.

        At most `limit` wait to be taken; 0 starts no thread. An error is raised where it would have been
        raised without the thread, the same object. `name` is the stage's in the profile.
        """
        if limit == 0:
            return iter(items)
        stage = _Stage(items, name, limit)
        self._running.append(stage)  # type: ignore[arg-type]  # only its end is of interest
        stage.start()
        return stage.taken()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._running:
            stage.stop()
        if self._interrupt is not None and any(stage.is_alive for stage in self._running):
            self._interrupt()
        for stage in self._running:
            stage.join(self._patience)


class _StoppedError(Exception):
    """Ends a stage whose run is over. Nobody sees it."""


class _Stage(Generic[T]):
    def __init__(self, items: Iterable[T], name: str, limit: int) -> None:
        self._items = items
        self._limit = limit
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()  # guards what follows and the items waiting
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        # A daemon: one that is stuck for good must not keep the program from ending.
        self._thread = threading.Thread(
            target=self._run, args=(stage_clock(name),), name=f"flavr-{name}", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def taken(self) -> Iterator[T]:
        while True:
            with spent("waiting"), self._changed:
                self._wait_while(lambda: not self._waiting and not self._ended)
                if not self._waiting:
                    break
                item = self._waiting.popleft()
                self._changed.notify_all()
            yield item
            del item  # else a picture more lives while the next one is waited for
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    def join(self, patience: float) -> None:
        self._thread.join(patience)

    def _run(self, clock: StageClock) -> None:
        error: BaseException | None = None
        try:
            with clock:
                for item in self._items:
                    self._put(item)
                    del item
        except _StoppedError:
            pass
        except BaseException as raised:  # raised again where the items are taken
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def _put(self, item: T) -> None:
        with spent("waiting"), self._changed:
            self._wait_while(lambda: len(self._waiting) >= self._limit)
            self._waiting.append(item)
            self._changed.notify_all()

    def _wait_while(self, unready: Callable[[], bool]) -> None:
        while unready() and not self._stopped:
            self._changed.wait(_POLL)
        if self._stopped:
            raise _StoppedError
