"""Command line options that are declared as the fields of dataclasses, one dataclass per subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

import click

_Group = TypeVar("_Group")
_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class _Declaration:
    names: tuple[str, ...]
    settings: Mapping[str, Any]
    shapes_result: bool


def option(*names: str, shapes_result: bool = True, **settings: Any) -> Any:
    """A field that is set by an option; the arguments are those of `click.option`.

    Without `shapes_result`, the frames and sound of the result do not depend on it.
    """
    return field(metadata={"option": _Declaration(names, settings, shapes_result)})


def add_options(groups: type[object]) -> Callable[[_Command], _Command]:
    """A decorator that gives a click command the options of a dataclass whose fields are groups of them."""

    def decorate(command: _Command) -> _Command:
        declared = [each for group in _groups(groups).values() for each in fields(group)]  # type: ignore[arg-type]
        for each in reversed(declared):  # as stacked decorators, the last one is applied first
            declaration: _Declaration = each.metadata["option"]
            command = click.option(*declaration.names, each.name, **declaration.settings)(command)
        return command

    return decorate


def read_options(groups: type[_Group], values: Mapping[str, object]) -> _Group:
    """That dataclass, filled with what click has parsed."""
    filled = {
        name: group(**{each.name: values[each.name] for each in fields(group)})  # type: ignore[arg-type]
        for name, group in _groups(groups).items()
    }
    return groups(**filled)


def settings_of(groups: object) -> Iterator[tuple[str, object]]:
    """The long name and the value of every option that the result depends on."""
    return all_settings(groups, only_shaping=True)


def all_settings(groups: object, *, only_shaping: bool = False) -> Iterator[tuple[str, object]]:
    """The long name and the value of every option."""
    for name in _groups(type(groups)):
        group = getattr(groups, name)
        for each in fields(group):
            declaration: _Declaration = each.metadata["option"]
            if declaration.shapes_result or not only_shaping:
                yield max(declaration.names, key=len).partition("/")[0], getattr(group, each.name)


def _groups(groups: type[object]) -> dict[str, type[object]]:
    return get_type_hints(groups)
