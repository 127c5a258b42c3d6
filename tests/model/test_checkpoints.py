"""Checkpoints of every make load with the right configuration."""

from __future__ import annotations

import errno
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from checkpoint_layouts import LAYOUTS, mmagic, prefixed, published
from flavr import CheckpointError, Flavr, FlavrConfig, infer_config, load_checkpoint, save_checkpoint
from flavr.checkpoints import file_sha256

MakeNetwork = Callable[[FlavrConfig], Flavr]
PLAIN = FlavrConfig(width=4)


def as_tensors_tell(config: FlavrConfig) -> FlavrConfig:
    return replace(config, join="add") if config.join == "none" else config


def assert_same_weights(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, tensor in expected.items():
        assert actual[key].dtype == tensor.dtype, key
        assert torch.equal(actual[key], tensor), key


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_makers_checkpoint_loads_with_its_configuration(
    layout: Callable[[Flavr], object],
    variant: FlavrConfig,
    tiny_network: MakeNetwork,
    saved: Callable[..., Path],
) -> None:
    network = tiny_network(variant)
    checkpoint = load_checkpoint(saved(layout(network)))
    assert checkpoint.config == as_tensors_tell(variant)
    assert_same_weights(checkpoint.state_dict, network.state_dict())


def test_safetensors_load(variant: FlavrConfig, tiny_network: MakeNetwork, tmp_path: Path) -> None:
    network = tiny_network(variant)
    save_file(prefixed("module.", network.state_dict()), tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    assert checkpoint.config.factor == variant.factor
    assert checkpoint.epoch is None
    (tmp_path / "model.safetensors").rename(tmp_path / "M.SAFETENSORS")
    assert load_checkpoint(tmp_path / "M.SAFETENSORS").config == checkpoint.config
    assert_same_weights(checkpoint.state_dict, network.state_dict())


def test_what_we_save_we_load(variant: FlavrConfig, tiny_network: MakeNetwork, tmp_path: Path) -> None:
    network = tiny_network(variant)
    save_checkpoint(tmp_path / "model.pth", network, epoch=3, lr=1e-4, best_psnr=30.5)
    checkpoint = load_checkpoint(str(tmp_path / "model.pth"))
    assert checkpoint.config == variant  # join="none" too, which the tensors do not tell
    assert checkpoint.notices == ()
    assert (checkpoint.epoch, checkpoint.best_psnr) == (3, 30.5)
    assert checkpoint.path == tmp_path / "model.pth"
    assert checkpoint.sha256 == file_sha256(tmp_path / "model.pth")
    assert not checkpoint.network().training
    assert_same_weights(checkpoint.network().state_dict(), network.state_dict())


def test_the_published_code_loads_what_we_save(tiny_network: MakeNetwork, tmp_path: Path) -> None:
    network = tiny_network(PLAIN)
    save_checkpoint(tmp_path / "model.pth", network)
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert {"epoch", "state_dict", "lr", "best_psnr"} <= content.keys()
    nn.DataParallel(Flavr(PLAIN)).load_state_dict(content["state_dict"], strict=True)


def test_the_configuration_is_read_off_any_naming(variant: FlavrConfig, tiny_network: MakeNetwork) -> None:
    network = tiny_network(variant)
    assert infer_config(network.state_dict()) == as_tensors_tell(variant)
    assert infer_config(mmagic(network)["state_dict"]) == as_tensors_tell(variant)


def test_the_same_tensors_for_add_and_none_are_noticed(
    tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    checkpoint = load_checkpoint(saved(tiny_network(FlavrConfig(width=4, join="none")).state_dict()))
    assert checkpoint.config.join == "add"
    assert checkpoint.notices == ("joinType add is assumed: add and none have the same tensors",)


def test_a_concat_network_is_never_doubted(tiny_network: MakeNetwork, saved: Callable[..., Path]) -> None:
    content = {"state_dict": tiny_network(PLAIN).state_dict(), "flavr": {"join": "none"}}
    checkpoint = load_checkpoint(saved(content))
    assert (checkpoint.config.join, checkpoint.notices) == ("concat", ())


def test_training_facts_are_kept(tiny_network: MakeNetwork, saved: Callable[..., Path]) -> None:
    checkpoint = load_checkpoint(saved(published(tiny_network(PLAIN))))
    assert (checkpoint.epoch, checkpoint.best_psnr) == (12, 31.25)


@pytest.mark.parametrize(
    ("epoch", "best_psnr", "expected"),
    [
        (np.int64(3), np.float32(30.5), (3, 30.5)),
        (torch.tensor(3), torch.tensor([30.5]), (3, 30.5)),
        ("three", None, (None, None)),
        (float("nan"), float("inf"), (None, None)),
        (10**400, torch.zeros(1, device="meta"), (None, None)),
        (np.float64("inf"), torch.tensor(1 + 2j), (None, None)),
    ],
    ids=["numpy", "tensor", "absent", "not_finite", "no_float", "not_real"],
)
def test_training_facts_of_any_type_do_no_harm(
    epoch: object,
    best_psnr: object,
    expected: tuple[object, object],
    tiny_network: MakeNetwork,
    saved: Callable[..., Path],
) -> None:
    state = tiny_network(PLAIN).state_dict()
    checkpoint = load_checkpoint(saved({"state_dict": state, "epoch": epoch, "best_psnr": best_psnr}))
    assert (checkpoint.epoch, checkpoint.best_psnr) == expected


def test_old_pytorch_files_load(tiny_network: MakeNetwork, saved: Callable[..., Path]) -> None:
    network = tiny_network(PLAIN)
    path = saved(published(network), _use_new_zipfile_serialization=False)
    assert_same_weights(load_checkpoint(path).state_dict, network.state_dict())


def test_numpy_scalars_of_numpy_1_load(tiny_network: MakeNetwork, saved: Callable[..., Path]) -> None:
    path = saved(published(tiny_network(PLAIN)), _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(old)
    assert b"numpy.core.multiarray" in old
    assert load_checkpoint(path).best_psnr == 31.25


def test_the_options_that_forks_store_do_no_harm(
    tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    content = {"state_dict": tiny_network(PLAIN).state_dict(), "args": Namespace(lr=1e-4, n_outputs=1)}
    assert load_checkpoint(saved(content)).config == PLAIN


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_stored_in_another_precision_become_float32(
    dtype: torch.dtype, tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    config = FlavrConfig(width=4, batchnorm=True)
    state = {
        key: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for key, tensor in tiny_network(config).state_dict().items()
    }
    checkpoint = load_checkpoint(saved(state))
    assert checkpoint.config == config
    expected = {k: t.float() if t.is_floating_point() else t for k, t in state.items()}
    assert_same_weights(checkpoint.state_dict, expected)


def test_a_dropped_batchnorm_counter_is_no_loss(
    tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    config = FlavrConfig(width=4, batchnorm=True)
    state = tiny_network(config).state_dict()
    path = saved({key: tensor for key, tensor in state.items() if "num_batches_tracked" not in key})
    assert load_checkpoint(path).config == config
    load_checkpoint(path).network()


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_a_loaded_checkpoint_outlives_its_file(name: str, tiny_network: MakeNetwork, tmp_path: Path) -> None:
    """A training run may write the next epoch into the same file while this one is exported."""
    network, path = tiny_network(PLAIN), tmp_path / name
    if path.suffix == ".pth":
        save_checkpoint(path, network)
    else:
        save_file(network.state_dict(), path)
    checkpoint = load_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_same_weights(checkpoint.state_dict, network.state_dict())


def test_an_interrupted_save_keeps_the_last_checkpoint(
    tiny_network: MakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pth"
    save_checkpoint(path, tiny_network(PLAIN))
    before = path.read_bytes()

    def full_disk(_: object, target: IO[bytes]) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match="the disk is full; the previous one is untouched"):
        save_checkpoint(path, tiny_network(FlavrConfig(width=4, factor=8)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_printed_while_loading(
    tiny_network: MakeNetwork, saved: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    load_checkpoint(saved(published(tiny_network(PLAIN))))
    assert capfd.readouterr() == ("", "")
