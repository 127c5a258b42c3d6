"""Means of checkpoints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flavr.average import average
from flavr.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from flavr.config import FlavrConfig
from flavr.errors import CheckpointError, UsageError
from flavr.network import Flavr

PLAIN = FlavrConfig(width=4)
Save = Callable[..., Checkpoint]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def make(name: str, config: FlavrConfig = PLAIN, seed: int = 0) -> Checkpoint:
        torch.manual_seed(seed)
        save_checkpoint(tmp_path / name, Flavr(config))
        return load_checkpoint(tmp_path / name)

    return make


def program(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "flavr.average", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_mean_is_that_of_every_weight_with_its_share(save: Save, tmp_path: Path) -> None:
    a, b = save("a.pth", seed=1), save("b.pth", seed=2)
    done = program(a.path, b.path, "--share", 0.25, "--share", 0.75, "-o", tmp_path / "mean.pth")
    assert (done.returncode, done.stderr) == (0, "")
    mean = load_checkpoint(tmp_path / "mean.pth")
    assert mean.config == PLAIN
    for key, weight in mean.state_dict.items():
        expected = 0.25 * a.state_dict[key] + 0.75 * b.state_dict[key]
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-7)
    equal = average([a, b, a])
    key = next(iter(equal))
    torch.testing.assert_close(equal[key], (2 * a.state_dict[key] + b.state_dict[key]) / 3)


def test_what_has_no_mean_is_refused_in_one_line(save: Save, tmp_path: Path) -> None:
    a, b = save("a.pth"), save("b.pth", seed=1)
    with pytest.raises(UsageError, match="two checkpoints at least"):
        average([a])
    for shares in ([1.0], [0.5, 0.6], [0.5, float("nan")]):
        with pytest.raises(UsageError, match=r"--share .*: 2 are needed, with a sum of 1"):
            average([a, b], shares)
    with pytest.raises(CheckpointError, match=r"wide\.pth is .*width=8.*a\.pth is .*width=4"):
        average([a, save("wide.pth", replace(PLAIN, width=8))])
    normed = replace(PLAIN, batchnorm=True)
    with pytest.raises(UsageError, match="has BatchNorm"):
        average([save("n.pth", normed), save("m.pth", normed)])
    for output, message in (
        (tmp_path / "mean.SAFETENSORS", "give it a name such as mean.pth"),
        (b.path, "exists; choose another name"),
        (tmp_path / "no/c.pth", "does not exist"),
    ):
        done = program(a.path, b.path, "-o", output)
        assert done.returncode != 0
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_what_was_assumed_of_one_is_told_and_not_declared_of_the_mean(save: Save, tmp_path: Path) -> None:
    """The mean said that its join is add, which nobody had."""
    added = replace(PLAIN, join="add")
    a, b = save("a.pth", added), save("b.pth", added, seed=1)
    torch.save(b.state_dict, b.path)
    done = program(a.path, b.path, "-o", tmp_path / "mean.pth")
    assert (done.returncode, done.stderr) == (
        0,
        "note: joinType add is assumed: add and none have the same tensors\n",
    )
    mean = load_checkpoint(tmp_path / "mean.pth")
    assert (mean.config, mean.notices) == (added, load_checkpoint(b.path).notices)
    assert program(a.path, a.path, "-o", tmp_path / "known.pth").stderr == ""
    assert not load_checkpoint(tmp_path / "known.pth").notices
