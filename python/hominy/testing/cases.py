"""The table of operator cases: one entry, a line or a few, feeds the tests against the reference, the gradient checks,
the benchmarks and the demo.

A case names a backend function (`kernel`), makes arguments for it, and says how far a result may be from the exact one:
`bound` is the error bound that the kernel's header states, as a function of the exact result, the unit roundoff u
(2^-24, 2^-53) and the arguments; nothing in it is tuned until tests pass. A case without a kernel is an operator of the
tape alone (`reshape`, `cat`), here for its gradient.

To add an operator, add a line to the table of its family at the end of the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import reference
from .case import (
    LENGTHS,
    MATRICES,
    SHAPES,
    TIMED_MATRICES,
    TIMED_SHAPES,
    Array,
    Bound,
    Case,
    _exactly,
    _one,
    _smallest,
    _two,
    _ulps,
    assert_within,
    draw,
    unit_roundoff,
)  # fmt: skip
from .conv_cases import CONVS
from .layer_cases import LAYERS
from .optimizer_cases import OPTIMIZERS
from .pool_cases import POOLING

__all__ = ["CASES", "Case", "assert_within", "draw", "find", "tape", "unit_roundoff"]


def _terms(x: Array, axes: Any) -> int:
    return math.prod(x.shape[axis] for axis in axes)


def _depth(a: Array) -> int:
    return int(a.shape[-1])


def _product_bound(y: Any, u: float, a: Array, b: Array) -> Any:
    return 1.01 * (_depth(a) + 3) * u * np.matmul(np.abs(a), np.abs(b))


# The largest slope of an activation, and its own error in ulps.
_ACTIVATIONS = {
    "none": (1, 0),
    "relu": (1, 0),
    "sigmoid": (0.25, 4),
    "tanh": (1, 3),
    "gelu": (1.13, 5),
    "silu": (1.1, 5),
}


def _linear_bound(y: Array, u: float, x: Array, weight: Array, bias: Any, activation: str) -> Any:
    slope, ulps = _ACTIVATIONS[activation]
    terms = np.matmul(np.abs(x), np.abs(weight).T) + (0 if bias is None else np.abs(bias))
    product = np.abs(reference.linear(x, weight, bias, "none")) if activation == "gelu" else 0
    return slope * 1.01 * (_depth(x) + 3) * u * terms + _ulps(ulps)(np.maximum(np.abs(y), product), u)


def _softmax_bound(y: Array, u: float, x: Array, axis: int) -> Any:
    below = np.max(x, axis, keepdims=True, initial=-np.inf) - x
    return (below + 48 + x.shape[axis] / 32) * u * y + _smallest(u)


def _log_softmax_bound(y: Array, u: float, x: Array, axis: int) -> Any:
    below = np.max(x, axis, keepdims=True, initial=-np.inf) - x
    return (2 * below + 2 * np.abs(y) + 48 + x.shape[axis] / 32) * u


def _softmax_backward_bound(y: Array, u: float, g: Array, result: Array, axis: int) -> Any:
    total = np.abs(g) + np.sum(np.abs(g * result), axis, keepdims=True)
    return (50 + g.shape[axis] / 1024) * u * np.abs(result) * total


def _log_softmax_backward_bound(y: Array, u: float, g: Array, result: Array, axis: int) -> Any:
    total = np.abs(g) + np.exp(result) * np.sum(np.abs(g), axis, keepdims=True)
    return (50 + g.shape[axis] / 1024) * u * total


def _class_weights(x: Array, target: Array, weight: Any, ignore: int, smoothing: float) -> Array:
    """(N, C): the share of each class's negative log-likelihood in its row's loss."""
    w = np.ones(x.shape[1]) if weight is None else weight
    shares = np.broadcast_to(smoothing / max(x.shape[1], 1) * w, x.shape).copy()
    kept = np.flatnonzero(target != ignore)
    shares[kept, target[kept]] += (1 - smoothing) * w[target[kept]]
    shares[target == ignore] = 0
    return shares


def _cross_entropy_bound(y: Any, u: float, x: Array, target: Array, weight: Any, ignore: int, smoothing: float) -> Any:
    logsumexp = y[1]
    largest = np.max(x, 1, keepdims=True, initial=-np.inf)
    each = np.abs(largest - x) + np.abs(logsumexp[:, None] - x) + 52 + x.shape[1] / 1024
    shares = _class_weights(x, target, weight, ignore, smoothing)
    own = 52 + x.shape[1] / 1024 + np.abs(logsumexp) + np.abs(largest[:, 0])
    return np.sum(shares * each, 1) * u, np.where(np.isfinite(own), own, 0) * u


def _cross_entropy_backward_bound(
    y: Array, u: float, g: Array, x: Array, target: Array, weight: Any, ignore: int, smoothing: float, logsumexp: Array
) -> Any:
    shares = _class_weights(x, target, weight, ignore, smoothing)
    below = np.abs(x - logsumexp[:, None])
    probabilities = np.exp(x - logsumexp[:, None]) * np.sum(shares, 1, keepdims=True)
    return np.abs(g)[:, None] * u * ((np.abs(logsumexp)[:, None] + below + 8) * probabilities + 4 * shares)


# --- the families -----------------------------------------------------------------------------------------------------

SMALL = ((2, 3),)  # for gradients: every element is perturbed


def unary(
    kernel: str, bound: Bound, numpy: Any, torch: Any, *scalars: Any, low: float = -12, high: float = 12, **kw: Any
) -> Case:
    """f(x, *scalars)."""
    kw = {"operator": kernel, "differentiable": (0,), **kw}
    return Case(kernel, "unary", _one(*scalars, low=low, high=high), SHAPES, bound, timing=TIMED_SHAPES, numpy=numpy,
                torch=torch, gradient_sizes=(*SMALL, ()), **kw)  # fmt: skip


def _binary_cross_entropy_scale(x: Array, y: Array) -> Array:
    return _abs(y) * np.minimum(_abs(np.log(x)), 100) + _abs(1 - y) * np.minimum(_abs(np.log1p(-x)), 100)


def binary(
    kernel: str, bound: Bound, numpy: Any, torch: Any, family: str = "binary", make: Any = None, **kw: Any
) -> Case:
    """f(a, b), of one shape."""
    kw = {"operator": kernel, "differentiable": (0, 1), **kw}
    return Case(kernel, family, make or _two(), SHAPES, bound, timing=TIMED_SHAPES, numpy=numpy, torch=torch,
                gradient_sizes=SMALL, **kw)  # fmt: skip


def backward(kernel: str, bound: Bound, torch: Any, *scalars: Any, second: Any = None, **kw: Any) -> Case:
    """f(g, y or x, *scalars): NumPy's way is the reference's formula."""
    make = _two(*scalars, second=second)
    return binary(kernel, bound, getattr(reference, kernel), torch, "backward", make, **kw)


def compare(kernel: str) -> Case:
    """f(a, b) -> bool, with as many equal elements as others."""

    def make(rng: Any, dtype: Any, shape: Any) -> Any:
        return tuple(np.asarray(rng.integers(-1, 2, shape), dtype) for _ in range(2))

    return Case(kernel, "compare", make, SHAPES, _exactly, timing=TIMED_SHAPES[1:2], numpy=getattr(np, kernel),
                torch=lambda t, a, b: getattr(t, {"equal": "eq", "not_equal": "ne"}.get(kernel, kernel))(a, b),
                )  # fmt: skip


_REDUCED = (
    *(((n,), (0,)) for n in LENGTHS if n), ((), ()), ((5, 17), (0,)), ((5, 17), (1,)), ((17, 5), (0, 1)),
    ((1, 1), (0,)), ((3, 0), (0,)), ((2, 3, 5), (1,)), ((2, 3, 5), (0, 2)), ((4, 33, 7), (0, 1)), ((4, 33, 7), (1, 2)),
    ((2, 3, 4, 5), (0, 2)), ((1009,), (0,)), ((40009,), (0,)), ((301, 211), (0,)), ((301, 211), (1,)),
    ((3, 20011), (1,)), ((20011, 3), (0,)),
)  # fmt: skip
_EMPTY = (((0,), (0,)), ((3, 0), (1,)), ((0, 4), (0,)), ((0, 4), (0, 1)))
_TIMED_REDUCTIONS = (((1 << 20,), (0,)), ((1024, 1024), (0,)), ((1024, 1024), (1,)))


def reduction(
    kernel: str,
    bound: Bound,
    exact: Any,
    torch: Any,
    *,
    low: float = -4,
    high: float = 4,
    empty: bool = True,
    **kw: Any,
) -> Case:
    """f(x, axes, keepdim); the exact result in extended precision."""

    def make(rng: Any, dtype: Any, size: Any) -> Any:
        shape, axes = size
        return draw(rng, dtype, shape, low, high), axes, len(axes) % 2 == 0

    function = getattr(np, kernel)
    kw = {"operator": kernel, "differentiable": (0,), **kw}
    return Case(kernel, "reduction", make, _REDUCED + (_EMPTY if empty else ()), bound, timing=_TIMED_REDUCTIONS,
                numpy=lambda x, axes, keepdim: function(x, axis=axes, keepdims=keepdim), torch=torch,
                exact=exact, gradient_sizes=(((2, 3), (1,)), ((2, 3), (0, 1)), ((2, 2, 2), (0, 2))), **kw)  # fmt: skip


def arg_reduction(kernel: str) -> Case:
    """f(x, axis, keepdim) -> int64, with ties."""

    def make(rng: Any, dtype: Any, size: Any) -> Any:
        shape, axes = size
        return np.asarray(rng.integers(-9, 10, shape), dtype), axes[0], len(shape) % 2 == 0

    sizes = tuple((shape, axes) for shape, axes in _REDUCED if len(axes) == 1)
    function = getattr(np, kernel)
    return Case(kernel, "reduction", make, sizes, _exactly, timing=_TIMED_REDUCTIONS, operator=kernel,
                numpy=lambda x, axis, keepdim: function(x, axis, keepdims=keepdim),
                torch=lambda t, x, axis, keepdim: getattr(t, kernel)(x, axis, keepdim))  # fmt: skip


_NORMALISED = (
    *((shape, len(shape) - 1) for shape in MATRICES), *((shape, 0) for shape in MATRICES[2:]), ((5,), 0), ((131,), 0),
    ((3, 4, 5), 1), ((2, 33, 3), 1), ((2, 3, 4, 5), 2), ((3, 5003), 1), ((2003, 5), 0),
)  # fmt: skip


def softmax(kernel: str, bound: Bound, numpy: Any, torch: Any, arrays: int = 1) -> Case:
    """f(x, axis), or f(g, y, axis) with y a softmax or log-softmax."""
    logarithm = kernel.startswith("log")

    def make(rng: Any, dtype: Any, size: Any) -> Any:
        shape, axis = size
        x = draw(rng, dtype, shape, -9, 9)
        if arrays == 1:
            return x, axis
        y = (reference.log_softmax if logarithm else reference.softmax)(draw(rng, dtype, shape, -9, 9), axis)
        return x, y, axis

    return Case(kernel, "softmax", make, _NORMALISED, bound, timing=tuple((shape, 1) for shape in TIMED_MATRICES),
                numpy=numpy, torch=torch, exact=_EXACT_SOFTMAX[kernel], operator=kernel,
                differentiable=tuple(range(arrays)), gradient_sizes=(((2, 3), 1), ((2, 3, 2), 0)))  # fmt: skip


def _from_largest(x: Array, axis: int) -> Array:
    return x - np.max(x, axis, keepdims=True, initial=-np.inf)


def _total(x: Array, axis: int) -> Array:
    return np.asarray(np.sum(x, axis, keepdims=True))


_EXACT_SOFTMAX: dict[str, Callable[..., Array]] = {
    "softmax": lambda x, axis: np.exp(_from_largest(x, axis)) / _total(np.exp(_from_largest(x, axis)), axis),
    "log_softmax": lambda x, axis: _from_largest(x, axis) - np.log(_total(np.exp(_from_largest(x, axis)), axis)),
    "softmax_backward": lambda g, y, axis: y * (g - _total(g * y, axis)),
    "log_softmax_backward": lambda g, y, axis: g - np.exp(y) * _total(g, axis),
}


def cross_entropy(label: str, weighted: bool, ignore: int, smoothing: float, gradient: bool) -> Case:
    """(losses, logsumexp), or the gradient by the logits."""

    def make(rng: Any, dtype: Any, size: Any) -> Any:
        rows, classes = size
        x = draw(rng, dtype, size, -9, 9)
        target = rng.integers(0, classes, rows) if classes else np.zeros(rows, np.int64)
        if ignore >= -1 and rows:
            target[::3] = ignore
        weight = draw(rng, dtype, (classes,), 0.25, 2) if weighted else None
        common = (x, target.astype(np.int64), weight, ignore, smoothing)
        if not gradient:
            return common
        logsumexp = reference.cross_entropy(*common)[1]
        return draw(rng, dtype, (rows,)), *common, logsumexp

    def numpy(*arguments: Any) -> Any:
        x, target = arguments[gradient], arguments[gradient + 1]
        shifted = x - x.max(1, keepdims=True)
        logsumexp = np.log(np.exp(shifted).sum(1, keepdims=True))
        if not gradient:
            return logsumexp[:, 0] - shifted[np.arange(len(x)), target]
        result = np.exp(shifted - logsumexp)
        result[np.arange(len(x)), target] -= 1
        return result * arguments[0][:, None]

    plain = not (weighted or smoothing or ignore >= -1)
    torch = lambda t, x, target, weight, ignore, smoothing: t.nn.functional.cross_entropy(  # noqa: E731
        x, target, weight, ignore_index=ignore, reduction="none", label_smoothing=smoothing
    )
    return Case(
        "cross_entropy_backward" if gradient else "cross_entropy", "loss", make,
        tuple(size for size in MATRICES if size[1]), _cross_entropy_backward_bound if gradient else
        _cross_entropy_bound, label=label, timing=TIMED_MATRICES if plain else (), numpy=numpy if plain else None,
        torch=None if gradient else torch,
        operator="cross_entropy_backward" if gradient else "cross_entropy_rows", differentiable=(0, 1) if gradient else
        (0,), gradient_sizes=((4, 3),),
    )  # fmt: skip


# Products. A size is (shape of a, shape of b, which of them is stored transposed: "", "a", "b" or "ab").
def _square(n: int, flags: str = "") -> Any:
    return (n, n), (n, n), flags


def _mkn(m: int, k: int, n: int, flags: str = "") -> Any:
    return (m, k), (k, n), flags


_PRODUCTS = (
    *(_mkn(*size) for size in (
        (1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (2, 3, 4, "ab"), (1, 131, 1), (131, 1, 131),
        (1, 17, 33, "b"), (33, 17, 1, "a"), (7, 5, 3, "b"), (8, 8, 8), (15, 16, 17, "a"), (16, 17, 15, "b"),
        (17, 15, 16, "ab"), (31, 33, 32), (13, 64, 65), (65, 13, 64, "a"), (64, 65, 13, "b"), (97, 101, 103),
        (97, 101, 103, "ab"), (1, 301, 299), (1, 301, 299, "b"), (299, 301, 1), (299, 301, 1, "a"), (5, 1031, 7),
        (3, 1031, 500, "b"), (200, 257, 263), (9, 600, 520), (700, 3, 5))),
    ((5,), (5,), ""), ((0,), (0,), ""), ((1031,), (1031,), ""), ((5,), (5, 7), ""), ((7, 5), (5,), ""),
    ((5,), (3, 5, 7), ""), ((3, 7, 5), (5,), ""), ((3, 4, 5), (3, 5, 6), ""), ((3, 4, 5), (5, 6), ""),
    ((4, 5), (3, 5, 6), "b"), ((2, 1, 4, 5), (3, 5, 6), "a"), ((2, 3, 4, 5), (2, 1, 5, 6), "ab"),
    ((0, 4, 5), (5, 6), ""), ((2, 0, 4, 5), (1, 5, 6), ""), ((6, 20, 30), (6, 30, 10), "b"),
    ((50, 3, 3), (50, 3, 3), ""),
)  # fmt: skip
# Shapes that people multiply: squares, one to 32 rows by a layer, tall, deep, batches, transposed operands.
TIMED_PRODUCTS = (
    *(_square(n) for n in (32, 64, 128, 256, 512, 1024, 2048)),
    _mkn(1, 1024, 1024), _mkn(8, 1024, 1024), _mkn(32, 1024, 1024), _mkn(128, 768, 3072), _mkn(4096, 64, 64),
    _mkn(64, 4096, 64), ((64, 32, 32), (64, 32, 32), ""), ((16, 128, 64), (16, 64, 128), ""),
    ((8, 256, 256), (256, 256), ""), _square(256, "b"), _square(256, "a"), _square(1024, "b"), _square(1024, "a"),
    _square(1024, "ab"), _mkn(8, 1024, 1024, "b"), _mkn(32, 1024, 1024, "b"),
)  # fmt: skip


def _operand(rng: Any, dtype: Any, shape: tuple[int, ...], transposed: bool) -> Array:
    if not transposed or len(shape) < 2:
        return np.asarray(rng.standard_normal(shape), dtype)
    return np.asarray(rng.standard_normal((*shape[:-2], shape[-1], shape[-2])), dtype).swapaxes(-1, -2)


def _matmul_arguments(rng: Any, dtype: Any, size: Any) -> tuple[Array, Array]:
    a, b, flags = size
    return _operand(rng, dtype, a, "a" in flags), _operand(rng, dtype, b, "b" in flags)


def _matmul_operations(a: Array, b: Array) -> float:
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = (a.shape[-2] if a.ndim > 1 else 1), (b.shape[-1] if b.ndim > 1 else 1)
    return 2.0 * math.prod(batch) * rows * a.shape[-1] * columns


_LINEAR_SIZES = (((1, 1), 1), ((3, 4), 5), ((0, 4), 5), ((3, 0), 5), ((3, 4), 0), ((7,), 3), ((2, 3, 17), 33),
                 ((33, 65), 17), ((1, 301), 257), ((129, 100), 67), ((4, 2, 3, 5), 2))  # fmt: skip
_TIMED_LINEAR = (((1, 32), 32), ((64, 784), 128), ((128, 768), 3072))


def linear(activation: str, biased: bool) -> Case:
    """f(x (..., in), weight (out, in), bias (out,) or None, activation)."""

    def make(rng: Any, dtype: Any, size: Any) -> Any:
        shape, features = size
        bias = _operand(rng, dtype, (features,), False) if biased else None
        return _operand(rng, dtype, shape, False), _operand(rng, dtype, (features, shape[-1]), False), bias, activation

    def torch(t: Any, x: Any, weight: Any, bias: Any, activation: str) -> Any:
        y = t.nn.functional.linear(x, weight, bias)
        return y if activation == "none" else getattr(t.nn.functional, activation)(y)

    graded = activation not in ("gelu", "silu")
    return Case(
        "linear", "matmul", make, _LINEAR_SIZES, _linear_bound,
        label=f"linear{'' if biased else ' without bias'}, {activation}",
        timing=_TIMED_LINEAR if biased else (), numpy=reference.linear, torch=torch,
        operations=lambda x, weight, bias, activation: 2.0 * x.size * weight.shape[0],
        operator="linear_activation" if graded else "", differentiable=((0, 1, 2) if biased else (0, 1)) if graded else
        (), gradient_sizes=(((2, 3), 2), ((3,), 2), ((2, 2, 3), 2)),
    )  # fmt: skip


def _linear_backward_arguments(rng: Any, dtype: Any, size: Any) -> tuple[Any, ...]:
    """f(grad (..., out), x (..., in), weight (out, in), needs)."""
    shape, features = size
    shapes = ((*shape[:-1], features), shape, (features, shape[-1]))
    return (*(_operand(rng, dtype, each, False) for each in shapes), 7)


def _linear_backward_bound(y: Any, u: float, grad: Array, x: Array, weight: Array, needs: int) -> Any:
    rows = np.abs(grad.reshape(math.prod(grad.shape[:-1]), grad.shape[-1]))
    return (
        _product_bound(None, u, grad, weight),
        _product_bound(None, u, rows.T, x.reshape(len(rows), x.shape[-1])),
        1.01 * (24 + math.log2(len(rows) + 1)) * u * rows.sum(0),
    )


def tape(
    operator: str, make: Callable[[Any], tuple[Any, ...]], *differentiable: int, label: str = "", twice: bool = True
) -> Case:
    """An operator without a kernel of its own, for its gradient: make(x), where x(*shape) draws an array."""

    def arguments(rng: Any, dtype: Any, size: Any) -> tuple[Any, ...]:
        return make(lambda *shape, low=-2, high=2: draw(rng, dtype, shape, low, high))

    return Case("", "tape", arguments, (), label=label or operator, operator=operator, differentiable=differentiable or
    (0,),
                twice=twice, gradient_sizes=(None,))  # fmt: skip


# --- the table --------------------------------------------------------------------------------------------------------
# Bounds in ulps over all float32 arguments stand in docs/kernels/elementwise.md; a scale is what they are of.

_abs = np.abs


def _wide(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, keepdim: np.asarray(function(x, axis=axes, keepdims=keepdim))


def _silu_bound(y: Array, u: float, x: Array) -> Any:
    # Besides 5 ulp: a subnormal sigmoid is half of the smallest number off, and x times as much goes into the product.
    return _ulps(5)(y, u) + np.where(np.isfinite(x), _abs(x), 0) * _smallest(u) / 2


def _logistic(x: Any) -> Any:
    return reference.sigmoid(np.asarray(x))


def _wide_mean(x: Any, axes: Any, keepdim: bool) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(x, axis=axes, keepdims=keepdim) / np.longdouble(_terms(x, axes)))


def _gelu_scale(g: Any, x: Any) -> Any:
    density = np.exp(x * x / -2) / math.sqrt(2 * math.pi)
    return _abs(g) * (1 + _abs(x) * density * (1 + x * x))


def _gelu_tanh_scale(g: Any, x: Any) -> Any:
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    rest = 1 - np.tanh(_abs(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return _abs(g) * (1 + _abs(x) * slope * (np.minimum(1, 2 * rest) + (_abs(x) < 6)))


_UNARY = [
    unary("negative", _exactly, np.negative, lambda t, x: -x),
    unary("absolute", _exactly, np.absolute, lambda t, x: x.abs(), operator="abs"),
    unary("sign", _exactly, np.sign, lambda t, x: x.sign()),
    unary("square", _ulps(0.5), np.square, lambda t, x: x.square()),
    unary("sqrt", _ulps(0.5), np.sqrt, lambda t, x: x.sqrt(), low=1e-3, high=50),
    unary("rsqrt", _ulps(2), lambda x: 1 / np.sqrt(x), lambda t, x: x.rsqrt(), low=1e-3, high=50),
    unary("reciprocal", _ulps(0.5), np.reciprocal, lambda t, x: x.reciprocal(), low=0.25, high=9),
    unary("exp", _ulps(2), np.exp, lambda t, x: x.exp(), ufunc=True),
    unary("expm1", _ulps(3), np.expm1, lambda t, x: x.expm1(), ufunc=True),
    unary("log", _ulps(2), np.log, lambda t, x: x.log(), low=1e-3, high=50, ufunc=True),
    unary("log1p", _ulps(3), np.log1p, lambda t, x: x.log1p(), low=-0.99, high=50, ufunc=True),
    unary("tanh", _ulps(3), np.tanh, lambda t, x: x.tanh(), ufunc=True),
    unary("sigmoid", _ulps(4), lambda x: 1 / (1 + np.exp(-x)), lambda t, x: x.sigmoid()),
    unary("erf", _ulps(3), None, lambda t, x: x.erf(), low=-5, high=5),
    unary("floor", _exactly, np.floor, lambda t, x: x.floor(), low=-99, high=99),
    unary("ceil", _exactly, np.ceil, lambda t, x: x.ceil(), low=-99, high=99),
    unary("round", _exactly, np.rint, lambda t, x: x.round(), low=-99, high=99),
    unary("relu", _exactly, lambda x: np.maximum(x, 0), lambda t, x: x.relu()),
    unary("leaky_relu", _ulps(1), lambda x, s: np.where(x > 0, x, x.dtype.type(s) * x),
          lambda t, x, s: t.nn.functional.leaky_relu(x, s), 0.125),
    unary("elu", _ulps(4), lambda x, a: np.where(x > 0, x, x.dtype.type(a) * np.expm1(np.minimum(x, 0))),
          lambda t, x, a: t.nn.functional.elu(x, a), 1.5),
    unary("softsign", _ulps(2), lambda x: x / (1 + np.abs(x)), lambda t, x: t.nn.functional.softsign(x)),
    unary("silu", _silu_bound, lambda x: x / (1 + np.exp(-x)), lambda t, x: t.nn.functional.silu(x)),
    unary("gelu", _ulps(5, _abs), None, lambda t, x: t.nn.functional.gelu(x)),
    unary("gelu_tanh", _ulps(5, _abs),
          lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
          lambda t, x: t.nn.functional.gelu(x, approximate="tanh"), operator="gelu", extra=("tanh",)),
    unary("softplus", _ulps(6), lambda x, b, threshold: np.logaddexp(0, x * x.dtype.type(b)) / x.dtype.type(b),
          lambda t, x, b, threshold: t.nn.functional.softplus(x, b, threshold), 2.0, 20.0),
    unary("clamp", _exactly, np.clip, lambda t, x, low, high: x.clamp(low, high), -1.25, 2.5),
]  # fmt: skip

_BINARY = [
    binary("add", _ulps(0.5), np.add, lambda t, a, b: a + b),
    binary("subtract", _ulps(0.5), np.subtract, lambda t, a, b: a - b),
    binary("multiply", _ulps(0.5), np.multiply, lambda t, a, b: a * b),
    binary("divide", _ulps(0.5), np.divide, lambda t, a, b: a / b, make=_two(second=(0.25, 9))),
    binary(
        "power", _ulps(4), np.power, lambda t, a, b: a**b, make=_two(low=0.1, high=9, second=(-5, 5)), operator="pow"
    ),
    binary("maximum", _exactly, np.maximum, lambda t, a, b: t.maximum(a, b)),
    binary("minimum", _exactly, np.minimum, lambda t, a, b: t.minimum(a, b)),
    binary(
        "binary_cross_entropy",
        _ulps(4, _binary_cross_entropy_scale),
        reference.binary_cross_entropy,
        lambda t, x, y: t.nn.functional.binary_cross_entropy(x, y, reduction="none"),
        make=_two(low=0, high=1),
        operator="_binary_cross_entropy",
    ),
    binary(
        "binary_cross_entropy_backward",
        _ulps(3),
        reference.binary_cross_entropy_backward,
        lambda t, x, y: t.ops.aten.binary_cross_entropy_backward(t.ones_like(x), x, y, reduction=0),
        make=_two(low=0, high=1),
        operator="binary_cross_entropy_slope",
    ),
]

_BACKWARD = [
    backward("absolute_backward", _exactly, lambda t, g, x: g * t.sgn(x), operator="abs_backward"),
    backward("tanh_backward", _ulps(3, lambda g, y: _abs(g) * (1 + y * y)),
             lambda t, g, y: t.ops.aten.tanh_backward(g, y), second=(-1, 1)),
    backward("sigmoid_backward", _ulps(3, lambda g, y: _abs(g * y) * (1 + _abs(y))),
             lambda t, g, y: t.ops.aten.sigmoid_backward(g, y), second=(0, 1)),
    backward("relu_backward", _exactly, lambda t, g, y: t.ops.aten.threshold_backward(g, y, 0), differentiable=(0,)),
    backward("leaky_relu_backward", _ulps(1),
             lambda t, g, x, s: t.ops.aten.leaky_relu_backward(g, x, s, False), 0.125, differentiable=(0,)),
    backward("elu_backward", _ulps(4), lambda t, g, x, a: t.ops.aten.elu_backward(g, a, 1, 1, False, x), 1.5),
    backward("silu_backward", _ulps(8, lambda g, x: _abs(g) * _logistic(x) * (1 + _abs(x))),
             lambda t, g, x: t.ops.aten.silu_backward(g, x)),
    backward("gelu_backward", _ulps(8, _gelu_scale), lambda t, g, x: t.ops.aten.gelu_backward(g, x), extra=("none",)),
    backward("gelu_tanh_backward", _ulps(8, _gelu_tanh_scale),
             lambda t, g, x: t.ops.aten.gelu_backward(g, x, approximate="tanh"), operator="gelu_backward",
             extra=("tanh",)),
    backward("softplus_backward", _ulps(5, lambda g, x, b, limit: _abs(g) * (1 + _abs(b * x))),
             lambda t, g, x, b, limit: t.ops.aten.softplus_backward(g, x, b, limit), 2.0, 20.0),
    backward("clamp_backward", _exactly, lambda t, g, x, low, high: t.where((x >= low) & (x <= high), g, 0), -1.25, 2.5,
             differentiable=(0,)),
]  # fmt: skip


def _where_arguments(rng: Any, dtype: Any, shape: Any) -> Any:
    return rng.random(shape) < 0.5 if shape else np.asarray(True), draw(rng, dtype, shape), draw(rng, dtype, shape)


_SELECTION = [
    *(compare(name) for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")),
    Case("where", "where", _where_arguments, SHAPES, _exactly, timing=TIMED_SHAPES[1:2], numpy=np.where,
         torch=lambda t, c, a, b: t.where(c, a, b), operator="where", differentiable=(1, 2), gradient_sizes=SMALL),
    Case("broadcast_to", "view", lambda rng, dtype, size: (draw(rng, dtype, size[0]), size[1]),
         (((), ()), ((), (3,)), ((1,), (0,)), ((5,), (5,)), ((0,), (3, 0)), ((5,), (17, 5)), ((17, 1), (17, 5)),
          ((1, 1), (3, 2, 5)), ((2, 1, 5), (2, 3, 5)), ((1, 3), (2, 0, 3)), ((3, 33), (2, 3, 33))),
         _exactly, operator="broadcast_to", differentiable=(0,), gradient_sizes=(((2, 1), (4, 2, 3)),)),
    Case("copy", "copy", _one(), SHAPES, _exactly, timing=(*TIMED_SHAPES[1:],), numpy=lambda x: x.copy(order="K"),
         torch=lambda t, x: x.clone(), operator="clone", differentiable=(0,), gradient_sizes=SMALL),
]  # fmt: skip

_REDUCTIONS = [
    reduction("sum", lambda y, u, x, axes, keepdim: (24 + math.log2(max(_terms(x, axes), 1))) * u
              * np.sum(_abs(x), axis=axes, keepdims=keepdim), _wide(np.sum), lambda t, x, axes, keepdim: x.sum(axes,
              keepdim)),
    reduction("mean", lambda y, u, x, axes, keepdim: (25 + math.log2(max(_terms(x, axes), 1))) * u
              * np.sum(_abs(x), axis=axes, keepdims=keepdim) / _terms(x, axes),
              _wide_mean, lambda t, x, axes, keepdim: x.mean(axes, keepdim)),
    reduction("prod", lambda y, u, x, axes, keepdim: _terms(x, axes) * 1.01 * u * _abs(y) + _smallest(u),
    _wide(np.prod),
              lambda t, x, axes, keepdim: x.prod(axes[0], keepdim), low=0.9, high=1.1),
    reduction("amax", _exactly, _wide(np.max), lambda t, x, axes, keepdim: x.amax(axes, keepdim), empty=False),
    reduction("amin", _exactly, _wide(np.min), lambda t, x, axes, keepdim: x.amin(axes, keepdim), empty=False),
    arg_reduction("argmax"),
    arg_reduction("argmin"),
]  # fmt: skip


def _numpy_softmax(x: Any, axis: int) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _numpy_log_softmax(x: Any, axis: int) -> Any:
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


_SOFTMAX = [
    softmax("softmax", _softmax_bound, _numpy_softmax, lambda t, x, axis: x.softmax(axis)),
    softmax("log_softmax", _log_softmax_bound, _numpy_log_softmax, lambda t, x, axis: x.log_softmax(axis)),
    softmax("softmax_backward", _softmax_backward_bound, lambda g, y, axis: y * (g - (g * y).sum(axis, keepdims=True)),
            lambda t, g, y, axis: t.ops.aten._softmax_backward_data(g, y, axis, y.dtype), 2),
    softmax("log_softmax_backward", _log_softmax_backward_bound,
            lambda g, y, axis: g - np.exp(y) * g.sum(axis, keepdims=True),
            lambda t, g, y, axis: t.ops.aten._log_softmax_backward_data(g, y, axis, y.dtype), 2),
    *(cross_entropy(f"cross_entropy{suffix}{text}", weighted, ignore, smoothing, gradient)
      for suffix, gradient in (("", False), ("_backward", True))
      for text, weighted, ignore, smoothing in (("", False, -100, 0.0), (", weighted", True, -100, 0.0),
                                                (", ignoring", True, -1, 0.0), (", smoothed", True, 0, 0.125))),
]  # fmt: skip

_MATMUL = [
    Case("matmul", "matmul", _matmul_arguments, _PRODUCTS, _product_bound, timing=TIMED_PRODUCTS, numpy=np.matmul,
         torch=lambda t, a, b: a @ b, operations=_matmul_operations, operator="matmul", differentiable=(0, 1),
         exact=np.matmul, gradient_sizes=tuple(((*a,), (*b,), "") for a, b in (
             ((2, 3), (3, 2)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 2)),
             ((2, 1, 2, 3), (2, 3, 2)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,)), ((2, 1, 2, 2), (1, 2, 2, 2))))),
    *(linear(activation, biased=True) for activation in _ACTIVATIONS),
    *(linear(activation, biased=False) for activation in ("none", "sigmoid")),
    Case("linear_backward", "matmul", _linear_backward_arguments, _LINEAR_SIZES, _linear_backward_bound,
         operations=lambda grad, x, weight, needs: 4.0 * grad.size * x.shape[-1], operator="linear_backward",
         differentiable=(0, 1, 2), gradient_sizes=(((2, 3), 2), ((3,), 2), ((2, 2, 3), 2))),
]  # fmt: skip

CASES: tuple[Case, ...] = (
    *_UNARY, *_BINARY, *_BACKWARD, *_SELECTION, *_REDUCTIONS, *_SOFTMAX, *_MATMUL, *OPTIMIZERS, *LAYERS, *CONVS,
    *POOLING,
)  # fmt: skip


def find(name: str) -> Case:
    """The first case with this label, kernel or operator."""
    for case in CASES:
        if name in (str(case), case.kernel, case.operator):
            return case
    raise KeyError(name)
