"""Small clips, rendered here and named by what makes them awkward, and a stand-in for ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from clips import Sound, render_clip
from fake_onnxruntime import FakeOrt, Install
from flavr_runtime import providers


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def clip_plain(clip_folder: Path) -> Path:
    """12 frames, 64x48, 25 fps, yuv420p BT.709 limited."""
    return render_clip(clip_folder / "plain.mp4")


@pytest.fixture(scope="session")
def clip_with_audio(clip_folder: Path) -> Path:
    """25 frames at 25 fps with 0.85 s of AAC that begins with the picture."""
    return render_clip(clip_folder / "audio.mp4", frames=25, sounds=[Sound()])


@pytest.fixture(scope="session")
def clip_late_video(clip_folder: Path) -> Path:
    """AAC from 0 s, the first of 12 frames at 0.2 s, 25 fps."""
    times = [Fraction(1, 5) + Fraction(index, 25) for index in range(12)]
    return render_clip(clip_folder / "late.mp4", times=times, sounds=[Sound()])


@pytest.fixture(scope="session")
def clip_rotated(clip_folder: Path) -> Path:
    """Filmed upright on a telephone: 90 degrees in the display matrix."""
    return render_clip(clip_folder / "rotated.mp4", rotation=-90, frames=4)


@pytest.fixture(scope="session")
def clip_vfr(clip_folder: Path) -> Path:
    """Eight frames at uneven times, as a telephone in the dark records them."""
    times = [Fraction(ms, 1000) for ms in (0, 33, 67, 150, 183, 217, 300, 333)]
    return render_clip(clip_folder / "vfr.mkv", times=times, frames=8, rate=Fraction(30))


@pytest.fixture(scope="session")
def clip_odd_size(clip_folder: Path) -> Path:
    """65x49 in 4:2:0, which VP9 holds and H.264 does not."""
    return render_clip(clip_folder / "odd.webm", codec="libvpx-vp9", size=(65, 49), frames=4)


@pytest.fixture(scope="session")
def clip_10bit(clip_folder: Path) -> Path:
    return render_clip(clip_folder / "ten.mp4", pixel_format="yuv420p10le", frames=4)


@pytest.fixture(scope="session")
def clip_full_range(clip_folder: Path) -> Path:
    return render_clip(clip_folder / "full.mp4", pixel_format="yuvj420p", tags=(1, 2, 1, 1), frames=4)


@pytest.fixture(scope="session")
def clip_ntsc_mkv(clip_folder: Path) -> Path:
    """24000/1001 fps on Matroska's clock of whole milliseconds, 48 frames."""
    return render_clip(clip_folder / "ntsc.mkv", rate=Fraction(24000, 1001), frames=48)


@pytest.fixture(scope="session")
def clip_cut_off(clip_folder: Path, clip_plain: Path) -> Path:
    """The first half of an MP4 whose index is at its end."""
    path = clip_folder / "cut_off.mp4"
    path.write_bytes(clip_plain.read_bytes()[: clip_plain.stat().st_size // 2])
    return path


@pytest.fixture
def fake_ort(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a FakeOrt in place of onnxruntime, with its wheel as the only one installed, on Linux."""

    def install(*listed: str, **kwargs: Any) -> FakeOrt:
        fake = FakeOrt(*listed, **kwargs)
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        return fake

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(providers, "_REGISTERED", set())
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_migraphx", None)  # in case the machine has AMD's plugin
    monkeypatch.setattr(providers, "installed_wheels", lambda: {"onnxruntime": "9.9.9"})
    return install


@pytest.fixture
def amd_plugin(
    fake_ort: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], FakeOrt]:
    """Install AMD's plugin package, which has to be registered, with the given library path."""

    def install(library: str) -> FakeOrt:
        module = tmp_path / "onnxruntime_ep_migraphx.py"
        module.write_text(f"def get_library_path():\n    return {library!r}\n")
        return fake_ort()

    fake_ort()
    monkeypatch.delitem(sys.modules, "onnxruntime_ep_migraphx")
    monkeypatch.syspath_prepend(tmp_path)
    return install
