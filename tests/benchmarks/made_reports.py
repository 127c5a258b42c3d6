"""Reports with known figures."""

from __future__ import annotations

from collections.abc import Sequence

from flavr_benchmarks.schema import (
    Ceiling,
    Data,
    EndToEnd,
    Environment,
    Failure,
    Key,
    Latency,
    Network,
    Quality,
    Report,
    Row,
    Start,
)


def latency(rounds: Sequence[Sequence[float]], unstable: Sequence[str] = ()) -> Latency:
    flat = sorted(value for one in rounds for value in one)
    middle = flat[len(flat) // 2]
    return Latency(
        p50=middle,
        p90=flat[-1],
        p99=flat[-1],
        low=flat[0],
        high=flat[-1],
        confidence=0.95,
        upload=0.1,
        compute=middle - 0.2,
        download=0.1,
        cpu=middle,
        rounds=[list(one) for one in rounds],
        unstable=list(unstable),
    )


def around(milliseconds: float, rounds: int = 12) -> list[list[float]]:
    """Rounds whose medians lie within 1 % of a value."""
    return [[milliseconds * (1 + 0.01 * ((n % 5) - 2) / 2)] for n in range(rounds)]


def quality(psnr: float = 31.0, loss: float | None = 0.0, error: int | None = 1) -> Quality:
    return Quality(
        psnr=psnr,
        ssim=0.95,
        psnr_uint8=psnr,
        ssim_uint8=0.94,
        windows=2,
        quantised=True,
        loss_db=loss,
        max_code_error=error,
        psnr_by_window={"a.mp4:0": psnr + 1, "b.mp4:3": psnr - 1},
    )


def row(
    backend: str = "ort-cpu",
    milliseconds: float = 100.0,
    *,
    graph: str = "conv2d",
    precision: str = "fp32",
    size: str = "256x448",
    score: Quality | None = None,
    failure: Failure | None = None,
    unstable: Sequence[str] = (),
) -> Row:
    baseline = backend in ("average", "dis-flow", "minterpolate")
    made = Row(
        key=Key(
            backend=backend,
            model="" if baseline else "net",
            graph="" if baseline else graph,
            precision="" if baseline else precision,
            size=size,
            threads=1,
        ),
        title=backend,
        baseline=baseline,
        failure=failure,
        device="CPU",
        gflop=None if baseline else 60.0,
    )
    if failure is None:
        made.latency = latency(around(milliseconds), unstable)
        made.start = Start(import_seconds=0.3, load_seconds=0.2, first_seconds=0.5, warm_up_windows=2)
        made.quality = score or quality()
        made.peak_rss, made.base_rss, made.model_bytes = 300_000_000, 30_000_000, 10_000_000
        made.placement = {} if baseline else {"CPUExecutionProvider": 539}
        if backend.startswith("ort-"):
            made.end_to_end = EndToEnd(frames=41, seconds=2.0, clip="448x256")
    return made


def report(rows: Sequence[Row], *, ceiling: float = 100.0, cpu: str = "Test CPU") -> Report:
    return Report(
        flavr="0.1.0",
        created="2026-01-02T03:04:05+00:00",
        command=["flavr-bench", "--quick"],
        seconds=12.0,
        settings={"threads": "1", "interval": "at most ±2% of the median, from 10 rounds"},
        environment=Environment(
            cpu=cpu,
            cpu_flags=["avx2", "fma"],
            physical_cores=2,
            logical_cores=2,
            usable_cores=2,
            cpu_mhz=2600.0,
            cpu_governor=None,
            hypervisor=True,
            memory_bytes=25_000_000_000,
            free_memory_bytes=18_000_000_000,
            load_average=[1.0, 1.1, 1.2],
            system="Linux 6.1",
            python="3.11.7",
            libraries={"onnxruntime": "1.32.0", "torch": "2.13.0"},
            gpus=[],
        ),
        networks=[Network(name="net", arch="unet_18", width=16, factor=2, sha256="ab", gflop={})],
        ceilings=[
            Ceiling(
                device="cpu",
                precision="fp32",
                gflop_per_second=ceiling,
                before=ceiling,
                after=ceiling,
                method="matrix product",
            ),
            Ceiling(
                device="cpu",
                precision="int8",
                gflop_per_second=0.0,
                before=0.0,
                after=0.0,
                method="matrix product",
                failure="no kernel",
            ),
        ],
        data=Data(name="mini", description="rendered scenes", windows=2, of_windows=2),
        rows=list(rows),
        rounds=[],
    )
