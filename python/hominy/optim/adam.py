"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

from ..creation import zeros_like
from ..ops.optimizer import adam_step
from ..tensor import Tensor
from .optimizer import Optimizer, at, implementation_flags


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square, as PyTorch computes them.

        g = gradient (negated if maximize) + weight_decay * value
        exp_avg = beta1 * exp_avg + (1 - beta1) * g
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * g^2
        value -= lr / (1 - beta1^step) * exp_avg / (sqrt(exp_avg_sq / (1 - beta2^step)) + eps)

    With amsgrad, the largest exp_avg_sq so far takes the place of exp_avg_sq in the last line.
    Kingma and Ba, 2014; Reddi, Kale and Kumar, 2018 (amsgrad).

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, eps, weight_decay: finite, 0 or more. betas: both in [0, 1).
        maximize: climb instead of descending.
        decoupled_weight_decay: decay as `AdamW`.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **flags: Any,
    ):
        implementation_flags(type(self).__name__, flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        amsgrad = group["amsgrad"]
        states = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state.update(step=0, exp_avg=zeros_like(parameter), exp_avg_sq=zeros_like(parameter))
            if amsgrad and "max_exp_avg_sq" not in state:
                state["max_exp_avg_sq"] = zeros_like(parameter)
            states.append(state)
        beta1, beta2 = group["betas"]
        rate, epsilon, decay = group["lr"], group["eps"], group["weight_decay"]
        if not (
            0.0 <= rate < inf
            and 0.0 <= beta1 < 1.0
            and 0.0 <= beta2 < 1.0
            and 0.0 <= epsilon < inf
            and 0.0 <= decay < inf
        ):
            self._check(group)  # raises: a setting was changed since the group was added
        # One call, unless some parameters had no gradient for a while and are behind the others.
        counts = [state["step"] for state in states]
        for done in set(counts):
            values, slopes, kept = at(done, counts, parameters, gradients, states)
            adam_step(
                values,
                slopes,
                [state["exp_avg"] for state in kept],
                [state["exp_avg_sq"] for state in kept],
                [state["max_exp_avg_sq"] for state in kept] if amsgrad else None,
                done + 1,
                rate,
                beta1,
                beta2,
                epsilon,
                decay,
                group["decoupled_weight_decay"],
                group["maximize"],
            )
            for state in kept:  # after the call: one that raised has not counted
                state["step"] = done + 1


class AdamW(Adam):
    """Adam whose weight decay acts on the values themselves: value -= lr * weight_decay * value, then Adam's step.

    Loshchilov and Hutter, 2017. Arguments as `Adam`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            **flags,
        )
