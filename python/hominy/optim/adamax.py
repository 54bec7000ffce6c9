"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.optimizer import adamax_step
from ..tensor import Tensor
from .optimizer import Optimizer, at, implementation_flags


class Adamax(Optimizer):
    """Adam by the largest gradient instead of the mean square, as PyTorch computes it.

        g, exp_avg as `Adam`
        exp_inf = max(beta2 * exp_inf, |g| + eps)
        value -= lr / (1 - beta1^step) * exp_avg / exp_inf

    Kingma and Ba, 2014, section 7.1.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, eps, weight_decay: finite, 0 or more. betas: both in [0, 1).
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("Adamax", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        states = self._states(parameters, "exp_avg", "exp_inf", step=0)
        beta1, beta2 = group["betas"]
        counts = [state["step"] for state in states]
        for done in set(counts):
            values, slopes, kept = at(done, counts, parameters, gradients, states)
            adamax_step(
                values,
                slopes,
                [state["exp_avg"] for state in kept],
                [state["exp_inf"] for state in kept],
                done + 1,
                group["lr"],
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["maximize"],
            )
            for state in kept:  # after the call: one that raised has not counted
                state["step"] = done + 1
