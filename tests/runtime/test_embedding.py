"""The program in examples/ for those who embed the file without flavr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flavr_runtime import Interpolator
from model_files import average_weights, write_blend_model

PROGRAM = Path(__file__).parents[2] / "examples" / "embed.py"
HEIGHT, WIDTH = 6, 10


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
def test_the_example_makes_what_flavr_makes(count: int, factor: int, tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "m.onnx", average_weights(factor))
    random = np.random.default_rng(count)
    frames = random.integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)
    line = [sys.executable, str(PROGRAM), str(model), str(WIDTH), str(HEIGHT)]
    done = subprocess.run(line, input=frames.tobytes(), capture_output=True, check=True)
    expected = Interpolator(model, provider="cpu").stream(list(frames))
    assert done.stdout == b"".join(frame.tobytes() for frame in expected)


def test_the_example_refuses_a_file_of_another_kind(tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "m.onnx", io="float")
    line = [sys.executable, str(PROGRAM), str(model), str(WIDTH), str(HEIGHT)]
    done = subprocess.run(line, input=b"", capture_output=True, check=False, text=False)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == f"{model} does not take uint8 pictures; export it with --io uint8"


def test_a_stream_that_ends_within_a_picture_is_one_line(tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "m.onnx")
    line = [sys.executable, str(PROGRAM), str(model), str(WIDTH), str(HEIGHT)]
    done = subprocess.run(line, input=bytes(HEIGHT * WIDTH * 3 + 1), capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().strip() == "the stream ends within a picture; are they 10x6, rgb24?"
