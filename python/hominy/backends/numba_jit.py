"""The fallback backend where no compiler was there at installation: kernels that Numba compiles at their first use.

For float32 and float64; serial, and without the interpreter lock. A kernel costs 0.1 to 0.3 s of compiling for each
dtype, once in a process (numba_math.py says why the result is not kept on disk). What NumPy's own loops do as fast is
declined: arithmetic, comparisons, products.

Precision. All arithmetic inside a kernel is float64, and is rounded once on the way out: a float32 result is within
0.51 ulp of the exact value, a float64 result within 4 ulp (of the largest term where terms cancel; in gelu_tanh's left
tail the rounding of the exponential's argument u adds |u| eps). Sums are compensated: their error, at worst 256 eps of
the sum of magnitudes and some 10 in practice, does not grow with the number of terms; products multiply
float64 in any order; softmax along an axis that is not the innermost adds `size` eps. Optimizer steps, convolutions and
recurrent layers compute in the arrays' dtype.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import numba_math as math64
from . import reference
from .declined import Declined
from .numba_conv import conv, conv_input_gradient, conv_weight_gradient  # noqa: F401
from .numba_math import inlined, jit
from .numba_optimizer import (  # noqa: F401
    adadelta_step,
    adagrad_step,
    adam_step,
    adamax_step,
    nadam_step,
    radam_step,
    rmsprop_step,
    sgd_step,
)
from .numba_pool import (  # noqa: F401
    gather_planes,
    max_pool,
    max_pool_backward,
    resample,
    scatter_planes,
)
from .numba_recurrent import (  # noqa: F401
    recurrent,
    recurrent_backward,
    recurrent_prepare,
    recurrent_step,
)
from .numba_reduce import (  # noqa: F401
    _flat,
    _memory_order,
    _sum_row,
    amax,
    amin,
    argmax,
    argmin,
    mean,
    prod,
    sum,
)

Array = np.ndarray


def _refusal(*arrays: Array) -> Declined | None:
    dtype = arrays[0].dtype
    if dtype != np.float32 and dtype != np.float64:
        return Declined(f"dtype {dtype} is neither float32 nor float64")
    for array in arrays:
        if array.dtype != dtype:
            return Declined(f"dtypes differ: {dtype} and {array.dtype}")
    return None


def _numpy_is_as_fast(*arguments: Any, **keywords: Any) -> Declined:
    return Declined("NumPy's own loop is as fast")


negative = absolute = sign = square = sqrt = reciprocal = exp = exp2 = expm1 = log = log2 = log10 = log1p = (
    _numpy_is_as_fast
)
sin = cos = tan = floor = ceil = round = trunc = relu = clamp = copy = _numpy_is_as_fast
isnan = isinf = isfinite = logical_not = broadcast_to = _numpy_is_as_fast
add = subtract = multiply = divide = floor_divide = remainder = power = arctan2 = maximum = minimum = _numpy_is_as_fast
logical_and = logical_or = logical_xor = bitwise_and = bitwise_or = bitwise_xor = _numpy_is_as_fast
equal = not_equal = less = less_equal = greater = greater_equal = where = _numpy_is_as_fast
layer_norm = layer_norm_backward = channel_norm = channel_norm_backward = _numpy_is_as_fast
embedding = embedding_backward = dropout = _numpy_is_as_fast
any = all = matmul = linear_backward = _numpy_is_as_fast

# --- elementwise ------------------------------------------------------------------------------------------------------


def _like(x: Array, model: Array) -> Array:
    """x, broadcast, with the shape and strides of `model`, so that both lie in the same order in memory."""
    if x.shape == model.shape and x.strides == model.strides and x.flags.behaved:
        return x
    y = np.empty_like(model)
    np.copyto(y, x)
    return y


def _may_write(out: Array, inputs: Sequence[Array]) -> bool:
    """Whether a kernel may write `out` while it reads `inputs`: all lie alike, and `out` is each of them or apart."""
    model = inputs[0]
    return (
        (out.shape, out.strides, out.dtype) == (model.shape, model.strides, model.dtype)
        and out.flags.behaved
        and builtins.all(out.ctypes.data == x.ctypes.data or not np.may_share_memory(out, x) for x in inputs)
    )


def _elementwise(arrays: int) -> Callable[[Callable[..., Any]], Callable[..., Array | Declined]]:
    """Makes a backend function of `arrays` arrays, then scalars, then `out`, from a scalar function."""

    def make(scalar_function: Callable[..., Any]) -> Callable[..., Array | Declined]:
        arity = scalar_function.__code__.co_argcount
        scalar = inlined(scalar_function)

        @jit
        def loop_of_one(x, parameters, out):
            for i in range(out.size):
                out[i] = scalar(np.float64(x[i]), *parameters)

        @jit
        def loop_of_two(g, x, parameters, out):
            for i in range(out.size):
                out[i] = scalar(np.float64(g[i]), np.float64(x[i]), *parameters)

        loop = loop_of_one if arrays == 1 else loop_of_two

        @functools.wraps(scalar_function)
        def apply(*arguments: Any, out: Array | None = None) -> Array | Declined:
            if len(arguments) > arity:
                out = arguments[arity]
            inputs, parameters = arguments[:arrays], tuple(map(float, arguments[arrays:arity]))
            refusal = _refusal(*inputs)
            if refusal is not None:
                return refusal
            model = inputs[-1]  # of the layout that all take
            if inputs[0].shape != model.shape:
                model = np.broadcast_to(model, np.broadcast_shapes(inputs[0].shape, model.shape))
            if _flat(model) is None:
                model = model.copy(order="K")
            alike = [_like(x, model) for x in inputs]
            result = out if out is not None and _may_write(out, alike) else np.empty_like(model)
            loop(*map(_flat, alike), parameters, _flat(result))
            return result if out is None or out is result else reference.copy(result, out)

        return apply

    return make


_unary = _elementwise(1)
_backward = _elementwise(2)


@_unary
def rsqrt(x):
    return 1.0 / math.sqrt(x)


@_unary
def _tanh(x):
    t = math64.expm1_of_negative(-2.0 * abs(x))
    return math.copysign(t / (t + 2.0), x)


def tanh(x: Array, out: Array | None = None) -> Array | Declined:
    return _tanh(x, out) if x.dtype != np.float32 else Declined("NumPy's own loop is faster in float32")


@_unary
def sigmoid(x):
    return math64.logistic(x)


@_unary
def erf(x):
    a = abs(x)
    _, tail = math64.normal_tail(a * math.sqrt(2.0))
    z = 0.6 if a > 0.6 else a
    near = x * math64.polynomial(z * z, math64.ERF_SERIES)
    far = math.copysign(1.0 - 2.0 * tail, x)
    return far if a > 0.6 else near


@_unary
def leaky_relu(x, slope):
    return x if x > 0.0 else slope * x


@_unary
def elu(x, alpha):
    return x if x > 0.0 else alpha * math64.expm1_of_negative(0.0 if x > 0.0 else x)


@_unary
def softsign(x):
    return x / (1.0 + abs(x))


@_unary
def silu(x):
    return x * math64.logistic(x)


@_unary
def gelu(x):
    _, tail = math64.normal_tail(abs(x))
    return x * (tail if x < 0.0 else 1.0 - tail)


@_unary
def gelu_tanh(x):
    return x * math64.logistic(2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x)))


@_unary
def softplus(x, beta, threshold):
    z = beta * x
    return x if z > threshold else ((z if z > 0.0 else 0.0) + math64.log1p_of_fraction(math64.exp(-abs(z)))) / beta


@_backward
def binary_cross_entropy(x, y):
    # The logarithms of Numba are libm's, and NaN compares false: it stays.
    log_x, log_rest = math.log(x), math.log1p(-x)
    log_x, log_rest = (-100.0 if log_x < -100.0 else log_x), (-100.0 if log_rest < -100.0 else log_rest)
    return (y - 1.0) * log_rest - y * log_x


@_backward
def binary_cross_entropy_backward(x, y):
    spread = x * (1.0 - x)
    return (x - y) / (1e-12 if spread < 1e-12 else spread)


@_backward
def absolute_backward(g, x):
    return g if x > 0.0 else -g if x < 0.0 else g * x


@_backward
def tanh_backward(g, y):
    return g * ((1.0 - y) * (1.0 + y))


@_backward
def sigmoid_backward(g, y):
    return g * y * (1.0 - y)


@_backward
def relu_backward(g, y):
    return g if y > 0.0 else 0.0


@_backward
def leaky_relu_backward(g, x, slope):
    return g if x > 0.0 else slope * g


@_backward
def elu_backward(g, x, alpha):
    return g if x > 0.0 else g * (alpha * math64.exp(x))


@_backward
def silu_backward(g, x):
    return g * (math64.logistic(x) * (1.0 + x * math64.logistic(-x)))


@_backward
def gelu_backward(g, x):
    e, tail = math64.normal_tail(abs(x))
    return g * ((tail if x < 0.0 else 1.0 - tail) + x * (e * (1.0 / math.sqrt(2.0 * math.pi))))


@_backward
def gelu_tanh_backward(g, x):
    u = 2.0 * math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x))
    a = 40.0 if abs(x) > 40.0 else abs(x)  # beyond, the sigmoid's slope is 0 and u's may overflow
    slope = 2.0 * math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * (a * a))
    s = math64.logistic(u)
    return g * (s + x * (slope * s * math64.logistic(-u)))


@_backward
def softplus_backward(g, x, beta, threshold):
    z = beta * x
    return g if z > threshold else g * math64.logistic(z)


@_backward
def _clamp_backward(g, x, low, high):
    return g if low <= x and x <= high else 0.0


def clamp_backward(g: Array, x: Array, low: float | None, high: float | None, out: Array | None = None) -> Any:
    """The bounds are rounded to x's dtype before they are compared with it, as they were in `clamp`."""
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    refusal = _refusal(g, x)
    return refusal if refusal is not None else _clamp_backward(g, x, x.dtype.type(low), x.dtype.type(high), out)


# --- softmax ----------------------------------------------------------------------------------------------------------
# Along the innermost axis in memory: kernels of rows, (outer, size). Along another: of columns, (outer, size, inner).


@jit
def _shift(x):
    """A largest of the row, in four strands; past a NaN, which shows in the row's sum, any number will do."""
    a = b = c = d = -np.inf
    whole = x.size - x.size % 4
    for i in range(0, whole, 4):
        a = x[i] if x[i] > a else a
        b = x[i + 1] if x[i + 1] > b else b
        c = x[i + 2] if x[i + 2] > c else c
        d = x[i + 3] if x[i + 3] > d else d
    for i in range(whole, x.size):
        a = x[i] if x[i] > a else a
    return np.float64(max(max(a, b), max(c, d)))


@jit
def _scratch(x):
    """For `_exponentials`: e, largest and total of as many rows as make its loop worth vector code."""
    count = max(1, 1024 // max(1, x.shape[1]))
    return np.empty((count, x.shape[1])), np.empty(count), np.empty(count)


@jit
def _exponentials(x, e, largest, total):
    """Of some rows x (count, size): e = exp(x - largest), with a largest and the total of e for each row."""
    count, size = x.shape
    for r in range(count):
        largest[r] = _shift(x[r])
        for c in range(size):
            e[r, c] = x[r, c] - largest[r]
    flat = e.reshape(-1)
    for i in range(count * size):
        flat[i] = math64.exp(flat[i])
    for r in range(count):
        total[r] = _sum_row(e[r])


@jit
def _softmax_rows(x, logarithm, out):
    e, largest, total = _scratch(x)
    for r in range(x.shape[0]):
        i = r % total.size
        if i == 0:
            _exponentials(x[r : r + total.size], e, largest, total)
        if logarithm:
            log_total = math.log(total[i])
            for c in range(x.shape[1]):
                out[r, c] = (x[r, c] - largest[i]) - log_total
        else:
            for c in range(x.shape[1]):
                out[r, c] = e[i, c] / total[i]


@jit
def _softmax_columns(x, logarithm, out):
    outer, size, inner = x.shape
    largest, total, e = np.empty(inner), np.empty(inner), np.empty((size, inner))
    for o in range(outer):
        for c in range(inner):
            largest[c], total[c] = -np.inf, 0.0
        for r in range(size):
            for c in range(inner):
                largest[c] = x[o, r, c] if x[o, r, c] > largest[c] else largest[c]
        for r in range(size):
            for c in range(inner):
                e[r, c] = math64.exp(x[o, r, c] - largest[c])
                total[c] += e[r, c]
        if logarithm:
            for c in range(inner):
                total[c] = math.log(total[c])
        for r in range(size):
            for c in range(inner):
                out[o, r, c] = (x[o, r, c] - largest[c]) - total[c] if logarithm else e[r, c] / total[c]


@jit
def _softmax_backward_rows(g, y, logarithm, out):
    terms = np.empty(g.shape[1])
    for r in range(g.shape[0]):
        for c in range(terms.size):
            terms[c] = g[r, c] if logarithm else np.float64(g[r, c]) * y[r, c]
        dot = _sum_row(terms)
        if logarithm:
            for c in range(terms.size):
                out[r, c] = g[r, c] - math64.exp(np.float64(y[r, c])) * dot
        else:
            for c in range(terms.size):
                out[r, c] = y[r, c] * (g[r, c] - dot)


@jit
def _softmax_backward_columns(g, y, logarithm, out):
    outer, size, inner = g.shape
    dot = np.empty(inner)
    for o in range(outer):
        for c in range(inner):
            dot[c] = 0.0
        for r in range(size):
            for c in range(inner):
                dot[c] += g[o, r, c] if logarithm else np.float64(g[o, r, c]) * y[o, r, c]
        for r in range(size):
            if logarithm:
                for c in range(inner):
                    out[o, r, c] = g[o, r, c] - math64.exp(np.float64(y[o, r, c])) * dot[c]
            else:
                for c in range(inner):
                    out[o, r, c] = y[o, r, c] * (g[o, r, c] - dot[c])


def _along(axis: int, of_rows: Any, of_columns: Any, logarithm: bool, *arrays: Array) -> Array | Declined:
    refusal = _refusal(*arrays)
    if refusal is not None:
        return refusal
    model = arrays[-1] if _flat(arrays[-1]) is not None else arrays[-1].copy(order="K")
    result = np.empty_like(model)
    if model.size == 0:
        return result
    order = _memory_order(model)
    place = order.index(axis)
    outer = math.prod(model.shape[a] for a in order[:place])
    inner = math.prod(model.shape[a] for a in order[place + 1 :])
    shape = (outer, -1) if inner == 1 else (outer, model.shape[axis], inner)
    inputs = [_flat(_like(x, model)) for x in arrays]
    *shaped, out = (np.reshape(flat, shape) for flat in (*inputs, _flat(result)))
    (of_rows if inner == 1 else of_columns)(*shaped, logarithm, out)
    return result


def softmax(x: Array, axis: int) -> Array | Declined:
    return _along(axis, _softmax_rows, _softmax_columns, False, x)


def log_softmax(x: Array, axis: int) -> Array | Declined:
    return _along(axis, _softmax_rows, _softmax_columns, True, x)


def softmax_backward(g: Array, y: Array, axis: int) -> Array | Declined:
    return _along(axis, _softmax_backward_rows, _softmax_backward_columns, False, g, y)


def log_softmax_backward(g: Array, y: Array, axis: int) -> Array | Declined:
    return _along(axis, _softmax_backward_rows, _softmax_backward_columns, True, g, y)


# --- loss: the formulas stand in reference.py -------------------------------------------------------------------------


def _rows(x: Array, dtype: Any = None) -> Array:
    """x, C-contiguous, aligned and writeable: of one type, that is, to Numba."""
    return x if x.flags.carray and dtype in (None, x.dtype) else np.array(x, dtype=dtype, order="C")


@jit
def _cross_entropy_rows(x, target, weight, ignore_index, smoothing, losses, logsumexp):
    """x (rows, columns), weight (columns). Returns the first row whose target names no class, or -1."""
    rows, columns = x.shape
    e, largest, total = _scratch(x)
    terms = np.empty(columns)
    for r in range(rows):
        t = target[r]
        if t != ignore_index and (t < 0 or t >= columns):
            return r
        i = r % total.size
        if i == 0:
            _exponentials(x[r : r + total.size], e, largest, total)
        row_logsumexp = largest[i] + math.log(total[i])
        logsumexp[r] = row_logsumexp
        loss = 0.0
        if t != ignore_index:
            loss = (1.0 - smoothing) * weight[t] * (row_logsumexp - x[r, t])
            if smoothing != 0.0:
                for c in range(columns):
                    terms[c] = weight[c] * (row_logsumexp - x[r, c])
                loss += smoothing / columns * _sum_row(terms)
        losses[r] = loss
    return -1


@jit
def _cross_entropy_backward_rows(g, x, target, weight, ignore_index, smoothing, logsumexp, out):
    rows, columns = x.shape
    share = smoothing / max(columns, 1)
    shares = share * weight.sum()
    for r in range(rows):
        t = target[r]
        if t == ignore_index:
            for c in range(columns):
                out[r, c] = 0.0
            continue
        if t < 0 or t >= columns:
            return r
        gradient, row_logsumexp = np.float64(g[r]), np.float64(logsumexp[r])
        at_target = (1.0 - smoothing) * weight[t]
        scale = at_target + shares
        for c in range(columns):
            d = math64.exp(np.float64(x[r, c]) - row_logsumexp) * scale - share * weight[c]
            out[r, c] = gradient * (d - (at_target if c == t else 0.0))
    return -1


def _weights(weight: Array | None, classes: int) -> Array:
    return np.ones(classes) if weight is None else _rows(weight, np.float64)


def cross_entropy(
    logits: Array, target: Array, weight: Array | None, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array] | Declined:
    refusal = _refusal(logits)
    if refusal is not None:
        return refusal
    rows, classes = logits.shape
    losses, logsumexp = np.empty(rows, logits.dtype), np.empty(rows, logits.dtype)
    target, weights = _rows(target, np.int64), _weights(weight, classes)
    x = _rows(logits)
    wrong = _cross_entropy_rows(x, target, weights, ignore_index, float(label_smoothing), losses, logsumexp)
    if wrong >= 0:
        raise reference.wrong_target(target[wrong], classes, ignore_index)
    return losses, logsumexp


def cross_entropy_backward(
    gradient: Array,
    logits: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    logsumexp: Array,
) -> Array | Declined:
    refusal = _refusal(logits, gradient, logsumexp)
    if refusal is not None:
        return refusal
    out = np.empty(logits.shape, logits.dtype)
    target, weights = _rows(target, np.int64), _weights(weight, logits.shape[1])
    smoothing = float(label_smoothing)
    g, x, lse = _rows(gradient), _rows(logits), _rows(logsumexp)
    wrong = _cross_entropy_backward_rows(g, x, target, weights, ignore_index, smoothing, lse, out)
    if wrong >= 0:
        raise reference.wrong_target(target[wrong], logits.shape[1], ignore_index)
    return out


# --- products: NumPy's, with the activation in place ------------------------------------------------------------------

_ACTIVATIONS = {"sigmoid": sigmoid, "tanh": tanh, "gelu": gelu, "silu": silu}


def linear(x: Array, weight: Array, bias: Array | None, activation: str) -> Array | Declined:
    if activation not in _ACTIVATIONS:
        return Declined("NumPy's product is as fast")
    refusal = _refusal(x)
    if refusal is not None:
        return refusal
    y = reference.linear(x, weight, bias, "none")
    result = _ACTIVATIONS[activation](y, out=y)
    return reference.linear(x, weight, bias, activation) if isinstance(result, Declined) else result
