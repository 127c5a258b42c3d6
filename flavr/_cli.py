"""What flavr's command line programs share: how errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import click

from flavr._memory import is_out_of_memory
from flavr.errors import FlavrError, UsageError

# What a command can lack, and the extra that brings it.
_EXTRAS = {"torch": "train", "tensorboard": "train", "safetensors": "train", "onnxruntime": "cpu"}


def main_with_errors(command: click.Command, *errors: type[Exception]) -> None:
    """Run a click command as a program: it exits, with one line for every error that is meant for people.

    Exit code 2 for bad usage, 130 for an interrupt, 1 for every other `FlavrError` (and `errors`, the roots
    of other packages' trees). FLAVR_DEBUG=1 lets those through, for the traceback.
    """
    debug = os.environ.get("FLAVR_DEBUG", "0") not in {"", "0"}
    allow_any_name()
    try:
        command.main(standalone_mode=False)
        sys.stdout.flush()  # here a closed pipe can still be handled; at interpreter exit it cannot
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else command.name
        _fail(f"error: {error.format_message().rstrip('.')}; see {path} --help", error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it exits: give it somewhere to write.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        if debug or error.name not in _EXTRAS:
            raise
        _fail(f"error: this command needs {error.name}: pip install 'flavr[{_EXTRAS[error.name]}]'", 1)
    except Exception as error:
        if not debug and is_out_of_memory(error):
            cause = next(iter(str(error).splitlines()), "") or "no more is given"
            _fail(
                f"error: there is not enough memory: {cause}; smaller batches, crops or pictures take less", 1
            )
        if debug or not isinstance(error, (FlavrError, *errors)):
            raise
        _fail(f"error: {' '.join(str(error).splitlines())}", 2 if isinstance(error, UsageError) else 1)


def allow_any_name() -> None:
    """Print what standard output's encoding lacks, such as a file's name that is no UTF-8, as \\udce9.

    A strict one, Python's default, would end the program in the middle of its results.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(line: str, code: int) -> None:
    click.echo(line, err=True)
    sys.exit(code)
