"""Rows of a table by their numbers, and sums, means and largest elements over bags of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import TensorBase, bump
from ..backends import run
from .define import functional, operator, require_floating, scalar
from .indexing import accumulate_at


def _numbers(name: str, argument: str, value: Any) -> np.ndarray:
    """Row numbers as int64.

    Raises:
        TypeError: they are not integers.
    """
    array = value._array if isinstance(value, TensorBase) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        got = array.dtype if isinstance(array, np.ndarray) else type(value).__name__
        raise TypeError(f"[{name}] {argument}: expected integers, got {got}")
    return array.astype(np.int64, copy=False)


@operator(public=False)
def embedding_rows(weight, input, padding_idx, scale_grad_by_freq):
    """weight[input]; the rows that padding_idx names have no gradient."""
    table = require_floating("embedding", "weight", weight)
    return run("embedding", table, input.reshape(-1)).reshape(*input.shape, table.shape[1])


@operator(public=False)
def embedding_gradient(grad, input, rows, padding_idx, scale_grad_by_freq):
    """(rows, D): the sums of grad's rows, each divided by how often its number occurs with `scale_grad_by_freq`."""
    numbers = input.reshape(-1)
    flat = require_floating("embedding", "grad", grad).reshape(len(numbers), -1 if grad.size else grad.shape[-1])
    total = run("embedding_backward", flat, numbers, rows, -1 if padding_idx is None else padding_idx)
    if scale_grad_by_freq:
        total /= np.maximum(np.bincount(numbers, minlength=rows), 1).astype(total.dtype)[:, None]
    return total


def _second_gradient(outer, input, padding_idx, scale_grad_by_freq):
    rows = embedding_rows(outer, input, None, False)
    numbers = input._array if isinstance(input, TensorBase) else input
    factor = np.ones((*numbers.shape, 1), outer.dtype)
    if padding_idx is not None:
        factor[numbers == padding_idx] = 0
    if scale_grad_by_freq:
        factor /= np.bincount(numbers.reshape(-1), minlength=outer.shape[0])[numbers][..., None]
    return rows * factor


embedding_rows.gradient(
    weight=lambda grad, input, shape_of_weight, padding_idx, scale_grad_by_freq: embedding_gradient(
        grad, input, shape_of_weight[0], padding_idx, scale_grad_by_freq
    )
)
embedding_gradient.gradient(
    grad=lambda outer, input, padding_idx, scale_grad_by_freq: _second_gradient(
        outer, input, padding_idx, scale_grad_by_freq
    )
)


def _padding(name: str, padding_idx: Any, rows: int) -> int | None:
    if padding_idx is None:
        return None
    if isinstance(padding_idx, bool) or not hasattr(padding_idx, "__index__"):
        raise TypeError(f"[{name}] padding_idx: expected an integer or None, got {type(padding_idx).__name__}")
    number = padding_idx.__index__()
    if not -rows <= number < rows:
        raise ValueError(f"[{name}] padding_idx: expected an integer in [{-rows}, {rows}), got {number}")
    return number % rows


def _limit_norms(weight: Any, numbers: np.ndarray, max_norm: float, norm_type: float) -> None:
    """Rows of `weight` that are used are scaled down to max_norm, in place and outside the tape."""
    used = np.unique(numbers)
    if used.size and not (used[0] >= 0 and used[-1] < len(weight._array)):
        return  # the lookup says which number is wrong
    rows = weight._array[used]
    norms = np.linalg.norm(rows, norm_type, axis=1)
    long = norms > max_norm
    if long.any():
        weight._array[used[long]] = rows[long] * (max_norm / (norms[long] + 1e-7))[:, None].astype(rows.dtype)
        bump(weight)


def _table(name: str, weight: Any) -> Any:
    if not isinstance(weight, TensorBase):
        raise TypeError(f"[{name}] weight: expected a tensor, got {type(weight).__name__}")
    if weight._array.ndim != 2:
        raise ValueError(f"[{name}] weight: expected 2 dimensions (V, D), got shape {weight._array.shape}")
    return weight


@functional
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """weight (V, D)[input]: (*, D) for integers input (*).

    padding_idx: the row that gets no gradient. max_norm: rows that are used are first scaled down, in place, to that
    norm. scale_grad_by_freq: gradients are divided by how often a row is used. sparse is accepted; gradients are dense.

    Raises:
        IndexError: a number outside [0, V).
        TypeError: input does not hold integers.
    """
    numbers = _numbers("embedding", "input", input)
    table = _table("embedding", weight)
    padding = _padding("embedding", padding_idx, table._array.shape[0])
    if max_norm is not None:
        limit = scalar("embedding", "max_norm", max_norm)
        _limit_norms(table, numbers, limit, scalar("embedding", "norm_type", norm_type))
    return embedding_rows(table, numbers, padding, bool(scale_grad_by_freq))


@operator(public=False)
def bag_extremes(rows, first, length):
    """(largest, position) over bags of rows (N, D): `length` (B,) of them from `first` (B,) on; 0 for an empty bag."""
    largest = np.zeros((len(first), rows.shape[1]), rows.dtype)
    position = np.full(largest.shape, -1)
    for bag, (start, count) in enumerate(zip(first, length, strict=True)):
        if count:
            position[bag] = start + rows[start : start + count].argmax(0)
            largest[bag] = np.take_along_axis(rows, position[bag][None], 0)[0]
    return largest, position


def _extremes_gradient(grad, output_1, shape_of_rows):
    position = output_1._array
    columns = position.shape[1]
    flat = np.where(position < 0, 0, position) * columns + np.arange(columns)
    values = grad[0] * (position >= 0).astype(grad[0].dtype)
    return accumulate_at((math.prod(shape_of_rows),), flat.reshape(-1), values.reshape((-1,))).reshape(shape_of_rows)


bag_extremes.gradient(rows=_extremes_gradient)


@functional
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sums ("sum"), means or largest elements ("max") of rows of weight (V, D), a bag of rows each: (B, D).

    input: (B, n), bags of n numbers; or (N,) with offsets (B,), where each bag begins (with include_last_offset one
    more, the end). per_sample_weights: of input's shape, with "sum" alone. Numbers equal to padding_idx do not take
    part. An empty bag gives 0.

    Raises:
        IndexError: a number outside [0, V).
        ValueError: shapes, offsets or mode do not fit.
    """
    name = "embedding_bag"
    numbers, table = _numbers(name, "input", input), _table(name, weight)
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"[{name}] mode: expected 'sum', 'mean' or 'max', got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise ValueError(f"[{name}] per_sample_weights: expected None unless mode is 'sum', got mode {mode!r}")
    if per_sample_weights is not None and per_sample_weights.shape != numbers.shape:
        raise ValueError(f"[{name}] per_sample_weights: expected shape {numbers.shape}, got {per_sample_weights.shape}")
    if numbers.ndim == 2:
        if offsets is not None:
            raise ValueError(f"[{name}] offsets: expected None where input has 2 dimensions, got offsets")
        length = np.full(len(numbers), numbers.shape[1])
    elif numbers.ndim == 1 and offsets is not None:
        starts = _numbers(name, "offsets", offsets)
        if starts.ndim != 1:
            raise ValueError(f"[{name}] offsets: expected 1 dimension, got shape {starts.shape}")
        ends = starts if include_last_offset else np.append(starts, numbers.size)
        length = np.diff(ends)
        if (starts.size and starts[0] != 0) or (length < 0).any() or (ends.size and ends[-1] > numbers.size):
            raise ValueError(f"[{name}] offsets: expected them to begin with 0 and to grow to at most {numbers.size}")
    else:
        raise ValueError(f"[{name}] input: expected shape (B, n), or (N,) with offsets, got {numbers.shape}")
    flat = numbers.reshape(-1)[: length.sum()]
    bag = np.repeat(np.arange(len(length)), length)
    padding = _padding(name, padding_idx, table._array.shape[0])
    if per_sample_weights is not None:
        per_sample_weights = per_sample_weights.reshape((-1,))[: flat.size]
    if padding is not None:
        kept = np.flatnonzero(flat != padding)
        flat, bag = flat[kept], bag[kept]
        length = np.bincount(bag, minlength=len(length))
        per_sample_weights = None if per_sample_weights is None else per_sample_weights[kept]
    rows = embedding(flat, table, None, max_norm, norm_type, scale_grad_by_freq)
    if mode == "max":
        return bag_extremes(rows, np.cumsum(length) - length, length)[0]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape((-1, 1))
    total = accumulate_at((len(length), table._array.shape[1]), bag, rows)
    if mode == "mean":
        total = total / np.maximum(length, 1).astype(table._array.dtype)[:, None]
    return total
