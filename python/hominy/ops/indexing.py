"""Indexing, with NumPy's meanings: integers, slices, None and Ellipsis give views, index arrays and masks copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import run
from .define import normalize_axis, operator, require_array
from .shape import broadcast_to


@operator(view=True)
def getitem(input, index):
    """input[index]."""
    array = require_array("getitem", "input", input)
    index = _checked_index("getitem", array, index)
    try:
        result = array[index]
    except IndexError as error:
        raise IndexError(f"[getitem] index: {error}") from None
    return result if isinstance(result, np.ndarray) else np.asarray(result, array.dtype)


def _checked_index(name: str, array: np.ndarray, index: Any) -> tuple[Any, ...]:
    """`index` as a tuple that ends in an Ellipsis where it has none, so that the result is an array and a view.

    Raises:
        IndexError: too many indices, or an integer out of range.
    """
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(_unwrapped(name, part) for part in parts)
    used = sum(part.ndim if isinstance(part, np.ndarray) and part.dtype.kind == "b" else 1
               for part in parts if part is not None and part is not Ellipsis)  # fmt: skip
    if used > array.ndim:
        raise IndexError(f"[{name}] index: expected at most {array.ndim} indices for shape {array.shape}, got {used}")
    if all(part is not Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    return parts


def _unwrapped(name: str, part: Any) -> Any:
    if hasattr(part, "_array"):
        part = part._array
    if isinstance(part, (list, tuple)):
        part = np.asarray(part, dtype=np.int64 if not part else None)
    if isinstance(part, np.ndarray):
        if part.dtype.kind not in "iub":
            raise TypeError(f"[{name}] index: expected integers or bool, got an array of {part.dtype}")
        return int(part) if part.ndim == 0 and part.dtype.kind in "iu" else part
    if part is None or part is Ellipsis or isinstance(part, (int, slice, bool, np.integer)):
        return part
    raise TypeError(
        f"[{name}] index: expected integers, slices, None, Ellipsis or index arrays, got {type(part).__name__}"
    )


@operator(public=False)
def setitem(input, index, value, out=None):
    """input with value at index; with `out` (input itself), in place."""
    array = require_array("setitem", "input", input)
    result = array.copy() if out is None else out
    place = _checked_index("setitem", array, index)
    try:
        target = result[place]
    except IndexError as error:
        raise IndexError(f"[setitem] index: {error}") from None
    try:
        if isinstance(value, np.ndarray):
            value = np.broadcast_to(value.reshape(value.shape[value.ndim - target.ndim :])
                                    if value.ndim > target.ndim else value, target.shape)  # fmt: skip
        result[place] = value
    except ValueError:
        raise ValueError(
            f"[setitem] value: expected a shape that broadcasts to {target.shape}, got {np.shape(value)}"
        ) from None
    return result


@operator(public=False)
def assign(input, source, out=None):
    """source, broadcast and cast to input's shape and dtype; with `out` (input itself), in place."""
    array = require_array("copy_", "input", input)
    result = np.empty_like(array) if out is None else out
    source = np.asarray(source)
    if source.dtype.kind not in "fiubV":
        raise TypeError(f"[copy_] source: expected numbers, got dtype {source.dtype}")
    try:
        np.copyto(result, source, casting="unsafe")
    except ValueError:
        raise ValueError(
            f"[copy_] source: expected a shape that broadcasts to {array.shape}, got {source.shape}"
        ) from None
    return result


@operator(public=False)
def accumulate_at(input_shape, index, value):
    """Zeros of input_shape to which value is added at index, repeated places adding up: indexing's transpose."""
    result = np.zeros(input_shape, value.dtype)
    place = _checked_index("accumulate_at", result, index)
    if any(isinstance(part, np.ndarray) and part.dtype.kind != "b" for part in place):
        np.add.at(result, place, value)
    else:
        result[place] = value
    return result


@operator(public=False)
def place_along(values, dim, indices, size):
    """Zeros, `size` along dim, with values put at indices along it."""
    array = require_array("place_along", "values", values)
    result = np.zeros(array.shape[:dim] + (size,) + array.shape[dim + 1 :], array.dtype)
    np.put_along_axis(result, indices, array, dim)
    return result


@operator
def gather(input, dim, index):
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on."""
    array, places = require_array("gather", "input", input), require_array("gather", "index", index)
    axis = normalize_axis("gather", dim, array.ndim)
    if array.ndim == 0:
        array = array.reshape(1)
        if places.ndim == 0:
            return gather.forward(array, 0, places.reshape(1)).reshape(())
    _require_range("gather", places, array.shape[axis])
    if places.size == 0:
        return np.empty(places.shape, array.dtype)
    if places.ndim != array.ndim:
        raise ValueError(f"[gather] index: expected {array.ndim} dimensions, got shape {places.shape}")
    if any(size > array.shape[i] for i, size in enumerate(places.shape) if i != axis):
        raise ValueError(
            f"[gather] index: expected at most input's shape {array.shape} but for dim {axis}, got {places.shape}"
        )
    trimmed = array[tuple(slice(None) if i == axis else slice(size) for i, size in enumerate(places.shape))]
    return np.take_along_axis(trimmed, places, axis)


@operator
def index_select(input, dim, index):
    """The entries of input at the integers index along dim."""
    array, places = require_array("index_select", "input", input), require_array("index_select", "index", index)
    axis = normalize_axis("index_select", dim, array.ndim)
    if array.ndim == 0:
        return index_select.forward(array.reshape(1), 0, places).reshape(())
    if places.ndim > 1:
        raise ValueError(f"[index_select] index: expected 1 dimension, got shape {places.shape}")
    if axis == 0 and array.dtype.char in "fd" and places.dtype == np.int64 and array.flags.c_contiguous and array.size:
        try:  # NumPy's take of 128 rows of 784 floats took twice as long
            rows = run("embedding", array.reshape(len(array), -1), places.reshape(-1))
        except IndexError:
            _require_range("index_select", places, len(array))
            raise
        return rows.reshape((-1, *array.shape[1:]))
    _require_range("index_select", places, array.shape[axis])
    return array.take(places.reshape(-1), axis, mode="clip")  # the range is checked; clip spares take its buffer


def _require_range(name: str, indices: np.ndarray, size: int) -> None:
    if indices.dtype.kind not in "iu":
        raise TypeError(f"[{name}] index: expected integers, got dtype {indices.dtype}")
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= size:
            raise IndexError(f"[{name}] index: expected integers in [0, {size}), got {low if low < 0 else high}")


getitem.gradient(input=lambda grad, shape_of_input, index: accumulate_at(shape_of_input, index, grad))
accumulate_at.gradient(value=lambda grad, index: grad[index])
setitem.gradient(
    input=lambda grad, index: setitem(grad, index, 0.0),
    value=lambda grad, index: grad[index],
)
assign.gradient(source=lambda grad: grad)
place_along.gradient(values=lambda grad, dim, indices: gather(grad, dim, indices))


def _gather_gradient(grad, shape_of_input, dim, index):
    axis = normalize_axis("gather", dim, len(shape_of_input))
    if not shape_of_input:
        return grad.sum()
    if not grad.numel():
        return broadcast_to(grad.sum(), shape_of_input)
    places = list(np.ogrid[tuple(slice(size) for size in grad.shape)])
    places[axis] = index
    return accumulate_at(shape_of_input, tuple(places), grad)


def _index_select_gradient(grad, shape_of_input, dim, index):
    axis = normalize_axis("index_select", dim, len(shape_of_input))
    if not shape_of_input:
        return grad
    return accumulate_at(shape_of_input, (slice(None),) * axis + (index.reshape((-1,)),), grad)


gather.gradient(input=_gather_gradient)
index_select.gradient(input=_index_select_gradient)
