"""The specification of pooling and interpolation: windows given as lists. Part of `reference`.

A window list of one dimension is (counts, positions, weights, divisors): output i reads positions[:counts[i], i] of the
input, times weights[:counts[i], i], and the sum is divided by divisors[i]; None for weights or divisors means 1.
Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray
_EVERY_PLANE: tuple[Any, ...] = (slice(None), slice(None))

__all__ = ["gather_planes", "max_pool", "max_pool_backward", "resample", "scatter_planes"]


def _in_order_of(x: Array, result: Array) -> Array:
    """A result of x's dimensions in x's memory order: axes of the largest strides first."""
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    if x.flags.c_contiguous or 0 in x.strides:
        order = list(range(x.ndim))
    laid = np.ascontiguousarray(result.transpose(order))
    return laid.transpose(np.argsort(order))


def _require_windows(op: str, x: Array, windows: Sequence[Any], lowest: int) -> None:
    if len(windows) != x.ndim - 2:
        raise ValueError(f"[{op}] windows: expected {x.ndim - 2} lists, got {len(windows)}")
    for size, (counts, positions, _, _) in zip(x.shape[2:], windows, strict=True):
        if ((counts < lowest) | (counts > len(positions))).any():
            raise ValueError(f"[{op}] counts: expected integers in [{lowest}, {len(positions)}]")
        read = positions[np.arange(len(positions))[:, None] < counts]
        if ((read < 0) | (read >= size)).any():
            raise IndexError(f"[{op}] positions: expected integers in [0, {size})")


def resample(x: Array, windows: Sequence[Any]) -> Array:
    """Each dimension of space of x (N, C, *space) in turn: sums of its windows."""
    _require_windows("resample", x, windows, 0)
    result = x.astype(np.promote_types(x.dtype, np.float64))
    with np.errstate(all="ignore"):
        for axis, (counts, positions, weights, _) in enumerate(windows, 2):
            source = np.moveaxis(result, axis, -1)
            total = np.zeros((*source.shape[:-1], len(counts)), result.dtype)
            for k, row in enumerate(positions):
                here = k < counts
                product = source[..., row[here]]
                total[..., here] += product if weights is None else product * weights[k, here]
            result = np.moveaxis(total, -1, axis)
        for axis, (_, _, _, divisors) in enumerate(windows, 2):
            if divisors is not None:
                result = result / divisors.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        return _in_order_of(x, result.astype(x.dtype))


def max_pool(x: Array, windows: Sequence[Any], index_bytes: int) -> tuple[Array, Array | None]:
    """(out, indices): the largest element of each window of x (N, C, *space), and its number in the plane (*space): of
    equal ones the first, but the last NaN. indices: int64 or int32 by `index_bytes`; 0: None."""
    _require_windows("max_pool", x, windows, 1)
    size = tuple(len(counts) for counts, *_ in windows)
    best = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
    index = np.full(best.shape, -1)
    with np.errstate(all="ignore"):
        for places in itertools.product(*(range(len(positions)) for _, positions, *_ in windows)):
            rows = [positions[k] for k, (_, positions, *_) in zip(places, windows, strict=True)]
            inside = np.ones(size, bool)
            for d, (k, (counts, *_)) in enumerate(zip(places, windows, strict=True)):
                inside &= (k < counts).reshape(-1, *(1,) * (len(size) - 1 - d))
            grid: Any = np.ix_(*(np.where(k < w[0], row, 0) for k, row, w in zip(places, rows, windows, strict=True)))
            read = (*_EVERY_PLANE, *grid)
            here = x[read]
            number = np.ravel_multi_index(grid, x.shape[2:]) if x.size else np.zeros(size, int)
            take = inside & ((here > best) | (here != here) | (index < 0))
            best, index = np.where(take, here, best), np.where(take, number, index)
    dtype = {0: None, 4: np.int32, 8: np.int64}[index_bytes]
    return _in_order_of(x, best), None if dtype is None else _in_order_of(x, index.astype(dtype))


def max_pool_backward(grad: Array, indices: Array, windows: Sequence[Any]) -> Array:
    """(N, C, *size): for each element the sum of grad (N, C, *space) over the outputs that `windows`, those of the
    pooling turned round, list for it and whose index is its number."""
    _require_windows("max_pool_backward", grad, windows, 0)
    size = tuple(len(counts) for counts, *_ in windows)
    total = np.zeros((*grad.shape[:2], *size), np.promote_types(grad.dtype, np.float64))
    number = np.arange(int(np.prod(size))).reshape(size)
    with np.errstate(all="ignore"):
        for places in itertools.product(*(range(len(positions)) for _, positions, *_ in windows)):
            listed = [k < counts for k, (counts, *_) in zip(places, windows, strict=True)]
            here: Any = np.ix_(*(np.flatnonzero(each) for each in listed))
            rows = (positions[k][each] for k, (_, positions, *_), each in zip(places, windows, listed, strict=True))
            read = (*_EVERY_PLANE, *np.ix_(*rows))
            written = (*_EVERY_PLANE, *here)
            total[written] += np.where(indices[read] == number[here], grad[read], 0)
        return _in_order_of(indices, total.astype(grad.dtype))


def _planes(op: str, x: Array, indices: Array, size: int) -> tuple[Array, Array]:
    wrong = indices[(indices < 0) | (indices >= size)]
    if wrong.size:
        raise IndexError(f"[{op}] indices: expected integers in [0, {size}), got {wrong[0]}")
    shape = x.shape[:2]
    flat, numbers = (
        x.reshape(*shape, int(np.prod(x.shape[2:]))),
        indices.reshape(*shape, int(np.prod(indices.shape[2:]))),
    )
    return np.ascontiguousarray(flat), np.ascontiguousarray(numbers)  # in C order the last of several assignments stays


def gather_planes(x: Array, indices: Array) -> Array:
    """x (N, C, *space) at indices (N, C, *) of each plane's elements in C order."""
    planes, numbers = _planes("gather_planes", x, indices, int(np.prod(x.shape[2:])))
    return _in_order_of(indices, np.take_along_axis(planes, numbers.astype(np.int64), 2).reshape(indices.shape))


def scatter_planes(x: Array, indices: Array, size: Sequence[int], sum: bool) -> Array:
    """(N, C, *size): 0, and the elements of x (N, C, *) where indices (N, C, *) put them, the last one of several; with
    `sum` all of them together."""
    plane = int(np.prod(size))
    values, numbers = _planes("scatter_planes", x, indices, plane)
    n, c, _ = values.shape
    out = np.zeros((n * c, plane), np.promote_types(x.dtype, np.float64))
    rows = np.repeat(np.arange(n * c)[:, None], values.shape[2], 1)
    places = (rows, numbers.reshape(n * c, -1) if numbers.size else rows)
    with np.errstate(all="ignore"):
        if sum:
            np.add.at(out, places, values.reshape(rows.shape))
        else:
            out[places] = values.reshape(rows.shape)
        return _in_order_of(indices, out.reshape(n, c, *size).astype(x.dtype))
