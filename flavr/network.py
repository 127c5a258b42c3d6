"""The FLAVR network: a flow-free 3-D U-Net that synthesises frames between frames (arXiv 2012.08512).

State-dict keys and shapes are those of the published network (`UNet_3D_3D` with `unet_18` or `unet_34`),
so that published checkpoints load here and ours load there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flavr.config import BLOCKS, LEAK, MULTIPLE, STRIDES, WINDOW, FlavrConfig


class Gate(nn.Module):
    """Feature gating (paper section 3.2): channels are scaled by a learnt function of all channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.attn_layer = nn.Sequential(nn.Conv3d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.attn_layer(self.pool(x))
        return x * gate


def _norm3d(channels: int, batchnorm: bool) -> nn.Module:
    return nn.BatchNorm3d(channels) if batchnorm else nn.Identity()


class Block(nn.Module):
    """Residual block of two 3x3x3 convolutions with a gate before the addition."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: FlavrConfig) -> None:
        super().__init__()
        bias, bn = config.encoder_bias, config.batchnorm
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride=(1, stride, stride), padding=1, bias=bias),
            _norm3d(outputs, bn),
            nn.ReLU(),
        )
        self.conv2 = nn.Sequential(nn.Conv3d(outputs, outputs, 3, padding=1, bias=bias), _norm3d(outputs, bn))
        self.fg = Gate(outputs)
        self.relu = nn.ReLU()
        self.downsample = (
            None
            if stride == 1 and inputs == outputs
            else nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False), _norm3d(outputs, bn)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.fg(self.conv2(self.conv1(x))) + residual)
        return out


class Encoder(nn.Module):
    """R3D-18 or R3D-34 without its classifier and without temporal striding."""

    def __init__(self, config: FlavrConfig) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(
                3, config.width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=config.encoder_bias
            ),
            _norm3d(config.width, config.batchnorm),
            nn.ReLU(),
        )
        c1, c2, c3, c4 = config.channels
        b1, b2, b3, b4 = BLOCKS[config.arch]
        self.layer1 = self._layer(c1, c1, b1, STRIDES[0], config)
        self.layer2 = self._layer(c1, c2, b2, STRIDES[1], config)
        self.layer3 = self._layer(c2, c3, b3, STRIDES[2], config)
        self.layer4 = self._layer(c3, c4, b4, STRIDES[3], config)

    @staticmethod
    def _layer(inputs: int, outputs: int, blocks: int, stride: int, config: FlavrConfig) -> nn.Sequential:
        first = Block(inputs, outputs, stride, config)
        return nn.Sequential(first, *(Block(outputs, outputs, 1, config) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features.append(layer(features[-1]))
        return features


class ConvStage(nn.Module):
    """Decoder stage that keeps the size: 3x3x3 convolution, gate."""

    def __init__(self, inputs: int, outputs: int, config: FlavrConfig) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv3d(inputs, outputs, 3, padding=1), Gate(outputs)]
        if config.batchnorm:
            parts.append(nn.BatchNorm3d(outputs))
        self.conv = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class UpStage(nn.Module):
    """Decoder stage that doubles height and width: transposed convolution (or upsample + 1x1x1), gate."""

    def __init__(self, inputs: int, outputs: int, config: FlavrConfig) -> None:
        super().__init__()
        parts: list[nn.Module]
        if config.upmode == "transpose":
            parts = [nn.ConvTranspose3d(inputs, outputs, (3, 4, 4), stride=(1, 2, 2), padding=1)]
        else:
            upsample = nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
            parts = [upsample, nn.Conv3d(inputs, outputs, 1)]
        parts.append(Gate(outputs))
        if config.batchnorm:
            parts.append(nn.BatchNorm3d(outputs))
        self.upconv = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.upconv(x)
        return out


class Fuse(nn.Module):
    """1x1 convolution over the four time steps folded into channels."""

    def __init__(self, inputs: int, outputs: int, config: FlavrConfig) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(inputs, outputs, 1, bias=False)]
        if config.batchnorm:
            parts.append(nn.BatchNorm2d(outputs))
        self.conv = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Flavr(nn.Module):
    """The whole network. Build it from a `FlavrConfig`, or load one with `flavr.load_checkpoint`."""

    def __init__(self, config: FlavrConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3, w4 = config.channels
        grown = 2 if config.join == "concat" else 1
        self.encoder = Encoder(config)
        self.decoder = nn.Sequential(
            ConvStage(w4, w3, config),
            UpStage(w3 * grown, w2, config),
            UpStage(w2 * grown, w1, config),
            ConvStage(w1 * grown, w1, config),
            UpStage(w1 * grown, w1, config),
        )
        self.lrelu = nn.LeakyReLU(LEAK)
        self.feature_fuse = Fuse(WINDOW * w1, w1, config)
        self.outconv = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(w1, 3 * config.n_outputs, 7))

    def _join(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        if self.config.join == "concat":
            return torch.cat([decoded, encoded], dim=1)
        return decoded + encoded if self.config.join == "add" else decoded

    def forward(self, frames: Tensor) -> Tensor:
        """Synthesise the frames between the middle two of four.

        Args:
            frames: float [B, 3, 4, H, W], RGB in [0, 1], H and W multiples of 8.

        Returns:
            float [B, n_outputs, 3, H, W] in time order, not clamped.

        Raises:
            ValueError: if the shape is not that.
        """
        if frames.ndim != 5 or frames.shape[1:3] != (3, WINDOW):
            raise ValueError(f"frames have shape {tuple(frames.shape)}; [B, 3, {WINDOW}, H, W] is needed")
        height, width = frames.shape[3:]
        if height % MULTIPLE or width % MULTIPLE or not height * width:
            raise ValueError(f"height {height} and width {width} must be multiples of {MULTIPLE}")
        return self.synthesise(frames, frames.mean(dim=(2, 3, 4), keepdim=True))

    def synthesise(self, frames: Tensor, mean: Tensor) -> Tensor:
        """`forward` with the mean given: it is taken over the real pixels where the borders are padding.

        Args:
            frames: float [B, 3, 4, H, W] as for `forward`.
            mean: float [B, 3, 1, 1, 1], subtracted from the frames and added to the result.
        """
        x0, x1, x2, x3, x4 = self.encoder(frames - mean)
        x = x4
        for stage, skip in zip(self.decoder, (x3, x2, x1, x0, None), strict=True):
            x = self.lrelu(stage(x))
            if skip is not None:
                x = self._join(x, skip)
        folded = torch.cat(torch.unbind(x, dim=2), dim=1)
        out: Tensor = self.outconv(self.lrelu(self.feature_fuse(folded)))
        frames_out = out.reshape(out.shape[0], self.config.n_outputs, 3, *out.shape[2:])
        return frames_out + mean.squeeze(2).unsqueeze(1)
