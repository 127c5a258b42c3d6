"""How much arithmetic one window is, counted on the network without computing it."""

from __future__ import annotations

from flavr_benchmarks.cells import Size
from flavr_benchmarks.variants import NetworkFacts


def gflop(facts: NetworkFacts, factor: int, size: Size) -> float:
    """10^9 operations of one window (a multiplication and an addition are two), as the network is published.

    The zeros that its convolutions add at the ends of time count as well: that is the same number for every
    graph form, so that GFLOP/s compares speed. A form that leaves operations out may exceed what the machine
    can really do.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from flavr.config import BLOCKS, MULTIPLE, FlavrConfig
    from flavr.network import Flavr

    known = next((name for name in BLOCKS if name == facts.arch), None)
    if known is None:
        raise ValueError(f"the network {facts.arch} is not known")
    height, columns = (side + -side % MULTIPLE for side in size)
    with torch.device("meta"), torch.inference_mode():
        network = Flavr(FlavrConfig(factor=factor, arch=known, width=facts.width)).eval()
        frames = torch.empty(1, 3, 4, height, columns)
        with FlopCounterMode(display=False) as counter:
            network(frames)
    return float(counter.get_total_flops()) / 1e9
