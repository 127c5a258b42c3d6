"""Processes that train together, and what becomes of them when they are told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from flavr.training.distributed import _time_to_save

SLOW_TO_SAVE = """
import os, signal, sys, time
from pathlib import Path
from flavr.training.distributed import INTERRUPTED, launch

def work(folder):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    (folder / f"started{os.environ['RANK']}").touch()
    while not told:
        time.sleep(0.05)
    time.sleep(3)
    (folder / f"saved{os.environ['RANK']}").touch()
    sys.exit(INTERRUPTED)

if __name__ == "__main__":
    try:
        launch(work, 2, Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_processes_that_are_told_to_stop_have_the_time_to_save(tmp_path: Path) -> None:
    """They were killed after half a minute, which a batch of large frames can take; here after a second."""
    (tmp_path / "program.py").write_text(SLOW_TO_SAVE)
    program = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path],
        env=os.environ | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"},
    )
    try:
        for _ in range(1200):
            if len(list(tmp_path.glob("started*"))) == 2 or program.poll() is not None:
                break
            time.sleep(0.1)
        program.send_signal(signal.SIGTERM)
        assert program.wait(60) == 130
    finally:
        program.kill()
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"]


def test_a_pytorch_that_cannot_be_told_how_long_they_take_is_not_told() -> None:
    @dataclass
    class Older:
        min_nodes: int

    assert _time_to_save(Older) == {}  # type: ignore[arg-type]
