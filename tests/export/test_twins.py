"""Further entrances to a model: the same numbers, no second copy of the weights."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from flavr import FlavrConfig
from flavr_export import ExportSpec, export
from flavr_export.errors import ExportError
from flavr_export.targets import TARGETS
from flavr_export.twins import TWINS, Twin, write_twins
from flavr_runtime.errors import ModelError
from flavr_runtime.model_info import read_model_info
from flavr_runtime.providers import PROVIDERS
from flavr_runtime.shipped import DEFAULT_MODEL, SHIPPED

Frames = Callable[..., list[NDArray[np.uint8]]]
MakeCheckpoint = Callable[[FlavrConfig], Path]
REPOSITORY = Path(__file__).parents[2]
CHECKPOINT = REPOSITORY / "release" / "flavr_lite_2x.pth"
AGAIN = "a new network: see 'The network that ships' in CONTRIBUTING.md"


def outputs(path: Path, pictures: list[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
    """New frames [B, 3, H, W] in codes, not rounded where the ends are float."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if session.get_inputs()[0].type == "tensor(uint8)":
        made = session.run(None, {f"frame{t}": picture for t, picture in enumerate(pictures)})
        return [picture.transpose(0, 3, 1, 2).astype(np.float64) for picture in made]
    planar = [picture.transpose(0, 3, 1, 2).astype(np.float32) / 255 for picture in pictures]
    made = session.run(None, {f"frame{t}": picture for t, picture in enumerate(planar)})
    return [picture.astype(np.float64) * 255 for picture in made]


def check_same(original: Path, twin: Path, pictures: list[NDArray[np.uint8]]) -> None:
    codes, others = outputs(original, pictures), outputs(twin, pictures)
    assert len(codes) == len(others) >= 1
    for expected, found in zip(codes, others, strict=True):
        apart = np.abs(expected - np.rint(found).clip(0, 255))
        assert apart.max() <= 1  # a value half-way between two codes, summed in another order
        assert apart.mean() < 0.002
        assert np.ptp(expected) > 20


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (FlavrConfig(width=8), ExportSpec()),
        (FlavrConfig(width=4, factor=4, encoder_bias=True), ExportSpec(size=(33, 50), padding="slices")),
    ],
    ids=["dynamic", "fixed"],
)
def test_twins_compute_what_their_original_computes(
    tmp_path: Path, tiny_checkpoint: MakeCheckpoint, frames: Frames, config: FlavrConfig, spec: ExportSpec
) -> None:
    original = export(tiny_checkpoint(config), tmp_path / "model.onnx", spec).path
    twins = write_twins(original, tiny_checkpoint(config))
    names = ["model_float.onnx", "model_winograd.onnx", "model_winograd_float.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", *names]
    whole, pictures = read_model_info(original), frames(33, 50)
    for path, twin in zip(twins, TWINS, strict=True):
        expected = replace(whole, path=path, graph=twin.graph, io=twin.io, weights=original)
        assert read_model_info(path) == expected
        check_same(original, path, pictures)
    floats = [outputs(path, pictures) for path in (twins[0], twins[2])]
    np.testing.assert_allclose(floats[0], floats[1], rtol=0, atol=1e-4 * 255)


def test_a_twin_holds_none_of_the_weights(tmp_path: Path, tiny_checkpoint: MakeCheckpoint) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=16, encoder_bias=True))
    original = export(checkpoint, tmp_path / "model.onnx", ExportSpec()).path
    for path in write_twins(original, checkpoint):
        assert path.stat().st_size < 200_000 < original.stat().st_size / 50


def test_twins_of_a_link_lie_beside_the_file(tmp_path: Path, tiny_checkpoint: MakeCheckpoint) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    (tmp_path / "real").mkdir()
    original = export(checkpoint, tmp_path / "real" / "model.onnx", ExportSpec()).path
    link = tmp_path / "link.onnx"
    link.symlink_to(original)
    (twin,) = write_twins(link, checkpoint, [Twin("conv2d", "float")])
    assert twin == original.with_name("model_float.onnx")
    assert read_model_info(twin).weights == original


# ---------------------------------------------------------------- the network that ships


@pytest.mark.parametrize("key", SHIPPED)
def test_every_entrance_belongs_to_the_network_that_ships(key: tuple[str, bool], frames: Frames) -> None:
    (graph, deep), path = key, SHIPPED[key]
    original, found = read_model_info(DEFAULT_MODEL), read_model_info(path)
    facts = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_modelmeta()
    io, weights = "float" if deep else "uint8", None if path == DEFAULT_MODEL else DEFAULT_MODEL
    assert found == replace(original, path=path, graph=graph, io=io, weights=weights), AGAIN
    if path != DEFAULT_MODEL:
        digest = hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()
        assert facts.custom_metadata_map["flavr.weights_sha256"] == digest, AGAIN
        check_same(DEFAULT_MODEL, path, frames(40, 56))


def test_the_checkpoint_of_the_network_that_ships_is_in_the_repository() -> None:
    digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert read_model_info(DEFAULT_MODEL).checkpoint_sha256 == digest, AGAIN


def test_all_entrances_that_ship_are_made_by_one_command() -> None:
    assert {twin.path(DEFAULT_MODEL) for twin in TWINS} == {*SHIPPED.values()} - {DEFAULT_MODEL}
    assert {path.name for path in DEFAULT_MODEL.parent.glob("*.onnx")} == {p.name for p in SHIPPED.values()}


def test_flavr_run_and_flavr_export_agree_on_each_providers_fastest_form() -> None:
    told = {name: provider.graph for name, provider in PROVIDERS.items()}
    assert told == {name: TARGETS[name].graph for name in PROVIDERS}
    assert {graph for graph, _ in SHIPPED} >= set(told.values())


# ---------------------------------------------------------------- refusals


def test_what_has_no_twin_is_named(tmp_path: Path, tiny_checkpoint: MakeCheckpoint) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    packed = export(checkpoint, tmp_path / "packed.onnx", ExportSpec(io="packed")).path
    with pytest.raises(ExportError, match=r"packed\.onnx: flavr\.io is packed, but twins are made of uint8"):
        write_twins(packed, checkpoint)
    original = export(checkpoint, tmp_path / "model.onnx", ExportSpec()).path
    with pytest.raises(ExportError, match="was not exported from this checkpoint: first flavr-export"):
        write_twins(original, tiny_checkpoint(FlavrConfig(width=8)))
    with pytest.raises(ExportError, match=r"none\.onnx cannot be read as ONNX"):
        write_twins(tmp_path / "none.onnx", checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "packed.onnx"]


def test_a_twin_whose_weights_were_exchanged_is_refused(
    tmp_path: Path, tiny_checkpoint: MakeCheckpoint
) -> None:
    """It would compute with numbers that lie elsewhere in the new file."""
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    original = export(checkpoint, tmp_path / "model.onnx", ExportSpec()).path
    (twin,) = write_twins(original, checkpoint, [Twin("winograd", "uint8")])
    data = bytearray(original.read_bytes())
    data[len(data) // 2] ^= 1
    original.write_bytes(data)
    with pytest.raises(ModelError, match=r"but was made for another one than that beside it; bring that one"):
        read_model_info(twin)
    original.unlink()
    with pytest.raises(ModelError, match="from a file beside it, which is missing or damaged: keep"):
        read_model_info(twin)


def test_twins_that_cannot_be_written_are_one_line(tmp_path: Path, tiny_checkpoint: MakeCheckpoint) -> None:
    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    original = export(checkpoint, tmp_path / "model.onnx", ExportSpec()).path
    first, second = Twin("winograd", "uint8"), Twin("conv2d", "float")
    second.path(original).mkdir()
    with pytest.raises(
        ExportError, match=r"model_float\.onnx is a folder, and would be a twin of model\.onnx"
    ):
        write_twins(original, checkpoint, [first, second])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model_float.onnx"]


def test_the_command_says_what_it_made_and_what_is_wrong(
    tmp_path: Path, tiny_checkpoint: MakeCheckpoint
) -> None:
    def command(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flavr_export.twins", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    checkpoint = tiny_checkpoint(FlavrConfig(width=4))
    original = export(checkpoint, tmp_path / "model.onnx", ExportSpec()).path
    made = command(original, checkpoint)
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == [str(twin.path(original)) for twin in TWINS]
    refused = command(tmp_path / "none.onnx", checkpoint)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.splitlines()) == 1
