"""The conv3d form: the network as published."""

from __future__ import annotations

import numpy as np

from flavr.config import WINDOW
from flavr_export._form import Feature, Form, resize


class Conv3dForm(Form):
    """A feature is one tensor [B, C, 4, H, W]."""

    def enter(self, frames: Feature) -> Feature:
        axis = self.g.integers(2)
        parts = [self.g.op("Unsqueeze", [frame, axis], f"stack/t{t}") for t, frame in enumerate(frames)]
        return (self.g.op("Concat", parts, "stack", axis=2),)

    def fold(self, x: Feature, name: str) -> str:
        # Reshape cannot keep dynamic H and W behind a changed rank; one Gather per time step can.
        parts = [
            self.g.op(
                "Gather",
                [x[0], self.g.constant(f"const/index/{t}", np.array(t, np.int64))],
                f"{name}/t{t}",
                axis=2,
            )
            for t in range(WINDOW)
        ]
        return self.g.op("Concat", parts, name, axis=1)

    def conv(self, x: Feature, key: str, stride: int = 1, bn: str | None = None) -> Feature:
        weight, bias = self.conv_parameters(key, bn)
        kernel = list(weight.shape[2:])
        out = self.g.op(
            "Conv",
            [x[0], *self.stored(key, weight, bias)],
            key,
            kernel_shape=kernel,
            strides=[1, stride, stride],
            pads=[k // 2 for k in kernel] * 2,
        )
        return (out,)

    def conv_transpose(self, x: Feature, key: str) -> Feature:
        weight, bias = self.conv_parameters(key, None)
        out = self.g.op(
            "ConvTranspose",
            [x[0], *self.stored(key, weight, bias)],
            key,
            kernel_shape=list(weight.shape[2:]),
            strides=[1, 2, 2],
            pads=[1] * 6,
        )
        return (out,)

    def upsample(self, x: Feature, name: str) -> Feature:
        return (resize(self.g, x[0], name, spatial_rank=3),)

    def _spatial_rank(self) -> int:
        return 3
