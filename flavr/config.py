"""What tells one FLAVR network from another, and the constants they share. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Arch = Literal["unet_18", "unet_34"]
Join = Literal["concat", "add", "none"]
Upmode = Literal["transpose", "upsample"]

WINDOW = 4  # input frames; the decoder folds exactly this many time steps into channels
MULTIPLE = 8  # height and width must be multiples of this: three strides of 2
LEAK = 0.2  # negative slope of the decoder's LeakyReLU
BLOCKS: dict[Arch, tuple[int, int, int, int]] = {"unet_18": (2, 2, 2, 2), "unet_34": (3, 4, 6, 3)}
ENSEMBLES = (1, 2, 4, 8, 16)  # views of a window over which a mean can be taken: flavr/views.py
STRIDES = (1, 2, 2, 1)  # spatial stride of layer1..layer4; the temporal stride is 1 throughout


@dataclass(frozen=True, slots=True)
class FlavrConfig:
    """Everything that tells one FLAVR network from another; all of it can be read off a state dict."""

    factor: int = 2  # frames are multiplied by this: factor - 1 new ones per interval
    arch: Arch = "unet_18"
    width: int = 64  # channels of the first layer; 64 is the published network
    join: Join = "concat"  # how a decoder feature meets the encoder feature of its size
    upmode: Upmode = "transpose"
    batchnorm: bool = False
    encoder_bias: bool = False  # published 2x networks have none, 4x and 8x ones do

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"factor {self.factor}: at least 2 is needed to make a new frame")
        if self.width < 1:
            raise ValueError(f"width {self.width}: at least 1 channel is needed")

    @property
    def n_outputs(self) -> int:
        """New frames per window."""
        return self.factor - 1

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Output channels of the encoder's layer1..layer4."""
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width
