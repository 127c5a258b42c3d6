"""The flavr-train command, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from flavr.errors import DataError
from flavr.losses import TERMS
from flavr.train import main
from flavr.training import distributed
from flavr.training.config import TrainingConfig
from tiny_vimeo import write_tiny_vimeo

Run = Callable[..., int]
# The documented line, with a tiny network and set instead of the whole ones.
PUBLISHED = (
    "--batch_size 32 --test_batch_size 32 --dataset vimeo90K_septuplet --loss 1*L1 --max_epoch 200 "
    "--lr 0.0002 --data_root datasets --n_outputs 1 --num_gpu 1"
)
RECIPES = Path(__file__).parents[2] / "recipes"
TINY = "--width 4 --crop 32 --no-tensorboard --num-workers 0"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command line in an empty folder with a set called datasets; gives the exit code."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    write_tiny_vimeo(tmp_path / "datasets", train=4, test=1)

    def call(line: str) -> int:
        monkeypatch.setattr(sys, "argv", ["flavr-train", *line.split()])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_the_documented_line_trains_with_underscores_or_dashes(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = PUBLISHED.replace("--max_epoch 200", "--max_epoch 1").replace("--num_gpu 1", "--num_gpu 0")
    assert run(f"{line} {TINY} --exp_name underscores") == 0
    dashed = " ".join(w.replace("_", "-") if w.startswith("--") else w for w in line.split())
    assert run(f"{dashed} {TINY} --exp-name dashes") == 0
    a, b = (
        torch.load(tmp_path / "checkpoints" / name / "checkpoint.pth", weights_only=True)["state_dict"]
        for name in ("underscores", "dashes")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert "Next: flavr-export --ckpt checkpoints/dashes/model_best.pth" in capsys.readouterr().out


def test_the_published_scripts_other_spellings_are_understood(run: Run, tmp_path: Path) -> None:
    line = "--data_root datasets --num_gpu 0 --max_epoch 1 --model unet_18 --joinType add --random_seed 3"
    assert run(f"{line} {TINY} --use_tensorboard --exp_name other") == 0
    content = torch.load(tmp_path / "checkpoints/other/checkpoint.pth", weights_only=True)
    assert content["flavr"]["join"] == "add"


def test_a_recipe_gives_options_and_the_command_line_wins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(
        'data_root = "datasets"\nnum-gpu = 0\nwidth = 4\ncrop = 32\nnum_workers = 0\nflip = false\n'
        'max_epoch = 9\nloss = "1*MSE"\nexp_name = "recipe"\ntensorboard = false\n[data_options]\n'
    )
    assert run("--config recipe.toml --max-epoch 1") == 0
    options = json.loads((tmp_path / "checkpoints/recipe/opts.json").read_text())["options"]
    assert (options["loss"], options["max_epoch"], options["flip"]) == ("1*MSE", 1, False)


def test_lists_in_a_recipes_tables_and_what_differs_in_validation(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: dict[str, dict[str, object]] = {}

    def note(_name: str, _root: Path, split: str, **options: object) -> None:
        opened[split] = options
        if split == "test":
            raise DataError("seen enough")

    monkeypatch.setattr("flavr.training.run.open_dataset", note)
    (tmp_path / "recipe.toml").write_text(
        'data_root = "datasets"\nnum_gpu = 0\ndataset = "video"\n[data_options]\nmin_motion = 0.5\n'
        "max_side = 300\nstrides = [1, 2]\n[val_data_options]\nmin_motion = 1\nstrides = [1]\n"
    )
    assert run("--config recipe.toml") == 1
    assert capsys.readouterr().err == "error: seen enough\n"
    assert opened["train"] == {"n_outputs": 1, "min_motion": 0.5, "max_side": 300, "strides": (1, 2)}
    assert opened["test"] == {"n_outputs": 1, "min_motion": 1, "max_side": 300, "strides": (1,)}
    run("--config recipe.toml --val-data-option strides=4")
    assert opened["test"]["strides"] == 4


def test_a_recipe_takes_every_name_that_the_help_has(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """join_type, joinType and data_option were no options: recipes knew the fields' names alone."""
    trained: list[TrainingConfig] = []

    def note(config: TrainingConfig) -> NoReturn:
        trained.append(config)
        raise DataError("seen enough")

    monkeypatch.setattr("flavr.training.run.train", note)
    for text in (
        'join-type = "add"\nrandom_seed = 3\nuse_tensorboard = false\n[data_option]\nmax_side = 300\n',
        'joinType = "add"\n"--seed" = 3\ntensorboard = false\n[data_options]\nmax_side = 300\n',
        'join = "add"\nseed = 3\ntensorboard = false\ndata-option = ["max_side=300"]\n',
    ):
        (tmp_path / "recipe.toml").write_text(text)
        assert run("--config recipe.toml --data-root datasets") == 1
    for config in trained:
        assert (config.join, config.seed, config.tensorboard) == ("add", 3, False)
        assert config.data_options == {"max_side": 300}
    capsys.readouterr()
    (tmp_path / "recipe.toml").write_text('join = "add"\njoin_type = "none"\n')
    assert run("--config recipe.toml --data-root datasets") == 2
    assert "join_type is given twice" in capsys.readouterr().err


def test_want_of_memory_in_one_of_several_processes_is_one_line_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its traceback was the line."""
    for message in (
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3. TiB for an array",
        "MemoryError: ",
    ):
        record = {"message": message, "extraInfo": {"py_callstack": "Traceback, of many lines"}}

        def fail(_config: object, record: object = record) -> NoReturn:
            raise distributed._error_of(Namespace(message=record, exitcode=1))  # type: ignore[arg-type]

        monkeypatch.setattr("flavr.training.run.train", fail)
        assert run("--data-root datasets --num-procs 2 --num-gpu 0") == 1
        line = capsys.readouterr().err
        assert line.startswith("error: there is not enough memory: ")
        assert "Traceback" not in line


def test_want_of_memory_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ):

        def fail(*_: object, error: Exception = error, **_options: object) -> NoReturn:
            raise error

        monkeypatch.setattr("flavr.training.run.open_dataset", fail)
        assert run("--data-root datasets --num-gpu 0") == 1
        line = capsys.readouterr().err
        assert line.startswith("error: there is not enough memory: ")
        assert line.endswith("; smaller batches, crops or pictures take less\n")
        assert line.count("\n") == 1
    assert "no more is given" in line


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_are_published_are_understood(
    run: Run, capsys: pytest.CaptureFixture[str], recipe: Path
) -> None:
    assert run(f"--config {recipe} --data-root nowhere") != 0
    assert capsys.readouterr().err.startswith("error: nowhere")  # options are right, data are lacking


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("loss = ", "recipe.toml is no TOML file"),
        ('losses = "1*L1"', "recipe.toml: no options called losses"),
        ('max_epoch = "many"', "'many' is not a valid integer"),
        ("max_epoch = 1.9", "'1.9' is not a valid integer"),
        ("seed = 3.9", "'3.9' is not a valid integer"),
        ("width = true", "recipe.toml: width takes no true or false, not True"),
        ("flip = 1", "recipe.toml: flip takes true or false, not 1"),
        ('flip = "no"', "recipe.toml: flip takes true or false, not 'no'"),
        ("crop = [96, 96]", "recipe.toml: crop takes one value, not [96, 96]"),
        ("[crop]\nheight = 96", "recipe.toml: crop takes one value, not {'height': 96}"),
        ("data_options = 3", "data_options takes a table, [data_options], not 3"),
        ("[data_options]\nn_outputs = 1", "the network's factor decides"),
    ],
)
def test_a_recipe_that_is_wrong_is_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "recipe.toml").write_text(content)
    assert run("--config recipe.toml --data-root datasets --num-gpu 0") == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error is that there are no GPUs")
def test_gpus_that_are_not_there_are_one_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(PUBLISHED) == 1
    assert run(PUBLISHED.replace("--num_gpu 1", "--num_gpu 4")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: --num-gpu 1: PyTorch finds 0 here; --num-gpu 0 trains on the CPU",
        "error: --num-gpu 4: PyTorch finds 0 here; --num-gpu 0 trains on the CPU",
    ]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("--data_root nowhere --num_gpu 0", 1, "nowhere"),
        ("--data_root datasets --num_gpu 0 --loss 1*L3", 2, "L1, MSE, RMSE, PSNR, Huber, Charb"),
        ("--data_root datasets --num_gpu 0 --crop 100", 2, "--crop 100"),
        ("--data_root datasets --num_gpu 0 --dataset vimeo", 2, "did you mean vimeo90K_septuplet?"),
        ("--data_root datasets --num_gpu 0 --data-option max_side", 2, "write KEY=VALUE"),
        ("--data_root datasets --num_gpu 0 --crop-places 2", 2, "needs --dataset video --cache device"),
        ("--data_root datasets --num_gpu 0 --data-option n_outputs=1", 2, "the network's factor decides"),
        ("--data_root datasets --num_gpu 0 --data-option split=test", 2, "has no option split"),
        ("--data_root datasets --num_gpu 0 --crop-drift 2", 2, "needs --dataset video --cache device"),
        ("--data_root datasets --num_gpu 0 --crop-drift -1", 2, "--crop-drift -1: it must be 0 or more"),
        ("--num_gpu 0", 2, "Missing option '--data-root'"),
    ],
)
def test_bad_input_is_one_line_with_its_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str], line: str, code: int, message: str
) -> None:
    assert run(line) == code
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_check_data_names_every_broken_image_before_the_first_step(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("0001/im3.png", "0004/im4.png"):
        (tmp_path / "datasets/sequences/00001" / name).write_bytes(b"no image")
    assert run(f"--data_root datasets --num_gpu 0 --batch_size 2 --check-data {TINY}") == 1
    first, second, error = capsys.readouterr().err.splitlines()
    assert "0001/im3.png" in first
    assert "0004/im4.png" in second
    assert error == "error: datasets: 2 problems in the data, named above"
    assert not (tmp_path / "checkpoints").exists()


def test_the_time_limit_and_an_interrupt_say_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flavr.training.stopping import Signals

    line = f"--data_root datasets --num_gpu 0 --batch_size 2 --max_epoch 1 {TINY}"
    assert run(f"{line} --time-limit 0.0000001") == 0
    assert (
        "the time is up after epoch 0, which is saved; go on with the same command and --resume"
        in capsys.readouterr().out
    )
    with monkeypatch.context() as patch:
        patch.setattr(Signals, "received", True)
        assert run(f"{line} --resume") == 130
    assert "interrupted after epoch 0, which is saved; go on" in capsys.readouterr().out
    assert run(f"{line} --resume") == 0


def test_help_is_quick_complete_and_does_not_import_torch() -> None:
    code = "import sys; from flavr.train import main; sys.argv = ['flavr-train', '--help']; main()"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    assert time.perf_counter() - started < 2  # 0.2 s on a quiet machine
    assert "| torch" not in done.stderr
    assert all(name in done.stdout for name in TERMS)
    assert "Examples:" in done.stdout
    assert "unet_34" in done.stdout
