"""RAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.optimizer import radam_step
from ..tensor import Tensor
from .optimizer import Optimizer, at, implementation_flags


class RAdam(Optimizer):
    """Adam whose first steps, when too few squares are averaged to divide by, are plain momentum's, as PyTorch computes
    it.

        g, exp_avg, exp_avg_sq as `Adam`
        limit = 2 / (1 - beta2) - 1;  n = limit - 2 step beta2^step / (1 - beta2^step)
        update = exp_avg / (1 - beta1^step), and where n > 5 this times
            sqrt((n - 4) (n - 2) limit / ((limit - 4) (limit - 2) n)) * sqrt(1 - beta2^step) / (sqrt(exp_avg_sq) + eps)
        value -= lr * update

    Liu et al., 2019.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, eps, weight_decay: finite, 0 or more. betas: both in [0, 1).
        decoupled_weight_decay: value -= lr * weight_decay * value, instead of a term of the gradient.
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("RAdam", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        states = self._states(parameters, "exp_avg", "exp_avg_sq", step=0)
        beta1, beta2 = group["betas"]
        counts = [state["step"] for state in states]
        for done in set(counts):
            values, slopes, kept = at(done, counts, parameters, gradients, states)
            radam_step(
                values,
                slopes,
                [state["exp_avg"] for state in kept],
                [state["exp_avg_sq"] for state in kept],
                done + 1,
                group["lr"],
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["decoupled_weight_decay"],
                group["maximize"],
            )
            for state in kept:  # after the call: one that raised has not counted
                state["step"] = done + 1
