"""Blocks without weights are left out of exported files, which compute the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from flavr import Flavr, FlavrConfig, load_checkpoint, save_checkpoint
from flavr_export import ExportSpec, export
from flavr_export.spec import GraphForm

CONFIG = FlavrConfig(width=8, encoder_bias=True)
IDENTITY, WITHHOLDING = "encoder.layer4.1", "encoder.layer1.0"


@pytest.fixture
def still_network() -> Flavr:
    """One block passes its input on, another withholds two channels and changes a third by its bias."""
    torch.manual_seed(0)
    network = Flavr(CONFIG).eval()
    with torch.no_grad():
        for parameter in network.get_submodule(IDENTITY).parameters():
            parameter.zero_()
        network.get_parameter(f"{WITHHOLDING}.conv2.0.weight").zero_()
        bias = network.get_parameter(f"{WITHHOLDING}.conv2.0.bias").zero_()
        bias[[1, 4]] = -2e4
        bias[5] = 0.1
        network.get_parameter(f"{WITHHOLDING}.fg.attn_layer.0.weight")[:, [1, 4]] = 0
    return network


@pytest.mark.parametrize("graph", ["conv2d", "conv3d", "winograd"])
def test_what_is_left_of_a_still_block_is_a_number_per_channel(
    still_network: Flavr, tmp_path: Path, graph: GraphForm
) -> None:
    save_checkpoint(tmp_path / "still.pth", still_network)
    done = export(
        load_checkpoint(tmp_path / "still.pth"), tmp_path / "m.onnx", ExportSpec(graph=graph, io="float")
    )
    model = onnx.load(done.path).graph
    assert not [node.name for node in model.node if node.name.startswith(IDENTITY)]
    kinds = {node.op_type for node in model.node if node.name.startswith(WITHHOLDING)}
    assert kinds <= {"Add", "Relu", "Concat"}, kinds
    assert {"Add", "Relu"} <= kinds
    assert not [
        each.name for each in model.initializer if each.name.startswith((IDENTITY, f"{WITHHOLDING}.conv"))
    ]

    frames = torch.rand(1, 3, 4, 40, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = still_network(frames)[:, 0].numpy()
    session = ort.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    [made] = session.run(None, {f"frame{t}": frames[:, :, t].numpy() for t in range(4)})
    assert np.abs(made - expected).max() < 1e-6
    with torch.inference_mode():
        still_network.get_parameter(f"{WITHHOLDING}.conv2.0.bias").zero_()
        without = still_network(frames)[:, 0].numpy()
    assert np.abs(without - expected).max() > 1e-4, "what the block does cannot be seen in these frames"


def test_a_block_with_a_projection_is_never_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Flavr(CONFIG)
    with torch.no_grad():
        network.get_parameter("encoder.layer2.0.conv2.0.weight").zero_()
    save_checkpoint(tmp_path / "projected.pth", network)
    done = export(load_checkpoint(tmp_path / "projected.pth"), tmp_path / "m.onnx")
    names = {node.name for node in onnx.load(done.path).graph.node}
    assert any(name.startswith("encoder.layer2.0.conv1.0") for name in names)
