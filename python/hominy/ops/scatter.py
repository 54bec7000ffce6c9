"""Writing and reading at index arrays along one dimension: scatter, index_add, masks, take; and where things are not
zero. Indices outside their dimension are IndexErrors that name the index."""

from __future__ import annotations

from typing import Any

import numpy as np

from .define import as_tensor, composed, normalize_axis, operator, require_array
from .elementwise import where as choose
from .indexing import _require_range, accumulate_at, gather, index_select, setitem
from .shape import broadcast_to, reshape


def _places(name: str, array: np.ndarray, dim: Any, index: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """`array` with at least one dimension, and where `index` points in it, as open index arrays."""
    indices = require_array(name, "index", index)
    axis = normalize_axis(name, dim, array.ndim)
    if array.ndim == 0:
        array = array.reshape(1)
    if indices.ndim == 0:
        indices = indices.reshape(1)
    _require_range(name, indices, array.shape[axis])
    if indices.size == 0:
        return array, (np.zeros(0, np.int64),)
    if indices.ndim != array.ndim:
        raise ValueError(f"[{name}] index: expected {array.ndim} dimensions, got shape {indices.shape}")
    if any(size > array.shape[i] for i, size in enumerate(indices.shape) if i != axis):
        raise ValueError(
            f"[{name}] index: expected at most input's shape {array.shape} but for dim {axis}, got {indices.shape}"
        )
    places: list[Any] = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    places[axis] = indices
    return array, tuple(places)


def _sources(name: str, src: Any, index: np.ndarray, dtype: Any) -> Any:
    """`src` cut to index's shape; a number as it is."""
    if not isinstance(src, np.ndarray):
        return src
    if src.dtype != dtype:
        raise TypeError(f"[{name}] src: expected dtype {dtype}, got {src.dtype}")
    shape = np.shape(index)
    if src.ndim != len(shape) and index.size:
        src = src.reshape((1,) * (len(shape) - src.ndim) + src.shape) if src.ndim == 0 else src
    if index.size and (src.ndim != len(shape) or any(a < b for a, b in zip(src.shape, shape, strict=True))):
        raise ValueError(f"[{name}] src: expected at least index's shape {shape}, got {src.shape}")
    return src[tuple(slice(size) for size in shape)] if index.size else src


_REDUCTIONS = {"add": np.add, "multiply": np.multiply}


def _scattered(name: str, input: Any, dim: Any, index: Any, src: Any, reduce: Any, out: Any) -> np.ndarray:
    array = require_array(name, "input", input)
    result = array.copy() if out is None else out
    target, places = _places(name, result, dim, index)
    values = _sources(name, src, np.atleast_1d(index) if target.ndim else index, array.dtype)
    if index.size == 0:
        return result
    if reduce is None:
        target[places] = values
    elif reduce in _REDUCTIONS:
        _REDUCTIONS[reduce].at(target, places, values)
    else:
        raise ValueError(f"[{name}] reduce: expected None, 'add' or 'multiply', got {reduce!r}")
    return result


@operator(public=False)
def scatter_values(input, dim, index, src, reduce=None, out=None):
    """input with src at index along dim; src is an array or a number."""
    return _scattered("scatter", input, dim, index, src, reduce, out)


@operator
def scatter_add(input, dim, index, src, out=None):
    """input with src added at index along dim: out[index[i][j]][j] += src[i][j] for dim 0, and so on."""
    return _scattered("scatter_add", input, dim, index, src, "add", out)


def _gathered(grad, shape_of_src, dim, index):
    """What `src` gets of `grad`: zeros where it was not used."""
    taken = gather(grad, dim, index)
    if taken.shape == tuple(shape_of_src):
        return taken
    if not shape_of_src or taken.numel() == 0:
        return reshape(taken.sum(), ()) if not shape_of_src else accumulate_at(shape_of_src, (slice(0, 0),), taken[:0])
    return accumulate_at(shape_of_src, tuple(slice(size) for size in taken.shape), taken)


def _scatter_input_gradient(grad, input, dim, index, src, reduce):
    if reduce is None:
        return scatter_values(grad, dim, index, 0.0)
    if reduce == "add":
        return grad
    return scatter_values(grad, dim, index, src, "multiply")


def _scatter_source_gradient(grad, shape_of_src, dim, index, reduce, input):
    if reduce == "multiply":
        raise RuntimeError("[scatter] reduce='multiply' has no gradient by src")
    return _gathered(grad, shape_of_src, dim, index)


scatter_values.gradient(input=_scatter_input_gradient, src=_scatter_source_gradient)
scatter_add.gradient(
    input=lambda grad: grad, src=lambda grad, shape_of_src, dim, index: _gathered(grad, shape_of_src, dim, index)
)


@composed
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """input with src (a tensor, or the number value) put at index along dim: out[index[i][j]][j] = src[i][j] for dim 0.
    reduce: "add" or "multiply" instead. Where indices repeat, the last one stays."""
    if (src is None) == (value is None):
        raise TypeError("[scatter] src: expected a tensor or a number, or value=")
    return scatter_values(input, dim, index, value if src is None else src, reduce)


# Whole slices.


def _slices(name: str, input: Any, dim: Any, index: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    indices = require_array(name, "index", index)
    axis = normalize_axis(name, dim, input.ndim)
    target = input.reshape(1) if input.ndim == 0 else input
    if indices.ndim > 1:
        raise ValueError(f"[{name}] index: expected 1 dimension, got shape {indices.shape}")
    _require_range(name, indices, target.shape[axis])
    return target, (slice(None),) * axis + (indices.reshape(-1),)


def _source(name: str, source: Any, target: np.ndarray, place: tuple[Any, ...], dtype: Any) -> np.ndarray:
    source = require_array(name, "source", source)
    if source.dtype != dtype:
        raise TypeError(f"[{name}] source: expected dtype {dtype}, got {source.dtype}")
    axis = len(place) - 1
    expected = target.shape[:axis] + place[-1].shape + target.shape[axis + 1 :]
    if source.ndim == 0 and len(expected) == 1:
        source = source.reshape(1)
    if source.shape != expected:
        raise ValueError(f"[{name}] source: expected shape {expected}, got {source.shape}")
    return source


@operator(public=False)
def index_add_slices(input, dim, index, source, alpha, out=None):
    """input with alpha * source added at the slices index of dim, repeated ones adding up."""
    array = require_array("index_add", "input", input)
    result = array.copy() if out is None else out
    target, place = _slices("index_add", result, dim, index)
    source = _source("index_add", source, target, place, array.dtype)
    np.add.at(target, place, source if alpha == 1 else source * array.dtype.type(alpha))
    return result


@operator
def index_copy(input, dim, index, source, out=None):
    """input with source's slices at the slices index of dim."""
    array = require_array("index_copy", "input", input)
    result = array.copy() if out is None else out
    target, place = _slices("index_copy", result, dim, index)
    target[place] = _source("index_copy", source, target, place, array.dtype)
    return result


@operator
def index_fill(input, dim, index, value, out=None):
    """input with the slices index of dim filled with value, a number or a 0-d tensor."""
    array = require_array("index_fill", "input", input)
    result = array.copy() if out is None else out
    target, place = _slices("index_fill", result, dim, index)
    if np.ndim(value):
        raise ValueError(f"[index_fill] value: expected a number, got shape {np.shape(value)}")
    target[place] = value
    return result


index_add_slices.gradient(
    input=lambda grad: grad, source=lambda grad, dim, index, alpha: index_select(grad, dim, index) * alpha
)
index_copy.gradient(
    input=lambda grad, dim, index: index_fill(grad, dim, index, 0.0),
    source=lambda grad, dim, index: index_select(grad, dim, index),
)
index_fill.gradient(
    input=lambda grad, dim, index: index_fill(grad, dim, index, 0.0),
    value=lambda grad, dim, index: index_select(
        grad, dim, np.unique(as_tensor("index_fill", "index", index)._array)
    ).sum(),
)


@composed
def index_add(input, dim, index, source, *, alpha=1):
    """input with alpha * source's slices added at the slices index of dim, repeated ones adding up."""
    return index_add_slices(input, dim, index, source, alpha)


@composed
def index_put(input, indices, values, accumulate=False):
    """input with values at input[indices], a tuple of index tensors; accumulate: added, repeated places adding up."""
    if not accumulate:
        return setitem(input, tuple(indices), values)
    index = tuple(indices)
    return input + accumulate_at(input.shape, index, broadcast_to(values, input.detach()[index].shape))


# Flat positions.


def _flat_index(name: str, size: int, index: Any) -> np.ndarray:
    places = as_tensor(name, "index", index)._array
    if places.dtype.kind not in "iu":
        raise TypeError(f"[{name}] index: expected integers, got dtype {places.dtype}")
    if places.size:
        low, high = int(places.min()), int(places.max())
        if low < -size or high >= size:
            wrong = low if low < -size else high
            raise IndexError(f"[{name}] index: expected integers in [{-size}, {size}), got {wrong}")
    return np.where(places < 0, places.astype(np.int64) + size, places)


@composed
def take(input, index):
    """The elements at index of the flattened input, in index's shape."""
    places = _flat_index("take", input.numel(), index)
    return reshape(index_select(reshape(input, (-1,)), 0, places.reshape(-1)), places.shape)


@composed
def put(input, index, source, accumulate=False):
    """input with source at the positions index of the flattened input; accumulate: added to what is there."""
    places = _flat_index("put", input.numel(), index)
    source = as_tensor("put", "source", source)
    if source.numel() != places.size:
        raise ValueError(f"[put] source: expected {places.size} elements as index, got {source.numel()}")
    write = scatter_add if accumulate else scatter_values
    flat = write(reshape(input, (-1,)), 0, places.reshape(-1), reshape(source, (-1,)))
    return reshape(flat, input.shape)


@composed
def take_along_dim(input, indices, dim=None):
    """As `gather`, but input and indices broadcast against each other; without dim both are flattened."""
    indices = as_tensor("take_along_dim", "indices", indices)
    if dim is None:
        return gather(reshape(input, (-1,)), 0, reshape(indices, (-1,)))
    if indices.ndim != input.ndim:
        raise ValueError(f"[take_along_dim] indices: expected {input.ndim} dimensions, got shape {indices.shape}")
    axis = normalize_axis("take_along_dim", dim, input.ndim)
    if indices.numel() and int(indices._array.min()) < 0:
        indices = choose(indices < 0, indices + input.shape[axis], indices)
    shape = np.broadcast_shapes(*(s[:axis] + (1,) + s[axis + 1 :] for s in (input.shape, indices.shape)))
    input = broadcast_to(input, shape[:axis] + input.shape[axis : axis + 1] + shape[axis + 1 :])
    indices = broadcast_to(indices, shape[:axis] + indices.shape[axis : axis + 1] + shape[axis + 1 :])
    return gather(input, axis, indices)


# Masks.


def _mask(name: str, mask: Any) -> Any:
    mask = as_tensor(name, "mask", mask)
    if mask.dtype.kind != "b":
        raise TypeError(f"[{name}] mask: expected dtype bool, got {mask.dtype}")
    return mask


@composed
def masked_fill(input, mask, value):
    """input with value, a number or a 0-d tensor, where mask is True; mask broadcasts."""
    value = as_tensor("masked_fill", "value", value)
    if value.ndim:
        raise ValueError(f"[masked_fill] value: expected a number or a 0-d tensor, got shape {value.shape}")
    if "biufV".index(value.dtype.kind) > "biufV".index(input.dtype.kind):
        raise TypeError(f"[masked_fill] value: expected one that dtype {input.dtype} holds, got dtype {value.dtype}")
    return choose(_mask("masked_fill", mask), value.to(input.dtype), input)


def _both(input: Any, mask: Any) -> tuple[Any, Any]:
    shape = np.broadcast_shapes(input.shape, mask.shape)
    return broadcast_to(input, shape), broadcast_to(mask, shape)


@composed
def masked_select(input, mask):
    """The elements of input where mask is True, in order, in one dimension; both broadcast."""
    input, mask = _both(input, _mask("masked_select", mask))
    return input.reshape(-1)[mask.reshape(-1)]


@composed
def masked_scatter(input, mask, source):
    """input with the elements of source, in order, where mask is True."""
    input, mask = _both(input, _mask("masked_scatter", mask))
    count = int(mask._array.sum())
    if source.numel() < count:
        raise ValueError(f"[masked_scatter] source: expected at least {count} elements, got {source.numel()}")
    return setitem(input, mask, reshape(source, (-1,))[:count])


@operator
def argwhere(input):
    """The indices of the elements that are not 0, one row each: (count, ndim), int64."""
    array = require_array("argwhere", "input", input)
    if array.ndim == 0:
        return np.zeros((int(array != 0), 0), np.int64)
    return np.argwhere(array).astype(np.int64, copy=False)


@composed
def nonzero(input, *, as_tuple=False):
    """As `argwhere`; as_tuple: one index tensor a dimension instead, so that input[nonzero] are the elements."""
    if not as_tuple:
        return argwhere(input)
    if input.ndim == 0:
        input = reshape(input, (1,))
    rows = argwhere(input)
    return tuple(rows[:, i] for i in range(rows.shape[1]))


@composed
def count_nonzero(input, dim=None):
    """How many elements are not 0, over dim; int64."""
    return (input != 0).sum(dim)


@composed
def where(condition, input=None, other=None):
    """input where condition holds, else other; all three broadcast. where(condition) is nonzero(as_tuple=True)."""
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    return choose(condition, input, other)
