"""Reductions: sums, means, products, extremes, norms; where they are; over one dimension, several, or all."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import run
from ..dtypes import category
from .define import normalize_axes, normalize_axis, operator, require_array
from .elementwise import _stored_as, eq
from .indexing import place_along
from .shape import broadcast_to, permute, reshape, stack, unsqueeze


def _reduce(kernel: str, input: Any, dim: Any, keepdim: bool) -> np.ndarray:
    array = require_array(kernel, "input", input)
    axes = normalize_axes(kernel, dim, array.ndim)
    if array.dtype.char in "fd":
        return run(kernel, array, axes, bool(keepdim))
    if category(array.dtype) == 2:
        return _stored_as(run(kernel, array.astype(np.float32), axes, bool(keepdim)), array)
    return run(kernel, array, axes, bool(keepdim))


def _spread(grad, shape, dim, keepdim):
    """`grad` of a reduction broadcast back to the shape that was reduced."""
    if not keepdim and dim is not None:
        axes = normalize_axes("sum", dim, len(shape))
        kept = tuple([1 if axis in axes else size for axis, size in enumerate(shape)])
        if kept != grad.shape:
            grad = reshape(grad, kept)
    return broadcast_to(grad, shape)


@operator(direct="sum")
def sum(input, dim=None, keepdim=False, dtype=None):
    """The sum over dim (an integer, several, or None for all); integers and bools add up in int64."""
    if dtype is not None:
        input = require_array("sum", "input", input).astype(dtype, copy=False)
    return _reduce("sum", input, dim, keepdim)


@operator(direct="mean")
def mean(input, dim=None, keepdim=False):
    """The arithmetic mean over dim; NaN of nothing."""
    array = require_array("mean", "input", input)
    if category(array.dtype) != 2:
        raise TypeError(f"[mean] input: expected a float dtype, got {array.dtype}; cast it first")
    return _reduce("mean", array, dim, keepdim)


@operator(direct="prod")
def prod(input, dim=None, keepdim=False):
    """The product over dim; 1 of nothing."""
    return _reduce("prod", input, dim, keepdim)


@operator(direct="amax")
def amax(input, dim=None, keepdim=False):
    """The largest element over dim; NaN wins. Equal ones share the gradient evenly."""
    _require_elements("amax", input, dim)
    return _reduce("amax", input, dim, keepdim)


@operator(direct="amin")
def amin(input, dim=None, keepdim=False):
    """The smallest element over dim; NaN wins. Equal ones share the gradient evenly."""
    _require_elements("amin", input, dim)
    return _reduce("amin", input, dim, keepdim)


def _require_elements(name: str, input: Any, dim: Any) -> None:
    array = require_array(name, "input", input)
    for axis in normalize_axes(name, dim, array.ndim):
        if array.shape[axis] == 0:
            raise ValueError(f"[{name}] input: expected at least one element to reduce, got shape {array.shape}")


@operator
def all(input, dim=None, keepdim=False):
    """Whether every element is true (not 0) over dim."""
    array = require_array("all", "input", input)
    return run("all", array, normalize_axes("all", dim, array.ndim), bool(keepdim))


@operator
def any(input, dim=None, keepdim=False):
    """Whether some element is true (not 0) over dim."""
    array = require_array("any", "input", input)
    return run("any", array, normalize_axes("any", dim, array.ndim), bool(keepdim))


def _arg_reduce(kernel: str, input: Any, dim: Any, keepdim: bool) -> np.ndarray:
    array = require_array(kernel, "input", input)
    if category(array.dtype) == 2 and array.dtype.char not in "fd":
        array = array.astype(np.float32)
    flat = dim is None or array.ndim == 0
    if flat:
        shape = (1,) * array.ndim
        array, axis = array.reshape(-1), 0
    else:
        axis = normalize_axis(kernel, dim, array.ndim)
    if array.shape[axis] == 0:
        raise ValueError(f"[{kernel}] input: expected at least one element to reduce, got shape {array.shape}")
    result = run(kernel, array, axis, bool(keepdim) and not flat)
    return result.reshape(shape) if flat and keepdim else result


@operator
def argmax(input, dim=None, keepdim=False):
    """Where the largest element is, along dim or in the flattened input: the first one, or the first NaN. int64."""
    return _arg_reduce("argmax", input, dim, keepdim)


def _extreme(kernel: str, position: str, input: Any, dim: Any, keepdim: bool) -> Any:
    if dim is None:
        _require_elements(kernel, input, dim)
        return _reduce(kernel, input, None, keepdim)
    indices = _arg_reduce(position, input, dim, True)
    array = require_array(kernel, "input", input)
    axis = normalize_axis(kernel, dim, array.ndim)
    values = np.take_along_axis(array, indices, axis) if array.ndim else array.copy()
    if not keepdim and array.ndim:
        values, indices = values.squeeze(axis), indices.squeeze(axis)
    return values, indices


@operator
def max(input, dim=None, keepdim=False):
    """The largest element; with dim, the pair (values, indices) along it. NaN wins."""
    return _extreme("amax", "argmax", input, dim, keepdim)


@operator
def min(input, dim=None, keepdim=False):
    """The smallest element; with dim, the pair (values, indices) along it. NaN wins."""
    return _extreme("amin", "argmin", input, dim, keepdim)


@operator
def argmin(input, dim=None, keepdim=False):
    """Where the smallest element is, along dim or in the flattened input: the first one, or the first NaN. int64."""
    return _arg_reduce("argmin", input, dim, keepdim)


@operator
def sum_to_size(input, size):
    """The sum over the dimensions along which `size` would be broadcast to input's shape: broadcasting's transpose."""
    array = require_array("sum_to_size", "input", input)
    shape = array.shape
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"[sum_to_size] size: expected a tuple of integers, got {type(size).__name__}")
    extra = len(shape) - len(size)
    axes = list(range(extra))
    for axis in range(extra, len(shape)):
        if size[axis - extra] != shape[axis]:
            if size[axis - extra] != 1:
                extra = -1
                break
            axes.append(axis)
    if extra < 0:
        raise ValueError(f"[sum_to_size] size: expected a shape that broadcasts to {shape}, got {tuple(size)}")
    if not axes:
        return array
    if len(axes) == extra:
        return run("sum", array, tuple(axes), False)
    return run("sum", array, tuple(axes), True).reshape(size)


sum.gradient(input=lambda grad, shape_of_input, dim, keepdim: _spread(grad, shape_of_input, dim, keepdim))
sum_to_size.gradient(input=lambda grad, shape_of_input: broadcast_to(grad, shape_of_input))


def _mean_gradient(grad, shape_of_input, dim, keepdim):
    count = 1
    for axis in normalize_axes("mean", dim, len(shape_of_input)):
        count *= shape_of_input[axis]
    return _spread(grad * (1.0 / count if count else float("nan")), shape_of_input, dim, keepdim)


mean.gradient(input=_mean_gradient)


def _extreme_gradient(grad, output, input, dim, keepdim):
    hit = eq(input, _spread(output, input.shape, dim, keepdim)).to(grad.dtype)
    return hit * _spread(grad, input.shape, dim, keepdim) / sum(hit, dim, True)


amax.gradient(input=_extreme_gradient)
amin.gradient(input=_extreme_gradient)


def _picked_gradient(grad, output, input, dim, keepdim):
    if dim is None:
        return _extreme_gradient(grad, output, input, None, keepdim)
    axis = normalize_axis("max", dim, len(input.shape))
    values, indices = grad[0], output[1]
    if not input.shape:
        return values
    if not keepdim:
        values, indices = unsqueeze(values, axis), unsqueeze(indices, axis)
    return place_along(values, axis, indices, input.shape[axis])


max.gradient(input=_picked_gradient)
min.gradient(input=_picked_gradient)


def _product_gradient(grad, output, input, dim, keepdim):
    """grad * product of the others: by division where no element is 0, else by exclusive products from both sides."""
    axes = normalize_axes("prod", dim, len(input.shape))
    if input._array.all():
        return _spread(grad * output, input.shape, dim, keepdim) / input
    kept = tuple(axis for axis in range(input.ndim) if axis not in axes)
    order = kept + axes
    moved = permute(input, order)
    rows = reshape(moved, tuple(input.shape[axis] for axis in kept) + (-1,))
    others = _exclusive_product(rows)
    back = tuple(int(i) for i in np.argsort(order))
    others = permute(reshape(others, moved.shape), back)
    return others * _spread(grad, input.shape, dim, keepdim)


def _exclusive_product(rows):
    """Along the last dimension, the product of all other elements (small inputs: a zero is rare)."""
    columns = [rows[..., i] for i in range(rows.shape[-1])]
    before = [None] * len(columns)
    after = [None] * len(columns)
    for i in range(1, len(columns)):
        before[i] = columns[i - 1] if before[i - 1] is None else before[i - 1] * columns[i - 1]
        j = len(columns) - 1 - i
        after[j] = columns[j + 1] if after[j + 1] is None else after[j + 1] * columns[j + 1]
    products = []
    for left, right, column in zip(before, after, columns, strict=True):
        if left is None:
            products.append(column * 0.0 + 1.0 if right is None else right)
        else:
            products.append(left if right is None else left * right)
    return stack(products, -1)


prod.gradient(input=_product_gradient)
