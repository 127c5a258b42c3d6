"""`flavr-export` as people use it: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest

from flavr import CheckpointError, FlavrConfig
from flavr_export import TARGETS, exporter
from flavr_export.cli import main

MakeCheckpoint = Callable[[FlavrConfig], Path]
PLAIN = FlavrConfig(width=4)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process."""

    def flavr_export(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["flavr-export", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    return flavr_export


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: it holds model.pth and nothing else."""
    shutil.copy(tiny_checkpoint(PLAIN), tmp_path / "model.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter, as `flavr-export` with these arguments."""
    start = f"import sys; sys.argv = ['flavr-export', *sys.argv[1:]]\n{code}"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments], capture_output=True, text=True, check=False
    )


# ---------------------------------------------------------------- it works


def test_the_shortest_command_writes_the_file_beside_the_checkpoint(folder: Path, run: Run) -> None:
    ended = run("--ckpt", "model.pth")
    assert (ended.code, ended.err) == (0, "")
    assert files(folder) == ["model.onnx", "model.pth"]
    lines = [" ".join(line.split()) for line in ended.out.splitlines() if line.strip()]
    size, nodes = (folder / "model.onnx").stat().st_size, len(onnx.load(folder / "model.onnx").graph.node)
    assert lines[0] == f"file model.onnx ({size / 1e6:.1f} MB, {nodes} nodes)"
    assert lines[1] == "network unet_18, 2x, width 4"
    assert lines[2] == "graph conv2d, fp32, opset 18"
    assert lines[3] == "in and out uint8, dynamic batch, height, width"
    assert lines[4].startswith("against PyTorch max abs ")
    assert "64x88, 51x77" in " ".join(lines[4:])
    assert lines[-1] == "Next: flavr-run clip.mp4 --model model.onnx"
    assert "checked for" not in ended.out


def test_every_option_reaches_the_file_and_the_summary(folder: Path, run: Run) -> None:
    ended = run(
        *("--ckpt", "model.pth", "-o", "other.onnx", "--graph", "conv3d", "--io", "float", "--size", "33x50"),
        *("--opset", "17", "--padding", "slices", "--precision", "fp32", "--for", "cpu", "--for", "migraphx"),
    )
    assert (ended.code, ended.err) == (0, "")
    assert files(folder) == ["model.pth", "other.onnx"]
    model = onnx.load(folder / "other.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    told = {"graph": "conv3d", "io": "float", "size": "33x50", "opset": "17", "precision": "fp32"}
    assert told.items() <= {key.removeprefix("flavr."): value for key, value in metadata.items()}.items()
    assert "Pad" not in {node.op_type for node in model.graph.node}
    out = " ".join(ended.out.split())
    assert "graph conv3d, fp32, opset 17" in out
    assert "in and out float, 33x50, batch 1" in out
    assert "dB at 64x88, 51x77, 33x50" in out
    assert "checked for ONNX Runtime CPU, MIGraphX" in out


@pytest.mark.parametrize(
    ("options", "graph"),
    [
        (["--for", "cpu"], "winograd"),
        (["--for", "cpu", "--for", "cuda"], "conv2d"),
        (["--for", "cpu", "--graph", "conv2d"], "conv2d"),
        (["--graph", "winograd"], "winograd"),
    ],
)
def test_the_fastest_graph_for_the_providers_named_is_written(
    options: list[str], graph: str, folder: Path, run: Run
) -> None:
    ended = run("--ckpt", "model.pth", *options)
    assert (ended.code, ended.err) == (0, "")
    assert f"graph {graph}, fp32" in " ".join(ended.out.split())
    metadata = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    assert metadata["flavr.graph"] == graph


@pytest.mark.parametrize("variant", ["18_8x_bias_bn", "34_4x_add_upsample_bn"], indirect=True)
def test_the_variant_is_told(
    variant: FlavrConfig, tiny_checkpoint: MakeCheckpoint, tmp_path: Path, run: Run
) -> None:
    ended = run("--ckpt", tiny_checkpoint(variant), "-o", tmp_path / "m.onnx", "--size", "8x8")
    assert ended.code == 0
    expected = f"network {variant.arch}, {variant.factor}x, width 4"
    expected += "" if variant.join == "concat" else f", joinType {variant.join}"
    expected += ", upmode upsample" if variant.upmode == "upsample" else ""
    expected += ", BatchNorm folded" if variant.batchnorm else ""
    assert f"{expected} graph conv2d" in " ".join(ended.out.split())


def test_what_had_to_be_assumed_is_told(folder: Path, run: Run, tiny_checkpoint: MakeCheckpoint) -> None:
    import torch

    content = torch.load(tiny_checkpoint(FlavrConfig(width=4, join="none")), weights_only=True)
    torch.save(content["state_dict"], folder / "model.pth")
    ended = run("--ckpt", "model.pth")
    assert ended.code == 0
    assert ended.err == "note: joinType add is assumed: add and none have the same tensors\n"


@pytest.mark.parametrize(
    "name", ["my clips/[final] model.v2.pth", "no_suffix", "it's :100: [bold]good[/bold].pth"]
)
def test_odd_names_are_printed_as_they_are_and_the_next_command_can_be_pasted(
    name: str, folder: Path, run: Run
) -> None:
    import shlex

    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "model.pth").rename(folder / name)
    ended = run("--ckpt", name)
    assert ended.code == 0
    written = f"{name.removesuffix('.pth')}.onnx"
    assert files(folder) == sorted([name, written])
    assert written in " ".join(ended.out.split())
    assert shlex.split(ended.out.splitlines()[-1]) == [
        "Next:", "flavr-run", "clip.mp4", "--model", written,
    ]  # fmt: skip


def test_an_older_export_is_replaced(folder: Path, run: Run) -> None:
    (folder / "model.onnx").write_bytes(b"old")
    assert run("--ckpt", "model.pth").code == 0
    onnx.checker.check_model(folder / "model.onnx")


# ---------------------------------------------------------------- help


def test_help_answers_at_once_and_shows_examples() -> None:
    code = (
        "from flavr_export.cli import main\n"
        "main()\n"
        "print('HEAVY', sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'rich'} & set(sys.modules)))"
    )
    ended = python(code, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("HEAVY []\n")
    assert "flavr-export --ckpt model.pth -o model_720p.onnx --size 720x1280 --for tensorrt" in ended.stdout
    assert all(name in ended.stdout for name in TARGETS)


@pytest.mark.parametrize("option", ["-h", "--help", "--version"])
def test_help_and_version_succeed(option: str, run: Run) -> None:
    ended = run(option)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("flavr-export, version" if option == "--version" else "Usage: flavr-export")


# ---------------------------------------------------------------- it fails


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--ckpt'"),
        (["--ckpt", "model.pth", "--graph", "conv4d"], "'conv4d' is not one of 'auto', 'conv2d', 'conv3d'"),
        (["--ckpt", "model.pth", "--io", "yuv"], "'yuv' is not one of 'uint8', 'float', 'packed'"),
        (["--ckpt", "model.pth", "--precision", "int4"], "Invalid value for '--precision': 'int4'"),
        (["--ckpt", "model.pth", "--for", "cdua"], "'cdua' is not one of 'cpu', 'cuda'"),
        (["--ckpt", "model.pth", "--size", "720p"], "'720p' is not a size; write height x width, such as"),
        (["--ckpt", "model.pth", "--size", "0x16"], "'0x16' is not a size; write height x width, such as"),
        (["--ckpt", "model.pth", "--opset", "new"], "'new' is not a valid integer"),
        (["--ckpt", "model.pth", "--optset", "18"], "No such option"),
        (["--ckpt", "model.pth", "extra"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_ends_with_2_and_leaves_no_file(
    arguments: list[str], message: str, folder: Path, run: Run
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in " ".join(ended.err.split())
    assert files(folder) == ["model.pth"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ckpt", "modle.pth"],
            "modle.pth does not exist; give the path of a .pth or .safetensors file",
        ),
        (
            ["--ckpt", "no_folder/model.pth"],
            "no_folder/model.pth does not exist; give the path of a .pth or .safetensors file",
        ),
        (
            ["--ckpt", "."],
            ". is a folder, not a checkpoint file; give the path of a .pth or .safetensors file",
        ),
        (["--ckpt", "model.pth", "-o", "model.pt"], "output model.pt must end in .onnx"),
        (
            ["--ckpt", "model.pth", "-o", "no/model.onnx"],
            "cannot write no/model.onnx: the folder no does not exist",
        ),
        (
            ["--ckpt", "model.pth", "--opset", "20", "--for", "cuda"],
            "CUDA cannot run this graph: Pad input/pad/t0 and 4 more: no kernel newer than Pad-18 "
            "(use --opset 18)",
        ),
    ],
)
def test_an_error_is_one_line_ends_with_1_and_leaves_no_file(
    arguments: list[str], message: str, folder: Path, run: Run
) -> None:
    assert run(*arguments) == (1, "", f"error: {message}\n")
    assert files(folder) == ["model.pth"]


def test_a_damaged_checkpoint_is_one_line_and_leaves_no_file(folder: Path, run: Run) -> None:
    (folder / "model.pth").write_bytes((folder / "model.pth").read_bytes()[:5000])
    message = "error: model.pth is not a PyTorch checkpoint, or is truncated or damaged\n"
    assert run("--ckpt", "model.pth") == (1, "", message)
    assert files(folder) == ["model.pth"]


def test_debugging_shows_where_it_failed(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model.pth").write_bytes(b"")
    monkeypatch.setenv("FLAVR_DEBUG", "1")
    with pytest.raises(CheckpointError) as error:
        run("--ckpt", "model.pth")
    assert error.value.__cause__ is not None


def test_a_mistake_of_ours_is_not_passed_off_as_the_users(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(exporter, "verify", bug)
    with pytest.raises(ZeroDivisionError):
        run("--ckpt", "model.pth")
    assert files(folder) == ["model.pth"]


def test_want_of_memory_is_one_line_whoever_asked_for_it(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
        )

    monkeypatch.setattr(exporter, "verify", fail)
    ended = run("--ckpt", "model.pth")
    assert (ended.code, ended.err) == (1, "error: there is not enough memory for this network and size\n")
    assert files(folder) == ["model.pth"]


def test_an_interruption_ends_with_130_and_leaves_no_file(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "verify", interrupted)
    ended = run("--ckpt", "model.pth")
    assert (ended.code, ended.err.strip()) == (130, "interrupted")
    assert files(folder) == ["model.pth"]


@pytest.mark.parametrize("package", ["torch", "onnx"])
def test_a_missing_package_is_named_with_its_pip_line(package: str, folder: Path) -> None:
    code = f"sys.modules[{package!r}] = None\nfrom flavr_export.cli import main\nmain()"
    ended = python(code, "--ckpt", "model.pth")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: flavr-export needs {package}: pip install 'flavr[export,cpu]'\n"
    assert files(folder) == ["model.pth"]
