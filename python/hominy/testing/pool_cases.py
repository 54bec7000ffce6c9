"""Pooling and interpolation in the table of cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import reference
from ..ops import windows
from ..ops.windows import Windows
from .case import Array, Case, _exactly, draw


def _sliding(size: Any, divide: str = "") -> Windows:
    """Of a size (shape, kernel, stride, padding, dilation, ceil_mode)."""
    shape, kernel, stride, padding, dilation, ceil = size
    space = shape[2:]
    each = [(value,) * len(space) for value in (kernel, stride, padding, dilation)]
    out = tuple(windows.output_size(n, k, s, p, d, ceil) for n, k, s, p, d in zip(space, *each, strict=True))
    return windows.sliding(space, out, *each, divide)


def _absolute(lists: Any) -> Any:
    return tuple(each._replace(weights=None if each.weights is None else np.abs(each.weights)) for each in lists)


def _sum_bound(y: Array, u: float, x: Array, lists: Any) -> Any:
    """csrc/cpu/interpolate.hpp: (n + 6) u times the sum of magnitudes; weights are rounded, and multiplied."""
    terms = math.prod(len(each.positions) for each in lists)
    rounded = 2 * u * sum(each.weights is not None for each in lists)
    return ((terms + 6) * u + rounded) * reference.resample(np.abs(x), _absolute(lists)) + 1e-300


def _adding_bound(y: Array, u: float, grad: Array, indices: Array, lists: Any) -> Any:
    terms = math.prod(len(each.positions) for each in lists)
    return terms * u * reference.max_pool_backward(np.abs(grad), indices, lists)


def _scatter_bound(y: Array, u: float, x: Array, indices: Array, size: Any, sum: bool) -> Any:
    return math.prod(indices.shape[2:]) * u * reference.scatter_planes(np.abs(x), indices, size, sum) if sum else 0.0


def _resample_case(
    label: str, family: str, lists_of: Callable[[Any], Windows], sizes: Any, turned: bool = False
) -> Case:
    def make(rng: Any, dtype: Any, size: Any) -> Any:
        lists = lists_of(size)
        if turned:
            return draw(rng, dtype, (*size[0][:2], *lists.size)), lists.turned.lists
        return draw(rng, dtype, size[0]), lists.lists

    return Case("resample", family, make, sizes, _sum_bound, label=label)


def _max_pool_case(index_bytes: int) -> Case:
    def make(rng: Any, dtype: Any, size: Any) -> Any:
        x = draw(rng, dtype, size[0])
        if size[0][0] > 1:
            x = np.round(x)  # equal elements: the first counts
        return x, _sliding(size).lists, index_bytes

    def bound(y: Any, u: float, *arguments: Any) -> Any:
        return (0.0, 0.0) if index_bytes else 0.0

    return Case("max_pool", "pool", make, _SLIDING, bound, label=f"max_pool, {index_bytes} bytes an index")


def _pooled(rng: Any, dtype: Any, size: Any) -> tuple[Array, Array, Windows]:
    """(a gradient, the indices that belong to it, the windows) of a max pooling."""
    lists = _sliding(size)
    _, indices = reference.max_pool(np.round(draw(rng, dtype, size[0])), lists.lists, np.dtype(dtype).itemsize)
    assert indices is not None
    return draw(rng, dtype, indices.shape), indices, lists


def _backward_arguments(rng: Any, dtype: Any, size: Any) -> Any:
    grad, indices, lists = _pooled(rng, dtype, size)
    return grad, indices, lists.turned.lists


def _gather_arguments(rng: Any, dtype: Any, size: Any) -> Any:
    _, indices, _ = _pooled(rng, dtype, size)
    return draw(rng, dtype, size[0]), indices.astype(np.int64)


def _scatter_arguments(sum: bool) -> Callable[..., Any]:
    def make(rng: Any, dtype: Any, size: Any) -> Any:
        grad, indices, _ = _pooled(rng, dtype, size)
        return grad, indices.astype(np.int64), tuple(size[0][2:]), sum

    return make


# (shape, kernel, stride, padding, dilation, ceil_mode): rows beside every vector's width and twice that, strides 1
# to 3, channels in ones and in whole vectors.
_SLIDING = (
    ((1, 1, 1), 1, 1, 0, 1, False), ((2, 3, 17), 3, 1, 1, 1, False), ((1, 2, 33), 2, 2, 1, 1, True),
    ((0, 3, 5, 5), 2, 2, 0, 1, False), ((2, 3, 7, 9), 2, 2, 0, 1, True), ((1, 2, 5, 35), 3, 2, 1, 1, False),
    ((2, 17, 6, 7), 3, 1, 1, 2, False), ((1, 65, 4, 5), 2, 3, 0, 1, False), ((1, 2, 3, 67), 3, 3, 1, 2, False),
    ((1, 1, 2, 131), 2, 1, 0, 5, False), ((2, 2, 3, 5, 19), 2, 2, 1, 1, True), ((1, 5, 4, 3, 3), 3, 1, 1, 1, False),
)  # fmt: skip
# (shape, size): adaptive pooling.
_ADAPTIVE = (
    ((1, 1, 1), (1,)), ((2, 3, 33), (7,)), ((1, 2, 5), (13,)), ((0, 3, 5, 5), (2, 2)), ((2, 3, 7, 9), (3, 4)),
    ((1, 17, 8, 70), (5, 17)), ((1, 2, 3, 5, 7), (2, 2, 3)), ((1, 1, 5000), (2,)),
)  # fmt: skip
# (shape, size, mode, align_corners): interpolation.
_INTERPOLATED = (
    ((1, 1, 1), (1,), "nearest", False), ((2, 3, 17), (34,), "linear", False), ((1, 2, 33), (7,), "linear", True),
    ((0, 3, 5, 5), (3, 9), "bilinear", False), ((2, 3, 7, 9), (14, 18), "bilinear", False),
    ((1, 2, 5, 17), (3, 70), "bicubic", False), ((1, 33, 4, 5), (9, 7), "bilinear", True),
    ((1, 2, 6, 40), (6, 11), "nearest-exact", False), ((1, 2, 3, 4, 5), (5, 3, 12), "trilinear", False),
    ((1, 1, 3000), (2500,), "linear", False),
)  # fmt: skip


def _adaptive(size: Any) -> Windows:
    return windows.adaptive(size[0][2:], size[1], True)


def _interpolated(size: Any) -> Windows:
    shape, out, mode, align_corners = size
    return windows.interpolating(shape[2:], out, mode, (None,) * len(out), align_corners)


def _averaged(size: Any) -> Windows:
    return _sliding(size, "inside")


# Sizes that threads share, by family.
LARGE = {
    "pool": [((3, 8, 61, 67), 3, 2, 1, 1, False), ((2, 16, 40, 41), 2, 2, 0, 1, False)],
    "adaptive pool": [((3, 16, 61, 67), (7, 9))],
    "interpolation": [((3, 16, 31, 33), (57, 64), "bilinear", False)],
}

_AVERAGED = tuple(size for size in _SLIDING if size[4] == 1)

POOLING = [
    _resample_case("average pool", "pool", _averaged, _AVERAGED),
    _resample_case("average pool, gradient", "pool", _averaged, _AVERAGED, True),
    _resample_case("adaptive average pool", "adaptive pool", _adaptive, _ADAPTIVE),
    _resample_case("adaptive average pool, gradient", "adaptive pool", _adaptive, _ADAPTIVE, True),
    _resample_case("interpolate", "interpolation", _interpolated, _INTERPOLATED),
    _resample_case("interpolate, gradient", "interpolation", _interpolated, _INTERPOLATED, True),
    *(_max_pool_case(index_bytes) for index_bytes in (0, 4, 8)),
    Case("max_pool_backward", "pool", _backward_arguments, _SLIDING, _adding_bound),
    Case("gather_planes", "pool", _gather_arguments, _SLIDING, _exactly),
    Case("scatter_planes", "pool", _scatter_arguments(False), _SLIDING, _scatter_bound, label="scatter_planes"),
    Case("scatter_planes", "pool", _scatter_arguments(True), _SLIDING, _scatter_bound, label="scatter_planes, added"),
]
