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
    settings = learning_rate, momentum, dampening, weight_decay, nesterov, maximize, first_step
    _step("sgd_step", parameters, gradients, (buffers,), *settings)


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
    settings = learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, maximize
    _step("adam_step", parameters, gradients, (exp_avgs, exp_avg_sqs, max_exp_avg_sqs), step, *settings)


def nadam_step(
    parameters: list[Any],
    gradients: list[Any],
    exp_avgs: list[Any],
    exp_avg_sqs: list[Any],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
    mu: float,
    mu_next: float,
    mu_product: float,
) -> None:
    """Step number `step` of NAdam (https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ); `mu` and `mu_next` are the
    momentum of this step and of the next, `mu_product` that of all steps up to this one."""
    settings = learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, maximize, mu, mu_next, mu_product
    _step("nadam_step", parameters, gradients, (exp_avgs, exp_avg_sqs), step, *settings)


def radam_step(
    parameters: list[Any],
    gradients: list[Any],
    exp_avgs: list[Any],
    exp_avg_sqs: list[Any],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """Step number `step` of RAdam (https://arxiv.org/abs/1908.03265)."""
    settings = learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, maximize
    _step("radam_step", parameters, gradients, (exp_avgs, exp_avg_sqs), step, *settings)


def adamax_step(
    parameters: list[Any],
    gradients: list[Any],
    exp_avgs: list[Any],
    exp_infs: list[Any],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Step number `step` of Adamax (https://arxiv.org/abs/1412.6980, section 7.1)."""
    settings = learning_rate, beta1, beta2, epsilon, weight_decay, maximize
    _step("adamax_step", parameters, gradients, (exp_avgs, exp_infs), step, *settings)


def rmsprop_step(
    parameters: list[Any],
    gradients: list[Any],
    square_avgs: list[Any],
    buffers: list[Any] | None,
    grad_avgs: list[Any] | None,
    learning_rate: float,
    alpha: float,
    epsilon: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """One step of RMSprop (https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf), with `buffers`
    where there is momentum, and centered where there are `grad_avgs` (https://arxiv.org/abs/1308.0850)."""
    settings = learning_rate, alpha, epsilon, weight_decay, momentum, maximize
    _step("rmsprop_step", parameters, gradients, (square_avgs, buffers, grad_avgs), *settings)


def adagrad_step(
    parameters: list[Any],
    gradients: list[Any],
    sums: list[Any],
    step: int,
    learning_rate: float,
    learning_rate_decay: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Step number `step` of Adagrad (https://jmlr.org/papers/v12/duchi11a.html)."""
    settings = learning_rate, learning_rate_decay, epsilon, weight_decay, maximize
    _step("adagrad_step", parameters, gradients, (sums,), step, *settings)


def adadelta_step(
    parameters: list[Any],
    gradients: list[Any],
    square_avgs: list[Any],
    acc_deltas: list[Any],
    learning_rate: float,
    rho: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """One step of Adadelta (https://arxiv.org/abs/1212.5701)."""
    settings = learning_rate, rho, epsilon, weight_decay, maximize
    _step("adadelta_step", parameters, gradients, (square_avgs, acc_deltas), *settings)


def _step(
    name: str, parameters: list[Any], gradients: list[Any], states: tuple[list[Any] | None, ...], *settings: Any
) -> None:
    """Run the kernel `name`; a state is one tensor a parameter, or None."""
    run(
        name,
        _arrays(parameters),
        _gradient_arrays(name, parameters, gradients),
        *[None if state is None else _arrays(state) for state in states],
        *settings,
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
