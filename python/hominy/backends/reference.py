"""The reference backend: NumPy, the specification that every other backend is tested against.

Functions take and return arrays and know no gradients; arguments were validated by `hominy.ops`. Formulas stand as in
the literature, in the form that keeps its accuracy in the tails. NumPy's warnings are silenced: an IEEE infinity or NaN
is the result.

Precision. What is one NumPy ufunc (`exp`, `add`, `sqrt`, ...) has that ufunc's accuracy. Everything composed
(activations and their gradients, sums, softmax, losses) is computed in float64 and rounded once, so that a float32
result is within 0.51 ulp of the formula's exact value; a float64 result carries the rounding of its few operations.
Products are `numpy.matmul`; optimizer steps compute in the parameters' dtype, as PyTorch does.

Layout. Results keep the stride order of their input ('K'); `out`, where taken, may be an input itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from .reference_conv import conv, conv_algorithm, conv_input_gradient, conv_weight_gradient  # noqa: F401
from .reference_layers import *  # noqa: F403
from .reference_pool import *  # noqa: F403
from .reference_recurrent import (  # noqa: F401
    recurrent,
    recurrent_backward,
    recurrent_prepare,
    recurrent_step,
)

Array = np.ndarray
Scalar = bool | int | float
Function = TypeVar("Function", bound=Callable[..., object])


def _ieee(function: Function) -> Function:
    """Silences NumPy's floating-point warnings inside `function`."""
    return np.errstate(all="ignore")(function)


def _store(result: Array, dtype: np.dtype, out: Array | None) -> Array:
    """`result` in `dtype`, in `out` if there is one; an array even where NumPy's arithmetic made a scalar."""
    if out is None:
        return np.asarray(result, dtype=dtype)
    np.copyto(out, result, casting="same_kind")
    return out


def _in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Computes `function` in float64 and rounds once, to the first array's dtype; adds a last argument `out`."""
    arity = function.__code__.co_argcount

    @functools.wraps(function)
    def rounded(*arguments: Any, out: Array | None = None) -> Array:
        if len(arguments) > arity:
            out = arguments[arity]
        wide = [a.astype(np.float64, copy=False) if isinstance(a, Array) else a for a in arguments[:arity]]
        return _store(function(*wide), arguments[0].dtype, out)

    return _ieee(rounded)


# --- elementwise: one argument ----------------------------------------------------------------------------------------


def _unary(ufunc: np.ufunc) -> Callable[..., Array]:
    def apply(x: Array, out: Array | None = None) -> Array:
        return np.asarray(ufunc(x, out=out))

    return _ieee(apply)


negative = _unary(np.negative)
absolute = _unary(np.absolute)
sign = _unary(np.sign)
square = _unary(np.square)
sqrt = _unary(np.sqrt)
reciprocal = _unary(np.reciprocal)
exp = _unary(np.exp)
exp2 = _unary(np.exp2)
expm1 = _unary(np.expm1)
log = _unary(np.log)
log2 = _unary(np.log2)
log10 = _unary(np.log10)
log1p = _unary(np.log1p)
sin = _unary(np.sin)
cos = _unary(np.cos)
tan = _unary(np.tan)
tanh = _unary(np.tanh)
isnan = _unary(np.isnan)
isinf = _unary(np.isinf)
isfinite = _unary(np.isfinite)
logical_not = _unary(np.logical_not)


def _rounding(ufunc: np.ufunc) -> Callable[..., Array]:
    """Integers are whole already, and stay integers (some versions of NumPy make them float64)."""

    def apply(x: Array, out: Array | None = None) -> Array:
        return np.asarray(ufunc(x, out=out)) if x.dtype.kind == "f" else copy(x, out)

    return _ieee(apply)


floor = _rounding(np.floor)
ceil = _rounding(np.ceil)
trunc = _rounding(np.trunc)
round = _rounding(np.rint)  # half to even

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _normal_distribution(x: Array) -> Array:
    """The standard normal's distribution function; erfc rather than 1 + erf, which cancels in the left tail."""
    return np.asarray(_erfc(x * -math.sqrt(0.5)), dtype=np.float64) / 2


def _normal_density(x: Array) -> Array:
    return np.exp(x * x / -2) / math.sqrt(2 * math.pi)


def _logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, and without cancellation on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@_in_float64
def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


@_in_float64
def sigmoid(x: Array) -> Array:
    return _logistic(x)


@_in_float64
def erf(x: Array) -> Array:
    return np.asarray(_erf(x), dtype=np.float64)


@_ieee
def relu(x: Array, out: Array | None = None) -> Array:
    return np.asarray(np.maximum(x, 0, out=out))


@_in_float64
def leaky_relu(x: Array, slope: float) -> Array:
    return np.where(x > 0, x, slope * x)


@_in_float64
def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(x))


@_in_float64
def silu(x: Array) -> Array:
    return x * _logistic(x)


@_in_float64
def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


@_in_float64
def gelu(x: Array) -> Array:
    return x * _normal_distribution(x)


def _gelu_tanh_argument(x: Array) -> Array:
    """u where gelu_tanh(x) = x/2 (1 + tanh u) = x sigmoid(2 u): the second form keeps the left tail."""
    return math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))


@_in_float64
def gelu_tanh(x: Array) -> Array:
    return x * _logistic(2 * _gelu_tanh_argument(x))


@_in_float64
def softplus(x: Array, beta: float, threshold: float) -> Array:
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


@_ieee
def clamp(x: Array, low: Scalar | None, high: Scalar | None, out: Array | None = None) -> Array:
    """To [low, high], `high` where low > high; None or an infinity is no bound, for integers too."""
    y = x
    if low is not None and low != -math.inf:
        y = np.maximum(y, low)
    if high is not None and high != math.inf:
        y = np.minimum(y, high)
    return copy(np.asarray(y, dtype=x.dtype), out)


def copy(x: Array, out: Array | None = None) -> Array:
    if out is None:
        return x.copy(order="K")
    np.copyto(out, x, casting="same_kind")
    return out


# --- elementwise: two arguments ---------------------------------------------------------------------------------------


def _operands(a: Array | Scalar, b: Array | Scalar) -> tuple[Array, Array]:
    """A Python scalar takes the array's dtype."""
    if not isinstance(a, Array):
        a = np.asarray(a, dtype=b.dtype)  # type: ignore[union-attr]
    elif not isinstance(b, Array):
        b = np.asarray(b, dtype=a.dtype)
    return a, b  # type: ignore[return-value]


def _binary(ufunc: np.ufunc) -> Callable[..., Array]:
    def apply(a: Array | Scalar, b: Array | Scalar, out: Array | None = None) -> Array:
        return np.asarray(ufunc(*_operands(a, b), out=out))

    return _ieee(apply)


add = _binary(np.add)
subtract = _binary(np.subtract)
multiply = _binary(np.multiply)
divide = _binary(np.true_divide)
floor_divide = _binary(np.floor_divide)
remainder = _binary(np.remainder)
power = _binary(np.power)
arctan2 = _binary(np.arctan2)
maximum = _binary(np.maximum)
minimum = _binary(np.minimum)
logical_and = _binary(np.logical_and)
logical_or = _binary(np.logical_or)
logical_xor = _binary(np.logical_xor)
bitwise_and = _binary(np.bitwise_and)
bitwise_or = _binary(np.bitwise_or)
bitwise_xor = _binary(np.bitwise_xor)

# --- backward: g is the gradient of the output, y the output, x the input ---------------------------------------------


@_in_float64
def binary_cross_entropy(x: Array, y: Array) -> Array:
    """NaN where x is no probability."""
    return (y - 1) * np.maximum(np.log1p(-x), -100) - y * np.maximum(np.log(x), -100)


@_in_float64
def binary_cross_entropy_backward(x: Array, y: Array) -> Array:
    """The slope in x; the denominator is PyTorch's."""
    return (x - y) / np.maximum(x * (1 - x), 1e-12)


@_in_float64
def absolute_backward(g: Array, x: Array) -> Array:
    return g * np.sign(x)


@_in_float64
def tanh_backward(g: Array, y: Array) -> Array:
    return g * ((1 - y) * (1 + y))


@_in_float64
def sigmoid_backward(g: Array, y: Array) -> Array:
    return g * y * (1 - y)


@_in_float64
def relu_backward(g: Array, y: Array) -> Array:
    return np.where(y > 0, g, 0)


@_in_float64
def leaky_relu_backward(g: Array, x: Array, slope: float) -> Array:
    return np.where(x > 0, g, slope * g)


@_in_float64
def elu_backward(g: Array, x: Array, alpha: float) -> Array:
    return np.where(x > 0, g, g * (alpha * np.exp(x)))


@_in_float64
def silu_backward(g: Array, x: Array) -> Array:
    return g * (_logistic(x) * (1 + x * _logistic(-x)))


@_in_float64
def gelu_backward(g: Array, x: Array) -> Array:
    return g * (_normal_distribution(x) + x * _normal_density(x))


@_in_float64
def gelu_tanh_backward(g: Array, x: Array) -> Array:
    u = 2 * _gelu_tanh_argument(x)
    # Beyond 40 the sigmoid's slope is 0 and u's may overflow: their product is 0, not NaN.
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * np.minimum(np.abs(x), 40) ** 2)
    return g * (_logistic(u) + x * (slope * _logistic(u) * _logistic(-u)))


@_in_float64
def softplus_backward(g: Array, x: Array, beta: float, threshold: float) -> Array:
    return np.where(beta * x > threshold, g, g * _logistic(beta * x))


@_ieee
def clamp_backward(g: Array, x: Array, low: Scalar | None, high: Scalar | None, out: Array | None = None) -> Array:
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    return _store(np.where((x >= low) & (x <= high), g, 0), g.dtype, out)


# --- compare, where ---------------------------------------------------------------------------------------------------

equal = _binary(np.equal)
not_equal = _binary(np.not_equal)
less = _binary(np.less)
less_equal = _binary(np.less_equal)
greater = _binary(np.greater)
greater_equal = _binary(np.greater_equal)


def broadcast_to(x: Array, shape: tuple[int, ...]) -> Array:
    """A read-only view."""
    return np.broadcast_to(x, shape)


def where(condition: Array, a: Array | Scalar, b: Array | Scalar) -> Array:
    return np.where(condition, *_operands(a, b))


# --- reductions: over `axes`, distinct and not negative, at least one of them unless x is 0-d -------------------------

Axes = tuple[int, ...]


def _accumulator(x: Array) -> np.dtype:
    return np.dtype(np.float64 if x.dtype.kind == "f" else np.int64)


def _result(x: Array) -> np.dtype:
    return x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)


@_ieee
def sum(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.sum(x, axis=axes, dtype=_accumulator(x), keepdims=keepdim), dtype=_result(x))


@_ieee
def mean(x: Array, axes: Axes, keepdim: bool) -> Array:
    count = math.prod(x.shape[axis] for axis in axes)
    return np.asarray(np.sum(x, axis=axes, dtype=np.float64, keepdims=keepdim) / np.float64(count), dtype=x.dtype)


@_ieee
def prod(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.prod(x, axis=axes, dtype=_accumulator(x), keepdims=keepdim), dtype=_result(x))


@_ieee
def amax(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=keepdim))


@_ieee
def amin(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=keepdim))


def any(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.any(x, axis=axes, keepdims=keepdim))


def all(x: Array, axes: Axes, keepdim: bool) -> Array:
    return np.asarray(np.all(x, axis=axes, keepdims=keepdim))


def argmax(x: Array, axis: int, keepdim: bool) -> Array:
    """The first of the largest; NaN counts as larger than any number."""
    return np.asarray(np.argmax(x, axis=axis, keepdims=keepdim), dtype=np.int64)


def argmin(x: Array, axis: int, keepdim: bool) -> Array:
    return np.asarray(np.argmin(x, axis=axis, keepdims=keepdim), dtype=np.int64)


# --- softmax ----------------------------------------------------------------------------------------------------------


def _shifted(x: Array, axis: int) -> Array:
    """x less its largest, which exp then cannot overflow; of nothing, nothing."""
    return x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)


@_in_float64
def softmax(x: Array, axis: int) -> Array:
    e = np.exp(_shifted(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


@_in_float64
def log_softmax(x: Array, axis: int) -> Array:
    shifted = _shifted(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


@_in_float64
def softmax_backward(g: Array, y: Array, axis: int) -> Array:
    return y * (g - np.sum(g * y, axis=axis, keepdims=True))


@_in_float64
def log_softmax_backward(g: Array, y: Array, axis: int) -> Array:
    return g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)


# --- loss -------------------------------------------------------------------------------------------------------------
# Of one row x (C,) with target t, class weights w (C,), label smoothing s and L = logsumexp(x), as PyTorch's
# cross_entropy with reduction "none":
#     loss = (1 - s) w[t] (L - x[t]) + s/C sum_c w[c] (L - x[c])
# and 0 where t is ignore_index. By x[c] that is
#     softmax(x)[c] ((1 - s) w[t] + s/C sum w) - (1 - s) w[t] [c = t] - s/C w[c].


def wrong_target(value: int, classes: int, ignore_index: int) -> IndexError:
    expected = f"a class in [0, {classes}) or ignore_index={ignore_index}"
    return IndexError(f"[cross_entropy] target: expected {expected}, got {value}")


def _check_target(target: Array, classes: int, ignore_index: int) -> None:
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if wrong.any():
        raise wrong_target(target[wrong][0], classes, ignore_index)


@_ieee
def cross_entropy(
    logits: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array]:
    """Losses (N,) and logsumexp (N,) of logits (N,C) and target (N,)."""
    rows, classes = logits.shape
    _check_target(target, classes, ignore_index)
    x = logits.astype(np.float64)
    w = np.ones(classes) if weight is None else weight.astype(np.float64)
    largest = np.max(x, axis=1, initial=-np.inf)
    logsumexp = largest + np.log(np.sum(np.exp(x - largest[:, None]), axis=1))
    kept = target != ignore_index
    t = target[kept]
    losses = np.zeros(rows)
    losses[kept] = (1 - label_smoothing) * w[t] * (logsumexp[kept] - x[kept, t])
    if label_smoothing != 0:
        distance = logsumexp[kept, None] - x[kept]
        losses[kept] += label_smoothing / max(classes, 1) * np.sum(w * distance, axis=1)
    return losses.astype(logits.dtype), logsumexp.astype(logits.dtype)


@_ieee
def cross_entropy_backward(
    gradient: Array,
    logits: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    logsumexp: Array,
) -> Array:
    """The gradient (N,C) by logits, from that by the losses (N,)."""
    classes = logits.shape[1]
    _check_target(target, classes, ignore_index)
    w = np.ones(classes) if weight is None else weight.astype(np.float64)
    kept = np.flatnonzero(target != ignore_index)
    t = target[kept]
    smoothing = label_smoothing / max(classes, 1) * w  # (C,)
    at_target = (1 - label_smoothing) * w[t]  # (kept,)
    x = logits[kept].astype(np.float64)
    d = np.exp(x - logsumexp[kept, None]) * (at_target + np.sum(smoothing))[:, None] - smoothing
    d[np.arange(kept.size), t] -= at_target
    result = np.zeros_like(logits)
    result[kept] = gradient[kept, None] * d
    return result


# --- products ---------------------------------------------------------------------------------------------------------


@_ieee
def matmul(a: Array, b: Array) -> Array:
    return np.asarray(np.matmul(a, b))


_ACTIVATIONS = {"none": copy, "relu": relu, "sigmoid": sigmoid, "tanh": tanh, "gelu": gelu, "silu": silu}


@_ieee
def linear(x: Array, weight: Array, bias: Array | None, activation: str) -> Array:
    """x (..., in), weight (out, in), bias (out,)."""
    y = np.matmul(x, weight.T)
    if bias is not None:
        y += bias
    return y if activation == "none" else _ACTIVATIONS[activation](y, out=y)


@_ieee
def linear_backward(grad: Array, x: Array | None, weight: Array | None, needs: int) -> tuple[Array | None, ...]:
    """(gradient of x, of weight, of bias) of linear, where bits 0, 1 and 2 of `needs` ask for them, else None."""
    rows = grad.reshape(math.prod(grad.shape[:-1]), grad.shape[-1])
    return (
        np.asarray(np.matmul(grad, weight)) if needs & 1 and weight is not None else None,
        np.matmul(rows.T, x.reshape(len(rows), x.shape[-1])) if needs & 2 and x is not None else None,
        rows.sum(axis=0) if needs & 4 else None,
    )


# --- optimizers: one step of every parameter, in place ----------------------------------------------------------------


@_ieee
def sgd_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    buffers: Sequence[Array] | None,
    learning_rate: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    first_step: bool,
) -> None:
    """As torch.optim.SGD; at the first step the momentum buffers, which hold nothing yet, become the gradient."""
    for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
        step = -gradient if maximize else gradient
        if weight_decay != 0:
            step = step + weight_decay * value
        if buffers is not None:
            buffer = buffers[i]
            buffer[...] = step if first_step else momentum * buffer + (1 - dampening) * step
            step = step + momentum * buffer if nesterov else buffer
        value -= learning_rate * step


def _moments(
    value: Array,
    gradient: Array,
    m: Array,
    v: Array,
    learning_rate: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Array:
    """The gradient with its decay; the value is shrunk by a decoupled one, the running means of g and g^2 move on."""
    g = -gradient if maximize else gradient
    if weight_decay != 0 and decoupled:
        value *= 1 - learning_rate * weight_decay
    elif weight_decay != 0:
        g = g + weight_decay * value
    m += (1 - beta1) * (g - m)
    v[...] = beta2 * v + (1 - beta2) * g * g
    return g


@_ieee
def adam_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """As torch.optim.Adam, or AdamW where `decoupled`; with `max_exp_avg_sqs`, AMSGrad. `step` is 1 for the first."""
    correction1 = 1 - beta1**step
    correction2 = math.sqrt(1 - beta2**step)
    for i, (value, gradient, m, v) in enumerate(zip(values, gradients, exp_avgs, exp_avg_sqs, strict=True)):
        _moments(value, gradient, m, v, learning_rate, beta1, beta2, weight_decay, decoupled, maximize)
        if max_exp_avg_sqs is not None:
            v = np.maximum(max_exp_avg_sqs[i], v, out=max_exp_avg_sqs[i])
        value -= learning_rate / correction1 * (m / (np.sqrt(v) / correction2 + epsilon))


@_ieee
def nadam_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
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
    """As torch.optim.NAdam; mu, mu_next: this step's momentum and the next one's; mu_product: that of all so far."""
    gradient_step = learning_rate * (1 - mu) / (1 - mu_product)
    average_step = learning_rate * mu_next / (1 - mu_product * mu_next)
    for value, gradient, m, v in zip(values, gradients, exp_avgs, exp_avg_sqs, strict=True):
        g = _moments(value, gradient, m, v, learning_rate, beta1, beta2, weight_decay, decoupled, maximize)
        denominator = np.sqrt(v / (1 - beta2**step)) + epsilon
        value -= (gradient_step * g + average_step * m) / denominator


@_ieee
def radam_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> None:
    """As torch.optim.RAdam; `step` is 1 for the first."""
    size, rectified = radam_size(step, learning_rate, beta1, beta2)
    for value, gradient, m, v in zip(values, gradients, exp_avgs, exp_avg_sqs, strict=True):
        _moments(value, gradient, m, v, learning_rate, beta1, beta2, weight_decay, decoupled, maximize)
        value -= size * m / (np.sqrt(v) + epsilon) if rectified else size * m


def radam_size(step: int, learning_rate: float, beta1: float, beta2: float) -> tuple[float, bool]:
    """RAdam's step size, and whether the number of squares averaged is enough to divide by their root."""
    limit, correction = 2 / (1 - beta2) - 1, 1 - beta2**step
    n = limit - 2 * step * beta2**step / correction
    size = learning_rate / (1 - beta1**step)
    if n <= 5:
        return size, False
    return size * math.sqrt((n - 4) * (n - 2) * limit / ((limit - 4) * (limit - 2) * n) * correction), True


@_ieee
def adamax_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    exp_avgs: Sequence[Array],
    exp_infs: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """As torch.optim.Adamax; `step` is 1 for the first."""
    for value, gradient, m, largest in zip(values, gradients, exp_avgs, exp_infs, strict=True):
        g = -gradient if maximize else gradient
        g = g + weight_decay * value if weight_decay != 0 else g
        m += (1 - beta1) * (g - m)
        np.maximum(beta2 * largest, np.abs(g) + epsilon, out=largest)
        value -= learning_rate / (1 - beta1**step) * m / largest


@_ieee
def rmsprop_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    square_avgs: Sequence[Array],
    buffers: Sequence[Array] | None,
    grad_avgs: Sequence[Array] | None,
    learning_rate: float,
    alpha: float,
    epsilon: float,
    weight_decay: float,
    momentum: float,
    maximize: bool,
) -> None:
    """As torch.optim.RMSprop, with `buffers` where there is momentum and `grad_avgs` where it is centered; a variance
    that rounding made negative is 0."""
    for i, (value, gradient, square) in enumerate(zip(values, gradients, square_avgs, strict=True)):
        g = -gradient if maximize else gradient
        g = g + weight_decay * value if weight_decay != 0 else g
        square[...] = alpha * square + (1 - alpha) * g * g
        variance = square
        if grad_avgs is not None:
            mean = grad_avgs[i]
            mean += (1 - alpha) * (g - mean)
            variance = np.maximum(square - mean * mean, 0)
        step = g / (np.sqrt(variance) + epsilon)
        if buffers is not None:
            step = buffers[i]
            step[...] = momentum * step + g / (np.sqrt(variance) + epsilon)
        value -= learning_rate * step


@_ieee
def adagrad_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    sums: Sequence[Array],
    step: int,
    learning_rate: float,
    learning_rate_decay: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """As torch.optim.Adagrad; `step` is 1 for the first."""
    for value, gradient, squares in zip(values, gradients, sums, strict=True):
        g = -gradient if maximize else gradient
        g = g + weight_decay * value if weight_decay != 0 else g
        squares += g * g
        value -= learning_rate / (1 + (step - 1) * learning_rate_decay) * g / (np.sqrt(squares) + epsilon)


@_ieee
def adadelta_step(
    values: Sequence[Array],
    gradients: Sequence[Array],
    square_avgs: Sequence[Array],
    acc_deltas: Sequence[Array],
    learning_rate: float,
    rho: float,
    epsilon: float,
    weight_decay: float,
    maximize: bool,
) -> None:
    """As torch.optim.Adadelta."""
    for value, gradient, square, moved in zip(values, gradients, square_avgs, acc_deltas, strict=True):
        g = -gradient if maximize else gradient
        g = g + weight_decay * value if weight_decay != 0 else g
        square[...] = rho * square + (1 - rho) * g * g
        delta = np.sqrt(moved + epsilon) / np.sqrt(square + epsilon) * g
        moved[...] = rho * moved + (1 - rho) * delta * delta
        value -= learning_rate * delta
