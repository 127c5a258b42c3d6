"""Steps as if what goes into every convolution had no mean.

What comes out of a ReLU is above 0, so its mean weighs more than what varies about it, and a step of a weight
shifts the whole output besides changing what is told apart: by the mean times as many taps as there are.
Here a convolution is stepped in other coordinates, weights w and b' = b + sum(w mean): its weights learn from
what varies, and its bias makes up for what their step would have shifted. The network and its parameters are
the same. (LeCun et al. 1998, "Efficient BackProp", section 4.3, on means of inputs; where the input cannot be
changed the step can.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flavr.config import WINDOW
from flavr.network import Flavr

_TAPS = 3  # over time


@dataclass(slots=True)
class _Layer:
    module: nn.Module
    weight: nn.Parameter
    bias: nn.Parameter
    transposed: bool
    share: Tensor  # float [taps over time, 1, 1] or [1, 1]: of the outputs, those that a tap is in
    mean: Tensor  # float [inputs], of the batch

    def shift(self, weights: Tensor) -> Tensor:
        """What the mean of the inputs adds to each output, [outputs]."""
        scaled = weights * self._shaped_mean()
        return scaled.flatten(2).sum(dim=2).sum(dim=0 if self.transposed else 1)

    def centre(self) -> None:
        """Take from the weights' gradient what the bias's explains."""
        if self.weight.grad is None or self.bias.grad is None:
            return
        shape = (1, -1) if self.transposed else (-1, 1)
        explained = self.bias.grad.view(*shape, *(1,) * (self.weight.ndim - 2))
        self.weight.grad.sub_(explained * self._shaped_mean())

    def _shaped_mean(self) -> Tensor:
        shape = (-1, 1) if self.transposed else (1, -1)
        return self.mean.view(*shape, *(1,) * (self.weight.ndim - 2)) * self.share


class Centring:
    """Around each step of an optimizer: `before` it, `after` it.

    Args:
        network: convolutions with a bias are centred; those without have nothing to make up with.
        processes: that train together, each with its part of the batch.
    """

    def __init__(self, network: Flavr, processes: int = 1) -> None:
        self._processes = processes
        self._layers = list(_layers(network))
        self._old: list[Tensor] = []
        for layer in self._layers:
            layer.module.register_forward_pre_hook(_measure(layer))

    @torch.no_grad()
    def before(self) -> None:
        """Centre the gradients."""
        if self._processes > 1:
            means = torch.cat([layer.mean for layer in self._layers])
            dist.all_reduce(means)
            means /= self._processes
            parts = torch.split(means, [len(layer.mean) for layer in self._layers])
            for layer, mean in zip(self._layers, parts, strict=True):
                layer.mean = mean
        for layer in self._layers:
            layer.centre()
        self._old = [layer.weight.detach().clone() for layer in self._layers]

    @torch.no_grad()
    def after(self) -> None:
        """Let the biases make up for the step."""
        for layer, old in zip(self._layers, self._old, strict=True):
            layer.bias.sub_(layer.shift(layer.weight - old))
        self._old = []


def _layers(network: Flavr) -> Iterator[_Layer]:
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d) or module.bias is None:
            continue
        weight, bias = (network.get_parameter(f"{name}.{part}") for part in ("weight", "bias"))
        transposed = isinstance(module, nn.ConvTranspose3d)
        share = torch.ones((1,) * (weight.ndim - 2))
        if weight.ndim == 5 and weight.shape[2] == _TAPS:
            # Of the four time steps, the first has no frame before it and the last none after it.
            outer = (WINDOW - 1) / WINDOW
            share = torch.tensor([outer, 1, outer]).view(_TAPS, 1, 1)
        if transposed:
            share = share / (module.stride[1] * module.stride[2])
        mean = torch.zeros(weight.shape[0 if transposed else 1])
        yield _Layer(module, weight, bias, transposed, share.to(weight.device), mean.to(weight.device))


def _measure(layer: _Layer) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.training and torch.is_grad_enabled():
            x = inputs[0].detach()
            layer.mean = x.float().mean(dim=[axis for axis in range(x.ndim) if axis != 1])

    return hook
