"""How many frames the conv2d form copies for its convolutions over time. What it computes: test_parity."""

from __future__ import annotations

from collections.abc import Callable

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
