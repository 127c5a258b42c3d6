"""flavr-bench as a program: a whole small run, and everything it refuses before it begins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from flavr._images import write_png
from flavr.config import FlavrConfig
from flavr.rendering import RenderSpec, render_set
from flavr_benchmarks import _main, ceiling, datasets, end_to_end
from flavr_benchmarks._main import run_program
from flavr_benchmarks.baselines import average
from flavr_benchmarks.cli import _without_folders, flavr_bench
from flavr_benchmarks.markdown import markdown as as_markdown
from flavr_benchmarks.quality import score
from flavr_benchmarks.schema import Failure, read_report, write_report, write_text
from flavr_benchmarks.variants import examine_subject, onnx_variants
from flavr_benchmarks.workload import unrounded
from flavr_runtime.shipped import DEFAULT_MODEL, SHIPPED
from made_reports import report, row
from model_files import write_blend_model

TINY = ("--size", "32x48", "--threads", "1", "--budget", "0.3", "--quick", "--windows", "1")


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rendered set small, the ceiling known: both are tested elsewhere."""
    monkeypatch.setattr(datasets, "_MINI_SIZE", (48, 64))
    monkeypatch.setattr(
        ceiling, "measure", lambda _device, _threads: {"fp32": 50.0, "bf16": 1.0, "fp16": 1.0, "int8": "no"}
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(_main, "interrupt_on_termination", lambda: None)  # for the life of the process


def bench(*arguments: object) -> Result:
    """What the program does, with its exit code."""
    words = [str(argument) for argument in arguments]

    @click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("rest", nargs=-1, type=click.UNPROCESSED)
    def program(rest: tuple[str, ...]) -> None:
        previous, sys.argv = sys.argv, ["flavr-bench", *rest]
        try:
            run_program(flavr_bench, "flavr-bench")
        finally:
            sys.argv = previous

    return CliRunner().invoke(program, ["--", *words])


def test_a_whole_run_measures_scores_and_reports(
    tiny_checkpoint: Callable[[FlavrConfig], Path], tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    result = bench(
        *("--ckpt", checkpoint, "--backend", "ort-cpu,torch-eager,ort-rocm", "--precision", "fp32"),
        *("--graph", "conv2d", "-o", tmp_path / "out", *TINY, "--fail-below", "loss=0.05"),
    )
    assert result.exit_code == 3, result.output  # ort-rocm is not here, and was asked for
    assert "ort-rocm" in result.stderr
    assert "flavr[rocm]" in result.stderr

    made = read_report(tmp_path / "out" / "report.json")
    rows = {row.key.backend: row for row in made.rows}
    assert list(rows) == ["ort-cpu", "torch-eager", "ort-rocm", "average", "dis-flow", "minterpolate"]
    ours, eager = rows["ort-cpu"], rows["torch-eager"]
    assert ours.latency is not None
    assert ours.latency.windows == sum(map(len, ours.latency.rounds)) >= 1
    assert ours.latency.low <= ours.latency.high
    assert ours.latency.upload is not None
    assert ours.placement == {"CPUExecutionProvider": ours.placement["CPUExecutionProvider"]}
    assert ours.end_to_end is not None
    assert ours.end_to_end.frames == 2 * int(re.findall(r"(\d+) frames", ours.end_to_end.clip)[0]) - 1
    assert ours.start is not None
    assert ours.start.load_seconds > 0
    assert ours.model_bytes
    assert ours.peak_rss
    assert ours.base_rss
    assert ours.peak_rss > ours.base_rss
    assert ours.gflop is not None
    assert ours.quality is not None
    assert ours.quality.loss_db == pytest.approx(0, abs=0.02)
    assert ours.quality.max_code_error in (0, 1)
    assert eager.quality is not None
    assert eager.quality.loss_db == 0
    assert rows["ort-rocm"].failure is not None
    assert rows["ort-rocm"].failure.kind == "unsupported"
    assert rows["average"].quality is not None
    page, text = ((tmp_path / "out" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "data:image/jpeg;base64," in page
    assert "ort-rocm" in page
    assert "deploy ort-cpu conv2d fp32" in text
    assert str(tmp_path) not in page + text + json.dumps(made.command)


def test_a_wrong_network_fails_the_quality_floor_and_a_right_one_does_not(tmp_path: Path) -> None:
    write_blend_model(tmp_path / "right.onnx")
    write_blend_model(tmp_path / "wrong.onnx", mids=[(1.0, 0.0, 0.0, 0.0)])  # shows an older frame
    (window,) = datasets.open_set("mini", 1, 2, {}).windows
    right, wrong = (
        score([window], [unrounded([picture])], quantised=True).psnr_uint8
        for picture in (average(window.inputs, 2)[0], window.inputs[0])
    )
    assert right > wrong + 2
    result = bench(
        *("--model", tmp_path / "right.onnx", "--model", tmp_path / "wrong.onnx", "--backend", "ort-cpu"),
        *(
            "--no-end-to-end",
            *TINY,
            "-o",
            tmp_path / "out",
            "--fail-below",
            f"psnr={(right + wrong) / 2:.3f}",
        ),
    )
    assert result.exit_code == 3, result.output
    assert f"ort-cpu wrong conv2d fp32 32x48: PSNR {wrong:.2f} dB, below" in result.stderr
    assert "ort-cpu right" not in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "ort-tpu"], "--backend ort-tpu: there is no such backend; there are ort-cuda"),
        (["--size", "8x8"], "--size '8x8': write height x width"),
        (["--size", "big"], "720p"),
        (["--graph", "conv2d,conv4d", "--ckpt", "x.pth"], "flavr-export writes conv2d, conv3d"),
        (["--precision", "fp64"], "'fp64' is not one of fp32, fp16, bf16, int8"),
        (["--precision", "fp32,int8"], "Add --ckpt"),
        (["--ckpt", "x.pth", "--precision", "fp32,int8"], "name a clip or folder: --calibrate"),
        (["--ckpt", "x.pth", "--calibrate", "clips"], "--calibrate is for --precision int8"),
        (["--data-option", "max_side=64"], "--data-option is for data sets; --data mini has no options"),
        (["--fail-below", "speed=3"], "write one of psnr, ssim, loss, slowdown"),
        (["--fail-below", "psnr=high"], "such as psnr=30"),
        (["--fail-below", "slowdown=3"], "flavr-bench compare"),
        (["--fail-below", "psnr=3", "--data", "none"], "need a data set"),
        (["--fail-below", "loss=3"], "add --ckpt"),
        (["--fail-below", "psnr=90", "--fail-below", "psnr=3"], "psnr is given twice, 90 and 3"),
        (["--data", "/nowhere/at/all"], "no such folder"),
        (["--data", "nonsense:/"], "no data set is called 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    result = bench(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()[-1]) < 400
    assert not (tmp_path / "out").exists()


def test_a_missing_model_and_a_report_that_is_there_are_refused(tmp_path: Path) -> None:
    result = bench("--model", tmp_path / "none.onnx", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "none.onnx does not exist" in result.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    result = bench("-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "report.json exists already; choose another folder with -o, or give --overwrite" in result.stderr


def test_compare_prints_the_changes_and_gates_them(tmp_path: Path) -> None:
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    write_report(before, report([row("ort-cpu", 100), row("average")]))
    write_report(after, report([row("ort-cpu", 130), row("average")]))
    result = bench("compare", before, after)
    assert result.exit_code == 0
    assert re.search(r"ort-cpu net conv2d fp32 256x448 +100 ms +130 ms +\+30.0%.*slower", result.stdout)
    result = bench("compare", before, after, "--fail-below", "slowdown=10%")
    assert result.exit_code == 3
    assert "+30.0% time, more than 10 %" in result.stderr
    twice = ("--fail-below", "slowdown=10", "--fail-below", "slowdown=50")
    assert bench("compare", before, after, *twice).exit_code == 2  # the last one alone counted


def test_a_file_behind_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    """The link was replaced by a file."""
    (tmp_path / "far").mkdir()
    real, link = tmp_path / "far/real.svg", tmp_path / "link.svg"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert [path.name for path in real.parent.iterdir()] == ["real.svg"]


def test_the_table_command_writes_what_it_prints(tmp_path: Path) -> None:
    path, readme = tmp_path / "a.json", tmp_path / "README.md"
    write_report(path, report([row("ort-cpu", 100)]))
    printed = bench("table", path).stdout
    readme.write_text(
        "<!-- flavr-bench table: written by `flavr-bench table`, do not edit -->\n"
        "<!-- end of flavr-bench table -->\n"
    )
    assert bench("table", path, "--into", readme, "--check").exit_code == 1
    assert bench("table", path, "--into", readme).exit_code == 0
    assert printed.strip() in readme.read_text()
    assert bench("table", path, "--into", readme, "--check").exit_code == 0
    forgotten = bench("table", path, "--check")
    assert forgotten.exit_code == 2
    assert "--check compares with a file; name it: --into README.md" in forgotten.stderr


def test_the_markdown_command_writes_it_beside_the_report(tmp_path: Path) -> None:
    made = report([row("ort-cpu", 100)])
    write_report(tmp_path / "a.json", made)
    assert bench("markdown", tmp_path / "a.json").exit_code == 0
    assert (tmp_path / "a.md").read_text() == as_markdown(made)


def test_the_plot_command_draws_a_picture_that_needs_no_page(tmp_path: Path) -> None:
    path, picture = tmp_path / "a.json", tmp_path / "plot.svg"
    write_report(path, report([row("ort-cpu", 100), row("average", 1)]))
    assert bench("plot", path, "-o", picture).exit_code == 0
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "var(" not in text
    assert "ort-cpu conv2d fp32" in text
    write_report(path, report([row(failure=Failure("crash", "SIGSEGV"))]))
    result = bench("plot", path, "-o", picture)
    assert result.exit_code == 1
    assert "nothing to draw" in result.stderr
    result = bench("plot", path, "-o", tmp_path / "plot.png")
    assert result.exit_code == 2
    assert "plot.png: the picture is SVG; give it a name that ends in .svg" in result.stderr
    assert not (tmp_path / "plot.png").exists()


def test_help_needs_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys\nfrom flavr_benchmarks.cli import flavr_bench\n"
        "try:\n    flavr_bench.main(['--help'], prog_name='flavr-bench')\nexcept SystemExit:\n    pass\n"
        "heavy = ('torch', 'onnxruntime', 'onnx', 'matplotlib', 'cv2', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Examples:" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_a_folder_in_vimeos_layout_serves_as_data(tmp_path: Path) -> None:
    render_set(tmp_path / "set", RenderSpec(train=1, test=2, height=48, width=64))
    found = datasets.open_set(str(tmp_path / "set"), 5, 2, {})
    assert (found.data.name, found.data.windows, found.data.of_windows) == ("vimeo90K_septuplet", 2, 2)
    assert found.windows[0].inputs[0].shape == (48, 64, 3)


def test_data_without_a_known_truth_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Scores of no window ended a whole run in a division by zero, when the report was written."""
    scene = tmp_path / "set" / "eval-data" / "Army"
    scene.mkdir(parents=True)
    for number in range(9, 13):
        write_png(scene / f"frame{number:02d}.png", np.full((32, 48, 3), number, np.uint8))
    result = bench("--data", f"middlebury:{tmp_path / 'set'}", *TINY, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert "the truth of none of the 1 windows taken is known" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_clip_of_the_end_to_end_run_is_interpolated_whole(tmp_path: Path) -> None:
    model = write_blend_model(tmp_path / "blend.onnx")
    clip = tmp_path / "clip.mp4"
    end_to_end.write_clip(clip, datasets.rendered_clip((32, 48), 5))
    done = end_to_end.run_clip(clip, tmp_path / "out.mp4", model, "cpu", 1, 60)
    assert done.frames == 9
    assert done.seconds > 0
    assert Fraction(done.fps).limit_denominator(10**6) == Fraction(9 / done.seconds).limit_denominator(10**6)
    assert (tmp_path / "out.mp4").stat().st_size > 0


@pytest.mark.parametrize(("milliseconds", "frames"), [(10, 61), (1000, 31), (60_000, 5)])
def test_the_clip_is_as_long_as_the_budget_allows(milliseconds: float, frames: int) -> None:
    assert end_to_end.clip_frames(milliseconds, 30) == frames


def test_the_report_keeps_the_names_but_not_the_folders_of_what_was_measured() -> None:
    words = ["--ckpt", "/home/me/model.pth", "--data", "video:/mnt/clips", "--model=/x/a.onnx", "-o", "~/out"]
    assert _without_folders(words) == [
        *("--ckpt", "model.pth", "--data", "video:clips", "--model=a.onnx", "-o", "out"),
    ]


def test_the_network_that_ships_is_measured_in_all_its_forms() -> None:
    subject = examine_subject([], None)
    found = onnx_variants(subject, [], [], Path(), None, print)
    assert [(each.model, each.graph) for each in found] == [
        ("flavr_lite_2x", "conv2d"),
        ("flavr_lite_2x", "winograd"),
    ]
    assert [facts.name for facts in subject.networks] == ["flavr_lite_2x"]  # one network, whatever the form
    every = examine_subject([*SHIPPED.values(), DEFAULT_MODEL], None)
    names = [each.model for each in onnx_variants(every, [], [], Path(), None, print)]
    assert names == [
        *("flavr_lite_2x", "flavr_lite_2x_float", "flavr_lite_2x", "flavr_lite_2x_winograd_float"),
        "flavr_lite_2x (2)",
    ]


def test_loss_is_against_the_network_itself_and_never_against_another(
    tiny_checkpoint: Callable[[FlavrConfig], Path], tmp_path: Path
) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    other = write_blend_model(tmp_path / "other.onnx")
    subject = examine_subject([other], checkpoint)
    assert [facts.name for facts in subject.networks] == [checkpoint.stem, "other"]
    assert subject.networks[0].sha256 != subject.networks[1].sha256
    result = bench(
        *("--ckpt", checkpoint, "--model", other, "--backend", "ort-cpu", "--no-end-to-end"),
        *(*TINY, "-o", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    rows = {row.key.model: row for row in read_report(tmp_path / "out" / "report.json").rows}
    ours, blend = rows[checkpoint.stem].quality, rows["other"].quality
    assert ours is not None
    assert ours.loss_db == pytest.approx(0, abs=0.02)  # against a reference that is no row here
    assert blend is not None
    assert blend.loss_db is None
