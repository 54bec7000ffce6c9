"""Pooling and interpolation of numba_jit.py: loops over (N, C, depth, height, width).

The formulas, and the lists that say which inputs an output reads, stand in reference_pool.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .declined import Declined
from .numba_math import jit
from .reference_pool import _in_order_of, _require_windows

Array = np.ndarray

_ONE = (np.ones(1, np.int32), np.zeros((1, 1), np.int32), np.ones((1, 1)), np.ones(1))


def _refusal(x: Array) -> Declined | None:
    if x.dtype == np.float32 or x.dtype == np.float64:
        return None
    return Declined(f"dtype {x.dtype} is neither float32 nor float64")


def _deep(x: Array) -> Array:
    """With three dimensions of space, in C order, so that Numba compiles a kernel once for each dtype."""
    return np.ascontiguousarray(x).reshape(*x.shape[:2], *(1,) * (5 - x.ndim), *x.shape[2:])


def _deep_windows(windows: Sequence[Any]) -> tuple[Any, ...]:
    full = [
        (counts, positions, np.ones(positions.shape) if weights is None else weights,
         np.ones(len(counts)) if divisors is None else divisors)
        for counts, positions, weights, divisors in windows
    ]  # fmt: skip
    return tuple([_ONE] * (3 - len(full)) + full)


def _empty(like: Array, windows: Sequence[Any], dtype: Any) -> Array:
    return np.empty((*like.shape[:2], *(len(counts) for counts, *_ in windows)), dtype)


@jit
def _resample(x, windows, out):
    depth, height, width = windows
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            for d in range(out.shape[2]):
                for h in range(out.shape[3]):
                    for w in range(out.shape[4]):
                        total = 0.0
                        for i in range(depth[0][d]):
                            for j in range(height[0][h]):
                                outer = depth[2][i, d] * height[2][j, h]
                                for k in range(width[0][w]):
                                    value = np.float64(x[n, c, depth[1][i, d], height[1][j, h], width[1][k, w]])
                                    total += outer * width[2][k, w] * value
                        out[n, c, d, h, w] = total / (depth[3][d] * height[3][h] * width[3][w])


def resample(x: Array, windows: Sequence[Any]) -> Array | Declined:
    """Weighted sums of windows, in float64."""
    if refusal := _refusal(x):
        return refusal
    _require_windows("resample", x, windows, 0)
    out = _empty(x, windows, x.dtype)
    _resample(_deep(x), _deep_windows(windows), _deep(out))
    return _in_order_of(x, out)


@jit
def _max_pool(x, windows, out, indices, keep):
    depth, height, width = windows
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            for d in range(out.shape[2]):
                for h in range(out.shape[3]):
                    for w in range(out.shape[4]):
                        best, index = x[n, c, depth[1][0, d], height[1][0, h], width[1][0, w]], -1
                        for i in range(depth[0][d]):
                            for j in range(height[0][h]):
                                before = (depth[1][i, d] * x.shape[3] + height[1][j, h]) * x.shape[4]
                                for k in range(width[0][w]):
                                    value = x[n, c, depth[1][i, d], height[1][j, h], width[1][k, w]]
                                    if index < 0 or value > best or value != value:
                                        best, index = value, before + width[1][k, w]
                        out[n, c, d, h, w] = best
                        if keep:
                            indices[n, c, d, h, w] = index


def max_pool(x: Array, windows: Sequence[Any], index_bytes: int) -> tuple[Array, Array | None] | Declined:
    """(out, indices or None)."""
    if refusal := _refusal(x):
        return refusal
    _require_windows("max_pool", x, windows, 1)
    dtype = np.int32 if index_bytes == 4 else np.int64
    out = _empty(x, windows, x.dtype)
    indices = _empty(x, windows, dtype) if index_bytes else np.empty((0,) * x.ndim, dtype)
    _max_pool(_deep(x), _deep_windows(windows), _deep(out), _deep(indices), index_bytes > 0)
    return _in_order_of(x, out), _in_order_of(x, indices) if index_bytes else None


@jit
def _max_pool_backward(grad, indices, windows, out):
    depth, height, width = windows
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            own = 0
            for d in range(out.shape[2]):
                for h in range(out.shape[3]):
                    for w in range(out.shape[4]):
                        total = 0.0
                        for i in range(depth[0][d]):
                            for j in range(height[0][h]):
                                for k in range(width[0][w]):
                                    z, y, x = depth[1][i, d], height[1][j, h], width[1][k, w]
                                    if indices[n, c, z, y, x] == own:
                                        total += np.float64(grad[n, c, z, y, x])
                        out[n, c, d, h, w] = total
                        own += 1


def max_pool_backward(grad: Array, indices: Array, windows: Sequence[Any]) -> Array | Declined:
    """The sums of the gradients whose index is an element's number."""
    if refusal := _refusal(grad):
        return refusal
    _require_windows("max_pool_backward", grad, windows, 0)
    out = _empty(indices, windows, grad.dtype)
    _max_pool_backward(_deep(grad), _deep(indices), _deep_windows(windows), _deep(out))
    return _in_order_of(indices, out)


@jit
def _gather(x, indices, out):
    for n in range(indices.shape[0]):
        for c in range(indices.shape[1]):
            for p in range(indices.shape[2]):
                index = indices[n, c, p]
                if index < 0 or index >= x.shape[2]:
                    return False
                out[n, c, p] = x[n, c, index]
    return True


@jit
def _scatter(x, indices, out, sum):
    for n in range(indices.shape[0]):
        for c in range(indices.shape[1]):
            for p in range(indices.shape[2]):
                index = indices[n, c, p]
                if index < 0 or index >= out.shape[2]:
                    return False
                out[n, c, index] = out[n, c, index] + x[n, c, p] if sum else x[n, c, p]
    return True


def _planes(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _require_inside(op: str, inside: bool, indices: Array, size: int) -> None:
    if not inside:
        wrong = indices[(indices < 0) | (indices >= size)]
        raise IndexError(f"[{op}] indices: expected integers in [0, {size}), got {wrong[0]}")


def gather_planes(x: Array, indices: Array) -> Array | Declined:
    """x's elements by their numbers in the plane."""
    if refusal := _refusal(x):
        return refusal
    planes, out = _planes(x), np.empty(_planes(indices).shape, x.dtype)
    _require_inside("gather_planes", _gather(planes, _planes(indices), out), indices, planes.shape[2])
    return _in_order_of(indices, out.reshape(indices.shape))


def scatter_planes(x: Array, indices: Array, size: Sequence[int], sum: bool) -> Array | Declined:
    """x's elements where their indices put them, in float64 where they add up."""
    if refusal := _refusal(x):
        return refusal
    out = np.zeros((*x.shape[:2], math.prod(size)), np.float64 if sum else x.dtype)
    _require_inside("scatter_planes", _scatter(_planes(x), _planes(indices), out, sum), indices, out.shape[2])
    return _in_order_of(indices, out.reshape(*x.shape[:2], *size).astype(x.dtype, copy=False))
