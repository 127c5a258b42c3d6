"""Threads are not more than the cores that a container or taskset allows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flavr_runtime._cores import allowed_threads

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")


def machine(folder: Path, siblings: list[str]) -> Path:
    """A /sys of as many logical processors, each with the list of those that share its core."""
    for number, text in enumerate(siblings):
        topology = folder / f"devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    (folder / "devices/system/cpu/cpufreq").mkdir()
    (folder / "fs/cgroup").mkdir(parents=True)
    return folder


def group(folder: Path, name: str, quota: str) -> Path:
    place = folder / "fs/cgroup" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "cpu.max").write_text(f"{quota}\n")
    path = folder / "own"
    path.write_text(f"0::/{name}\n")
    return path


def allow(monkeypatch: pytest.MonkeyPatch, *processors: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(processors))


FOUR_CORES = ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"]


@pytest.mark.parametrize(
    ("allowed", "threads"),
    [(range(8), None), (range(4), None), ((0, 4), 1), ((0, 1, 4), 2), ((2, 3), 2)],
)
def test_confined_to_some_processors_it_counts_their_cores(
    allowed: tuple[int, ...], threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, *allowed)
    assert allowed_threads(machine(tmp_path, FOUR_CORES), tmp_path / "absent") == threads


@pytest.mark.parametrize(
    ("quota", "threads"),
    [("max 100000", None), ("400000 100000", None), ("200000 100000", 2), ("50000 100000", 1)],
)
def test_a_containers_quota_counts(
    quota: str, threads: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, *range(8))
    system = machine(tmp_path, FOUR_CORES)
    assert allowed_threads(system, group(system, "job", quota)) == threads


def test_the_tightest_of_nested_quotas_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, *range(8))
    system = machine(tmp_path, FOUR_CORES)
    group(system, "outer", "100000 100000")
    assert allowed_threads(system, group(system, "outer/inner", "300000 100000")) == 1


def test_under_taskset_it_really_takes_fewer() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor: nothing to take away")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from flavr_runtime._cores import allowed_threads; print(allowed_threads())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "1"
