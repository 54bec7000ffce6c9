"""The optimizer steps of numba_jit.py: one loop a rule over the elements of one parameter, in the parameter's dtype.

The formulas stand in reference.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from . import reference
from .declined import Declined
from .numba_math import inlined, jit

Array = np.ndarray
Arrays = Sequence[Array]


def _step(
    rule: Callable[..., None],
    values: Arrays,
    gradients: Arrays,
    states: Sequence[Arrays | None],
    scalars: tuple[float, ...],
    flags: tuple[bool, ...],
) -> Declined | None:
    """Call `rule` for each parameter; the value takes the place of a state that is not kept, and is not touched as one.

    What is written in place must lie as the kernels read it.
    """
    for written in (values, *states):
        for value, array in zip(values, written or (), strict=False):
            if array.dtype != np.float32 and array.dtype != np.float64:
                return Declined(f"dtype {array.dtype} is neither float32 nor float64")
            if array.dtype != value.dtype:
                return Declined(f"dtypes differ: {value.dtype} and {array.dtype}")
            if not array.flags.carray:
                return Declined("a parameter or its state is not contiguous")
    for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        if not gradient.flags.carray or gradient.dtype != value.dtype:
            gradient = np.array(gradient, dtype=value.dtype, order="C")
        own = [(value if state is None else state[i]).reshape(-1) for state in states]
        rule(value.reshape(-1), gradient.reshape(-1), *own, tuple(map(value.dtype.type, scalars)), flags)
    return None


@inlined
def _direction(gradient, value, weight_decay, maximize, decay):
    g = -gradient if maximize else gradient
    return g + weight_decay * value if decay else g


@jit
def _sgd(value, gradient, buffer, scalars, flags):
    learning_rate, momentum, undamped, weight_decay = scalars
    nesterov, maximize, first_step, decay, keep = flags
    for i in range(value.size):
        step = _direction(gradient[i], value[i], weight_decay, maximize, decay)
        if keep:
            mean = step if first_step else momentum * buffer[i] + undamped * step
            buffer[i] = mean
            step = step + momentum * mean if nesterov else mean
        value[i] -= learning_rate * step


@jit
def _adam(value, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq, scalars, flags):
    step_size, unkept1, beta2, unkept2, correction2, epsilon, weight_decay, shrink = scalars
    maximize, decay, decoupled, amsgrad = flags
    for i in range(value.size):
        v = value[i] * shrink if decoupled else value[i]
        g = _direction(gradient[i], v, weight_decay, maximize, decay and not decoupled)
        m = exp_avg[i] + unkept1 * (g - exp_avg[i])
        s = beta2 * exp_avg_sq[i] + unkept2 * g * g
        exp_avg[i] = m
        exp_avg_sq[i] = s
        if amsgrad:
            s = s if s > max_exp_avg_sq[i] or s != s else max_exp_avg_sq[i]
            max_exp_avg_sq[i] = s
        value[i] = v - step_size * (m / (np.sqrt(s) / correction2 + epsilon))


@jit
def _nadam(value, gradient, exp_avg, exp_avg_sq, scalars, flags):
    gradient_step, average_step, unkept1, beta2, unkept2, correction2, epsilon, weight_decay, shrink = scalars
    maximize, decay, decoupled = flags
    for i in range(value.size):
        v = value[i] * shrink if decoupled else value[i]
        g = _direction(gradient[i], v, weight_decay, maximize, decay and not decoupled)
        m = exp_avg[i] + unkept1 * (g - exp_avg[i])
        s = beta2 * exp_avg_sq[i] + unkept2 * g * g
        exp_avg[i] = m
        exp_avg_sq[i] = s
        value[i] = v - (gradient_step * g + average_step * m) / (np.sqrt(s) / correction2 + epsilon)


@jit
def _radam(value, gradient, exp_avg, exp_avg_sq, scalars, flags):
    step_size, unkept1, beta2, unkept2, epsilon, weight_decay, shrink = scalars
    maximize, decay, decoupled, rectified = flags
    for i in range(value.size):
        v = value[i] * shrink if decoupled else value[i]
        g = _direction(gradient[i], v, weight_decay, maximize, decay and not decoupled)
        m = exp_avg[i] + unkept1 * (g - exp_avg[i])
        s = beta2 * exp_avg_sq[i] + unkept2 * g * g
        exp_avg[i] = m
        exp_avg_sq[i] = s
        value[i] = v - (step_size * m / (np.sqrt(s) + epsilon) if rectified else step_size * m)


@jit
def _adamax(value, gradient, exp_avg, exp_inf, scalars, flags):
    step_size, unkept1, beta2, epsilon, weight_decay = scalars
    maximize, decay = flags
    for i in range(value.size):
        g = _direction(gradient[i], value[i], weight_decay, maximize, decay)
        m = exp_avg[i] + unkept1 * (g - exp_avg[i])
        old, now = beta2 * exp_inf[i], abs(g) + epsilon
        now = now if now > old or now != now else old
        exp_avg[i] = m
        exp_inf[i] = now
        value[i] -= step_size * m / now


@jit
def _rmsprop(value, gradient, square_avg, buffer, grad_avg, scalars, flags):
    learning_rate, alpha, unkept, epsilon, weight_decay, momentum = scalars
    maximize, decay, keep, centered = flags
    for i in range(value.size):
        g = _direction(gradient[i], value[i], weight_decay, maximize, decay)
        s = alpha * square_avg[i] + unkept * g * g
        square_avg[i] = s
        if centered:
            m = grad_avg[i] + unkept * (g - grad_avg[i])
            grad_avg[i] = m
            s -= m * m
            s = s * 0 if s < 0 else s
        step = g / (np.sqrt(s) + epsilon)
        if keep:
            step += momentum * buffer[i]
            buffer[i] = step
        value[i] -= learning_rate * step


@jit
def _adagrad(value, gradient, total, scalars, flags):
    step_size, epsilon, weight_decay = scalars
    maximize, decay = flags
    for i in range(value.size):
        g = _direction(gradient[i], value[i], weight_decay, maximize, decay)
        s = total[i] + g * g
        total[i] = s
        value[i] -= step_size * g / (np.sqrt(s) + epsilon)


@jit
def _adadelta(value, gradient, square_avg, acc_delta, scalars, flags):
    learning_rate, rho, unkept, epsilon, weight_decay = scalars
    maximize, decay = flags
    for i in range(value.size):
        g = _direction(gradient[i], value[i], weight_decay, maximize, decay)
        s = rho * square_avg[i] + unkept * g * g
        square_avg[i] = s
        delta = np.sqrt(acc_delta[i] + epsilon) / np.sqrt(s + epsilon) * g
        acc_delta[i] = rho * acc_delta[i] + unkept * delta * delta
        value[i] -= learning_rate * delta


def sgd_step(
    values: Arrays,
    gradients: Arrays,
    buffers: Arrays | None,
    learning_rate: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first_step: bool,
) -> Declined | None:
    scalars = learning_rate, momentum, 1 - dampening, weight_decay
    flags = bool(nesterov), bool(maximize), bool(first_step), weight_decay != 0, buffers is not None
    return _step(_sgd, values, gradients, (buffers,), scalars, flags)


def adam_step(
    values: Arrays,
    gradients: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    max_exp_avg_sqs: Arrays | None,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Declined | None:
    step_size, correction2 = learning_rate / (1 - beta1**step), math.sqrt(1 - beta2**step)
    shrink = 1 - learning_rate * weight_decay
    scalars = step_size, 1 - beta1, beta2, 1 - beta2, correction2, epsilon, weight_decay, shrink
    flags = bool(maximize), weight_decay != 0, bool(decoupled), max_exp_avg_sqs is not None
    return _step(_adam, values, gradients, (exp_avgs, exp_avg_sqs, max_exp_avg_sqs), scalars, flags)


def nadam_step(
    values: Arrays,
    gradients: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
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
) -> Declined | None:
    gradient_step = learning_rate * (1 - mu) / (1 - mu_product)
    average_step = learning_rate * mu_next / (1 - mu_product * mu_next)
    correction2, shrink = math.sqrt(1 - beta2**step), 1 - learning_rate * weight_decay
    scalars = (gradient_step, average_step, 1 - beta1, beta2, 1 - beta2, correction2, epsilon, weight_decay, shrink)
    flags = bool(maximize), weight_decay != 0, bool(decoupled)
    return _step(_nadam, values, gradients, (exp_avgs, exp_avg_sqs), scalars, flags)


def radam_step(
    values: Arrays,
    gradients: Arrays,
    exp_avgs: Arrays,
    exp_avg_sqs: Arrays,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Declined | None:
    size, rectified = reference.radam_size(step, learning_rate, beta1, beta2)
    scalars = size, 1 - beta1, beta2, 1 - beta2, epsilon, weight_decay, 1 - learning_rate * weight_decay
    flags = bool(maximize), weight_decay != 0, bool(decoupled), rectified
    return _step(_radam, values, gradients, (exp_avgs, exp_avg_sqs), scalars, flags)


def adamax_step(
    values: Arrays,
    gradients: Arrays,
    exp_avgs: Arrays,
    exp_infs: Arrays,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> Declined | None:
    scalars = learning_rate / (1 - beta1**step), 1 - beta1, beta2, epsilon, weight_decay
    return _step(_adamax, values, gradients, (exp_avgs, exp_infs), scalars, (bool(maximize), weight_decay != 0))


def rmsprop_step(
    values: Arrays,
    gradients: Arrays,
    square_avgs: Arrays,
    buffers: Arrays | None,
    grad_avgs: Arrays | None,
    learning_rate: float,
    alpha: float,
    epsilon: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> Declined | None:
    scalars = learning_rate, alpha, 1 - alpha, epsilon, weight_decay, momentum
    flags = bool(maximize), weight_decay != 0, buffers is not None, grad_avgs is not None
    return _step(_rmsprop, values, gradients, (square_avgs, buffers, grad_avgs), scalars, flags)


def adagrad_step(
    values: Arrays,
    gradients: Arrays,
    sums: Arrays,
    step: int,
    learning_rate: float,
    learning_rate_decay: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> Declined | None:
    scalars = learning_rate / (1 + (step - 1) * learning_rate_decay), epsilon, weight_decay
    return _step(_adagrad, values, gradients, (sums,), scalars, (bool(maximize), weight_decay != 0))


def adadelta_step(
    values: Arrays,
    gradients: Arrays,
    square_avgs: Arrays,
    acc_deltas: Arrays,
    learning_rate: float,
    rho: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> Declined | None:
    scalars = learning_rate, rho, 1 - rho, epsilon, weight_decay
    return _step(_adadelta, values, gradients, (square_avgs, acc_deltas), scalars, (bool(maximize), weight_decay != 0))
