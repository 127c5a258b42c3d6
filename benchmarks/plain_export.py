"""What `torch.onnx.export` writes of the published network, unchanged: what all ratios are to."""

from __future__ import annotations

from pathlib import Path

import torch

from flavr import Flavr


class _FourInputs(torch.nn.Module):
    """The published network behind four image inputs, as its own inference code calls it."""

    def __init__(self, network: Flavr) -> None:
        super().__init__()
        self.network = network

    def forward(self, f0: torch.Tensor, f1: torch.Tensor, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
        mids: torch.Tensor = self.network(torch.stack([f0, f1, f2, f3], dim=2))
        return mids


def write_plain_export(network: Flavr, path: Path, size: tuple[int, int]) -> None:
    """Four float32 [1, 3, *size] inputs, frame0 to frame3."""
    example = tuple(torch.rand(1, 3, *size) for _ in range(4))
    names = [f"frame{i}" for i in range(4)]
    torch.onnx.export(_FourInputs(network), example, path, input_names=names, opset_version=18, dynamo=True)
