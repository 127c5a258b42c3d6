"""The float twin of a uint8 model: the same numbers, no second copy of the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from flavr import FlavrConfig, load_checkpoint
from flavr_export import ExportSpec, export
from flavr_export.errors import ExportError
from flavr_export.float_twin import write_float_twin
from flavr_runtime.model_info import DEEP_MODEL, DEFAULT_MODEL, read_model_info

Frames = Callable[..., list[NDArray[np.uint8]]]


def load(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def floats(pictures: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    return {
        f"frame{t}": np.ascontiguousarray(picture.transpose(0, 3, 1, 2), np.float32) * np.float32(1 / 255)
        for t, picture in enumerate(pictures)
    }


def check_twins(original: Path, twin: Path, pictures: list[NDArray[np.uint8]]) -> None:
    outputs = load(original).run(None, {f"frame{t}": picture for t, picture in enumerate(pictures)})
    others = load(twin).run(None, floats(pictures))
    assert len(outputs) == len(others) >= 1
    for codes, values in zip(outputs, others, strict=True):
        rounded = np.rint(values * np.float32(255)).clip(0, 255).transpose(0, 2, 3, 1)
        apart = np.abs(codes.astype(int) - rounded)
        assert apart.max() <= 1  # a value half-way between two codes, summed in another order
        assert apart.mean() < 0.002
        assert not np.array_equal(values * 255, np.rint(values * 255))  # it has more than 8 bits


@pytest.mark.parametrize(("factor", "size"), [(2, None), (4, (33, 50))])
def test_a_twin_computes_what_its_original_computes(
    tmp_path: Path,
    tiny_checkpoint: Callable[[FlavrConfig], Path],
    frames: Frames,
    factor: int,
    size: tuple[int, int] | None,
) -> None:
    config = FlavrConfig(width=4, factor=factor)
    original = tmp_path / "model.onnx"
    spec = ExportSpec(size=size)
    export(replace(load_checkpoint(tiny_checkpoint(config)), config=config), original, spec)
    twin = write_float_twin(original)
    assert twin == tmp_path / "model_float.onnx"
    assert twin.stat().st_size < original.stat().st_size / 2
    assert read_model_info(twin) == replace(read_model_info(original), path=twin, io="float")
    check_twins(original, twin, frames(33, 50))


def test_the_twin_that_ships_belongs_to_the_network_that_ships(frames: Frames) -> None:
    digest = hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()
    again = "a new network: python -m flavr_export.float_twin runtime/flavr_runtime/models/flavr_lite_2x.onnx"
    facts = load(DEEP_MODEL).get_modelmeta().custom_metadata_map
    assert facts["flavr.weights_sha256"] == digest, again
    assert read_model_info(DEEP_MODEL) == replace(read_model_info(DEFAULT_MODEL), path=DEEP_MODEL, io="float")
    check_twins(DEFAULT_MODEL, DEEP_MODEL, frames(40, 56))


def test_what_has_no_twin_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no uint8 model of flavr-export; only those have twins"):
        write_float_twin(DEEP_MODEL, DEEP_MODEL.with_name("again.onnx"))
    with pytest.raises(ExportError, match="a twin lies in the folder of its original"):
        write_float_twin(DEFAULT_MODEL, tmp_path / "elsewhere.onnx")
