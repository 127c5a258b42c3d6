"""Reports as people read them: files, tables, recommendation, comparison, gates, README."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import flavr_benchmarks
from flavr_benchmarks.comparison import compare
from flavr_benchmarks.errors import GateError, ReportError, UsageError
from flavr_benchmarks.gates import Gates
from flavr_benchmarks.markdown import markdown
from flavr_benchmarks.plots import plots, speed_quality_svg
from flavr_benchmarks.readme import BEGIN, END, put_into, readme_table
from flavr_benchmarks.recommendation import recommend
from flavr_benchmarks.schema import Failure, Network, Report, read_report, write_report, write_text
from flavr_benchmarks.views import scores, share_of_ceiling
from made_reports import around, latency, quality, report, row

CRASHED = Failure("crash", "SIGSEGV: the driver | said no")


@pytest.fixture
def mixed() -> Report:
    return report(
        [
            row("ort-cpu", 100),
            row("ort-cpu", 134, graph="conv3d", unstable=["drift: the second half was 9% slower"]),
            row("torch-eager", 150, graph="pytorch", score=quality(31.0, 0.0, 0)),
            row("ort-cuda", failure=CRASHED),
            row("average", 0.1, score=quality(26.0)),
        ]
    )


@pytest.fixture
def two_networks() -> Report:
    """A checkpoint and a file of another network, in one form."""
    both = report([row("ort-cpu", 150), row("ort-cpu", 100), row("torch-eager", 300, graph="pytorch")])
    both.rows[1].key = replace(both.rows[1].key, model="small")
    both.networks.append(Network(name="small", arch="unet_18", width=4, factor=2, sha256="cd", gflop={}))
    return both


def test_every_public_name_can_be_imported() -> None:
    assert sorted(flavr_benchmarks.__all__) == sorted(flavr_benchmarks._HOMES)
    for name in flavr_benchmarks.__all__:
        value = getattr(flavr_benchmarks, name)
        assert value.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flavr_benchmarks.nothing


def test_a_report_is_read_as_it_was_written(mixed: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, mixed)
    assert read_report(path) == mixed
    assert json.loads(path.read_text())["schema"] == "flavr-bench/1"


def test_a_name_that_is_no_text_loses_no_report(mixed: Report, tmp_path: Path) -> None:
    name = "caf\udce9"  # as Linux hands over a byte that is no UTF-8
    mixed.command = ["flavr-bench", "--ckpt", f"{name}.pth"]
    mixed.rows[0].key = replace(mixed.rows[0].key, model=name)
    path = tmp_path / "report.json"
    write_report(path, mixed)
    assert read_report(path).command[-1] == "caf?.pth"
    write_text(tmp_path / "report.md", markdown(mixed))
    assert "caf?" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[:100], "is no report of flavr-bench"),
        (lambda text: text.replace("flavr-bench/1", "flavr-bench/9"), "has the schema 'flavr-bench/9'"),
        (lambda _text: "[]", "is no report of flavr-bench"),
        (
            lambda text: text.replace('"usable_cores": 2', '"usable_cores": "two"'),
            r"\$.environment.usable_cores",
        ),
    ],
)
def test_a_damaged_report_is_refused_by_what_is_wrong(
    mixed: Report, tmp_path: Path, change: object, words: str
) -> None:
    path = tmp_path / "report.json"
    write_report(path, mixed)
    assert callable(change)
    path.write_text(change(path.read_text()))
    with pytest.raises(ReportError, match=words):
        read_report(path)


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"none\.json cannot be read"):
        read_report(tmp_path / "none.json")


def test_failed_and_unstable_cells_stay_visible_in_markdown(mixed: Report) -> None:
    text = markdown(mixed)
    assert "**crash**" in text
    assert "SIGSEGV: the driver | said no" in text
    assert "drift: the second half was 9% slower" in text
    rows = [line for line in text.splitlines() if line.startswith("| ort-cuda")]
    assert len(rows) == 1  # in the table of cells, not among the details
    heads = text.splitlines()[text.splitlines().index("## Cells") + 2]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == len(re.findall(r"\|", heads))


def test_the_recommendation_is_the_fastest_that_keeps_its_quality(mixed: Report) -> None:
    (sentence,) = recommend(mixed)
    assert sentence.startswith("At 256x448, deploy ort-cpu conv2d fp32: 100 ms per window (10.00 windows/s)")
    assert "nothing lost against fp32 PyTorch" in sentence
    assert "1.34x as fast as ort-cpu conv3d fp32" in sentence


def test_a_fast_network_of_bad_quality_is_not_recommended(mixed: Report) -> None:
    mixed.rows.append(row("ort-cpu", 50, precision="int8", score=quality(29.0, 2.0, 90)))
    (sentence,) = recommend(mixed)
    assert "deploy ort-cpu conv2d fp32" in sentence
    assert "ort-cpu net conv2d int8 256x448 is faster but its quality is not the network's" in sentence


def test_a_network_that_is_worse_than_averaging_is_not_praised() -> None:
    untrained = report([row(score=quality(18.9)), row("average", 0.1, score=quality(31.0))])
    assert "but averaging frames is better on this data, by 12.10 dB" in recommend(untrained)[0]


def test_of_several_networks_the_one_that_is_recommended_is_named(two_networks: Report) -> None:
    (sentence,) = recommend(two_networks)
    assert sentence.startswith("At 256x448, deploy ort-cpu small conv2d fp32: 100 ms")
    assert "1.50x as fast as ort-cpu net conv2d fp32" in sentence
    assert "| ort-cpu small conv2d fp32 |" in readme_table([two_networks])


def test_of_several_networks_each_has_its_own_colour_in_the_plots(two_networks: Report) -> None:
    two_networks.rows[1].key = replace(two_networks.rows[1].key, model="a$b$")  # no formula
    for svg in (*(plot.svg for plot in plots(two_networks)), speed_quality_svg(two_networks)):
        assert ">ort-cpu net conv2d fp32</text>" in svg
        assert ">ort-cpu a$b$ conv2d fp32</text>" in svg


def test_two_networks_of_one_speed_are_called_equal() -> None:
    tie = report([row("ort-cpu", 100), row("torch-eager", 100.2, graph="pytorch")])
    tie.rows[1].latency = latency([[99.0], [103.0]] * 6)
    tie.rows[0].latency = latency([[103.0], [99.0]] * 6)
    assert "about as fast as" in recommend(tie)[0]


def test_an_advantage_seen_in_two_rounds_is_not_given_an_interval() -> None:
    few = report([row("ort-cpu", 100), row("torch-eager", 225, graph="pytorch")])
    few.rows[1].latency = latency([[228.0], [229.0]])
    sentence = recommend(few)[0]
    assert "2.3x as fast as torch-eager pytorch fp32 in the few rounds that there are" in sentence


def test_an_unstable_winner_is_recommended_with_a_warning() -> None:
    (sentence,) = recommend(report([row(unstable=["load: other programs kept 1.0 of 2 cores busy"])]))
    assert "Measure again before relying on it (load:" in sentence


def test_without_a_network_the_sentence_says_so() -> None:
    assert "no network could be measured" in recommend(report([row(failure=CRASHED), row("average")]))[0]


def test_the_share_of_the_ceiling_is_of_the_same_precision(mixed: Report) -> None:
    assert share_of_ceiling(mixed, mixed.rows[0]) == pytest.approx(60.0 / 0.1 / 100)
    assert share_of_ceiling(mixed, row(precision="int8")) is None  # it could not be measured
    slow = mixed.ceilings[1]
    slow.precision, slow.failure, slow.gflop_per_second = "fp16", None, 1.0  # no instructions for it here
    assert share_of_ceiling(mixed, row(precision="fp16")) == pytest.approx(60.0 / 0.1 / 100)


def test_published_figures_stand_beside_ours_only_where_the_protocol_is_theirs(mixed: Report) -> None:
    assert mixed.data is not None
    assert not any(score.published for score in scores(mixed))
    mixed.data.name, mixed.data.windows, mixed.data.of_windows = "vimeo90K_septuplet", 7824, 7824
    assert not any(score.published for score in scores(mixed))  # a network of width 16
    mixed.networks[0].width = 64
    assert [score.psnr for score in scores(mixed) if score.published] == [36.3]
    mixed.data.windows = 100
    assert not any(score.published for score in scores(mixed))


def test_a_real_slowdown_is_found_and_noise_is_not() -> None:
    before = report([row("ort-cpu", 100), row("torch-eager", 150, graph="pytorch")])
    after = report([row("ort-cpu", 115), row("torch-eager", 151, graph="pytorch")])
    first, second = compare(before, after).changes
    assert (first.verdict, second.verdict) == ("slower", "same")
    assert first.ratio == pytest.approx(1.15, abs=0.01)
    assert first.interval is not None
    assert first.interval.low > 1.1
    assert compare(after, before).changes[0].verdict == "faster"


def test_a_large_difference_of_noisy_runs_is_no_change() -> None:
    before, after = report([row()]), report([row()])
    before.rows[0].latency = latency([[80.0], [130.0]] * 3)
    after.rows[0].latency = latency([[90.0], [145.0]] * 3)
    (change,) = compare(before, after).changes
    assert change.ratio is not None
    assert change.ratio > 1.05
    assert change.verdict == "same"


def test_a_difference_seen_in_few_rounds_is_not_given_an_interval_and_keeps_no_gate() -> None:
    before, after = report([row()]), report([row()])
    before.rows[0].latency = latency([[100.0]] * 5)
    after.rows[0].latency = latency([[110.0]])
    comparison = compare(before, after)
    (change,) = comparison.changes
    assert (change.interval, change.verdict) == (None, "not comparable")
    assert change.ratio == pytest.approx(1.1)
    with pytest.raises(GateError, match=r"\+10.0% time, more than 5 %, in too few rounds to be sure"):
        Gates({"slowdown": 5}).check(after, comparison)
    Gates({"slowdown": 20}).check(after, comparison)


def test_lost_quality_new_and_gone_cells_and_failures_are_named() -> None:
    before = report([row("ort-cpu"), row("ort-cuda"), row("ort-rocm", failure=CRASHED), row("torch-eager")])
    after = report(
        [
            row("ort-cpu", score=quality(30.0)),
            row("ort-cuda", failure=CRASHED),
            row("ort-rocm"),
            row("average"),
        ]
    )
    verdicts = {change.key.backend: change.verdict for change in compare(before, after).changes}
    assert verdicts == {
        "ort-cpu": "worse",
        "ort-cuda": "failed",
        "ort-rocm": "works now",
        "torch-eager": "gone",
        "average": "new",
    }


def test_what_had_failed_and_is_gone_is_no_slowdown() -> None:
    """It was said that the other report had a time."""
    before = report([row("ort-cpu"), row("ort-cuda"), row("ort-rocm", failure=CRASHED)])
    found = compare(before, report([row("ort-cpu")])).slower_than(10)
    assert len(found) == 1
    assert "ort-cuda" in found[0]


def test_quality_on_other_data_is_not_compared() -> None:
    before, after = report([row()]), report([row(score=quality(20.0))])
    assert compare(before, after).changes[0].verdict == "worse"
    assert after.data is not None
    after.data.windows += 1
    (change,) = compare(before, after).changes
    assert change.psnr_change is None
    assert change.verdict == "same"
    assert any(remark.startswith("quality was measured on") for remark in compare(before, after).remarks)


def test_other_threads_are_said() -> None:
    before, after = report([row()]), report([row()])
    after.rows[0].key = replace(after.rows[0].key, threads=None)
    comparison = compare(before, after)
    assert [change.verdict for change in comparison.changes] == ["gone", "new"]
    assert "threads: 1 before, each engine's own after; cells of other threads are other cells" in (
        comparison.remarks
    )


def test_another_machine_is_said() -> None:
    comparison = compare(report([row()]), report([row()], cpu="Other CPU", ceiling=130))
    assert "CPU: Test CPU before, Other CPU after" in comparison.remarks
    assert "the machine itself: its fp32 matrix product is 30% faster after" in comparison.remarks


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"psnr": 32}, "PSNR 31.00 dB, below 32"),
        ({"ssim": 0.96}, "SSIM 0.9400, below 0.96"),
        ({"loss": -0.1}, "0.00 dB lost, more than -0.1"),
    ],
)
def test_a_gate_names_what_broke_it(limits: dict[str, float], words: str) -> None:
    with pytest.raises(GateError, match=words):
        Gates(limits).check(report([row(), row("average", score=quality(10.0))]))


def test_gates_that_hold_say_nothing_and_baselines_are_not_held_to_them() -> None:
    Gates({"psnr": 30, "loss": 0.1}).check(report([row(), row("average", score=quality(10.0))]))
    Gates({}).check(report([row(failure=CRASHED)]))


def test_what_could_not_be_measured_keeps_no_gate() -> None:
    with pytest.raises(GateError, match="failed \\(crash"):
        Gates({"psnr": 1}).check(report([row(failure=CRASHED)]))
    without = row()
    without.quality, without.quality_failure = None, "its frames hold infinite values"
    with pytest.raises(GateError, match="no quality \\(its frames hold infinite values"):
        Gates({"psnr": 1}).check(report([without]))
    unknown = row(score=quality(31, None, None))
    with pytest.raises(GateError, match="no fp32 PyTorch to compare with"):
        Gates({"loss": 1}).check(report([unknown]))


def test_the_slowdown_gate_wants_more_than_noise() -> None:
    before, after = report([row("ort-cpu", 100)]), report([row("ort-cpu", 115)])
    with pytest.raises(GateError, match=r"\+15.0% time, more than 10 %"):
        Gates({"slowdown": 10}).check(after, compare(before, after))
    Gates({"slowdown": 20}).check(after, compare(before, after))
    after.rows[0].latency = latency([[60.0], [170.0]] * 3)
    Gates({"slowdown": 10}).check(after, compare(before, after))
    with pytest.raises(UsageError, match="needs two reports"):
        Gates({"slowdown": 10}).check(after)


def test_a_cell_that_stopped_working_breaks_the_slowdown_gate() -> None:
    before, after = report([row("ort-cpu")]), report([row("ort-cpu", failure=CRASHED)])
    with pytest.raises(GateError, match="failed"):
        Gates({"slowdown": 10}).check(after, compare(before, after))


def test_the_readme_table_has_the_measured_networks(mixed: Report) -> None:
    lines = readme_table([mixed]).splitlines()
    assert len({line.count(" | ") for line in lines[:5]}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:5]]
    assert [line[2] for line in cells] == [
        "ort-cpu conv2d fp32",
        "ort-cpu conv3d fp32",
        "torch-eager pytorch fp32",
    ]
    assert cells[0][5] == "1.50x"
    assert cells[1][3].endswith("\\*")
    assert cells[1][5] == "1.12x"  # of CPU times, since its wall time is in doubt
    assert cells[2][5] == "1x"
    assert "average" not in "\n".join(lines)
    assert "Test CPU" in lines[-1]


def test_a_network_is_not_compared_with_anothers_speed_in_pytorch(two_networks: Report) -> None:
    lines = readme_table([two_networks]).splitlines()[2:5]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[5] for line in cells] == ["2.00x", "-", "1x"]


def test_the_table_is_put_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    with pytest.raises(ReportError, match="differs from the reports"):
        put_into(path, "new", check=True)
    assert "old" in path.read_text()
    put_into(path, "new")
    assert path.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    put_into(path, "new", check=True)
    path.write_text("no marks")
    with pytest.raises(ReportError, match="lacks the lines"):
        put_into(path, "new")
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ReportError, match=r"is not UTF-8 \(at byte 3\)"):
        put_into(path, "new")


def test_a_file_keeps_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(f"before\r\n{BEGIN}\r\nold\r\n{END}\r\nafter\r\n".encode())
    put_into(path, "new\ntable")
    assert path.read_bytes() == f"before\r\n{BEGIN}\r\nnew\r\ntable\r\n{END}\r\nafter\r\n".encode()
    put_into(path, "new\ntable", check=True)


def test_around_is_what_the_other_tests_take_it_for() -> None:
    values = sorted(value for one in around(100) for value in one)
    assert values[len(values) // 2] == 100
    assert values[0] == 99
    assert values[-1] == 101
