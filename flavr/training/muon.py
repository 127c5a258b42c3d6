"""Muon: momentum whose steps are made orthogonal, for the matrices of a network, and Adam for what is left.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". A convolution counts as a
matrix of outputs by inputs and taps. `torch.optim.Muon` takes matrices alone, and works in bfloat16, which
most CPUs emulate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adam import adam

_MOMENTUM = 0.95
_STEPS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: singular values come to between 0.7 and 1.2
# Root mean square of a step before the learning rate. Adam's steps have 0.2 (Liu et al. 2025, "Muon is
# scalable for LLM training"); matrices were trained with twice that here.
_RMS = 0.4
_SMALLEST = 16  # inputs or outputs; the stem, the last convolution and the like are left to Adam
_EPSILON = 1e-8
_MATRICES, _SHARE = "matrices", "share"
# Where the pictures come in and go out, and gates: a step of such a layer changes the frames up to a thousand
# times as much as one of the layers between (docs/training.md).
_OUTER = ("encoder.stem.", "decoder.4.", "feature_fuse.", "outconv.")
_GATE = "attn_layer"


class Muon(Optimizer):
    """One learning rate for both parts; `betas` are Adam's.

    Args:
        named: parameters with their names. Convolutions with at least 16 inputs and outputs are matrices, but
            for those of the gates, which are close to biases.
        outer_rate: share of the learning rate for the first and the last layers and the gates.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        betas: tuple[float, float],
        outer_rate: float = 1.0,
    ) -> None:
        kinds = tuple(itertools.product((True, False), (False, True)))  # matrices or not, inner and outer
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {kind: [] for kind in kinds}
        for name, parameter in named:
            groups[_is_matrix(name, parameter), _is_outer(name)].append(parameter)
        super().__init__(
            [
                {"params": parameters, _MATRICES: matrices, _SHARE: outer_rate if outer else 1.0}
                for (matrices, outer), parameters in groups.items()
                if parameters
            ],
            {"lr": lr, "betas": betas},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients that are there."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate = group["lr"] * group[_SHARE]
            update = self._matrix if group[_MATRICES] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, rate, group["betas"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, or an older one, in which Adam's `step` is called `steps`."""
        state = {
            number: {"step" if name == "steps" else name: value for name, value in values.items()}
            for number, values in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": state})

    def _matrix(self, parameter: Tensor, gradient: Tensor, rate: float, _betas: tuple[float, float]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(state["momentum"], _MOMENTUM)  # Nesterov's
        step = orthogonal(ahead.reshape(len(ahead), -1))
        scale = _RMS * max(step.shape) ** 0.5
        parameter.add_(step.view_as(parameter), alpha=-rate * scale)

    def _adam(self, parameter: Tensor, gradient: Tensor, rate: float, betas: tuple[float, float]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # by this name PyTorch leaves it on the CPU when it is loaded
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        first, second = betas
        adam(
            [parameter],
            [gradient],
            [state["mean"]],
            [state["square"]],
            [],
            [state["step"]],
            amsgrad=False,
            beta1=first,
            beta2=second,
            lr=rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal matrix closest to `matrix`, by Newton and Schulz's iteration.

    Iterates on the small Gram matrix, so that the wide one is multiplied twice, not ten times.

    Args:
        matrix: float [M, N], not all zero if the result is to mean anything.

    Returns:
        float [M, N] with singular values around 1, but for those that were near 0.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = _QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    gram = (x @ x.T).double()  # conditions are squared in it
    one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    product = one
    for _ in range(_STEPS):
        factor = a * one + b * gram + c * (gram @ gram)
        product = factor @ product
        gram = factor @ gram @ factor
    result: Tensor = product.to(x.dtype) @ x
    return result


def _is_matrix(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 4 and min(parameter.shape[:2]) >= _SMALLEST and _GATE not in name


def _is_outer(name: str) -> bool:
    return name.startswith(_OUTER) or _GATE in name
