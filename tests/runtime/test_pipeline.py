"""The whole path: what overlapping stages change, which is the time that it takes and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from flavr_runtime.errors import InputError, ModelError, OutputError
from flavr_runtime.frames import Frame, Rgb, StreamInfo
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.pipeline import interpolate
from flavr_runtime.scenes import detected_cuts
from flavr_runtime.session import Prepared, Session
from flavr_runtime.timing_plan import plan_timing
from model_files import write_blend_model


def picture(index: int) -> Rgb:
    """Moves, is held at times, and changes scene at 6."""
    rows, columns = np.mgrid[0:24, 0:32]
    held = index - (index % 5 == 3)
    base = 40 if index < 6 else 200
    wave = base + 30 * np.sin((columns + 2 * held) / 3) * np.cos(rows / 4)
    return np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)


class Source:
    """Twelve frames at 10 fps; `error` comes in place of frame 4."""

    def __init__(self, error: Exception | None = None) -> None:
        self.info = StreamInfo(Path("made"), 32, 24, Fraction(10), True, 12, "")
        self.error = error

    def frames(self) -> Iterator[Frame]:
        for index in range(12):
            if self.error is not None and index == 4:
                raise self.error
            yield Frame(picture(index), Fraction(index, 10))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Source):
    """Keeps what it is given; `error` is raised at the fourth frame."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.written: list[tuple[Fraction, str, bytes]] = []
        self.notices: list[str] = []
        self.failure = error

    @property
    def damage(self) -> list[str]:
        return []

    @property
    def kept(self) -> int:
        return 0

    def write(self, frame: Frame) -> None:
        if self.failure is not None and len(self.written) == 3:
            raise self.failure
        self.written.append((frame.time, frame.origin, frame.rgb.tobytes()))


@pytest.fixture(scope="module")
def interpolator(tmp_path_factory: pytest.TempPathFactory) -> Interpolator:
    path = write_blend_model(tmp_path_factory.mktemp("models") / "m.onnx", [(0.1, 0.5, 0.3, 0.1)])
    return Interpolator(path, provider="cpu")


def run(
    source: Source, sink: Sink, interpolator: Interpolator, *, ahead: int, fps: int | None = None
) -> None:
    timing = plan_timing(
        source.info, 2, factor=None if fps else 4, fps=Fraction(fps) if fps else None, slowmo=False
    )
    interpolate(source, sink, interpolator, timing, mark_cuts=detected_cuts, cut_mode="blend", ahead=ahead)


@pytest.mark.parametrize("fps", [None, 33])
def test_the_result_is_bit_for_bit_that_of_one_thing_after_the_other(
    fps: int | None, interpolator: Interpolator
) -> None:
    results = []
    for ahead in (0, 1, 2):
        sink = Sink()
        run(Source(), sink, interpolator, ahead=ahead, fps=fps)
        results.append(sink.written)
    assert len(results[0]) == (45 if fps is None else 37)
    assert {origin for _, origin, _ in results[0]} >= {"source", "synthesised"}
    assert results[1] == results[2] == results[0]


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("error", [OutputError("disk full"), KeyboardInterrupt(15)])
def test_an_error_while_writing_ends_the_run_as_itself(
    error: BaseException, ahead: int, interpolator: Interpolator
) -> None:
    with pytest.raises(type(error)) as caught:
        run(Source(), Sink(error), interpolator, ahead=ahead)
    assert caught.value is error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flavr-")]


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_while_reading_ends_the_run_as_itself(ahead: int, interpolator: Interpolator) -> None:
    error = InputError("made: damaged at 0.40 s")
    sink = Sink()
    with pytest.raises(InputError) as caught:
        run(Source(error), sink, interpolator, ahead=ahead)
    assert caught.value is error


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_of_the_network_ends_the_run_as_itself(
    ahead: int, interpolator: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> list[Rgb]:
        raise ModelError("out of memory")

    monkeypatch.setattr(Session, "run", fail)
    with pytest.raises(ModelError, match="out of memory"):
        run(Source(), Sink(), interpolator, ahead=ahead)


def test_no_picture_is_made_by_the_thread_that_encodes(
    interpolator: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    complete = Session.run

    def noted(session: Session, frames: Sequence[Rgb | Prepared]) -> list[Rgb]:
        threads.add(threading.current_thread().name)
        return complete(session, frames)

    monkeypatch.setattr(Session, "run", noted)
    run(Source(), Sink(), interpolator, ahead=2)
    assert threads == {"flavr-network"}
