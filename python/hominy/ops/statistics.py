"""Reductions made of reductions: log-sum-exp, variance, norms, what skips NaN; and the two-tensor forms of `max`."""

from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

import numpy as np

from ..autograd import is_grad_enabled
from ..dtypes import category, normalize_dtype
from ..utils.arguments import choice
from . import elementwise, reduce
from .arrange import movedim
from .define import ValuesIndices, composed, normalize_axes, normalize_axis, operator, require_array
from .elementwise import _stored_as, as_float, eq, exp, isnan, logical_not, where
from .elementwise import pow as power
from .reduce import _spread, amax, amin, mean, sum
from .shape import reshape, squeeze, unsqueeze


@operator
def logsumexp(input, dim, keepdim=False):
    """log(sum(exp(input))) over dim (an integer or several), from the largest element so that nothing overflows."""
    array = as_float("logsumexp", input)
    axes = normalize_axes("logsumexp", dim, array.ndim)
    largest = np.max(array, axes, keepdims=True, initial=-np.inf)
    with np.errstate(all="ignore"):
        shift = np.where(np.isfinite(largest), largest, array.dtype.type(0))
        total = np.sum(np.exp(array - shift), axes, np.float64, keepdims=True)
        result = np.asarray(np.log(total) + shift, array.dtype)
    kept = [size for axis, size in enumerate(result.shape) if axis not in axes]
    return _stored_as(result if keepdim else result.reshape(kept), input)


logsumexp.gradient(
    input=lambda grad, output, input, dim, keepdim: (
        _spread(grad, input.shape, dim, keepdim) * exp(input - _spread(output, input.shape, dim, keepdim))
    )
)


@operator(public=False)
def root(input):
    """The square root, with the gradient 0 at 0, where the subgradient that norms and deviations take is."""
    return np.asarray(np.sqrt(require_array("root", "input", input)))


root.gradient(input=lambda grad, output: where(eq(output, 0), 0.0, grad / (where(eq(output, 0), 1.0, output) * 2.0)))


# Variance.

_UNSET: Any = object()


def _moments(name: str, input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> tuple[Any, Any]:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if category(input.dtype) != 2:
        raise TypeError(f"[{name}] input: expected a float dtype, got {input.dtype}; cast it first")
    if unbiased is not None and correction is not _UNSET:
        raise TypeError(f"[{name}] correction: given together with unbiased")
    if correction is _UNSET or correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    axes = normalize_axes(name, dim, input.ndim)
    count = math.prod(input.shape[axis] for axis in axes)
    average = mean(input, axes, True)
    centred = input - average
    left = builtins.max(count - correction, 0)
    variance = sum(centred * centred, axes, keepdim) * (1.0 / left if left else math.inf)
    if not keepdim:
        average = reshape(average, variance.shape)
    return variance, average


@composed
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=_UNSET):
    """The variance over dim (None: all): squared distances from the mean, summed, divided by their number less
    correction (1 by default; unbiased=False: 0)."""
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@composed
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=_UNSET):
    """The standard deviation over dim, the root of `var`; its gradient at 0 is 0."""
    return root(_moments("std", input, dim, unbiased, keepdim, correction)[0])


@composed
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=_UNSET):
    """The variance and the mean over dim."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@composed
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=_UNSET):
    """The standard deviation and the mean over dim."""
    variance, average = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return root(variance), average


# Norms.


@composed
def vector_norm(input, ord=2, dim=None, keepdim=False, *, dtype=None):
    """The ord-norm over dim (None: all): sum(|x|^ord)^(1/ord); inf and -inf: the largest and smallest |x|; 0: how many
    are not 0. Where the norm has a corner, the gradient is 0."""
    if dtype is not None:
        input = input.to(normalize_dtype(dtype))
    if category(input.dtype) != 2:
        raise TypeError(f"[vector_norm] input: expected a float dtype, got {input.dtype}")
    order = float(ord)
    if order == 2:
        return root(sum(input * input, dim, keepdim))
    size = elementwise.abs(input)
    if order == 1:
        return sum(size, dim, keepdim)
    if order == 0:
        return sum(where(eq(input, 0), input * 0.0, 1.0), dim, keepdim)
    if math.isinf(order):
        return (amax if order > 0 else amin)(size, dim, keepdim)
    zero = eq(size, 0)
    powers = where(zero, 0.0 if order > 0 else math.inf, power(where(zero, 1.0, size), order))
    total = sum(powers, dim, keepdim)
    nothing = eq(total, 0)
    return where(nothing, 0.0 if order > 0 else math.inf, power(where(nothing, 1.0, total), 1.0 / order))


def _factors(array: np.ndarray) -> Any:
    return np.linalg.svd(array, full_matrices=False)


@operator(public=False)
def svdvals(input):
    """The singular values of matrices (..., m, n), largest first: (..., min(m, n)). By NumPy's LAPACK."""
    array = require_array("svdvals", "input", input)
    if array.ndim < 2:
        raise ValueError(f"[svdvals] input: expected at least 2 dimensions, got shape {array.shape}")
    if array.size == 0:
        return np.zeros((*array.shape[:-2], builtins.min(array.shape[-2:])), array.dtype)
    return np.linalg.svd(array, compute_uv=False)


@operator(public=False)
def svdvals_backward(grad, input):
    """U diag(grad) V^T of input's singular vectors."""
    left, _, right = _factors(input)
    return (left * grad[..., None, :]) @ right


def _svdvals_gradient(grad, input):
    if is_grad_enabled():
        raise NotImplementedError("[svdvals] gradients of gradients are not offered: pass create_graph=False")
    return svdvals_backward(grad, input)


svdvals.gradient(input=_svdvals_gradient)


@composed
def matrix_norm(input, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None):
    """The norm of matrices in the two dimensions dim: "fro"; 1, -1 (largest, smallest column sum of |x|); inf, -inf (of
    rows); 2, -2, "nuc" (largest, smallest, sum of the singular values)."""
    if dtype is not None:
        input = input.to(normalize_dtype(dtype))
    if input.ndim < 2:
        raise ValueError(f"[matrix_norm] input: expected at least 2 dimensions, got shape {input.shape}")
    if ord == "fro":
        return vector_norm(input, 2, dim, keepdim)
    choice("matrix_norm", "ord", ord, ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf))
    rows, columns = (normalize_axis("matrix_norm", axis, input.ndim) for axis in dim)
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(input, (rows, columns), (-2, -1)))
        result = sum(values, -1) if ord == "nuc" else (amax if ord == 2 else amin)(values, -1)
        for axis in sorted((rows, columns)) if keepdim else ():
            result = unsqueeze(result, axis)
        return result
    summed, kept = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = sum(elementwise.abs(input), summed, True)
    result = (amax if ord > 0 else amin)(sums, kept, True)
    return result if keepdim else squeeze(result, (rows, columns))


@composed
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The p-norm over dim (None: all); "fro" is 2, "nuc" the sum of a matrix's singular values. See
    `linalg.vector_norm`."""
    if isinstance(p, str) and choice("norm", "p", p, ("fro", "nuc")) == "nuc":
        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(input, 2 if p == "fro" or p is None else p, dim, keepdim, dtype=dtype)


def linalg_norm(input, ord=None, dim=None, keepdim=False, *, dtype=None):
    """`matrix_norm` where input has two dimensions (or dim names two) and ord is given, else `vector_norm`."""
    pair = isinstance(dim, (tuple, list)) and len(dim) == 2
    if isinstance(ord, str) or (ord is not None and (pair or (dim is None and input.ndim == 2))):
        return matrix_norm(input, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    return vector_norm(input, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


@composed
def dist(input, other, p=2):
    """The p-norm of input - other."""
    return vector_norm(input - other, p)


@composed
def cdist(x1, x2, p=2.0, compute_mode=None):
    """The p-norm distances between the rows of x1 (..., m, k) and of x2 (..., n, k): (..., m, n). All m n k differences
    are held at once."""
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ValueError(f"[cdist] x2: expected shape (..., n, {x1.shape[-1]}), got {x2.shape}")
    difference = unsqueeze(x1, -2) - unsqueeze(x2, -3)
    if difference.shape[-1] == 0 or (math.isinf(p) and difference.numel() == 0):
        return sum(difference, -1)
    return vector_norm(difference, p, -1)


@composed
def renorm(input, p, dim, maxnorm):
    """input with the slices along dim scaled down to p-norm maxnorm where theirs is larger."""
    axis = normalize_axis("renorm", dim, input.ndim)
    others = tuple(i for i in range(input.ndim) if i != axis)
    norms = vector_norm(input, p, others, True)
    return input * where(norms > maxnorm, maxnorm / (norms + 1e-7), 1.0)


# Skipping NaN.


@composed
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over dim, NaN counting as 0."""
    if dtype is not None:
        input = input.to(normalize_dtype(dtype))
    return sum(where(isnan(input), 0, input) if category(input.dtype) == 2 else input, dim, keepdim)


@composed
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean over dim of what is not NaN."""
    if dtype is not None:
        input = input.to(normalize_dtype(dtype))
    present = logical_not(isnan(input)).to(input.dtype)
    return nansum(input, dim, keepdim) / sum(present, dim, keepdim)


# Extremes: PyTorch's several meanings of one name.


class MinMax(NamedTuple):
    """What `aminmax` returns."""

    min: Any
    max: Any


@composed
def aminmax(input, *, dim=None, keepdim=False):
    """(min, max): the smallest and the largest element over dim (None: all)."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


def _pick(pick: Any, elementwise_pick: Any, input: Any, dim: Any, keepdim: bool, other: Any) -> Any:
    if other is not None or (hasattr(dim, "_array") and dim.ndim) or isinstance(dim, np.ndarray):
        return elementwise_pick(input, dim if other is None else other)
    if hasattr(dim, "_array"):
        return elementwise_pick(input, dim)
    return pick(input, None) if dim is None else ValuesIndices(*pick(input, dim, keepdim))


@composed
def max(input, dim=None, keepdim=False, *, other=None):
    """The largest element; with dim, (values, indices) along it; of two tensors, `maximum`. NaN wins."""
    return _pick(reduce.max, elementwise.maximum, input, dim, keepdim, other)


@composed
def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest element; with dim, (values, indices) along it; of two tensors, `minimum`. NaN wins."""
    return _pick(reduce.min, elementwise.minimum, input, dim, keepdim, other)


def _cast(input: Any, dtype: Any) -> Any:
    return input if dtype is None else input.to(normalize_dtype(dtype))


@composed(name="mean")
def _mean(input, dim=None, keepdim=False, *, dtype=None):
    """The arithmetic mean over dim (None: all), of input cast to dtype if given; NaN of nothing."""
    return mean(_cast(input, dtype), dim, keepdim)


@composed
def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product over dim (None: all), of input cast to dtype if given; 1 of nothing."""
    return reduce.prod(_cast(input, dtype), dim, keepdim)


# Arithmetic with PyTorch's options, which the operators themselves do not have.


@composed
def add(input, other, *, alpha=1):
    """input + alpha * other."""
    return elementwise.add(input, other if alpha == 1 else other * alpha)


@composed(name="sub")
def sub(input, other, *, alpha=1):
    """input - alpha * other."""
    return elementwise.subtract(input, other if alpha == 1 else other * alpha)


@composed(name="div")
def div(input, other, *, rounding_mode=None):
    """input / other; rounding_mode: "floor" or "trunc" of the quotient, integers staying integers."""
    if rounding_mode is None:
        return elementwise.divide(input, other)
    choice("div", "rounding_mode", rounding_mode, ("floor", "trunc"))
    if rounding_mode == "floor":
        return elementwise.floor_divide(input, other)
    quotient = elementwise.trunc(elementwise.divide(input, other))
    return quotient if category(elementwise.floor_divide(input, other).dtype) == 2 else quotient.long()


@composed
def round(input, *, decimals=0):
    """The nearest multiple of 10^-decimals; halves go to the even one."""
    if not decimals:
        return elementwise.round(input)
    if decimals > 0:
        return elementwise.round(input * 10.0**decimals) / 10.0**decimals
    return elementwise.round(input / 10.0**-decimals) * 10.0**-decimals
