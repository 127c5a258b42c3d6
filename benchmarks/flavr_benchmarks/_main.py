"""How flavr-bench's errors become one line and an exit code."""

from __future__ import annotations

import os
import sys

import click

from flavr_benchmarks.errors import BenchError, GateError, UsageError
from flavr_runtime._cli import allow_any_name, interrupt_on_termination
from flavr_runtime.errors import FlavrRuntimeError
from flavr_runtime.errors import UsageError as RuntimeUsageError

_BROUGHT_BY_EXTRA = ("torch", "onnx", "safetensors", "jinja2", "matplotlib", "msgspec", "psutil")
_GATE_CODE = 3


def run_program(command: click.Command, name: str) -> None:
    """Exit code 2 for bad usage, 3 for a gate that did not hold, 130 for an interrupt, 1 for other errors.

    FLAVR_DEBUG=1 lets errors through, for the traceback.
    """
    debug = os.environ.get("FLAVR_DEBUG", "0") not in {"", "0"}
    allow_any_name()
    interrupt_on_termination()
    try:
        command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo("interrupted", err=True)
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 2
        sys.exit(128 + number)
    except ModuleNotFoundError as error:
        if debug or error.name not in _BROUGHT_BY_EXTRA:
            raise
        _fail(f"flavr-bench needs {error.name}: pip install 'flavr[bench]'", 1)
    except Exception as error:
        from flavr.errors import FlavrError
        from flavr.errors import UsageError as DataUsageError

        if debug or not isinstance(error, (BenchError, FlavrRuntimeError, FlavrError)):
            raise
        usage = isinstance(error, (UsageError, RuntimeUsageError, DataUsageError))
        _fail(str(error), _GATE_CODE if isinstance(error, GateError) else 2 if usage else 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    sys.exit(code)
