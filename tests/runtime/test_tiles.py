"""Pictures that do not fit are cut without a seam, and a run says what memory it takes."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import render_clip
from flavr_runtime import Interpolator, OutOfMemoryError, _joining
from flavr_runtime._run_options import SMALLEST_TILE
from flavr_runtime.cli import command
from flavr_runtime.errors import InputError, ModelError, UsageError
from flavr_runtime.frames import Rgb, StreamInfo
from flavr_runtime.memory import available_bytes, peak_bytes, planned_bytes, resident_bytes, window_bytes
from flavr_runtime.model_info import ModelInfo, read_model_info
from flavr_runtime.providers import Selected
from flavr_runtime.session import Session
from flavr_runtime.shipped import DEFAULT_MODEL
from flavr_runtime.tiles import (
    OVERLAP,
    SMALLEST_SIDE,
    TiledSession,
    Tiling,
    choose_tiling,
    run_tiled,
    tiles_of_side,
)
from model_files import write_blend_model

CPU = Selected("cpu", "CPUExecutionProvider")

# What ONNX Runtime 1.32 raises where the address space is limited.
ORT_SAYS = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running ReorderInput node. "
    "Name:'ReorderInput_token_64' Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 "
    "void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate "
    "memory for requested buffer of size 99532800\n"
)


def pictures(height: int, width: int, dtype: type[np.uint8 | np.uint16] = np.uint8) -> list[Rgb]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width][..., None]
    scene = [127 + 90 * np.sin((columns + 2 * t) / (3.0, 4.0, 5.0)) + 30 * np.cos(rows / 4) for t in range(4)]
    noisy = [np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255) for picture in scene]
    return [(picture * (np.iinfo(dtype).max / 255)).astype(dtype) for picture in noisy]


def model(**changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "path": Path("m.onnx"), "factor": 2, "arch": "unet_18", "width": 64, "graph": "conv2d",
        "precision": "fp32", "io": "uint8", "size": None, "opset": 18, "checkpoint_sha256": "0",
    }  # fmt: skip
    return ModelInfo(**facts | changes)


class FakeEngine:
    """ONNX Runtime's session on a machine on which windows of so many pixels fit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sizes: list[tuple[int, int]] = []

    def run(self, names: None, feed: dict[str, Any], options: object) -> list[Any]:
        del names, options
        height, width = feed["frame0"].shape[1:3]
        self.sizes.append((height, width))
        if height * width > self.most:
            raise RuntimeError(ORT_SAYS)
        return [(feed["frame1"] // 2 + feed["frame2"] // 2).astype(np.uint8)]


def tiled_session(session: Session, engine: Any, setting: Any = "auto") -> TiledSession:
    """What makes that session, on that engine, as often as it is asked."""

    def make(_size: tuple[int, int] | None) -> Session:
        made = copy.copy(session)
        made._session = engine
        return made

    return TiledSession(session.info, make, setting)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(write_blend_model(tmp_path / "m.onnx"), CPU)


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 3000), st.integers(16, 3000), st.integers(SMALLEST_SIDE, 1200), st.integers(0, 64))
def test_tiles_cover_the_picture_overlap_and_are_of_one_size(
    height: int, width: int, side: int, overlap: int
) -> None:
    tiling = tiles_of_side(height, width, side, overlap)
    for starts, tile, length in (
        (tiling.tops, tiling.tile_height, height),
        (tiling.lefts, tiling.tile_width, width),
    ):
        assert tile <= min(side, length)
        assert starts[0] == 0
        assert starts[-1] + tile == length
        shared = [before + tile - after for before, after in pairwise(starts)]
        assert all(each >= min(overlap, tile - 1) for each in shared)


@settings(max_examples=8, deadline=None)
@given(st.integers(100, 300), st.integers(100, 300), st.integers(SMALLEST_SIDE, 200))
def test_what_does_not_depend_on_its_surroundings_is_the_same_in_tiles(
    height: int, width: int, side: int
) -> None:
    picture = pictures(height, width)[0]
    (tiled,) = run_tiled(lambda frames: [frames[1]], tiles_of_side(height, width, side), [picture] * 4)
    np.testing.assert_array_equal(tiled, picture)


def test_deep_pictures_stay_deep_in_tiles() -> None:
    frames = pictures(150, 150, np.uint16)
    tiled = run_tiled(lambda window: [window[2], window[3]], tiles_of_side(150, 150, 128), frames)
    for found, expected in zip(tiled, frames[2:], strict=True):
        assert found.dtype == np.uint16
        assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_tiled_picture_is_the_whole_one_to_the_eye_and_shows_no_seam() -> None:
    interpolator, frames = Interpolator(DEFAULT_MODEL, provider="cpu", threads=1), pictures(136, 200)
    (whole,) = interpolator.between(*frames)
    tiling = tiles_of_side(136, 200, 128)
    assert tiling.count >= 4
    (tiled,) = Interpolator(DEFAULT_MODEL, provider="cpu", threads=1, tile=128).between(*frames)
    difference = tiled.astype(float) - whole
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 42
    # A seam is a step of the difference from one column to the next, of the same sign along the whole seam.
    steps = np.abs(np.diff(difference.mean(axis=(0, 2))))
    assert steps.max() < 1


def test_the_whole_picture_is_taken_where_it_fits_and_the_least_work_where_it_does_not() -> None:
    info = model()
    whole = window_bytes(info, 2160, 3840)
    assert choose_tiling(info, 2160, 3840, "auto", whole).is_whole
    assert choose_tiling(info, 2160, 3840, "auto", None).is_whole
    assert choose_tiling(info, 2160, 3840, "off", 1).is_whole
    cut = choose_tiling(info, 2160, 3840, "auto", whole // 2)
    assert cut.count in (3, 4)
    assert window_bytes(info, cut.tile_height, cut.tile_width) <= whole // 2
    assert cut.pixels < 1.1 * 2160 * 3840
    least = choose_tiling(info, 2160, 3840, "auto", 1)
    assert max(least.tile_height, least.tile_width) <= SMALLEST_SIDE


@pytest.mark.parametrize("setting", ["auto", 300])
def test_where_memory_runs_out_smaller_tiles_are_taken_and_it_is_said(session: Session, setting: Any) -> None:
    engine = FakeEngine(most=160 * 136)
    tiled = tiled_session(session, engine, setting)
    frames = pictures(300, 400)
    (picture,) = tiled.run(frames)
    np.testing.assert_array_equal(picture, (frames[1] // 2 + frames[2] // 2).astype(np.uint8))
    assert engine.sizes[0] == (300, 400) if setting == "auto" else (300, 216)
    assert tiled.notices[-1].endswith(f"{tiled.tiling(300, 400)} from here on")
    assert " did not fit into memory: " in tiled.notices[0]
    sizes = set(engine.sizes[-tiled.tiling(300, 400).count :])
    assert len(sizes) == 1  # one shape, so that an engine is compiled once
    engine.sizes.clear()
    tiled.run(frames)
    assert set(engine.sizes) == sizes  # not tried again with every window


def test_where_not_even_small_tiles_fit_or_there_are_to_be_none_the_run_ends_in_one_line(
    session: Session,
) -> None:
    none = FakeEngine(most=0)
    with pytest.raises(OutOfMemoryError, match=r"^CPUExecutionProvider failed on a .*: there is not enough"):
        tiled_session(session, none).run(pictures(300, 400))
    with pytest.raises(OutOfMemoryError, match=r"400x300 window of m\.onnx: .*; --tile auto cuts it$"):
        tiled_session(session, none, "off").run(pictures(300, 400))


def test_with_a_size_given_every_session_is_made_for_its_tiles(session: Session) -> None:
    made: list[tuple[int, int] | None] = []

    def make(size: tuple[int, int] | None) -> Session:
        made.append(size)
        new = copy.copy(session)
        new._session = FakeEngine(most=160 * 216)
        return new

    tiled = TiledSession(session.info, make, size=(300, 400))
    frames = pictures(300, 400)
    prepared = [tiled.prepare(frame) for frame in frames]
    (picture,) = tiled.run(prepared)  # those that were prepared before are cut again
    np.testing.assert_array_equal(picture, (frames[1] // 2 + frames[2] // 2).astype(np.uint8))
    tiling = tiled.tiling(300, 400)
    assert made[0] == (300, 400)
    assert made[-1] == (tiling.tile_height, tiling.tile_width)
    assert not any(map(tiled.takes, prepared))
    with pytest.raises(InputError, match=r"made for 400x300 pictures, these are 40x30"):
        tiled.run(pictures(30, 40))


def test_other_failures_are_not_taken_for_want_of_memory(session: Session) -> None:
    class Broken:
        def run(self, *_: object) -> Sequence[object]:
            raise RuntimeError("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions")

    with pytest.raises(ModelError, match="INVALID_ARGUMENT") as caught:
        tiled_session(session, Broken()).run(pictures(40, 40))
    assert not isinstance(caught.value, OutOfMemoryError)


def test_what_pictures_are_joined_in_counts_as_well_and_a_new_session_frees_the_memory(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [MemoryError("Unable to allocate 1.83 MiB")]
    rounded = _joining._rounded

    def short_once(*args: Any, **options: Any) -> Rgb:
        if left:
            raise left.pop()
        return rounded(*args, **options)

    monkeypatch.setattr(_joining, "_rounded", short_once)
    made: list[Session] = []

    def make(_size: tuple[int, int] | None) -> Session:
        made.append(Session(session.info, CPU))
        return made[-1]

    tiled = TiledSession(session.info, make, 216)
    frames = pictures(300, 400)
    before = [tiled.prepare(frame) for frame in frames]
    (picture,) = tiled.run(before)
    (expected,) = Interpolator(session.info.path, provider="cpu").between(*frames)
    np.testing.assert_array_equal(picture, expected)
    assert len(tiled.notices) == 1
    assert len(made) == 2
    with pytest.raises(AttributeError):  # gone, though `before` still refers to its session
        _ = made[0].engine
    left.append(MemoryError())
    with pytest.raises(
        OutOfMemoryError, match=r"^a 130x130 picture in 4 parts: no memory: there is not enough"
    ):
        TiledSession(session.info, make, 128).run(pictures(130, 130))


@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space")
@pytest.mark.parametrize(
    "megabytes", [40, 75, 95]
)  # at the last two the engine fits, and what is around it does not
def test_ort_really_raises_what_is_taken_for_want_of_memory(megabytes: int) -> None:
    code = f"""
import resource
import numpy as np
from flavr_runtime import Interpolator
interpolator = Interpolator(provider="cpu", threads=1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes}_000_000,) * 2)
interpolator._tiles._budget = None  # as where the system does not tell
interpolator.between(*[np.zeros((400, 400, 3), np.uint8)] * 4)
print(interpolator.late_notices[0])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "whole 400x400 pictures did not fit into memory: " in found.stdout, found.stderr


def test_a_model_of_fixed_size_serves_larger_pictures_in_tiles_of_its_size(tmp_path: Path) -> None:
    path = write_blend_model(tmp_path / "fixed.onnx", metadata={"size": "64x48"})
    frames = pictures(100, 120)
    (tiled,) = Interpolator(path, provider="cpu").between(*frames)
    (whole,) = Interpolator(write_blend_model(tmp_path / "free.onnx"), provider="cpu").between(*frames)
    np.testing.assert_array_equal(tiled, whole)
    with pytest.raises(InputError, match=r"takes 48x64 pictures, these are 120x100; export it"):
        Interpolator(path, provider="cpu", tile="off").between(*frames)
    with pytest.raises(InputError, match=r"takes 48x64 pictures, these are 40x100; export it"):
        Interpolator(path, provider="cpu").between(*pictures(100, 40))
    with pytest.raises(UsageError, match=r"^--tile 128: fixed\.onnx takes 48x64 pictures only; leave the"):
        Interpolator(path, provider="cpu", tile=128).between(*frames)


@pytest.mark.parametrize("size", ["32x32", "16x16", "64x16", "1x100"])
def test_a_model_of_fixed_size_too_small_for_tiles_refuses_larger_pictures(size: str, tmp_path: Path) -> None:
    path = write_blend_model(tmp_path / "small.onnx", metadata={"size": size})
    height, width = size.split("x")
    too_small = (
        rf"^small\.onnx takes {width}x{height} pictures, too small to be tiles of 120x100 ones, which share "
        r"32 pixels; export it with --size 100x120, or without --size$"
    )
    with pytest.raises(InputError, match=too_small):
        Interpolator(path, provider="cpu").between(*pictures(100, 120))
    Interpolator(path, provider="cpu").between(*pictures(int(height), int(width)))


def test_a_model_as_narrow_as_the_overlap_is_cut_along_its_other_side(tmp_path: Path) -> None:
    path = write_blend_model(tmp_path / "narrow.onnx", metadata={"size": "24x48"})
    frames = pictures(24, 120)
    (tiled,) = Interpolator(path, provider="cpu").between(*frames)
    (whole,) = Interpolator(write_blend_model(tmp_path / "free.onnx"), provider="cpu").between(*frames)
    np.testing.assert_array_equal(tiled, whole)


def test_the_peak_of_a_window_is_what_was_predicted_within_15_percent_or_a_few_megabytes() -> None:
    code = """
import numpy as np
from flavr_runtime import Interpolator
from flavr_runtime.memory import peak_bytes, resident_bytes, window_bytes
interpolator = Interpolator(provider="cpu", threads=1, tile="off")
before = resident_bytes()
interpolator.between(*[np.full((256, 256, 3), 90, np.uint8)] * 4)
print((peak_bytes() - before) / window_bytes(interpolator.model, 256, 256))
"""
    if resident_bytes() is None:
        pytest.skip("the system does not tell")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.8 < float(found.stdout) < 1.15


def test_what_is_free_and_what_is_taken_is_plausible() -> None:
    available, resident, peak = available_bytes(), resident_bytes(), peak_bytes()
    if available is None or resident is None or peak is None:
        pytest.skip("the system does not tell")
    assert 10_000_000 < available < 1 << 44
    assert 10_000_000 < resident <= peak < 1 << 40


def test_more_pixels_width_and_depth_are_planned_with_more_memory() -> None:
    info = StreamInfo(Path("c.mp4"), 1920, 1080, Fraction(25), True, 10, "h264")
    deep = StreamInfo(Path("c.mp4"), 1920, 1080, Fraction(25), True, 10, "h264", bits=10)
    plain = planned_bytes(model(width=16), (1080, 1920), info)
    assert planned_bytes(model(width=16), (540, 1920), info) < plain
    assert plain < planned_bytes(model(width=16), (1080, 1920), deep)
    assert plain < planned_bytes(model(width=64), (1080, 1920), info)
    assert window_bytes(model(graph="other"), 64, 64) == window_bytes(model(graph="conv3d"), 64, 64)


def test_flavr_run_states_memory_before_and_after_and_cuts_as_told(tmp_path: Path) -> None:
    clip = render_clip(tmp_path / "in.mp4", frames=4, size=(320, 192))

    def run(*more: str) -> Any:
        arguments = [str(clip), "-o", str(tmp_path / "out.mkv"), "-y", "--provider", "cpu", *more]
        return CliRunner().invoke(command, arguments)

    result = run("--model", str(write_blend_model(tmp_path / "m.onnx")), "--tile", "160")
    assert result.exit_code == 0, result.output
    assert "memory: about " in result.stderr
    assert f"a picture in {tiles_of_side(192, 320, 160)}" in result.stderr
    assert "MB of memory at most" in result.stderr or "GB of memory at most" in result.stderr
    stated = re.findall(r"memory: about ([\d.]+ .B) at most", run("--tile", "off", "--dry-run").output)
    assert len(set(stated)) == 1, stated  # the window that --dry-run has timed is not counted again
    result = run("--tile", "5")
    assert result.exit_code == 2
    assert f"'5' is no size of tiles; write auto, off, or a number of pixels from {SMALLEST_TILE}" in (
        result.output
    )


def test_the_smallest_tile_that_can_be_asked_for_is_the_smallest_there_is() -> None:
    assert SMALLEST_TILE == SMALLEST_SIDE
    assert OVERLAP * 4 == SMALLEST_SIDE
    assert str(Tiling(10, 10, 10, 10, (0,), (0,))) == "whole 10x10 pictures"
    assert read_model_info(DEFAULT_MODEL).width == 16


@pytest.mark.parametrize("tile", [0, 32, 127, -1, "none", 150.5])
def test_tiles_that_cannot_be_made_are_refused_from_python_too(tmp_path: Path, tile: Any) -> None:
    model = write_blend_model(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=rf"^tile '?{tile}'? is no setting: give auto, off, or a whole"):
        Interpolator(model, provider="cpu", tile=tile)


def test_threads_that_share_a_session_get_whole_pictures_while_it_is_cut(session: Session) -> None:
    """One of them finds that they do not fit, the others are in the middle of theirs."""
    together = threading.Barrier(4, timeout=60)

    class Crowded(FakeEngine):
        def run(self, names: None, feed: dict[str, Any], options: object) -> list[Any]:
            if feed["frame0"].shape[1:3] == (300, 400):
                together.wait()  # all have begun a whole one, and none of them fits
            return super().run(names, feed, options)

    tiled = tiled_session(session, Crowded(most=200 * 300))
    frames = pictures(300, 400)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: tiled.run(frames), range(4)))
    expected = (frames[1] // 2 + frames[2] // 2).astype(np.uint8)
    for (picture,) in made:
        np.testing.assert_array_equal(picture, expected)
    assert len(tiled.notices) == 1


def test_a_window_that_another_thread_has_closed_is_made_again(session: Session) -> None:
    tiled = tiled_session(session, FakeEngine(most=300 * 400))
    frames = pictures(300, 400)
    prepared = [tiled.prepare(frame) for frame in frames]

    class Closes(FakeEngine):
        def run(self, names: None, feed: dict[str, Any], options: object) -> list[Any]:
            del names, feed, options
            tiled._shrink(tiled.session, tiled.tiling(300, 400), "a window of another thread")
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : the session is gone")

    tiled.session._session = Closes(0)
    (picture,) = tiled.run(prepared)
    np.testing.assert_array_equal(picture, (frames[1] // 2 + frames[2] // 2).astype(np.uint8))
    closed = prepared[0].session
    with pytest.raises(ModelError, match=r"^m\.onnx was closed$"):
        closed.run(frames)
