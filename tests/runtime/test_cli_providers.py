"""What `flavr-providers` prints, and how every command turns an error into a line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import click
import pytest
from click.testing import CliRunner

from flavr_runtime import cli_providers, providers
from flavr_runtime._cli import cli_errors, version_option
from flavr_runtime.errors import ModelError, ProviderError, UsageError
from flavr_runtime.providers import PROVIDERS, Availability

MAIN = "from flavr_runtime.cli_providers import main; main()"


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def broken_rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with AMD's wheel and without ROCm: cpu works, rocm is listed and fails."""

    def probe(name: str) -> Availability:
        row = PROVIDERS[name]
        if name == "cpu":
            return Availability(row, True, row.engines[0], "onnxruntime-migraphx 1.27.1")
        engine = row.engines[0] if name in {"rocm", "migraphx"} else None
        reason = "libmigraphx_c.so.3: cannot open shared object file" if engine else "not in this build"
        return Availability(row, False, engine, "", reason, row.pip[0].command, row.pip[1:])

    monkeypatch.setattr(providers, "probe", probe)
    monkeypatch.setattr(providers, "installed_wheels", lambda: {"onnxruntime-migraphx": "1.27.1"})


def invoke(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    result = CliRunner().invoke(cli_providers.command, arguments, env=env, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.usefixtures("broken_rocm")
def test_the_table_says_what_works_and_what_auto_takes() -> None:
    lines = invoke().splitlines()
    assert lines[0].split() == ["provider", "runs", "on", "here", "through"]
    assert "cpu any CPU works CPU" in [" ".join(line.split()) for line in lines]
    assert "rocm AMD GPU fails, see below MIGraphX" in [" ".join(line.split()) for line in lines]
    assert "ONNX Runtime: onnxruntime-migraphx 1.27.1" in lines
    assert "--provider auto takes: cpu" in lines


@pytest.mark.usefixtures("broken_rocm")
@pytest.mark.parametrize("columns", ["40", "80"])
def test_pip_lines_are_printed_whole_on_any_terminal(columns: str) -> None:
    lines = invoke(env={"COLUMNS": columns}).splitlines()
    for row in PROVIDERS.values():
        if row.name != "cpu":
            for line in row.pip:
                assert f"  {line.command}" in lines
    assert "rocm, migraphx: libmigraphx_c.so.3: cannot open shared object file" in lines


@pytest.mark.usefixtures("broken_rocm")
def test_the_table_fits_80_columns() -> None:
    table = invoke(env={"COLUMNS": "80"}).split("\n\n")[0].splitlines()
    assert len(table) == 1 + len(PROVIDERS)  # no row was wrapped
    assert all(len(line) <= 80 for line in table)


@pytest.mark.usefixtures("broken_rocm")
def test_json_is_for_programs() -> None:
    report = json.loads(invoke("--json"))
    assert report["auto"] == "cpu"
    assert report["onnxruntime"] == {"onnxruntime-migraphx": "1.27.1"}
    rows = {row["name"]: row for row in report["providers"]}
    assert list(rows) == list(PROVIDERS)
    assert rows["cpu"]["works"] is True
    assert rows["rocm"]["works"] is False
    assert rows["rocm"]["execution_provider"] == "MIGraphXExecutionProvider"
    assert rows["rocm"]["install"] == "pip install 'flavr[rocm]'"
    assert "AMD's build for ROCm 10" in rows["rocm"]["install_other_builds"]


@pytest.mark.usefixtures("broken_rocm")
def test_two_builds_over_each_other_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        providers, "installed_wheels", lambda: {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    )
    output = invoke()
    assert "ONNX Runtime: onnxruntime 1.32.0, onnxruntime-gpu 1.31.1\n" in output
    assert "These builds overwrite each other's files: uninstall all of them, then install one." in output


def test_the_report_of_this_machine_is_valid_json_without_noise() -> None:
    run = subprocess.run(
        [sys.executable, "-c", MAIN, "--json"], env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert {row["name"]: row["works"] for row in json.loads(run.stdout)["providers"]}["cpu"] is True


def test_help_has_examples_and_imports_no_engine() -> None:
    code = (
        "import atexit, sys\n"
        "heavy = {'onnxruntime', 'numpy', 'rich'}\n"
        "atexit.register(lambda: print('LOADED', *heavy & sys.modules.keys()))\n"
        f"{MAIN}"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--help"], env=environment(), capture_output=True, text=True, check=True
    )
    assert "Usage: flavr-providers [OPTIONS]" in run.stdout
    assert "flavr-providers --json" in run.stdout
    assert run.stdout.splitlines()[-1] == "LOADED"


def test_version_is_one_line() -> None:
    result = CliRunner().invoke(cli_providers.command, ["--version"], prog_name="flavr-providers")
    assert result.exit_code == 0
    assert result.output.startswith("flavr-providers ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_error_worth_a_traceback(arguments: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# --- what every command does with an error


def failing_command(error: BaseException) -> click.Command:
    @click.command()
    @version_option
    @cli_errors()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (UsageError("factor 3 is not one of 2, 4"), 2, "error: factor 3 is not one of 2, 4\n"),
        (ProviderError("provider cuda does not work here"), 1, "error: provider cuda does not work here\n"),
        (ModelError("two\nlines"), 1, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (MemoryError(), 1, "error: there is not enough memory; free some, or take smaller pictures\n"),
        (
            MemoryError("no 1.83 MiB"),
            1,
            "error: there is not enough memory (no 1.83 MiB); free some, or take smaller pictures\n",
        ),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, printed: str
) -> None:
    monkeypatch.delenv("FLAVR_DEBUG", raising=False)
    result = CliRunner().invoke(failing_command(error))
    assert (result.exit_code, result.stderr, result.stdout) == (code, printed, "")


def test_the_debug_variable_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAVR_DEBUG", "1")
    with pytest.raises(ModelError, match="whole story"):
        CliRunner().invoke(failing_command(ModelError("the whole story")), catch_exceptions=False)


def test_a_wrong_option_still_exits_2() -> None:
    result = CliRunner().invoke(cli_providers.command, ["--nope"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr
