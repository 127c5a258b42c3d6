"""Training with a network for a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flavr import Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr.errors import UsageError
from flavr.training.config import TrainingConfig
from flavr.training.run import train
from tiny_vimeo import write_tiny_vimeo

CONFIG = FlavrConfig(width=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_vimeo(tmp_path_factory.mktemp("set"))


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "teacher.pth", Flavr(CONFIG))
    return tmp_path / "teacher.pth"


def run(data: Path, teacher: Path, **options: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "data_root": data,
        "checkpoint_dir": teacher.parent / "runs",
        "exp_name": "run",
        "teacher": teacher,
        "crop": 32,
        "batch_size": 2,
        "test_batch_size": 2,
        "max_epoch": 1,
        "num_gpu": 0,
        "num_workers": 0,
        "tensorboard": False,
    }
    config = TrainingConfig(**values | options)
    train(config)
    return config


def test_a_network_has_nothing_to_learn_from_itself_over_one_view(
    data: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss is that of equal pictures, but for rounding, and far from that of the truth."""
    losses = {}
    for name, share, views in (("itself", 1.0, 1), ("half", 0.5, 1), ("views", 1.0, 4)):
        learning = {"teacher_share": share, "teacher_ensemble": views, "lr": 1e-12}
        run(data, teacher, exp_name=name, load_from=teacher, **learning)
        said = capsys.readouterr().out
        assert f"learns from {teacher}: {share:.0%} of a target, {views} view" in said
        losses[name] = float(said.split("training loss ")[1].split(",")[0])
    assert losses["itself"] < 1e-5 < 1e-4 < losses["views"] < losses["half"]


def test_the_teacher_stays_as_it_is_and_another_network_learns_from_it(data: Path, teacher: Path) -> None:
    before = teacher.read_bytes()
    config = run(data, teacher, exp_name="wider", width=5, max_epoch=2)
    assert teacher.read_bytes() == before
    assert load_checkpoint(config.checkpoint).config == FlavrConfig(width=5)
    assert run(data, teacher, exp_name="wider", width=5, max_epoch=3, resume=True).folder == config.folder


def test_what_cannot_teach_is_refused(data: Path, teacher: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "4x.pth", Flavr(FlavrConfig(width=4, factor=4, encoder_bias=True)))
    with pytest.raises(UsageError, match=r"4x\.pth is a 4x network; one of 2x is needed"):
        run(data, tmp_path / "4x.pth", width=4)
    for options, message in (
        ({"teacher_share": 0.0}, r"--teacher-share 0\.0: it must be above 0 and at most 1"),
        ({"teacher_share": 1.5}, "--teacher-share"),
        ({"teacher_ensemble": 3}, "--teacher-ensemble 3: it must be 1, 2, 4, 8 or 16"),
    ):
        with pytest.raises(UsageError, match=message):
            run(data, teacher, **options)
    for learning in ({"teacher_share": 0.5}, {"teacher_ensemble": 8}):
        with pytest.raises(UsageError, match="--teacher-share and --teacher-ensemble are for --teacher"):
            TrainingConfig(data_root=data, **learning)
    assert not (tmp_path / "runs").exists()
