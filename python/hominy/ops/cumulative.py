"""Running sums, products and extremes along a dimension, and differences between neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import category, normalize_dtype
from .arrange import flip
from .define import ValuesIndices, as_tensor, composed, normalize_axis, operator, require_array
from .elementwise import _stored_as, as_float, exp, greater, log, negative, where
from .indexing import accumulate_at
from .shape import cat


def _running(name: str, ufunc: Any, input: Any, dim: Any, dtype: Any) -> np.ndarray:
    """ufunc.accumulate along dim: floats in float64, rounded once; integers and bools in int64."""
    array = require_array(name, "input", input)
    if dtype is not None:
        array = array.astype(normalize_dtype(dtype))
    axis = normalize_axis(name, dim, array.ndim)
    floats = category(array.dtype) == 2
    result = array.dtype if floats or dtype is not None else np.dtype(np.int64)
    if array.ndim == 0:
        return array.astype(result)
    with np.errstate(all="ignore"):
        return ufunc.accumulate(array, axis, np.float64 if floats else result).astype(result, copy=False)


@operator
def cumsum(input, dim, dtype=None):
    """The running sum along dim, added up in float64; integers and bools in int64."""
    return _running("cumsum", np.add, input, dim, dtype)


@operator
def cumprod(input, dim, dtype=None):
    """The running product along dim, in float64; integers and bools in int64."""
    return _running("cumprod", np.multiply, input, dim, dtype)


def _backwards(grad, dim):
    return flip(cumsum(flip(grad, (dim,)), dim), (dim,)) if grad.ndim else grad


def _cumprod_gradient(grad, output, input, dim):
    if input.ndim == 0:
        return grad
    if input._array.all():
        return _backwards(grad * output, dim) / input
    # With zeros: row i of `factors` is input without its element i, whose running product is the derivative.
    grad, rows = grad.movedim(dim, -1), input.movedim(dim, -1)
    size = rows.shape[-1]
    diagonal = np.eye(size, dtype=bool)
    factors = where(as_tensor("cumprod", "diagonal", diagonal), 1.0, rows.unsqueeze(-2))
    later = as_tensor("cumprod", "later", np.triu(np.ones((size, size), bool)))
    return where(later, cumprod(factors, -1) * grad.unsqueeze(-2), 0.0).sum(-1).movedim(-1, dim)


cumsum.gradient(input=lambda grad, dim: _backwards(grad, dim))
cumprod.gradient(input=_cumprod_gradient)


def _running_extreme(name: str, ufunc: Any, input: Any, dim: Any) -> tuple[np.ndarray, np.ndarray]:
    array = require_array(name, "input", input)
    axis = normalize_axis(name, dim, array.ndim)
    if array.ndim == 0:
        return array.copy(), np.zeros((), np.int64)
    values = ufunc.accumulate(array, axis)
    shape = [1] * array.ndim
    shape[axis] = array.shape[axis]
    hit = (array == values) | (array != array)
    places = np.where(hit, np.arange(array.shape[axis]).reshape(shape), 0)
    return values, np.maximum.accumulate(places, axis)


@operator(public=False)
def running_max(input, dim):
    """The largest element so far along dim, and where it is."""
    return _running_extreme("cummax", np.maximum, input, dim)


@operator(public=False)
def running_min(input, dim):
    """The smallest element so far along dim, and where it is."""
    return _running_extreme("cummin", np.minimum, input, dim)


def _running_extreme_gradient(grad, output, shape_of_input, dim):
    values, indices = grad[0], output[1]
    if not shape_of_input:
        return values
    places = list(np.ogrid[tuple(slice(size) for size in shape_of_input)])
    places[normalize_axis("cummax", dim, len(shape_of_input))] = indices
    return accumulate_at(shape_of_input, tuple(places), values)


running_max.gradient(input=_running_extreme_gradient)
running_min.gradient(input=_running_extreme_gradient)


@composed
def cummax(input, dim):
    """(values, indices): the largest element so far along dim and where it is, the last of equal ones; NaN wins."""
    return ValuesIndices(*running_max(input, dim))


@composed
def cummin(input, dim):
    """(values, indices): the smallest element so far along dim and where it is, the last of equal ones; NaN wins."""
    return ValuesIndices(*running_min(input, dim))


@operator
def logcumsumexp(input, dim):
    """log(cumsum(exp(input))) along dim, without overflow on the way."""
    array = as_float("logcumsumexp", input)
    axis = normalize_axis("logcumsumexp", dim, array.ndim)
    if array.ndim == 0:
        return _stored_as(array.copy(), input)
    with np.errstate(all="ignore"):
        wide = np.logaddexp.accumulate(array, axis, np.float64)
    return _stored_as(wide.astype(array.dtype), input)


def _logcumsumexp_gradient(grad, output, input, dim):
    values = output._array
    if values.size and np.isfinite(values).all() and np.ptp(values) < 80:
        largest = float(values.max())
        return exp(input - largest) * _backwards(grad * exp(largest - output), dim)
    # In logarithms, positive and negative parts apart: nothing overflows.
    total = None
    for part in (grad, negative(grad)):
        here = greater(part, 0)
        logs = where(here, log(where(here, part, 1.0)) - output, -np.inf)
        summed = flip(logcumsumexp(flip(logs, (dim,)), dim), (dim,)) if input.ndim else logs
        term = where(summed.isneginf(), 0.0, exp(summed + input))
        total = term if total is None else total - term
    return total


logcumsumexp.gradient(input=_logcumsumexp_gradient)


@composed
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """The differences between neighbours along dim, n times over; prepend and append are put at the ends first."""
    if input.ndim == 0:
        raise ValueError("[diff] input: expected at least 1 dimension, got a 0-d tensor")
    if n < 0:
        raise ValueError(f"[diff] n: expected at least 0, got {n}")
    axis = normalize_axis("diff", dim, input.ndim)
    parts = [part for part in (prepend, input, append) if part is not None]
    if len(parts) > 1 and n:
        input = cat(parts, axis)
    for _ in range(min(n, input.shape[axis])):
        after, before = input.narrow(axis, 1, input.shape[axis] - 1), input.narrow(axis, 0, input.shape[axis] - 1)
        input = after.logical_xor(before) if input.dtype.kind == "b" else after - before
    return input


def _panels(name: str, y: Any, x: Any, dx: Any, dim: Any) -> tuple[Any, int]:
    axis = normalize_axis(name, dim, y.ndim)
    size = y.shape[axis]
    middle = (y.narrow(axis, 1, size - 1) + y.narrow(axis, 0, size - 1)) * 0.5 if size else y
    if x is None:
        return middle * dx, axis
    if x.ndim == 1 and y.ndim > 1:
        x = x.reshape((-1,) + (1,) * (y.ndim - 1 - axis))
        return middle * diff(x, dim=0), axis
    return middle * diff(x, dim=axis - y.ndim), axis


@composed
def trapezoid(y, x=None, *, dx=1.0, dim=-1):
    """The integral of y along dim by the trapezoidal rule, over the places x or at distances dx."""
    panels, axis = _panels("trapezoid", y, x, dx, dim)
    return panels.sum(axis)


@composed
def cumulative_trapezoid(y, x=None, *, dx=1.0, dim=-1):
    """As `trapezoid`, the integral up to each place but the first."""
    panels, axis = _panels("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(panels, axis)
