"""Checkpoints of every make load with the right configuration; files that cannot be used are explained."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flavr import CheckpointError, Flavr, FlavrConfig, infer_config, load_checkpoint, save_checkpoint
from flavr.checkpoints import file_sha256

MakeNetwork = Callable[[FlavrConfig], Flavr]
PLAIN = FlavrConfig(width=4)


def mmagic_name(key: str) -> str:
    """The name that MMagic's FLAVRNet gives the tensor of this published name."""
    for published, theirs in (
        (r"^encoder\.stem\.0\.", "encoder.stem_layer.conv."),
        (r"^encoder\.stem\.1\.", "encoder.stem_layer.bn."),
        (r"^(encoder\.layer.*\.(conv1|conv2|downsample))\.0\.", r"\1.conv."),
        (r"^(encoder\.layer.*\.(conv1|conv2|downsample))\.1\.", r"\1.bn."),
        (r"^decoder\.(\d)\.", r"decoder.layer\1."),
        (r"^feature_fuse\.conv\.0\.", "feature_fuse.conv."),
        (r"^feature_fuse\.conv\.1\.", "feature_fuse.bn."),
        (r"^outconv\.", "conv_last."),
    ):
        key = re.sub(published, theirs, key)
    return key


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def published(network: Flavr) -> dict[str, Any]:
    """What the published training script saves after a step of Adam, keys as DataParallel names them."""
    adam = torch.optim.Adam(network.parameters(), lr=2e-4)
    sum(parameter.sum() for parameter in network.parameters()).backward()  # type: ignore[union-attr]
    adam.step()
    return {
        "epoch": 12,
        "state_dict": prefixed("module.", network.state_dict()),
        "optimizer": adam.state_dict(),
        "lr": 2e-4,
        "best_psnr": np.float64(31.25),
    }


def mmagic(network: Flavr) -> dict[str, Any]:
    tensors = {mmagic_name(key): tensor for key, tensor in network.state_dict().items()}
    bookkeeping = {"step_counter": torch.tensor(5), "data_preprocessor.mean": torch.zeros(3)}
    return {
        "meta": {"mmagic_version": "1.2.0", "cfg": "model = dict(type='FLAVR')"},
        "state_dict": prefixed("generator.", tensors) | bookkeeping,
    }


LAYOUTS: dict[str, Callable[[Flavr], object]] = {
    "published": published,
    "published_without_module": lambda net: {"epoch": 1, "state_dict": net.state_dict()},
    "bare": lambda net: net.state_dict(),
    "nested": lambda net: {"epoch": 3, "model": {"state_dict": net.state_dict(), "name": "flavr"}},
    "net": lambda net: {"net": net.state_dict(), "step": 7},
    "mean_of_weights_alone": lambda net: {"ema": net.state_dict()},
    "bare_ordered_with_module": lambda net: OrderedDict(prefixed("module.", net.state_dict())),
    "compiled": lambda net: {"model": prefixed("_orig_mod.module.", net.state_dict())},
    "mmagic": mmagic,
    "mmagic_without_prefix": lambda net: {mmagic_name(k): v for k, v in net.state_dict().items()},
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes anything that torch.save takes."""

    def save(content: object, name: str = "model.pth", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


def as_tensors_tell(config: FlavrConfig) -> FlavrConfig:
    return replace(config, join="add") if config.join == "none" else config


def assert_same_weights(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, tensor in expected.items():
        assert actual[key].dtype == tensor.dtype, key
        assert torch.equal(actual[key], tensor), key


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that starts with the file's name."""
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path)).strip()


# ---------------------------------------------------------------- what loads


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
    ],
    ids=["numpy", "tensor", "absent", "not_finite"],
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

    def full_disk(_: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, tiny_network(FlavrConfig(width=4, factor=8)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- what is refused, and how


class RunsCommand:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_checkpoint_that_wants_to_run_code_does_not(
    new_format: bool, tiny_network: MakeNetwork, saved: Callable[..., Path], tmp_path: Path
) -> None:
    content = {"state_dict": tiny_network(PLAIN).state_dict(), "extra": RunsCommand(tmp_path / "ran")}
    path = saved(content, _use_new_zipfile_serialization=new_format)
    assert refusal(path) == (
        f"was not loaded: it wants to run {os.system.__module__}.system on loading; ask its owner for the "
        "state dict alone, or a .safetensors file"
    )
    assert not (tmp_path / "ran").exists()


def test_a_pickled_module_is_refused_by_its_class(saved: Callable[..., Path]) -> None:
    assert refusal(saved(Flavr(PLAIN))).startswith("was not loaded: it wants to run flavr.network.Flavr on")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.pth") == "does not exist; give the path of a .pth or .safetensors file"


def test_a_folder_is_named(tmp_path: Path) -> None:
    message = "is a folder, not a checkpoint file; give the path of a .pth or .safetensors file"
    assert refusal(tmp_path) == message


@pytest.mark.parametrize("new_format", [True, False])
def test_a_truncated_file_is_refused(
    new_format: bool, tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    path = saved(published(tiny_network(PLAIN)), _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for kept in (*range(400), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refused = refusal(path)
        # Cut within the name of a type, what is left of it is a type that nobody knows.
        if "wants to run" not in refused:
            assert refused == "is not a PyTorch checkpoint, or is truncated or damaged", kept


def test_no_damage_leaves_a_traceback(saved: Callable[..., Path]) -> None:
    """Bytes changed at random: the file is refused in one line, or only the value of a weight changed."""
    random, messages = np.random.default_rng(0), []
    narrow = Flavr(FlavrConfig(width=1)).state_dict()
    for new_format in (True, False):
        path = saved(narrow, _use_new_zipfile_serialization=new_format)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(200):
            damaged = whole.copy()
            places = random.integers(0, min(3000, len(whole)), 3)
            damaged[places] = random.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                load_checkpoint(path)
            except CheckpointError as error:
                messages.append(str(error))
    assert messages
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"not a checkpoint\n", b"\x89PNG\r\n\x1a\n" + bytes(64), bytes(range(256)) * 8],
    ids=["empty", "one_byte", "text", "picture", "bytes"],
)
def test_any_other_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    kind = "safetensors file" if "safe" in name else "PyTorch checkpoint"
    assert refusal(path) == f"is not a {kind}, or is truncated or damaged"


def test_a_truncated_safetensors_file_is_refused(tiny_network: MakeNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(tiny_network(PLAIN).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path) == "is not a safetensors file, or is truncated or damaged"


def test_safetensors_that_is_not_installed_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert refusal(path) == "needs the safetensors package: pip install safetensors"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            torch.zeros(3),
            "holds a Tensor, not a state dict; save it with torch.save(model.state_dict(), path)",
        ),
        ([1, 2], "holds a list, not a state dict; save it with torch.save(model.state_dict(), path)"),
        ({}, "holds no tensors; its entries are none"),
        ({"network": {}, "step": 3}, "holds no tensors; its entries are network, step"),
        ({"state_dict": {"a": 1, 2: 3}}, "holds no tensors; its entries are a, 2"),
    ],
    ids=["tensor", "list", "empty", "other_layout", "no_tensors"],
)
def test_what_is_no_state_dict_is_named(content: object, message: str, saved: Callable[..., Path]) -> None:
    assert refusal(saved(content)) == message


def test_another_network_is_named_by_its_tensors(saved: Callable[..., Path]) -> None:
    other = nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 8, 7, bias=False), bn1=nn.BatchNorm2d(8), fc=nn.Linear(8, 10))
    )
    assert refusal(saved(other.state_dict())) == (
        "is not a FLAVR network: it has no tensor encoder.stem.0.weight; it has conv1.weight, bn1.weight, "
        "bn1.bias and 5 more"
    )


def test_tensors_with_odd_names_are_another_network(saved: Callable[..., Path]) -> None:
    assert refusal(saved({0: torch.zeros(2), "a\nb": torch.zeros(2)})) == (
        "is not a FLAVR network: it has no tensor encoder.stem.0.weight; it has 0, 'a\\nb'"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder.stem.0.weight": torch.zeros(4, 3, 7, 7)},
            "is not a FLAVR network: encoder.stem.0.weight has shape [4, 3, 7, 7], not 5 dimensions",
        ),
        (
            {"outconv.1.weight": torch.zeros(4, 4, 7, 7)},
            "is not a FLAVR network: outconv.1.weight makes 4 channels, not 3 for each new frame",
        ),
        (
            {"outconv.1.weight": torch.zeros(0, 4, 7, 7)},
            "is not a FLAVR network: outconv.1.weight makes 0 channels, not 3 for each new frame",
        ),
        (
            {"encoder.stem.0.weight": torch.zeros(0, 3, 3, 7, 7)},
            "is not a FLAVR network: encoder.stem.0.weight has no channels",
        ),
        (
            {"outconv.1.weight": None},
            "is not a FLAVR network: it has no tensor outconv.1.weight; it has encoder.stem.0.weight, "
            "encoder.layer1.0.conv1.0.weight, encoder.layer1.0.conv2.0.weight and 55 more",
        ),
        (
            {"decoder.0.conv.0.bias": None},
            "does not fit FLAVR unet_18 width 4: missing decoder.0.conv.0.bias",
        ),
        (
            {"decoder.0.conv.0.bias": torch.zeros(3)},
            "does not fit FLAVR unet_18 width 4: misshapen decoder.0.conv.0.bias (shape [3], not [16])",
        ),
        (
            {"decoder.0.conv.0.scale": torch.zeros(1)},
            "does not fit FLAVR unet_18 width 4: unknown decoder.0.conv.0.scale",
        ),
        (
            {f"encoder.layer1.{block}.conv1.0.weight": None for block in (0, 1)}
            | {f"encoder.layer2.{block}.conv1.0.weight": None for block in (0, 1)}
            | {"decoder.0.conv.0.bias": torch.zeros(3), "extra": torch.zeros(1)},
            "does not fit FLAVR unet_18 width 4: missing encoder.layer1.0.conv1.0.weight, "
            "encoder.layer1.1.conv1.0.weight, encoder.layer2.0.conv1.0.weight and 1 more; "
            "misshapen decoder.0.conv.0.bias (shape [3], not [16]); unknown extra",
        ),
        (
            {"encoder.layer3.7.conv1.0.weight": torch.zeros(1)},
            "does not fit FLAVR unet_34 width 4: missing encoder.layer1.2.conv1.0.weight, "
            "encoder.layer1.2.conv2.0.weight, encoder.layer1.2.fg.attn_layer.0.weight and 29 more; "
            "unknown encoder.layer3.7.conv1.0.weight",
        ),
        (
            {f"encoder.layer1.{block}.conv1.0.weight": torch.zeros(1) for block in range(2, 9)},
            "has (9, 2, 2, 2) residual blocks per layer; known networks are unet_18 (2, 2, 2, 2), "
            "unet_34 (3, 4, 6, 3)",
        ),
        (
            {"decoder.0.conv.0.bias": torch.full((16,), torch.nan)},
            "holds NaN or infinite weights in decoder.0.conv.0.bias; use an earlier one",
        ),
        (
            {"decoder.0.conv.0.bias": torch.full((16,), 1e39, dtype=torch.float64)},
            "holds NaN or infinite weights in decoder.0.conv.0.bias; use an earlier one",
        ),
        (
            {"decoder.0.conv.0.bias": torch.zeros(16, dtype=torch.int8)},
            "does not fit FLAVR unet_18 width 4: not plain floating point decoder.0.conv.0.bias (torch.int8, "
            "torch.strided)",
        ),
        (
            {"decoder.0.conv.0.bias": torch.zeros(16).to_sparse()},
            "does not fit FLAVR unet_18 width 4: not plain floating point decoder.0.conv.0.bias "
            "(torch.float32, torch.sparse_coo)",
        ),
    ],
    ids=[
        "stem_rank", "outputs", "no_outputs", "no_channels", "no_outconv", "missing", "misshapen", "extra",
        "all_at_once", "depth", "no_depth", "nan", "overflow", "int8", "sparse",
    ],
)  # fmt: skip
def test_the_first_tensors_that_do_not_fit_are_named(
    change: dict[str, Tensor | None], message: str, tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    state = {**tiny_network(PLAIN).state_dict(), **change}
    path = saved({key: tensor for key, tensor in state.items() if tensor is not None})
    assert refusal(path) == message


def test_infer_config_explains_what_it_cannot_read() -> None:
    with pytest.raises(CheckpointError, match=r"^state dict is not a FLAVR network: .* it has conv\.weight$"):
        infer_config({"conv.weight": torch.zeros(1)})


def test_nothing_is_printed_while_loading(
    tiny_network: MakeNetwork, saved: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    load_checkpoint(saved(published(tiny_network(PLAIN))))
    assert capfd.readouterr() == ("", "")
