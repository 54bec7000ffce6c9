"""Memory layouts that a kernel must take: the same elements behind other strides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def contiguous(x: Array) -> Array:
    """C order, aligned."""
    return np.array(x, order="C")


def fortran(x: Array) -> Array:
    """First dimension fastest."""
    return np.array(x, order="F")


def permuted(x: Array) -> Array:
    """The last dimension slowest: neither C nor Fortran order."""
    return x if x.ndim < 2 else np.moveaxis(np.array(np.moveaxis(x, -1, 0), order="C"), 0, -1)


def strided(x: Array) -> Array:
    """Gaps after every element and every row."""
    room = np.zeros([size * 2 + 1 for size in x.shape], x.dtype)
    odd: Any = (*(slice(1, None, 2) for _ in x.shape), ...)
    view = room[odd]
    view[...] = x
    return view


def negative(x: Array) -> Array:
    """Every stride negative."""
    turned: Any = (*(slice(None, None, -1),) * x.ndim, ...)
    return np.array(x[turned], order="C")[turned]


def stretched(x: Array) -> Array:
    """Stride 0 in the first dimension: its first entry, again and again. (Other elements than x's.)"""
    return np.broadcast_to(np.array(x[:1], order="C"), x.shape) if x.ndim and x.shape[0] else x


def stretched_last(x: Array) -> Array:
    """Stride 0 in the last dimension. (Other elements than x's.)"""
    return np.broadcast_to(np.array(x[..., :1], order="C"), x.shape) if x.ndim and x.shape[-1] else x


def misaligned(x: Array) -> Array:
    """C order, one byte off every alignment."""
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def ragged(x: Array) -> Array:
    """Rows one byte longer than their elements, so that each has another alignment."""
    if x.ndim < 2 or not x.size:
        return misaligned(x)
    row = x.shape[-1] * x.itemsize + 1
    memory = np.zeros(row * (x.size // x.shape[-1]) + x.itemsize, np.uint8)
    strides = [x.itemsize, row]
    for size in reversed(x.shape[1:-1]):
        strides.append(strides[-1] * size)
    view: Array = np.ndarray(x.shape, x.dtype, memory, 0, tuple(reversed(strides)))
    view[...] = x
    return view


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    function.__name__: function
    for function in (
        contiguous, fortran, permuted, strided, negative, stretched, stretched_last, misaligned, ragged
    )
}  # fmt: skip


def lay_out(x: Array, layout: str) -> Array:
    """`x` in the layout of that name."""
    return LAYOUTS[layout](x)
