"""A progress bar around anything that is iterated over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Item = TypeVar("_Item")


def counted(items: Iterable[_Item], total: int, weight: Callable[[_Item], int]) -> Iterator[_Item]:
    """The same items, with a bar on stderr if that is a terminal; each counts for its weight of the total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("windows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        for item in items:
            yield item
            progress.advance(task, weight(item))
