"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..ops.optimizer import nadam_step
from ..tensor import Tensor
from .optimizer import Optimizer, at, implementation_flags


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, as PyTorch computes it.

        g, exp_avg, exp_avg_sq as `Adam`
        mu_t = beta1 (1 - 0.96^(t * momentum_decay) / 2);  mu_product = mu_1 mu_2 ... mu_step
        average = (1 - mu_step) / (1 - mu_product) * g + mu_(step+1) / (1 - mu_product * mu_(step+1)) * exp_avg
        value -= lr * average / (sqrt(exp_avg_sq / (1 - beta2^step)) + eps)

    Dozat, 2016. mu_product is kept in float64, where PyTorch rounds it to the default dtype.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, eps, weight_decay, momentum_decay: finite, 0 or more. betas: both in [0, 1).
        decoupled_weight_decay: value -= lr * weight_decay * value, instead of a term of the gradient.
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
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("NAdam", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum_decay": momentum_decay,
                "decoupled_weight_decay": decoupled_weight_decay,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "eps", "weight_decay", "momentum_decay")
        self._check_betas(group)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        states = self._states(parameters, "exp_avg", "exp_avg_sq", step=0, mu_product=1.0)
        rate, (beta1, beta2), decay = group["lr"], group["betas"], group["momentum_decay"]
        keys = [(state["step"], state["mu_product"]) for state in states]
        for key in set(keys):
            values, slopes, kept = at(key, keys, parameters, gradients, states)
            step = key[0] + 1
            mu, mu_next = (beta1 * (1.0 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
            product = key[1] * mu
            nadam_step(
                values,
                slopes,
                [state["exp_avg"] for state in kept],
                [state["exp_avg_sq"] for state in kept],
                step,
                rate,
                beta1,
                beta2,
                group["eps"],
                group["weight_decay"],
                group["decoupled_weight_decay"],
                group["maximize"],
                mu,
                mu_next,
                product,
            )
            for state in kept:  # after the call: one that raised has not counted
                state["step"], state["mu_product"] = step, product
