"""Checkpoints that cannot be used are refused in one line that says why, and none runs code."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from checkpoint_layouts import published
from flavr import CheckpointError, Flavr, FlavrConfig, infer_config, load_checkpoint

MakeNetwork = Callable[[FlavrConfig], Flavr]
PLAIN = FlavrConfig(width=4)


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that starts with the file's name."""
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path)).strip()


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
        (
            {"decoder.0.conv.0.bias": torch.zeros(16, device="meta")},
            "does not fit FLAVR unet_18 width 4: not plain floating point decoder.0.conv.0.bias "
            "(torch.float32, torch.strided, meta)",
        ),
        (
            {"encoder.stem.0.weight": torch.zeros(1).expand(2**33, 3, 3, 7, 7)},
            "is not a FLAVR network: none can be built of width 8589934592 for 1 new frames",
        ),
    ],
    ids=[
        "stem_rank", "outputs", "no_outputs", "no_channels", "no_outconv", "missing", "misshapen", "extra",
        "all_at_once", "depth", "no_depth", "nan", "overflow", "int8", "sparse", "no_numbers", "endless",
    ],
)  # fmt: skip
def test_the_first_tensors_that_do_not_fit_are_named(
    change: dict[str, Tensor | None], message: str, tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    state = {**tiny_network(PLAIN).state_dict(), **change}
    path = saved({key: tensor for key, tensor in state.items() if tensor is not None})
    assert refusal(path) == message


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_nested_tensor_counts_as_missing(tiny_network: MakeNetwork, saved: Callable[..., Path]) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(3), torch.zeros(4)])
    state = {**tiny_network(PLAIN).state_dict(), "decoder.0.conv.0.bias": nested}
    assert refusal(saved(state)) == "does not fit FLAVR unet_18 width 4: missing decoder.0.conv.0.bias"


@pytest.mark.parametrize("counter", [torch.tensor(3, device="meta"), torch.tensor(3).to_sparse()])
def test_a_counter_that_holds_no_plain_number_is_named(
    counter: Tensor, tiny_network: MakeNetwork, saved: Callable[..., Path]
) -> None:
    key = "encoder.stem.1.num_batches_tracked"
    state = {**tiny_network(FlavrConfig(width=4, batchnorm=True)).state_dict(), key: counter}
    assert key in refusal(saved(state))


def test_infer_config_explains_what_it_cannot_read() -> None:
    with pytest.raises(CheckpointError, match=r"^state dict is not a FLAVR network: .* it has conv\.weight$"):
        infer_config({"conv.weight": torch.zeros(1)})
