"""Whole-model optimizer steps: every parameter in one call of one kernel, in place, outside any graph.

Not operators: nothing differentiates through a step. `hominy.optim` checks the hyperparameters.
"""

from __future__ import annotations

from typing import Any

from ..autograd import bump
from ..backends import run


def sgd_step(
    parameters: list[Any],
    gradients: list[Any],
    buffers: list[Any] | None,
    learning_rate: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first_step: bool,
) -> None:
    """One step of stochastic gradient descent (https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html).

    `buffers` are the momentum buffers, or None without momentum; on the `first_step` they are filled with the
    gradients.
    """
    run(
        "sgd_step",
        _arrays(parameters),
        _gradient_arrays("sgd_step", parameters, gradients),
        None if buffers is None else _arrays(buffers),
        learning_rate,
        momentum,
        dampening,
        weight_decay,
        nesterov,
        maximize,
        first_step,
    )
    _bump_all(parameters)


def adam_step(
    parameters: list[Any],
    gradients: list[Any],
    exp_avgs: list[Any],
    exp_avg_sqs: list[Any],
    max_exp_avg_sqs: list[Any] | None,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Step number `step` (1 for the first) of Adam (https://arxiv.org/abs/1412.6980), with `decoupled` weight decay of
    AdamW (https://arxiv.org/abs/1711.05101), with `max_exp_avg_sqs` of AMSGrad."""
    run(
        "adam_step",
        _arrays(parameters),
        _gradient_arrays("adam_step", parameters, gradients),
        _arrays(exp_avgs),
        _arrays(exp_avg_sqs),
        None if max_exp_avg_sqs is None else _arrays(max_exp_avg_sqs),
        step,
        learning_rate,
        beta1,
        beta2,
        epsilon,
        weight_decay,
        decoupled,
        maximize,
    )
    _bump_all(parameters)


def _arrays(tensors: list[Any]) -> list[Any]:
    return [tensor._array for tensor in tensors]


def _gradient_arrays(name: str, parameters: list[Any], gradients: list[Any]) -> list[Any]:
    arrays = [gradient._array for gradient in gradients]
    for i, (parameter, array) in enumerate(zip(parameters, arrays, strict=True)):
        if parameter._array.shape != array.shape or parameter._array.dtype != array.dtype:
            raise ValueError(
                f"[{name}] gradients[{i}]: expected shape {parameter._array.shape} and dtype {parameter._array.dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
    return arrays


def _bump_all(tensors: list[Any]) -> None:
    for tensor in tensors:
        bump(tensor)
