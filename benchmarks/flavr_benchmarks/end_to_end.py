"""A whole clip through flavr-run's own pipeline: decode, find cuts, interpolate, encode.

    python -m flavr_benchmarks.end_to_end '{"clip": ..., "output": ..., "model": ..., "provider": ..., ...}'

runs in a process of its own and prints the frames written and the seconds that they took.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from flavr_benchmarks.process import CellError
from flavr_benchmarks.schema import EndToEnd
from flavr_runtime.frames import Rgb

_RATE = Fraction(25)


def clip_frames(milliseconds: float, budget: float) -> int:
    """How many frames a clip needs to keep a network busy for about a budget of seconds."""
    return 1 + int(min(max(1000 * budget / milliseconds, 4), 60))


def write_clip(path: Path, frames: Sequence[Rgb]) -> None:
    """Frames of even height and width as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "16", "preset": "veryfast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))


def run_clip(
    clip: Path, output: Path, model: Path, provider: str, threads: int | None, timeout: float
) -> EndToEnd:
    """Measure in another process.

    Raises:
        CellError: with the reason.
    """
    argument = json.dumps(
        {
            "clip": str(clip),
            "output": str(output),
            "model": str(model),
            "provider": provider,
            "threads": threads,
        }
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "flavr_benchmarks.end_to_end", argument],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise CellError("timeout", f"flavr-run took more than {timeout:g} s") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
        raise CellError("error", words[-1]) from None
    try:
        result = json.loads(done.stdout.splitlines()[-1])  # libraries may print before it
    except (ValueError, IndexError):
        raise CellError("error", "flavr-run ended without a result") from None
    return EndToEnd(frames=result["frames"], seconds=result["seconds"], clip=result["clip"])


def main() -> None:
    """The process that runs the clip, with flavr-run's defaults."""
    from flavr_runtime.interpolator import Interpolator
    from flavr_runtime.media import open_sink, open_source
    from flavr_runtime.pipeline import interpolate
    from flavr_runtime.scenes import detected_cuts
    from flavr_runtime.timing_plan import plan_timing

    asked = json.loads(sys.argv[1])
    with open_source(Path(asked["clip"])) as source:
        info = source.info
        interpolator = Interpolator(
            asked["model"],
            provider=asked["provider"],
            threads=asked["threads"],
            size=(info.height, info.width),
        )
        interpolator.warm_up()
        timing = plan_timing(info, interpolator.model.factor, factor=None, fps=None, slowmo=False)
        with open_sink(asked["output"], source, timing.rate, overwrite=True) as sink:
            done = interpolate(source, sink, interpolator, timing, mark_cuts=detected_cuts)
    clip = f"{info.width}x{info.height}, {info.frame_count} frames, {info.description}"
    print(json.dumps({"frames": done.written, "seconds": done.seconds, "clip": clip}))


if __name__ == "__main__":
    main()
