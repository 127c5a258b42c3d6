"""Residual blocks that have stopped to do anything, which no loss tells.

A gate is a sigmoid of channel means. Means that grow drive it to 0 or 1, where it has no gradient, and a
channel that a large negative sum holds below its ReLU has none either. A block all of whose channels have
come to one or the other passes some of its input on and withholds the rest, whatever its convolutions
compute, and training cannot bring it back. The network that ships has lost two of its eight blocks in this
way (docs/training.md). `flavr-train` says when it happens; `python -m flavr.revive` gives such blocks back
to training, or takes them out of exported files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flavr.network import Block, Flavr

SHUT = 0.02
"""Gates below this let through what rounding to 8 bits would nearly hide."""


@dataclass(slots=True)
class Use:
    """What the channels of a block did, counted in windows."""

    opened: Tensor  # int64 [C]: of how many the gate let something through
    seen: Tensor  # int64 [C]: in how many the block's output was above 0 anywhere
    used: Tensor  # int64 [C]: both at once
    windows: int = 0

    @property
    def idle(self) -> bool:
        """Whether no window has used a channel; never where no window was looked at."""
        return self.windows > 0 and not self.used.any()

    @property
    def withheld(self) -> list[int]:
        """The channels that never left the block."""
        return (self.seen == 0).nonzero().flatten().tolist()


@contextlib.contextmanager
def watched(network: Flavr) -> Iterator[dict[str, Use]]:
    """Count what the residual blocks do with all that the network is given meanwhile.

    Yields:
        the name of every block to what it did so far. A network that was compiled before does not call what
        counts; its blocks then have seen no window.
    """
    uses: dict[str, Use] = {}
    with contextlib.ExitStack() as stack:
        for name, block in residual_blocks(network):
            channels = len(block.get_parameter("fg.attn_layer.0.bias"))
            zeros = torch.zeros(channels, dtype=torch.int64)
            uses[name] = Use(zeros, zeros.clone(), zeros.clone())
            for handle in _counters(block, uses[name]):
                stack.callback(handle.remove)
        yield uses


def residual_blocks(network: Flavr) -> Iterator[tuple[str, Block]]:
    """Those of the encoder, by their names in the state dict, first to last."""
    for name, module in network.named_modules():
        if isinstance(module, Block):
            yield name, module


def idle_blocks(
    uses: Mapping[str, Use], total: Callable[[list[float]], list[float]] = lambda counts: counts
) -> tuple[str, ...]:
    """The names of blocks that nothing used.

    Args:
        total: sums lists of several processes element by element.
    """
    counts = total([float(count) for use in uses.values() for count in (use.windows, int(use.used.sum()))])
    pairs = zip(counts[::2], counts[1::2], strict=True)
    return tuple(name for name, (windows, used) in zip(uses, pairs, strict=True) if windows and not used)


def _counters(block: Block, use: Use) -> Iterator[torch.utils.hooks.RemovableHandle]:
    """Hooks that count; the gate comes before the block's output.

    Without a weight in either convolution (`python -m flavr.revive --still`) nothing gets to the gate, and no
    gradient back.
    """
    weights = [block.get_parameter(f"conv{number}.0.weight") for number in (1, 2)]
    opened = torch.empty(0)

    def at_the_gate(_module: nn.Module, _inputs: object, gate: Tensor) -> None:
        nonlocal opened
        at_work = any(bool(weight.any()) for weight in weights)
        opened = ((gate.detach().flatten(1) >= SHUT) & at_work).cpu()

    def at_the_end(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        seen = (output.detach().amax(dim=(2, 3, 4)) > 0).cpu()
        use.windows += len(seen)
        use.opened += opened.sum(dim=0)
        use.seen += seen.sum(dim=0)
        use.used += (opened & seen).sum(dim=0)

    yield block.fg.attn_layer.register_forward_hook(at_the_gate)
    yield block.register_forward_hook(at_the_end)
