"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any

from ..creation import zeros_like
from ..ops.optimizer import sgd_step
from ..tensor import Tensor
from ..utils.arguments import number, wrong
from .optimizer import Optimizer, at, implementation_flags


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, Nesterov's or plain, and weight decay, as PyTorch computes it.

        g = gradient (negated if maximize) + weight_decay * value
        buffer = g at the first step, then momentum * buffer + (1 - dampening) * g
        value -= lr * (g + momentum * buffer if nesterov else buffer)        without momentum: value -= lr * g

    Sutskever et al., 2013.

    Args:
        params: tensors, or groups {"params": tensors, setting: value, ...}.
        lr, momentum, weight_decay: finite, 0 or more. dampening: finite.
        nesterov: needs a momentum above 0 and no dampening.
        maximize: climb instead of descending.
        flags: PyTorch's choice of implementation; foreach and fused make no difference.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **flags: Any,
    ):
        implementation_flags(type(self).__name__, flags)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        self._check_not_negative(group, "lr", "momentum", "weight_decay")
        group["dampening"] = number("SGD", "dampening", group["dampening"])
        if group["nesterov"] and not (group["momentum"] > 0.0 and group["dampening"] == 0.0):
            raise ValueError(
                wrong(
                    "SGD",
                    "nesterov",
                    "a momentum above 0 and no dampening with it",
                    {name: group[name] for name in ("momentum", "dampening")},
                )
            )

    def _update(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        rate, momentum, dampening, decay = group["lr"], group["momentum"], group["dampening"], group["weight_decay"]
        if not (0.0 <= rate < inf and 0.0 <= momentum < inf and -inf < dampening < inf and 0.0 <= decay < inf):
            self._check(group)  # raises: a setting was changed since the group was added
        if momentum == 0.0:
            sgd_step(parameters, gradients, None, rate, 0.0, 0.0, decay, False, group["maximize"], True)
            return
        settings = (rate, momentum, dampening, decay, group["nesterov"], group["maximize"])
        states = [self.state[parameter] for parameter in parameters]
        fresh = [state.get("momentum_buffer") is None for state in states]
        # One call, but where some parameters take their first step now and others do not. Buffers are stored after the
        # call: one that raised has changed nothing.
        for first_step in set(fresh):
            values, slopes, kept = at(first_step, fresh, parameters, gradients, states)
            if first_step:
                buffers = [zeros_like(value) for value in values]
            else:
                buffers = [state["momentum_buffer"] for state in kept]
            sgd_step(values, slopes, buffers, *settings, first_step)
            if first_step:
                for state, buffer in zip(kept, buffers, strict=True):
                    state["momentum_buffer"] = buffer
