"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..creation import full_like
from ..ops.optimizer import adagrad_step
from ..tensor import Tensor
from .optimizer import Optimizer, at, implementation_flags


class Adagrad(Optimizer):
    """Steps scaled by the root of the sum of all squared gradients, as PyTorch computes them.

        g = gradient (negated if maximize) + weight_decay * value
        sum = sum + g^2, from initial_accumulator_value on
        value -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps)

    Duchi, Hazan and Singer, 2011. As in PyTorch, the state is there from the beginning.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, lr_decay, weight_decay, initial_accumulator_value, eps: finite, 0 or more.
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags("Adagrad", flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "maximize": maximize,
            },
        )
        for group in self.param_groups:
            for parameter in group["params"]:
                self._begin(parameter)

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def _begin(self, parameter: Tensor) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state.update(step=0, sum=full_like(parameter, self.defaults["initial_accumulator_value"]))
        return state

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._check(group)  # settings may have been changed since the group was added
        states = [self._begin(parameter) for parameter in parameters]
        counts = [state["step"] for state in states]
        for done in set(counts):
            values, slopes, kept = at(done, counts, parameters, gradients, states)
            adagrad_step(
                values,
                slopes,
                [state["sum"] for state in kept],
                done + 1,
                group["lr"],
                group["lr_decay"],
                group["eps"],
                group["weight_decay"],
                group["maximize"],
            )
            for state in kept:  # after the call: one that raised has not counted
                state["step"] = done + 1
