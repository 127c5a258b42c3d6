"""Click pieces that flavr-train and flavr-test share."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    # the published scripts spell options with underscores: both are understood
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


class SectionedCommand(click.Command):
    """A command whose --help lists its options under headings."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[click.Parameter]], **kwargs: Any) -> None:
        """`sections`: heading to options. Options given elsewhere come last, under "Other options"."""
        listed = [option for options in sections.values() for option in options]
        super().__init__(*args, **{**kwargs, "params": [*listed, *kwargs.get("params", ())]})
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a heading at a time."""
        listed = {id(option) for options in self._sections.values() for option in options}
        others = [param for param in self.get_params(ctx) if id(param) not in listed]
        for heading, options in {**self._sections, "Other options": others}.items():
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class KeyValue(click.ParamType[tuple[str, object]]):
    """KEY=VALUE, where a value is a number, several with commas, or a word."""

    name = "KEY=VALUE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, object]:
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r}: write KEY=VALUE, such as max_side=540", param, ctx)
        if key.replace("-", "_") == "n_outputs":
            self.fail(f"{value!r}: the network's factor decides how many frames are made", param, ctx)
        parts = [_number(part) for part in text.split(",")]
        # A trailing comma makes a list of one, as in Python.
        return key.replace("-", "_"), parts[0] if len(parts) == 1 else tuple(
            part for part in parts if part != ""
        )


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _plain(name: str | None) -> str:
    """An option's name without what spellings differ in."""
    return (name or "").lstrip("-").replace("-", "_")


def _listed(value: object) -> str:
    """As `KeyValue` reads it."""
    if not isinstance(value, list):
        return str(value)
    return ",".join(map(str, value)) + "," * (len(value) == 1)


def _as_on_the_line(value: object) -> object:
    """A recipe's value as the command line would have it: of a number, click would cut the fraction off."""
    if isinstance(value, dict):  # a table is an option that is given several times, KEY=VALUE
        return [f"{key}={_listed(each)}" for key, each in value.items()]
    return value if isinstance(value, (bool, list)) else str(value)


def recipe_option() -> click.Option:
    """--config, a TOML file that gives options; those on the command line win."""

    def read(context: click.Context, option: click.Parameter, path: Path | None) -> None:
        if path is None or context.resilient_parsing:
            return
        try:
            recipe = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"{path} is no TOML file: {error}", context, option) from None
        known = {
            _plain(name): param
            for param in context.command.params
            if param.expose_value
            for name in (param.name, *param.opts)  # as --help has it, and as recipes have always had it
        }
        unknown = sorted(name for name in recipe if _plain(name) not in known)
        if unknown:
            raise click.BadParameter(f"{path}: no options called {', '.join(unknown)}", context, option)
        values: dict[str, object] = {}
        for name, value in recipe.items():
            param = known[_plain(name)]
            several = getattr(param, "multiple", False)
            if isinstance(value, (dict, list)) is not several:
                takes = f"takes a table, [{name}]" if several else "takes one value"
                raise click.BadParameter(f"{path}: {name} {takes}, not {value}", context, option)
            if param.name in values:
                raise click.BadParameter(f"{path}: {name} is given twice", context, option)
            if not several and isinstance(value, bool) is not getattr(param, "is_flag", False):
                takes = "takes no true or false" if isinstance(value, bool) else "takes true or false"
                raise click.BadParameter(f"{path}: {name} {takes}, not {value!r}", context, option)
            values[param.name] = _as_on_the_line(value)
        context.default_map = values

    return click.Option(
        ["--config"],
        type=click.Path(path_type=Path, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=read,
        metavar="FILE.toml",
        help="Take options from a file, by their names here; those on the command line win.",
    )


def version_option() -> click.Option:
    """--version, which prints the program's name and version."""

    def show(context: click.Context, _option: click.Parameter, asked: bool) -> None:
        if asked and not context.resilient_parsing:
            import flavr

            click.echo(f"{context.find_root().info_name} {flavr.__version__}")
            context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version and exit.",
    )
