"""The report's tables as data: every view shows the same columns, figures and words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flavr_benchmarks.datasets import VIMEO_TEST_SEQUENCES
from flavr_benchmarks.quality import mean_over_videos
from flavr_benchmarks.schema import Report, Row

Number = float | int | None


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a row, as a number to sort by and as text."""

    title: str
    help: str
    number: Callable[[Report, Row], Number]
    text: Callable[[Report, Row], str]
    words: bool = False  # left-aligned, sorted as text


def figure(value: Number, digits: int, unit: str = "") -> str:
    """A number for people; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def milliseconds(value: float | None) -> str:
    """Three digits that count, in ms or s."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.3g} s" if value < 100_000 else f"{value / 1000:.0f} s"
    return f"{value:.3g} ms"


def size_text(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.3g} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"


def short_names(variants: Iterable[tuple[str, str, str, str]]) -> dict[tuple[str, str, str, str], str]:
    """By `Key.variant`: without the size, and without the model where all are of one."""
    listed = list(variants)
    several = len({model for _, model, _, _ in listed if model}) > 1
    return {
        (backend, model, graph, precision): " ".join(
            word for word in (backend, model if several else "", graph, precision) if word
        )
        for backend, model, graph, precision in listed
    }


def share_of_ceiling(report: Report, row: Row) -> float | None:
    """GFLOP/s of the network as published, of the best matrix product in this precision.

    Or in fp32, where that is faster: engines compute types that a CPU has no instructions for in fp32.
    """
    speed = row.gflop_per_second
    device = "cpu" if row.device.startswith("CPU") else "cuda"
    own, full = (report.ceiling(device, precision) for precision in (row.key.precision, "fp32"))
    return None if speed is None or not own else speed / max(own, full or 0.0)


def new_fps(row: Row) -> float | None:
    """Frames of the result per second that the network alone sustains: each window adds one source frame."""
    return None if row.latency is None else 1000 / row.latency.p50


def _words(text: Callable[[Row], str], title: str, help_text: str) -> Column:
    return Column(title, help_text, lambda _report, _row: None, lambda _report, row: text(row), words=True)


def _numbers(
    title: str, help_text: str, number: Callable[[Row], Number], text: Callable[[Number], str]
) -> Column:
    return Column(title, help_text, lambda _report, row: number(row), lambda _report, row: text(number(row)))


def _latency(name: str) -> Callable[[Row], Number]:
    return lambda row: None if row.latency is None else getattr(row.latency, name)


def _quality(name: str) -> Callable[[Row], Number]:
    return lambda row: None if row.quality is None else getattr(row.quality, name)


def _loss(row: Row) -> Number:
    return None if row.quality is None or row.baseline else row.quality.loss_db


def _largest_error(row: Row) -> Number:
    return None if row.quality is None or row.baseline else row.quality.max_code_error


NAMES = (
    _words(lambda row: row.key.backend, "backend", "what ran the network"),
    _words(lambda row: row.key.model, "model", "the file"),
    _words(lambda row: row.key.graph, "graph", "conv2d: no tensor of rank 5; conv3d: as published"),
    _words(lambda row: row.key.precision, "precision", "arithmetic of the network"),
    _words(lambda row: row.key.size, "size", "height x width"),
)

SPEED = (
    _numbers("p50", "median time of a window", _latency("p50"), milliseconds),
    _numbers("p90", "nine windows of ten take less", _latency("p90"), milliseconds),
    _numbers("p99", "99 windows of 100 take less", _latency("p99"), milliseconds),
    _numbers(
        "CPU time",
        "of all threads for a window; on a machine that is shared, what the window would take alone on one",
        _latency("cpu"),
        milliseconds,
    ),
    _numbers("windows/s", "at the median time", new_fps, lambda value: figure(value, 2)),
    _numbers(
        "flavr-run fps",
        "frames written per second, with decoding, cut detection and encoding; one clip, not in turns",
        lambda row: row.end_to_end.fps if row.end_to_end else None,
        lambda value: figure(value, 2),
    ),
    _numbers(
        "GFLOP/s",
        "operations of the network as published, the same for every form, per second",
        lambda row: row.gflop_per_second,
        lambda value: figure(value, 0),
    ),
    Column(
        "of ceiling",
        "those, of the best matrix product of this precision (or fp32) on this machine",
        share_of_ceiling,
        lambda report, row: figure(
            None if (share := share_of_ceiling(report, row)) is None else 100 * share, 0, " %"
        ),
    ),
)

QUALITY = (
    _numbers(
        "PSNR", "dB on 8-bit pictures, against the truth", _quality("psnr_uint8"), lambda v: figure(v, 2)
    ),
    _numbers(
        "SSIM", "standard (Wang 2004), on 8-bit pictures", _quality("ssim_uint8"), lambda v: figure(v, 4)
    ),
    _numbers(
        "loss",
        "dB of PSNR lost against the network in fp32 PyTorch",
        _loss,
        lambda v: figure(v if v is None or abs(v) >= 0.005 else 0.0, 2),
    ),
    _numbers(
        "max error",
        "largest difference of a code value (of 255) to fp32 PyTorch",
        _largest_error,
        lambda v: figure(v, 0),
    ),
)

COST = (
    _numbers("memory", "peak of the process", lambda row: row.peak_rss, lambda v: size_text(_whole(v))),
    _numbers("file", "of the model", lambda row: row.model_bytes, lambda v: size_text(_whole(v))),
)


def _start(name: str) -> Callable[[Row], Number]:
    return lambda row: None if row.start is None else getattr(row.start, name)


START = tuple(
    _numbers(title, text, _start(name), lambda value: figure(value, 2, " s"))
    for title, text, name in (
        ("import", "of the engine", "import_seconds"),
        ("load", "of the model", "load_seconds"),
        ("first window", "with what is compiled at that moment", "first_seconds"),
    )
)

DETAILS = (
    *START,
    _numbers("upload", "8-bit pictures to the network's input", _latency("upload"), milliseconds),
    _numbers("compute", "the network", _latency("compute"), milliseconds),
    _numbers("download", "its output to 8-bit pictures", _latency("download"), milliseconds),
    _numbers("device memory", "on the GPU", lambda row: row.device_memory, lambda v: size_text(_whole(v))),
    _numbers(
        "energy",
        "joules per window",
        lambda row: row.energy.joules_per_window if row.energy else None,
        lambda v: figure(v, 2, " J"),
    ),
    _words(
        lambda row: ", ".join(
            f"{name.removesuffix('ExecutionProvider')} {n}" for name, n in row.placement.items()
        ),
        "nodes",
        "of the graph, per execution provider",
    ),
    _words(lambda row: row.device, "device", "what computed"),
)

FIGURES = (*SPEED, *QUALITY, *COST)
MAIN = (*NAMES, *FIGURES)


def _whole(value: Number) -> int | None:
    return None if value is None else int(value)


def remarks(row: Row) -> list[str]:
    """What a reader must know before believing a row's figures."""
    found = []
    if row.failure is not None:
        found.append(f"{row.failure.kind}: {row.failure.reason}")
    if row.latency is not None:
        found += row.latency.unstable
    if row.quality_failure is not None:
        found.append(f"no quality: {row.quality_failure}")
    if row.end_to_end_failure is not None:
        found.append(f"no flavr-run: {row.end_to_end_failure}")
    return found


def used(columns: Sequence[Column], report: Report) -> list[Column]:
    """Those that say anything in this report."""
    return [
        column for column in columns if any(column.text(report, row) not in ("", "-") for row in report.rows)
    ]


@dataclass(frozen=True, slots=True)
class Score:
    """A row of the result table that FLAVR's own scripts print."""

    model: str
    psnr: float
    ssim: float
    ssim_standard: float
    device: str
    by_video: float | None = None
    published: str = ""


PUBLISHED_NOTE = (
    "PSNR and SSIM in the FLAVR authors' definition (not clamped or rounded; 3-D Gaussian SSIM); the "
    "standard SSIM beside it, since the same weights score 0.975 in the one and 0.960 in the other"
)


def scores(report: Report) -> list[Score]:
    """Model, PSNR, SSIM and device, each variant once; published figures where the protocol is the same."""
    found, seen = [], set()
    for row in report.rows:
        if row.quality is None or row.key.variant in seen:
            continue
        seen.add(row.key.variant)
        name = " ".join(word for word in row.key.variant if word)
        by_video, videos = mean_over_videos(row.quality)
        several = videos > 1 and len(row.quality.psnr_by_window) > videos
        found.append(
            Score(
                name,
                row.quality.psnr,
                row.quality.ssim,
                row.quality.ssim_uint8,
                row.device,
                by_video if several else None,
            )
        )
    if _is_published_protocol(report):
        found.append(Score("FLAVR 2x, published", 36.3, 0.975, 0.960, "", published="arXiv 2012.08512"))
    return found


def _is_published_protocol(report: Report) -> bool:
    data, network = report.data, report.networks[0] if report.networks else None
    return (
        data is not None
        and data.name == "vimeo90K_septuplet"
        and data.windows == data.of_windows == VIMEO_TEST_SEQUENCES
        and network is not None
        and (network.arch, network.width, network.factor) == ("unet_18", 64, 2)
    )
