"""The conv2d form: how many frames it copies, its transposed convolutions. What it computes: test_parity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest

from flavr import Flavr, FlavrConfig
from flavr_export import ExportSpec
from flavr_export.graph import build_graph

MakeNetwork = Callable[[FlavrConfig], Flavr]
LAYER, STEM = "encoder.layer2.0.conv2.0", "encoder.stem.0"


@pytest.mark.parametrize(("sums", "copied"), [(True, 4), (False, 10)])
def test_frames_are_copied_once_where_products_may_be_added_up(
    sums: bool, copied: int, tiny_network: MakeNetwork
) -> None:
    config = FlavrConfig(width=4)
    graph = build_graph(config, tiny_network(config).state_dict(), ExportSpec(sums=sums)).graph

    def frames_copied(layer: str) -> int:
        mine = [node for node in graph.node if node.name.startswith(f"{layer}/")]
        return sum(len(node.input) for node in mine if node.op_type == "Concat")

    assert frames_copied(LAYER) == copied
    assert frames_copied(STEM) == 10  # three channels: below one block
    added = [node.name for node in graph.node if node.op_type == "Add" and node.name.startswith(LAYER)]
    assert added == ([f"{LAYER}/t1", f"{LAYER}/t2"] if sums else [])


@pytest.mark.parametrize("size", [(40, 56), (33, 47)])
def test_transposed_convolutions_as_2x2_ones_compute_the_same(
    size: tuple[int, int], tiny_network: MakeNetwork
) -> None:
    config = FlavrConfig(width=4)
    weights = tiny_network(config).state_dict()
    graphs = [build_graph(config, weights, ExportSpec(io="float", subpixel=each)) for each in (False, True)]
    kinds = [{node.op_type for node in graph.graph.node} for graph in graphs]
    assert ["ConvTranspose" in each for each in kinds] == [True, False]
    rng = np.random.default_rng(3)
    frames = {f"frame{t}": rng.random((1, 3, *size), np.float32) for t in range(4)}
    cpu = ["CPUExecutionProvider"]
    sessions = [ort.InferenceSession(graph.SerializeToString(), providers=cpu) for graph in graphs]
    apart, sub = (session.run(None, frames)[0] for session in sessions)
    assert apart.std() > 1e-3
    np.testing.assert_allclose(sub, apart, rtol=0, atol=1e-5)
