"""How a session is made for a provider: options, fixed sizes, kept engines, device memory, placement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from flavr import FlavrConfig
from flavr_export import ExportSpec, export
from flavr_runtime import _ort_session
from flavr_runtime import session as session_module
from flavr_runtime._device import BoundMemory, HostMemory
from flavr_runtime._provider_table import DeviceMemory, Engine
from flavr_runtime.cli import command
from flavr_runtime.engine_cache import default_cache_folder, engine_folder, engine_key
from flavr_runtime.errors import InputError, ModelError
from flavr_runtime.frames import Rgb
from flavr_runtime.interpolator import Interpolator
from flavr_runtime.model_info import read_model_info
from flavr_runtime.providers import Selected
from flavr_runtime.session import Session
from model_files import write_blend_model

CPU = "CPUExecutionProvider"
PLAIN = Selected("cpu", CPU)
AS_ON_A_GPU = Selected(
    "cpu", CPU, engine=Engine(CPU, fixed_shapes=True, warm_up=True, memory=DeviceMemory("cpu"))
)
"""The CPU, treated in every way as a GPU is."""


def pictures(count: int = 4, height: int = 20, width: int = 27) -> list[Rgb]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def models(
    tiny_checkpoint: Callable[[FlavrConfig], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A tiny network in each of the three kinds of input."""
    folder, checkpoint = tmp_path_factory.mktemp("engines"), tiny_checkpoint(FlavrConfig(width=4))
    return {io: export(checkpoint, folder / f"{io}.onnx", ExportSpec(io=io)).path for io in _KINDS}


_KINDS: Sequence[Any] = ("uint8", "float", "packed")


# --- device memory and fixed sizes


@pytest.mark.parametrize("io", _KINDS)
def test_frames_kept_on_a_device_give_the_same_pictures_to_the_last_bit(
    io: str, models: dict[str, Path]
) -> None:
    plain = Session(models[io], PLAIN, size=(20, 27))
    bound = Session(models[io], AS_ON_A_GPU, size=(20, 27))
    assert isinstance(plain._memory, HostMemory)
    assert isinstance(bound._memory, BoundMemory)
    bound.warm_up()
    np.testing.assert_array_equal(bound.run(pictures()), plain.run(pictures()))
    prepared = [bound.prepare(picture) for picture in pictures()]
    np.testing.assert_array_equal(bound.run(prepared), plain.run(pictures()))


@pytest.mark.parametrize("io", _KINDS)
def test_every_frame_is_converted_and_uploaded_once_though_four_windows_use_it(
    io: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = 0
    complete = Session.prepare

    def counted(session: Session, picture: Rgb) -> Any:
        nonlocal prepared
        prepared += 1
        return complete(session, picture)

    monkeypatch.setattr(Session, "prepare", counted)
    interpolator = Interpolator(models[io], provider="cpu")
    assert len(list(interpolator.stream(pictures(6), factor=4))) == 21
    assert prepared == 6 + 5  # the source's, and those of the first pass


def test_a_fixed_size_is_known_to_the_graph_and_any_other_refused(models: dict[str, Path]) -> None:
    session = Session(models["uint8"], AS_ON_A_GPU, size=(20, 27))
    assert [value.shape for value in session._session.get_inputs()] == [[1, 20, 27, 3]] * 4
    with pytest.raises(InputError, match=r"^the session was made for 27x20 pictures, these are 32x24$"):
        session.run(pictures(4, 24, 32))


def test_a_provider_without_a_preference_keeps_the_sizes_open(models: dict[str, Path]) -> None:
    session = Session(models["uint8"], PLAIN, size=(20, 27))
    assert session._session.get_inputs()[0].shape == ["batch", "height", "width", 3]


def test_a_device_that_does_not_keep_frames_is_named_and_not_fatal(models: dict[str, Path]) -> None:
    engine = Engine(CPU, memory=DeviceMemory("dml"))
    session = Session(models["uint8"], replace(PLAIN, engine=engine))
    assert len(session.notices) == 1
    assert session.notices[0].startswith(
        "frames are uploaded again for every window, since cpu does not keep"
    )
    assert len(session.run(pictures())) == 1


def test_warming_up_needs_a_size_and_a_provider_that_gains(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, ...]] = []
    monkeypatch.setattr(Session, "run", lambda _session, frames: runs.append(frames[0].shape))
    Session(models["uint8"], PLAIN, size=(20, 27)).warm_up()
    Session(models["uint8"], AS_ON_A_GPU).warm_up()
    assert runs == []
    Session(models["uint8"], AS_ON_A_GPU, size=(20, 27)).warm_up()
    assert runs == [(20, 27, 3)]


# --- placement


def with_strangers(monkeypatch: pytest.MonkeyPatch, **elsewhere: list[str]) -> None:
    """Let ONNX Runtime say that it placed nodes elsewhere."""
    nodes = {"FakeExecutionProvider": ["conv_1", "conv_2"], **elsewhere}
    monkeypatch.setattr(session_module, "placed_nodes", lambda _session: nodes)
    monkeypatch.setattr(session_module, "session_providers", lambda *_: [(CPU, {})])
    complete = _ort_session.load

    def load(*arguments: Any, **named: Any) -> Any:
        loaded = complete(*arguments, **named)
        monkeypatch.setattr(loaded, "get_providers", lambda: ["FakeExecutionProvider", CPU])
        return loaded

    monkeypatch.setattr(session_module, "load", load)


def test_nodes_that_fall_back_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = read_model_info(write_blend_model(tmp_path / "m.onnx"))
    with_strangers(monkeypatch, CPUExecutionProvider=[f"pad_{n}" for n in range(7)])
    fake = Selected("fake", "FakeExecutionProvider")
    session = Session(info, fake)
    assert session.placement == {"FakeExecutionProvider": 2, CPU: 7}
    assert session.notices == [
        f"7 of 9 nodes do not run on fake but on {CPU}: pad_0, pad_1, pad_2, pad_3, pad_4, ..."
    ]
    with pytest.raises(
        ModelError,
        match=r"^m\.onnx: 7 of 9 nodes do not run on fake .*; go on with them by leaving out --strict",
    ):
        Session(info, fake, strict=True)


def test_strict_accepts_another_gpu_provider_and_the_cpu_where_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_model_info(write_blend_model(tmp_path / "m.onnx"))
    assert Session(info, PLAIN, strict=True).notices == []
    with_strangers(monkeypatch, CUDAExecutionProvider=["resize"])
    session = Session(info, Selected("fake", "FakeExecutionProvider"), strict=True)
    assert session.notices == ["1 of 3 nodes do not run on fake but on CUDAExecutionProvider: resize"]


# --- kept engines


COMPILING = Selected(
    "openvino", "OpenVINOExecutionProvider", {"device_type": "CPU"}, {"cache_dir": "{folder}"}
)


def test_an_engine_is_found_again_only_for_all_that_it_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_model_info(write_blend_model(tmp_path / "m.onnx"))
    (tmp_path / "other").mkdir()
    other = write_blend_model(tmp_path / "other" / "m.onnx", [(0, 0.25, 0.75, 0)])
    keys = [
        engine_key(info, COMPILING, (480, 854)),
        engine_key(replace(info, path=other), COMPILING, (480, 854)),
        engine_key(info, COMPILING, (854, 480)),
        engine_key(info, COMPILING, None),
        engine_key(replace(info, precision="fp16"), COMPILING, (480, 854)),
        engine_key(info, replace(COMPILING, options={"device_type": "GPU"}), (480, 854)),
        engine_key(info, replace(COMPILING, name="tensorrt"), (480, 854)),
    ]
    monkeypatch.setattr("onnxruntime.__version__", "9.9.9")
    keys.append(engine_key(info, COMPILING, (480, 854)))
    monkeypatch.setattr("flavr_runtime.engine_cache._processor", lambda: "another processor")
    keys.append(engine_key(info, COMPILING, (480, 854)))
    folders = [engine_folder(tmp_path / "cache", key) for key in keys]
    assert len(set(folders)) == len(keys)
    assert engine_folder(tmp_path / "cache", keys[0]) == folders[0]
    assert json.loads((folders[0] / "key.json").read_text()) == keys[0]
    assert folders[0].name.startswith("m-openvino-854x480-")


def test_the_cache_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAVR_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert default_cache_folder() == tmp_path / "elsewhere"
    monkeypatch.delenv("FLAVR_CACHE_DIR")
    assert default_cache_folder().is_absolute()
    assert "flavr" in str(default_cache_folder())


def test_a_cache_that_cannot_be_written_is_said_and_not_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_model_info(write_blend_model(tmp_path / "m.onnx"))
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    given: list[Path | None] = []

    def providers(_selected: Selected, folder: Path | None = None) -> list[Any]:
        given.append(folder)
        return [(CPU, {})]

    monkeypatch.setattr(session_module, "session_providers", providers)
    compiling = Selected("cpu", CPU, cache_options={"cache_dir": "{folder}"})
    session = Session(info, compiling, cache=blocked)
    assert session.notices[0].startswith("what cpu compiles is not kept for the next time: ")
    assert "--cache-dir" in session.notices[0]
    Session(info, compiling, cache=tmp_path / "cache", size=(20, 27))
    assert given[0] is None
    assert given[1] is not None
    assert given[1].parent == tmp_path / "cache" / "engines"


def test_threads_reach_a_provider_that_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = read_model_info(write_blend_model(tmp_path / "m.onnx"))
    told: list[dict[str, str]] = []

    def providers(selected: Selected, _folder: Path | None = None) -> list[Any]:
        told.append(selected.options)
        return [(CPU, {})]

    monkeypatch.setattr(session_module, "session_providers", providers)
    monkeypatch.setattr(session_module, "allowed_threads", lambda: None)
    own = Selected("cpu", CPU, engine=Engine(CPU, threads_option="num_of_threads"))
    Session(info, own, threads=3)
    Session(info, replace(own, options={"num_of_threads": "1"}), threads=3)
    Session(info, own)
    assert told == [{"num_of_threads": "3"}, {"num_of_threads": "1"}, {}]


# --- the command line


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--provider-option", "device_id"], 2, "'device_id' is not of the form NAME=VALUE"),
        (["--provider-option", "device_id=0"], 2, "error: option 'device_id' belongs to one provider: name"),
        (
            ["--provider", "openvino", "--provider-option", "device=GPU"],
            2,
            "error: provider openvino has no option 'device'; it has device_type, precision, num_of_threads",
        ),
        (
            ["--provider", "openvino", "--provider-option", "num_streams=all"],
            2,
            "error: openvino's num_streams is a whole number; 'all' is none\n",
        ),
    ],
)
def test_provider_options_are_checked_before_anything_is_opened(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(command, ["no.mp4", "-o", str(tmp_path / "out.mp4"), *arguments])
    assert result.exit_code == code
    assert message in result.stderr
