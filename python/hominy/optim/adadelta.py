"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.optimizer import adadelta_step
from ..tensor import Tensor
from ..utils.arguments import wrong
from .optimizer import Optimizer, implementation_flags


class Adadelta(Optimizer):
    """Steps in the unit of the values: scaled by the root of a running mean of squared steps over one of squared
    gradients, as PyTorch computes them.

        g = gradient (negated if maximize) + weight_decay * value
        square_avg = rho * square_avg + (1 - rho) * g^2
        delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g
        acc_delta = rho * acc_delta + (1 - rho) * delta^2
        value -= lr * delta

    Zeiler, 2012.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, eps, weight_decay: finite, 0 or more. rho: in [0, 1].
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("Adadelta", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "rho": rho,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "eps", "weight_decay", "rho")
        if group["rho"] > 1.0:
            raise ValueError(wrong("Adadelta", "rho", "a number of 0 to 1", group["rho"]))

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        states = self._states(parameters, "square_avg", "acc_delta", step=0)
        adadelta_step(
            parameters,
            gradients,
            [state["square_avg"] for state in states],
            [state["acc_delta"] for state in states],
            group["lr"],
            group["rho"],
            group["eps"],
            group["weight_decay"],
            group["maximize"],
        )
        for state in states:
            state["step"] += 1
