"""The results that are committed, and what README says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flavr_benchmarks.markdown import markdown
from flavr_benchmarks.readme import put_into, readme_table
from flavr_benchmarks.schema import read_report

ROOT = Path(__file__).resolve().parents[2]
REPORTS = sorted((ROOT / "benchmarks" / "results").glob("report-*.json"))


def test_there_are_results() -> None:
    assert REPORTS


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_committed_report_can_be_read_and_names_its_conditions(path: Path) -> None:
    report = read_report(path)
    assert any(row.latency is not None and not row.baseline for row in report.rows)
    for library in ("onnxruntime", "torch"):
        version = ".".join(report.environment.libraries[library].split("+")[0].split(".")[:2])
        assert f"{library.replace('onnxruntime', 'ort')}{version}" in path.stem
    assert f"{report.environment.physical_cores}core" in path.stem
    beside = path.with_suffix(".md")
    assert beside.read_text(encoding="utf-8") == markdown(report)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_a_committed_report_names_no_folder_of_the_machine_it_was_made_on(path: Path) -> None:
    words = json.loads(path.read_text())["command"]
    assert not any(word.startswith("/") for word in words)


def test_the_table_in_readme_is_that_of_the_committed_reports() -> None:
    put_into(ROOT / "README.md", readme_table([read_report(path) for path in REPORTS]), check=True)
