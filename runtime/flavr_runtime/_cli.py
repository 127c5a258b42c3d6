"""What the command line programs share: how errors become one line and an exit code, and --version."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from flavr_runtime.errors import FlavrRuntimeError, UsageError, system_errors

_Command = TypeVar("_Command", bound=Callable[..., object])


@contextlib.contextmanager
def cli_errors() -> Iterator[None]:
    """Turn the errors of flavr_runtime into one line on stderr and an exit code.

    UsageError exits 2, any other FlavrRuntimeError 1, an interrupt 130; a reader that went away (`| head`)
    exits 1 in silence, want of memory exits 1. FLAVR_DEBUG=1 lets errors through, for the traceback.

    Use it as a decorator right above the function, below click's: click's own handling of interrupts sits
    around the command and would win over one placed around `main`.
    """
    try:
        with system_errors():
            yield
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()  # here a closed pipe can still be handled; at interpreter exit it cannot
    except FlavrRuntimeError as error:
        if os.environ.get("FLAVR_DEBUG", "0") not in {"", "0"}:
            raise
        click.echo(f"error: {' '.join(str(error).splitlines())}", err=True)
        raise SystemExit(2 if isinstance(error, UsageError) else 1) from None
    except MemoryError as error:  # outside the network, where pictures are cut into tiles
        if os.environ.get("FLAVR_DEBUG", "0") not in {"", "0"}:
            raise
        short = f"there is not enough memory ({error})" if str(error) else "there is not enough memory"
        click.echo(f"error: {short}; free some, or take smaller pictures", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt as error:
        click.echo("interrupted", err=True)
        number = error.args[0] if error.args else signal.SIGINT
        raise SystemExit(128 + number) from None
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it exits: give it somewhere to write.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


class Command(click.Command):
    """A command whose usage errors are one line, as all its errors are; click's own take four."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the command line. Raises SystemExit(2) where it is wrong."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            click.echo(f"error: {error.format_message().rstrip('.')}; see {info_name} --help", err=True)
            raise SystemExit(error.exit_code) from None


def allow_any_name() -> None:
    """Print what standard output's encoding lacks, such as a file's name that is no UTF-8, as \\udce9.

    A strict one, Python's default, would end the program there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def interrupt_on_termination() -> None:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that it cleans up its partial files."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), interrupt)


def version_option(command: _Command) -> _Command:
    """Add --version, which prints the program's name and the version of the distribution."""
    return click.option(
        "--version",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_version,
        help="Show the version and exit.",
    )(command)


def _print_version(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    try:
        version = importlib.metadata.version("flavr")
    except importlib.metadata.PackageNotFoundError:  # run from a source folder
        version = "(not installed)"
    click.echo(f"{context.find_root().info_name} {version}")
    context.exit()
