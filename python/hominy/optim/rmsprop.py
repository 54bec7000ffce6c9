"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.optimizer import rmsprop_step
from ..tensor import Tensor
from .optimizer import Optimizer, implementation_flags


class RMSprop(Optimizer):
    """Steps scaled by the root of a running mean of the squared gradient, as PyTorch computes them.

        g = gradient (negated if maximize) + weight_decay * value
        square_avg = alpha * square_avg + (1 - alpha) * g^2
        variance = square_avg, or, centered, square_avg - grad_avg^2 with grad_avg += (1 - alpha) * (g - grad_avg)
        momentum_buffer = momentum * momentum_buffer + g / (sqrt(variance) + eps)
        value -= lr * momentum_buffer        without momentum: value -= lr * g / (sqrt(variance) + eps)

    Tieleman and Hinton, 2012; centered: Graves, 2013. A variance that rounding has made negative counts as 0, where
    PyTorch's root of it is NaN.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, alpha, eps, weight_decay, momentum: finite, 0 or more.
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("RMSprop", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "alpha", "eps", "weight_decay", "momentum")

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        momentum, centered = group["momentum"], group["centered"]
        names = ["square_avg"] + ["momentum_buffer"] * (momentum > 0) + ["grad_avg"] * bool(centered)
        states = self._states(parameters, *names, step=0)
        rmsprop_step(
            parameters,
            gradients,
            [state["square_avg"] for state in states],
            [state["momentum_buffer"] for state in states] if momentum > 0 else None,
            [state["grad_avg"] for state in states] if centered else None,
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            momentum,
            group["maximize"],
        )
        for state in states:
            state["step"] += 1
