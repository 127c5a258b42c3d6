"""A cell's process: whatever a backend does, the run goes on and the reason is told."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flavr_benchmarks.process import CellError, CellProcess
from flavr_benchmarks.workload import Task


@pytest.fixture(autouse=True)
def workers_find_the_fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("windows") / "windows.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (2, 4, 16, 24, 3), np.uint8))
    return path


@pytest.fixture
def started() -> Iterator[list[CellProcess]]:
    """Processes that a test started, ended after it."""
    processes: list[CellProcess] = []
    yield processes
    for process in processes:
        process.close()


def start(
    started: list[CellProcess], windows: Path, adapter: str, timeout: float = 30, **options: str
) -> CellProcess:
    task = Task({"ms": "1", **options}, None, "fp32", 1, 2)
    process = CellProcess(f"fake_workloads:{adapter}", task, windows, warm_up=1, timeout=timeout)
    started.append(process)
    return process


def test_a_known_latency_is_measured(started: list[CellProcess], windows: Path) -> None:
    process = start(started, windows, "Sleeper", ms="20")
    loaded = process.load()
    turn = process.measure(0.2)
    assert loaded["first_seconds"] >= 0.02
    assert min(turn.milliseconds) >= 20
    assert sorted(turn.milliseconds)[len(turn.milliseconds) // 2] < 40  # a busy machine oversleeps
    assert turn.seconds >= 0.2
    assert turn.cpu_seconds < turn.seconds


def test_the_window_before_those_measured_is_told_apart(started: list[CellProcess], windows: Path) -> None:
    process = start(started, windows, "Burner", ms="20")
    process.load()
    turn = process.measure(0.2)
    assert turn.cpu_seconds >= 0.02 * len(turn.phases)
    assert 0.02 <= turn.all_cpu_seconds - turn.cpu_seconds < 0.2


def test_memory_is_the_process_own_and_not_its_parents(started: list[CellProcess], windows: Path) -> None:
    ballast = np.ones(60_000_000)  # 480 MB in this process
    process = start(started, windows, "Sleeper")
    process.load()
    peak = process.memory()["peak_rss"]
    assert ballast.nbytes > 400_000_000
    assert peak is not None
    assert 10_000_000 < peak < 300_000_000


def test_frames_of_the_data_set_come_back_as_files(
    started: list[CellProcess], windows: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    np.savez(source / "00000.npz", inputs=np.zeros((4, 16, 24, 3), np.uint8))
    process = start(started, windows, "Sleeper")
    process.load()
    process.predict(source, target)
    assert np.load(target / "00000.npy").shape == (1, 16, 24, 3)


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("killed", "out of memory", "killed"),
        ("exit", "crash", "exit code 7: the driver said no"),
        ("memory", "out of memory", "MemoryError"),
        ("allocator", "out of memory", "RuntimeError: Failed to allocate memory"),
        ("unsupported", "unsupported", "install it with: pip install it"),
        ("raise", "error", "ValueError: the graph has a node"),
    ],
)
@pytest.mark.parametrize("at", ["0", "4"])
def test_every_way_to_fail_is_a_kind_with_a_reason(
    started: list[CellProcess], windows: Path, how: str, kind: str, words: str, at: str
) -> None:
    process = start(started, windows, "Misbehaving", how=how, at=at)
    if at != "0":
        process.load()
    with pytest.raises(CellError, match=words) as caught:
        process.load() if at == "0" else process.measure(0.2)
    assert caught.value.failure.kind == kind


def test_a_backend_that_hangs_is_given_up(started: list[CellProcess], windows: Path) -> None:
    process = start(started, windows, "Misbehaving", timeout=1.5, how="hang")
    begun = time.monotonic()
    with pytest.raises(CellError, match=r"no answer for 1\.5 s") as caught:
        process.load()
    assert caught.value.failure.kind == "timeout"
    assert time.monotonic() - begun < 20


def test_what_a_backend_prints_is_not_taken_for_an_answer(started: list[CellProcess], windows: Path) -> None:
    process = start(started, windows, "Chatty")
    process.load()
    assert process.measure(0.01).phases


def test_no_process_outlives_its_block(windows: Path) -> None:
    task = Task({"ms": "1"}, None, "fp32", 1, 2)
    with CellProcess("fake_workloads:Sleeper", task, windows, warm_up=0, timeout=30) as process:
        process.load()
        pid = process.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
