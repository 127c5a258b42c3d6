"""flavr-providers: what this machine can run a model on, and the pip line for what it cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from flavr_runtime._cli import Command, cli_errors, version_option

if TYPE_CHECKING:
    from flavr_runtime.providers import Availability

_EPILOG = """\b
Examples:
  flavr-providers                               what works here, and how to get the rest
  flavr-providers --json                        the same for a program
  flavr-providers --json | jq -r .auto          the name that --provider auto stands for

Every provider is tried on a small convolution with the CPU forbidden: "works" means that it computed it.
"""


@click.command(
    cls=Command,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@version_option
@cli_errors()
def command(as_json: bool) -> None:
    """Try every execution provider on this machine and say which work.

    The names are what the --provider option of flavr-run takes.
    """
    from flavr_runtime.providers import PROVIDERS, probe

    tried = {name: probe(name) for name in PROVIDERS}
    if as_json:
        click.echo(json.dumps(_report(tried), indent=2))
    else:
        _print_tables(tried)


def main() -> None:
    """The entry point of `flavr-providers`."""
    command(prog_name="flavr-providers")


def _report(tried: Mapping[str, Availability]) -> dict[str, Any]:
    from flavr_runtime.providers import auto_choice, installed_wheels

    return {
        "auto": auto_choice(tried),
        "onnxruntime": installed_wheels(),
        "providers": [
            {
                "name": name,
                "runs_on": one.provider.runs_on,
                "works": one.ok,
                "execution_provider": one.execution_provider,
                "version": one.version,
                "reason": one.reason,
                "needs": one.provider.needs,
                "install": one.cure,
                "install_other_builds": {line.origin: line.command for line in one.other_cures},
            }
            for name, one in tried.items()
        ],
    }


def _print_tables(tried: Mapping[str, Availability]) -> None:
    from rich.console import Console
    from rich.table import Table

    from flavr_runtime.providers import auto_choice, installed_wheels

    chosen = auto_choice(tried)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("provider", "runs on", "here", "through"):
        table.add_column(column, header_style="bold", no_wrap=column == "provider")
    for name, one in tried.items():
        through = (one.execution_provider or "").removesuffix("ExecutionProvider")
        style = "green" if one.ok else "red" if one.engine else "dim"
        table.add_row(name, one.provider.runs_on, _status(one), through, style=style)
    Console().print(table)

    # Everything below is printed whole: a wrapped or shortened command cannot be copied.
    wheels = installed_wheels()
    click.echo()
    click.echo(
        "ONNX Runtime: " + (", ".join(f"{wheel} {version}" for wheel, version in wheels.items()) or "none")
    )
    if len(wheels) > 1:
        click.echo("  These builds overwrite each other's files: uninstall all of them, then install one.")
    click.echo(f"--provider auto takes: {chosen or 'nothing, since none works'}")

    absent: dict[tuple[str, ...], list[Availability]] = {}
    for one in tried.values():
        if one.cure:  # rocm and migraphx come with the same builds: say it once
            absent.setdefault((one.cure, *(line.command for line in one.other_cures)), []).append(one)
    if absent:
        click.echo()
        click.echo("To get the others (an environment holds one build of ONNX Runtime at a time):")
    for same in absent.values():
        click.echo()
        click.echo(f"{', '.join(one.provider.name for one in same)}: {same[0].reason}")
        if same[0].provider.needs:
            click.echo(f"  needs {same[0].provider.needs}")
        click.echo(f"  {same[0].cure}")
        for line in same[0].other_cures:
            click.echo(f"  or {line.origin}:")
            click.echo(f"  {line.command}")


def _status(one: Availability) -> str:
    if one.ok:
        return "works"
    if one.engine is not None:
        return "fails, see below"
    return "not installed" if one.cure else one.reason.removeprefix("it exists ")
