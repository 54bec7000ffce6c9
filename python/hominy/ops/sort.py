"""Order: sorting, selecting by rank, distinct values, counting. Sorting is stable, and NaN counts as the largest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import category
from ..utils.arguments import choice, integer
from .define import ValuesIndices, as_tensor, composed, normalize_axis, operator, require_array
from .indexing import gather, place_along
from .shape import reshape, squeeze


def _order(array: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """The positions along axis in sorted order, equal elements as they come."""
    if not descending:
        return np.argsort(array, axis, kind="stable").astype(np.int64, copy=False)
    flipped = np.argsort(np.flip(array, axis), axis, kind="stable")
    return np.flip(array.shape[axis] - 1 - flipped, axis).astype(np.int64)


@operator(public=False)
def sorted_with_positions(input, dim, descending, count):
    """The first `count` along dim in sorted order (None: all), and where each was."""
    array = require_array("sort", "input", input)
    axis = normalize_axis("sort", dim, array.ndim)
    if array.ndim == 0:
        return array.copy(), np.zeros((), np.int64)
    indices = _order(array, axis, bool(descending))
    if count is not None:
        indices = np.ascontiguousarray(indices[(slice(None),) * axis + (slice(count),)])
    return np.take_along_axis(array, indices, axis), indices


def _sorted_gradient(grad, output, shape_of_input, dim):
    if not shape_of_input:
        return grad[0]
    axis = normalize_axis("sort", dim, len(shape_of_input))
    return place_along(grad[0], axis, output[1], shape_of_input[axis])


sorted_with_positions.gradient(input=_sorted_gradient)


@composed
def sort(input, dim=-1, descending=False, stable=False):
    """(values, indices): input sorted along dim, and where each was. Always stable, whatever `stable` says."""
    return ValuesIndices(*sorted_with_positions(input, dim, descending, None))


@composed
def argsort(input, dim=-1, descending=False, stable=False):
    """The indices that sort input along dim, int64. Always stable."""
    return sorted_with_positions(input.detach(), dim, descending, None)[1]


@composed
def msort(input):
    """input sorted along its first dimension."""
    return sorted_with_positions(input, 0, False, None)[0]


@composed
def topk(input, k, dim=-1, largest=True, sorted=True):
    """(values, indices): the k largest (or smallest) along dim, in order whatever `sorted` says; of equal ones the
    first."""
    axis = normalize_axis("topk", dim, input.ndim)
    size = input.shape[axis] if input.ndim else 1
    if integer("topk", "k", k, 0) > size:
        raise ValueError(f"[topk] k: expected at most {size}, the size of dim {axis}, got {k}")
    if input.ndim == 0 and k == 0:
        return ValuesIndices(reshape(input, (1,))[:0], as_tensor("topk", "indices", np.zeros(0, np.int64)))
    return ValuesIndices(*sorted_with_positions(input, axis, largest, int(k)))


def _ranked(name: str, input: Any, position: Any, dim: int, keepdim: bool) -> ValuesIndices:
    """The element of rank `position` (a number, or one a row) along dim."""
    axis = normalize_axis(name, dim, input.ndim)
    if input.ndim == 0:
        return ValuesIndices(input.clone(), as_tensor(name, "indices", np.zeros((), np.int64)))
    order = _order(input._array, axis, False)
    shape = input.shape[:axis] + (1,) + input.shape[axis + 1 :]
    indices = np.take_along_axis(order, np.broadcast_to(np.asarray(position, np.int64), shape), axis)
    places = as_tensor(name, "indices", indices)
    values = gather(input, axis, places)
    if not keepdim:
        values, places = squeeze(values, axis), squeeze(places, axis)
    return ValuesIndices(values, places)


@composed
def kthvalue(input, k, dim=-1, keepdim=False):
    """(values, indices): the k-th smallest along dim, k from 1 on."""
    axis = normalize_axis("kthvalue", dim, input.ndim)
    size = input.shape[axis] if input.ndim else 1
    if not 1 <= integer("kthvalue", "k", k, 0) <= size:
        raise ValueError(f"[kthvalue] k: expected an integer in [1, {size}], got {k}")
    return _ranked("kthvalue", input, k - 1, axis, keepdim)


def _median(name: str, input: Any, dim: Any, keepdim: bool, skip_nan: bool) -> Any:
    flat = dim is None
    if flat:
        input, dim = reshape(input, (-1,)), 0
    axis = normalize_axis(name, dim, input.ndim)
    if input.ndim and input.shape[axis] == 0:
        if flat:
            return input.sum() * math.nan
        raise ValueError(f"[{name}] input: expected at least one element to reduce, got shape {input.shape}")
    missing = np.isnan(input._array) if category(input.dtype) == 2 else np.zeros(input.shape, bool)
    size = input.shape[axis] if input.ndim else 1
    count = missing.sum(axis, keepdims=True) if input.ndim else np.zeros((), np.int64)
    lower = np.maximum(size - count - 1, 0) // 2
    position = lower if skip_nan else np.where(count > 0, size - count, lower)  # else the first NaN
    found = _ranked(name, input, position, axis, keepdim and not flat)
    return found.values if flat else found


@composed
def median(input, dim=None, keepdim=False):
    """The median, the lower one of two; with dim, (values, indices) along it. NaN wins."""
    return _median("median", input, dim, keepdim, False)


@composed
def nanmedian(input, dim=None, keepdim=False):
    """As `median`, of the elements that are not NaN."""
    return _median("nanmedian", input, dim, keepdim, True)


_INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


@composed
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The q-quantiles of input over dim (None: all): q in [0, 1], a number, or a vector that adds a first dimension.

    Between two elements: "linear", "lower", "higher", "nearest", "midpoint". NaN wins.
    """
    choice("quantile", "interpolation", interpolation, _INTERPOLATIONS)
    wanted = np.asarray(q._array if hasattr(q, "_array") else q, np.float64)
    if wanted.ndim > 1 or ((wanted < 0) | (wanted > 1)).any():
        raise ValueError(f"[quantile] q: expected a number or a vector of numbers in [0, 1], got {q}")
    ndim = input.ndim
    if dim is None:
        kept = (1,) * ndim
        rows = reshape(input, (-1,))
    else:
        axis = normalize_axis("quantile", dim, ndim)
        kept = input.shape[:axis] + (1,) * (ndim > 0) + input.shape[axis + 1 :]
        rows = input.movedim(axis, -1) if ndim else reshape(input, (1,))
    if rows.shape[-1] == 0:
        raise ValueError(f"[quantile] input: expected at least one element to reduce, got shape {input.shape}")
    ordered = sorted_with_positions(rows, -1, False, None)[0]
    rank = wanted.reshape(-1).astype(input.dtype) * np.asarray(rows.shape[-1] - 1, input.dtype)
    if interpolation in ("lower", "higher", "nearest"):
        rank = {"lower": np.floor, "higher": np.ceil, "nearest": np.rint}[interpolation](rank)
    low = np.floor(rank).astype(np.int64)
    weight: Any = np.full(rank.shape, 0.5) if interpolation == "midpoint" else rank - low
    weight = as_tensor("quantile", "weight", weight.astype(input.dtype))
    if getattr(q, "requires_grad", False) and interpolation == "linear":
        weight = reshape(q, (-1,)) * float(rows.shape[-1] - 1) - as_tensor("quantile", "low", low.astype(input.dtype))
    below, above = ordered[..., low], ordered[..., np.ceil(rank).astype(np.int64)]
    found = below.lerp(above, weight)
    spoilt = np.isnan(rows._array).any(-1, keepdims=True)
    if spoilt.any():
        found = found.masked_fill(as_tensor("quantile", "spoilt", spoilt), math.nan)
    found = found.movedim(-1, 0)
    shape = kept if keepdim else tuple(rows.shape[:-1])
    return reshape(found, ((len(low),) if wanted.ndim else ()) + shape)


# Distinct values.


@composed
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements, sorted whatever `sorted` says, with (as asked) where in them each element of input is and
    how often each occurs; with dim, the distinct slices along it."""
    axis = None if dim is None else normalize_axis("unique", dim, input.ndim)
    array = input._array
    if axis is not None and array.ndim and array.size == 0:
        rest = math.prod(size for i, size in enumerate(array.shape) if i != axis)
        if rest == 0 and array.shape[axis]:
            raise ValueError(f"[unique] input: expected slices of at least one element, got shape {array.shape}")
    if axis is not None and array.ndim == 0:
        axis = None
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    return _distinct(input, values, inverse.reshape(array.shape if axis is None else -1), counts, return_inverse,
                     return_counts)  # fmt: skip


def _distinct(input: Any, values: Any, inverse: Any, counts: Any, with_inverse: bool, with_counts: bool) -> Any:
    results = [values, *([inverse] if with_inverse else []), *([counts] if with_counts else [])]
    tensors = tuple(as_tensor("unique", "result", np.asarray(x, order="C")) for x in results)
    return tensors if len(tensors) > 1 else tensors[0]


@composed
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """The elements of the flattened input (or the slices along dim) without those equal to the one before."""
    array = input._array
    if dim is None:
        rows, axis = array.reshape(-1), 0
    else:
        axis = normalize_axis("unique_consecutive", dim, input.ndim)
        rows = array.reshape(1) if array.ndim == 0 else array
    count = rows.shape[axis]
    flat = np.moveaxis(rows, axis, 0).reshape(count, -1 if rows.size else 0)
    new = np.ones(count, bool)
    if count > 1:
        new[1:] = (flat[1:] != flat[:-1]).any(1)
    starts = np.flatnonzero(new)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(starts, count))
    values = rows.take(starts, axis)
    return _distinct(input, values, inverse.reshape(array.shape) if dim is None else inverse, counts, return_inverse,
                     return_counts)  # fmt: skip


# Counting.


@operator
def bincount(input, weights=None, minlength=0):
    """How often each of 0, 1, 2, ... occurs in a vector of integers (or its weights' sum), at least minlength long."""
    array = require_array("bincount", "input", input)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"[bincount] input: expected a vector of integers, got shape {array.shape} of {array.dtype}")
    if array.size and int(array.min()) < 0:
        raise ValueError(f"[bincount] input: expected integers of 0 or more, got {int(array.min())}")
    if weights is not None and weights.shape != array.shape:
        raise ValueError(f"[bincount] weights: expected shape {array.shape}, got {weights.shape}")
    counts = np.bincount(array.astype(np.int64), weights, integer("bincount", "minlength", minlength, 0))
    if weights is None:
        return counts.astype(np.int64, copy=False)
    return counts.astype(np.float32 if weights.dtype == np.float32 else np.float64, copy=False)


@operator
def histc(input, bins=100, min=0, max=0):
    """How many elements fall into each of `bins` equal parts of [min, max] (both 0: of the elements' range)."""
    array = require_array("histc", "input", input)
    integer("histc", "bins", bins)
    if min > max:
        raise ValueError(f"[histc] max: expected at least min ({min}), got {max}")
    low, high = float(min), float(max)
    flat = array.reshape(-1)
    if low == high and flat.size:
        low, high = float(flat.min()), float(flat.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"[histc] input: expected a finite range, got [{low}, {high}]")
    inside = flat[(flat >= low) & (flat <= high)]
    with np.errstate(all="ignore"):
        places = ((inside - inside.dtype.type(low)) * bins / inside.dtype.type(high - low)).astype(np.int64)
    counts = np.bincount(np.minimum(places, bins - 1), minlength=bins)
    return counts.astype(array.dtype)


@operator
def searchsorted(sorted_sequence, input, out_int32=False, right=False, side=None, sorter=None):
    """Where in sorted_sequence (sorted along its last dimension, or in the order that sorter gives) each element of
    input would be put: before equal ones, with `right` or side="right" after them. A vector serves every row of input;
    otherwise the other dimensions agree."""
    edges = require_array("searchsorted", "sorted_sequence", sorted_sequence)
    values = np.asarray(input)
    if sorter is not None:
        places = require_array("searchsorted", "sorter", sorter)
        if places.shape != edges.shape or places.dtype.kind not in "iu":
            raise ValueError(f"[searchsorted] sorter: expected integers of shape {edges.shape}, got {places.shape}")
        if places.size and not (places.min() >= 0 and places.max() < edges.shape[-1]):
            wrong = places.min() if places.min() < 0 else places.max()
            raise IndexError(f"[searchsorted] sorter: expected integers in [0, {edges.shape[-1]}), got {wrong}")
        edges = np.take_along_axis(edges, places, -1)
    if side is not None:
        right = choice("searchsorted", "side", side, ("left", "right")) == "right"
    side = "right" if right else "left"
    if edges.ndim == 1:
        found = np.searchsorted(edges, values, side)
    else:
        if edges.shape[:-1] != values.shape[:-1]:
            raise ValueError(f"[searchsorted] input: expected shape {(*edges.shape[:-1], '...')}, got {values.shape}")
        found = np.empty(values.shape, np.int64)
        for row in np.ndindex(edges.shape[:-1]):
            found[row] = np.searchsorted(edges[row], values[row], side)
    return np.asarray(found, np.int32 if out_int32 else np.int64)


@composed
def bucketize(input, boundaries, *, out_int32=False, right=False):
    """Which of the intervals between the sorted boundaries each element falls into; `right` closes them on the left."""
    return searchsorted(boundaries, input, out_int32, right)


@operator
def isin(elements, test_elements, assume_unique=False, invert=False):
    """Whether each element is among test_elements."""
    return np.asarray(np.isin(elements, test_elements, assume_unique=assume_unique, invert=invert))
