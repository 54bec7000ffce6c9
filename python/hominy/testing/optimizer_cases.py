"""The optimizers in the table of cases: one call steps every parameter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import reference
from .case import Array, Case, draw


def _sgd_bound(
    y: Any, u: float, values: Any, gradients: Any, buffers: Any, learning_rate: float, momentum: float, dampening:
    float, weight_decay: float, *flags: Any
) -> list[Any]:  # fmt: skip
    # The direction is within 8 eps (16 u) of the sum of its terms' magnitudes; adding it to the value rounds once more.
    bounds, of_buffers = [], []
    for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        terms = np.abs(gradient) + weight_decay * np.abs(value)
        if buffers is not None:
            terms = terms * (1 + momentum) + momentum * np.abs(buffers[i])
            of_buffers.append(16 * u * terms)
        bounds.append(16 * u * learning_rate * terms * (1 + momentum) + u * np.abs(y[i]))
    return bounds + of_buffers


def _adam_bound(
    y: Any, u: float, values: Any, gradients: Any, exp_avgs: Any, exp_avg_sqs: Any, max_exp_avg_sqs: Any, step: int,
    learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, decoupled: bool, maximize:
    bool
) -> list[Any]:  # fmt: skip
    # As above, 16 u of the terms' magnitudes: of the update by the quotient's terms, of the moments by theirs.
    count = len(values)
    of_values, of_averages, of_squares, of_largest = [], [], [], []
    for i, value in enumerate(values):
        terms = np.abs(gradients[i]) + (0 if decoupled else weight_decay * np.abs(value))
        average = beta1 * np.abs(exp_avgs[i]) + (1 - beta1) * (terms + np.abs(exp_avgs[i]))
        square = beta2 * exp_avg_sqs[i] + (1 - beta2) * terms**2
        root = y[(3 if max_exp_avg_sqs is not None else 2) * count + i]
        denominator = np.sqrt(root) / math.sqrt(1 - beta2**step) + epsilon
        # Half of the relative error of the square, whose terms may cancel inside the gradient itself.
        relative = np.where(root > 0, square / np.where(root > 0, root, 1), 1)
        of_averages.append(16 * u * average)
        of_squares.append(16 * u * square)
        of_largest.append(16 * u * square)
        update = learning_rate / (1 - beta1**step) * average / denominator
        of_values.append(16 * u * update * (1 + relative) + 2 * u * np.abs(y[i]) + 2 * u * np.abs(value))
    return of_values + of_averages + of_squares + (of_largest if max_exp_avg_sqs is not None else [])


def _direction_terms(value: Array, gradient: Array, weight_decay: float) -> Array:
    """The magnitudes that a rule's gradient is the sum of."""
    return np.abs(gradient) + weight_decay * np.abs(value)


def _relative(terms: Array, result: Array) -> Array:
    """How many times larger the terms of a sum are than the sum, at least once: what they cancel."""
    return np.where(result > 0, np.maximum(terms / np.where(result > 0, result, 1), 1), 1)


def _value_bound(y: Array, value: Array, update: Array, u: float) -> Array:
    return 32 * u * update + 4 * u * (np.abs(y) + np.abs(value))


def _nadam_bound(y: Any, u: float, values: Any, gradients: Any, exp_avgs: Any, exp_avg_sqs: Any, step: int,
    learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, decoupled: bool,
    maximize: bool, mu: float = 0, mu_next: float = 0, mu_product: float = 0
) -> list[Any]:  # fmt: skip
    """NAdam's and, without mu, RAdam's: the sum of both steps' magnitudes over the denominator."""
    of_values, of_averages, of_squares = [], [], []
    for i, value in enumerate(values):
        terms = _direction_terms(value, gradients[i], 0 if decoupled else weight_decay)
        average = beta1 * np.abs(exp_avgs[i]) + (1 - beta1) * (terms + np.abs(exp_avgs[i]))
        square = beta2 * exp_avg_sqs[i] + (1 - beta2) * terms**2
        result = y[2 * len(values) + i]
        of_averages.append(16 * u * average)
        of_squares.append(16 * u * square)
        if mu_product:
            update = learning_rate * (
                (1 - mu) / (1 - mu_product) * terms + mu_next / (1 - mu_product * mu_next) * average
            )
            update = update / (np.sqrt(result / (1 - beta2**step)) + epsilon)
        else:
            size, rectified = reference.radam_size(step, learning_rate, beta1, beta2)
            update = size * average / (np.sqrt(result) + epsilon if rectified else 1)
        of_values.append(_value_bound(y[i], value, update * _relative(square, result), u))
    return of_values + of_averages + of_squares


def _adamax_bound(y: Any, u: float, values: Any, gradients: Any, exp_avgs: Any, exp_infs: Any, step: int,
    learning_rate: float, beta1: float, beta2: float, epsilon: float, weight_decay: float, maximize: bool
) -> list[Any]:  # fmt: skip
    of_values, of_averages, of_largest = [], [], []
    for i, value in enumerate(values):
        terms = _direction_terms(value, gradients[i], weight_decay)
        average = beta1 * np.abs(exp_avgs[i]) + (1 - beta1) * (terms + np.abs(exp_avgs[i]))
        result = y[2 * len(values) + i]
        largest = np.maximum(beta2 * exp_infs[i], terms + epsilon)
        update = learning_rate / (1 - beta1**step) * average / result * _relative(largest, result)
        of_averages.append(16 * u * average)
        of_largest.append(8 * u * largest)
        of_values.append(_value_bound(y[i], value, update, u))
    return of_values + of_averages + of_largest


def _rmsprop_bound(y: Any, u: float, values: Any, gradients: Any, square_avgs: Any, buffers: Any, grad_avgs: Any,
    learning_rate: float, alpha: float, epsilon: float, weight_decay: float, momentum: float, maximize: bool
) -> list[Any]:  # fmt: skip
    of_values, of_squares, of_buffers, of_averages = [], [], [], []
    for i, value in enumerate(values):
        terms = _direction_terms(value, gradients[i], weight_decay)
        square = alpha * square_avgs[i] + (1 - alpha) * terms**2
        of_squares.append(16 * u * square)
        variance = y[len(values) + i]
        if grad_avgs is not None:
            average = alpha * np.abs(grad_avgs[i]) + (1 - alpha) * (terms + np.abs(grad_avgs[i]))
            of_averages.append(16 * u * average)
            variance = variance - y[-len(values) + i] ** 2
            square = square + average**2
        update = terms / (np.sqrt(variance) + epsilon) * _relative(square, variance)
        if buffers is not None:
            update = update + momentum * np.abs(buffers[i])
            of_buffers.append(16 * u * update)
        of_values.append(_value_bound(y[i], value, learning_rate * update, u))
    return of_values + of_squares + of_buffers + of_averages


def _adagrad_bound(y: Any, u: float, values: Any, gradients: Any, sums: Any, step: int, learning_rate: float,
    learning_rate_decay: float, epsilon: float, weight_decay: float, maximize: bool
) -> list[Any]:  # fmt: skip
    of_values, of_sums = [], []
    for i, value in enumerate(values):
        terms = _direction_terms(value, gradients[i], weight_decay)
        result, total = y[len(values) + i], sums[i] + terms**2
        update = learning_rate / (1 + (step - 1) * learning_rate_decay) * terms / (np.sqrt(result) + epsilon)
        of_sums.append(8 * u * total)
        of_values.append(_value_bound(y[i], value, update * _relative(total, result), u))
    return of_values + of_sums


def _adadelta_bound(y: Any, u: float, values: Any, gradients: Any, square_avgs: Any, acc_deltas: Any,
    learning_rate: float, rho: float, epsilon: float, weight_decay: float, maximize: bool
) -> list[Any]:  # fmt: skip
    of_values, of_squares, of_deltas = [], [], []
    for i, value in enumerate(values):
        terms = _direction_terms(value, gradients[i], weight_decay)
        result, square = y[len(values) + i], rho * square_avgs[i] + (1 - rho) * terms**2
        delta = np.sqrt(acc_deltas[i] + epsilon) / np.sqrt(result + epsilon) * terms * _relative(square, result)
        of_squares.append(16 * u * square)
        of_deltas.append(32 * u * (rho * acc_deltas[i] + (1 - rho) * delta**2))
        of_values.append(_value_bound(y[i], value, learning_rate * delta, u))
    return of_values + of_squares + of_deltas


_PARAMETERS = (((),), ((0,),), ((7,),), ((3, 5), (5,)), ((33, 17), (1,), (0, 2), (131,)), ((300, 101), (101,)))
_TIMED_PARAMETERS = (((128, 784), (128,), (10, 128), (10,)), ((1024, 1024),) * 4)


def _parameter_arrays(rng: Any, dtype: Any, shapes: Any, low: float = -2, high: float = 2) -> list[Array]:
    return [draw(rng, dtype, shape, low, high) for shape in shapes]


def sgd(label: str, *settings: Any, buffers: bool) -> Case:
    """f(values, gradients, buffers, learning_rate, momentum, dampening, weight_decay, nesterov, maximize,
    first_step)."""

    def make(rng: Any, dtype: Any, shapes: Any) -> Any:
        arrays = [_parameter_arrays(rng, dtype, shapes) for _ in range(3)]
        return arrays[0], arrays[1], arrays[2] if buffers else None, *settings

    def operations(values: Any, *rest: Any) -> float:
        return (2.0 + 4 * buffers) * sum(x.size for x in values)

    return Case("sgd_step", "optimizer", make, _PARAMETERS, _sgd_bound, label=label, timing=_TIMED_PARAMETERS,
                numpy=reference.sgd_step, operations=operations, writes=(0, 2))  # fmt: skip


def adam(label: str, *settings: Any, amsgrad: bool = False) -> Case:
    """f(values, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, step, learning_rate, beta1, beta2, epsilon,
    weight_decay, decoupled, maximize)."""

    def make(rng: Any, dtype: Any, shapes: Any) -> Any:
        values, gradients, averages = (_parameter_arrays(rng, dtype, shapes) for _ in range(3))
        squares, largest = (_parameter_arrays(rng, dtype, shapes, 0.01, 2) for _ in range(2))
        return values, gradients, averages, squares, largest if amsgrad else None, *settings

    return Case("adam_step", "optimizer", make, _PARAMETERS, _adam_bound, label=label, timing=_TIMED_PARAMETERS,
                numpy=reference.adam_step, operations=lambda values, *rest: 14.0 * sum(x.size for x in values),
                writes=(0, 2, 3, 4))  # fmt: skip


def step_case(kernel: str, label: str, bound: Any, states: tuple[float | None, ...], *settings: Any) -> Case:
    """f(values, gradients, *states, *settings): a state is drawn from [-|low|, |low|] where `low` is negative, from
    [low, 2] where it is not, and is None where it is None."""

    def make(rng: Any, dtype: Any, shapes: Any) -> Any:
        values, gradients = (_parameter_arrays(rng, dtype, shapes) for _ in range(2))
        kept = [
            None if low is None else _parameter_arrays(rng, dtype, shapes, low, -low if low < 0 else 2)
            for low in states
        ]
        return values, gradients, *kept, *settings

    return Case(kernel, "optimizer", make, _PARAMETERS, bound, label=label, timing=_TIMED_PARAMETERS,
                numpy=getattr(reference, kernel), operations=lambda values, *rest: 14.0 * sum(x.size for x in values),
                writes=(0, *range(2, 2 + len(states))))  # fmt: skip


OPTIMIZERS = [
    sgd("sgd", 0.1, 0.0, 0.0, 0.0, False, False, True, buffers=False),
    sgd("sgd, weight decay, maximize", 0.1, 0.0, 0.0, 0.01, False, True, False, buffers=False),
    sgd("sgd, momentum, first step", 0.1, 0.9, 0.5, 0.0, False, False, True, buffers=True),
    sgd("sgd, momentum, dampening", 0.1, 0.9, 0.5, 0.01, False, False, False, buffers=True),
    sgd("sgd, nesterov", 0.1, 0.9, 0.0, 0.01, True, False, False, buffers=True),
    adam("adam, first step", 1, 1e-3, 0.9, 0.999, 1e-8, 0.0, False, False),
    adam("adam, weight decay, maximize", 7, 1e-3, 0.9, 0.999, 1e-8, 0.01, False, True),
    adam("adamw", 3, 1e-3, 0.9, 0.999, 1e-8, 0.01, True, False),
    adam("adam, amsgrad", 5, 1e-2, 0.8, 0.99, 1e-6, 0.0, False, False, amsgrad=True),
    step_case(
        "nadam_step", "nadam", _nadam_bound, (-2, 0.01), 3, 2e-3, 0.9, 0.999, 1e-8, 0.01, False, True, 0.45, 0.46, 0.09
    ),
    step_case(
        "nadam_step",
        "nadam, decoupled",
        _nadam_bound,
        (-2, 0.01),
        1,
        2e-3,
        0.9,
        0.999,
        1e-8,
        0.01,
        True,
        False,
        0.45,
        0.46,
        0.45,
    ),
    step_case("radam_step", "radam, early", _nadam_bound, (-2, 0.01), 2, 1e-3, 0.9, 0.999, 1e-8, 0.01, True, False),
    step_case("radam_step", "radam", _nadam_bound, (-2, 0.01), 12, 1e-3, 0.9, 0.999, 1e-8, 0.01, False, True),
    step_case("adamax_step", "adamax", _adamax_bound, (-2, 0.01), 4, 2e-3, 0.9, 0.999, 1e-8, 0.01, True),
    step_case("rmsprop_step", "rmsprop", _rmsprop_bound, (0.01, None, None), 0.01, 0.99, 1e-8, 0.01, 0.0, True),
    step_case("rmsprop_step", "rmsprop, momentum", _rmsprop_bound, (0.01, -2, None), 0.01, 0.9, 1e-8, 0.0, 0.9, False),
    step_case(
        "rmsprop_step", "rmsprop, centered", _rmsprop_bound, (0.01, None, -0.05), 0.01, 0.9, 1e-8, 0.0, 0.0, False
    ),
    step_case(
        "rmsprop_step",
        "rmsprop, centered, momentum",
        _rmsprop_bound,
        (0.01, -2, -0.05),
        0.01,
        0.9,
        1e-8,
        0.01,
        0.9,
        False,
    ),
    step_case("adagrad_step", "adagrad", _adagrad_bound, (0.01,), 3, 0.01, 0.1, 1e-10, 0.01, True),
    step_case("adadelta_step", "adadelta", _adadelta_bound, (0.01, 0.01), 1.0, 0.9, 1e-6, 0.01, True),
]
