"""Reductions of numba_jit.py: sums, products, the largest and the smallest, and where they stand.

Each is two kernels: of rows, (outer, size), where the reduced axes are the innermost in memory; of columns, (outer,
size, inner), elsewhere. Sums are plain sums of blocks, then the blocks' sums with compensation. Products multiply in
float64 and in whatever order suits vector code. Extremes are compared as if there were no NaN, so that LLVM makes
vector code of it, and NaN is looked for beside.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import intrinsic

from .declined import Declined
from .numba_math import inlined, jit

Array = np.ndarray
Axes = tuple[int, ...]

_TILE = 512  # columns at a time: what they need stays in the first-level cache
_WIDE_TILE = 2048  # the same of loops that keep one row, and elements of a row at a time


def _refusal(x: Array) -> Declined | None:
    if x.dtype == np.float32 or x.dtype == np.float64:
        return None
    return Declined(f"dtype {x.dtype} is neither float32 nor float64")


def _memory_order(x: Array) -> list[int]:
    """x's axes, the slowest first."""
    return sorted(range(x.ndim), key=lambda axis: -x.strides[axis])


def _flat(x: Array) -> Any:
    """x's elements as a 1-D view in the order of memory; None where x has gaps or repeats, or Numba would have to
    compile the kernel once more for it (misaligned, read-only)."""
    if not x.flags.behaved:
        return None
    if not x.flags.c_contiguous:
        x = x.transpose(_memory_order(x))
    return x.reshape(-1) if x.flags.c_contiguous else None


def _is_a_run(x: Array, axes: Axes) -> bool:
    """Whether `axes` are neighbours in memory as they are in x's shape: what takes no arranging."""
    count = len(axes)
    return x.flags.carray and (count == 1 or count == x.ndim or max(axes) - min(axes) == count - 1)


def _reduce_run(x: Array, axes: Axes, keepdim: bool, of_rows: Any, of_columns: Any, dtype: Any) -> Array:
    count = len(axes)
    if count == x.ndim:
        result = np.empty((1,) * count if keepdim else (), dtype)
        of_rows(x.reshape(1, -1), result.reshape(-1))
        return result
    begin = axes[0] if count == 1 else min(axes)
    before, reduced, after = x.shape[:begin], x.shape[begin : begin + count], x.shape[begin + count :]
    result = np.empty(before + (1,) * count + after if keepdim else before + after, dtype)
    outer, size = math.prod(before), reduced[0] if count == 1 else math.prod(reduced)
    if after:
        inner = math.prod(after)
        of_columns(x.reshape(outer, size, inner), result.reshape(outer, inner))
    else:
        of_rows(x.reshape(outer, size), result.reshape(outer))
    return result


def _reduce(x: Array, axes: Axes, keepdim: bool, of_rows: Any, of_columns: Any, dtype: Any) -> Array:
    """Reduces x over `axes`, one run of axes that are neighbours in memory after the other. The result has `dtype`."""
    if _is_a_run(x, axes):
        return _reduce_run(x, axes, keepdim, of_rows, of_columns, dtype)
    if _flat(x) is None:
        x = x.copy(order="K")
    order = _memory_order(x)
    x = x.transpose(order)  # C-contiguous
    reduced = [axis in axes for axis in order]
    while True in reduced:
        end = len(reduced) - reduced[::-1].index(True)  # the innermost run of reduced axes is begin ... end
        begin = end - [*reduced[:end][::-1], False].index(False)
        outer, size, inner = (math.prod(x.shape[a:b]) for a, b in ((0, begin), (begin, end), (end, x.ndim)))
        result = np.empty(x.shape[:begin] + x.shape[end:], dtype)
        if inner == 1:
            of_rows(x.reshape(outer, size), result.reshape(outer))
        else:
            of_columns(x.reshape(outer, size, inner), result.reshape(outer, inner))
        x, order, reduced = result, order[:begin] + order[end:], reduced[:begin] + reduced[end:]
    x = x.transpose(sorted(range(x.ndim), key=lambda i: order[i]))
    return np.expand_dims(x, axes) if keepdim else x


def _reduce_or_decline(
    x: Array, axes: Axes, keepdim: bool, of_rows: Any, of_columns: Any, dtype: Any
) -> Array | Declined:
    """`_reduce` where it was measured faster than NumPy."""
    if refusal := _refusal(x):
        return refusal
    if _is_a_run(x, axes):
        return _reduce_run(x, axes, keepdim, of_rows, of_columns, dtype)
    if x.size < 8192:
        return Declined("NumPy is up to 1.8 times as fast for a small array whose axes lie apart")
    if _flat(x) is None:
        return Declined("NumPy is up to 2.5 times as fast where memory has gaps")
    return _reduce(x, axes, keepdim, of_rows, of_columns, dtype)


# --- sums -------------------------------------------------------------------------------------------------------------


@inlined
def _add_exactly(total, error, value):
    """Knuth's two-sum: what an addition rounds away is kept; but an infinite sum has no error."""
    result = total + value
    kept = result - total
    error += (total - (result - kept)) + (value - kept)
    return result, error if abs(result) < np.inf else 0.0


_in_any_order: Any = functools.partial(jit, fastmath={"contract", "reassoc", "nsz"})  # the order is the same each time


@_in_any_order
def _sum_block(x):
    total = 0.0
    for i in range(x.size):
        total += x[i]
    return total


@jit
def _sum_row(x):
    total, error = 0.0, 0.0
    for block in range(0, x.size, 256):
        total, error = _add_exactly(total, error, _sum_block(x[block : block + 256]))
    return total + error


@jit
def _sum_rows(x, out):
    """out (rows) from x (rows, columns)."""
    for r in range(x.shape[0]):
        out[r] = _sum_row(x[r])


@jit
def _sum_columns(x, out):
    """out (outer, inner) from x (outer, size, inner)."""
    outer, size, inner = x.shape
    work = np.empty((3, min(inner, _TILE)))
    total, error, part = work[0], work[1], work[2]
    for o in range(outer):
        for first in range(0, inner, _TILE):
            tile = x[o, :, first : first + _TILE]  # (size, columns)
            columns = tile.shape[1]
            for c in range(columns):
                total[c] = error[c] = 0.0
            for block in range(0, size, 16):
                for c in range(columns):
                    part[c] = 0.0
                for row in tile[block : block + 16]:
                    for c in range(columns):
                        part[c] += row[c]
                for c in range(columns):
                    total[c], error[c] = _add_exactly(total[c], error[c], part[c])
            for c in range(columns):
                out[o, first + c] = total[c] + error[c]


def _sum_refusal(x: Array, axes: Axes) -> Declined | None:
    """Measured: of 1,000 elements 0.7 to 0.8 of NumPy's speed, over rows of 333 elements 0.6 to 0.9."""
    refusal = _refusal(x)
    if refusal is None and (not axes or x.size < 4096):
        return Declined("NumPy sums a small array as fast")
    if refusal is None and min(abs(x.strides[axis]) for axis in axes) >= 64 * x.itemsize:
        return Declined("NumPy adds whole rows as fast")
    return refusal


@np.errstate(all="ignore")
def sum(x: Array, axes: Axes, keepdim: bool) -> Array | Declined:
    refusal = _sum_refusal(x, axes)
    if refusal is not None:
        return refusal
    return np.asarray(_reduce(x, axes, keepdim, _sum_rows, _sum_columns, np.float64), dtype=x.dtype)


@np.errstate(all="ignore")
def mean(x: Array, axes: Axes, keepdim: bool) -> Array | Declined:
    refusal = _sum_refusal(x, axes)
    if refusal is not None:
        return refusal
    count = np.float64(math.prod(x.shape[axis] for axis in axes))
    return np.asarray(_reduce(x, axes, keepdim, _sum_rows, _sum_columns, np.float64) / count, dtype=x.dtype)


# --- products ---------------------------------------------------------------------------------------------------------


@_in_any_order
def _product_row(x):
    product = 1.0
    for i in range(x.size):
        product *= x[i]
    return product


@jit
def _product_rows(x, out):
    for r in range(x.shape[0]):
        out[r] = _product_row(x[r])


@jit
def _product_columns(x, out):
    """Into out (outer, inner), float64, four rows at a time."""
    outer, size, inner = x.shape
    whole = size - size % 4
    for o in range(outer):
        for first in range(0, inner, _WIDE_TILE):
            last = min(first + _WIDE_TILE, inner)
            products = out[o, first:last]
            for c in range(products.size):
                products[c] = 1.0
            for r in range(0, whole, 4):
                p, q, s, t = x[o, r, first:], x[o, r + 1, first:], x[o, r + 2, first:], x[o, r + 3, first:]
                for c in range(products.size):
                    products[c] *= (np.float64(p[c]) * q[c]) * (np.float64(s[c]) * t[c])
            for r in range(whole, size):
                p = x[o, r, first:]
                for c in range(products.size):
                    products[c] *= p[c]


@np.errstate(all="ignore")
def prod(x: Array, axes: Axes, keepdim: bool) -> Array | Declined:
    result = _reduce_or_decline(x, axes, keepdim, _product_rows, _product_columns, np.float64)
    return result if isinstance(result, Declined) else result.astype(x.dtype, copy=False)


# --- extremes: the larger comes first in what follows, where `larger` may be the smaller ------------------------------


def _choice(predicate: str) -> Any:
    """f(a, b): a if a `predicate` b else b, of numbers that are not NaN: any value comes of that, to be discarded.

    LLVM makes vector code of a reduction by it only if the choice itself is marked so, which Numba's own is not."""

    @intrinsic
    def choose(typing, a, b):
        def generate(context, builder, signature, arguments):
            no_nan = ("nnan", "nsz")
            condition = builder.fcmp_ordered(predicate, *arguments, flags=no_nan)
            return builder.select(condition, *arguments, flags=no_nan)

        return a(a, a), generate

    return choose


@inlined
def _find(x, value):
    """Where x's first element is that equals `value`; whole groups are vector code."""
    group, start = min(64, x.size), 0
    while start + group <= x.size:
        found = False
        for i in range(group):
            found |= x[start + i] == value
        if found:
            break
        start += group
    for i in range(start, x.size):
        if x[i] == value:
            return i
    return 0


def _place_refusal(x: Array, axis: int) -> Declined | None:
    """NumPy's own loop along a row is vector code; along other axes it copies x."""
    refusal = _refusal(x)
    if refusal is not None:
        return refusal
    if x.size < 4096:
        return Declined("NumPy is up to 3 times as fast for a small array")
    apart = abs(x.strides[axis]) // x.itemsize
    if apart < 2 and (x.shape[axis] < 32768 or _flat(x) is None):
        return Declined("NumPy is 1.0 to 1.5 times as fast in rows of fewer than 32,768")
    if 2 <= apart < 16:
        return Declined("NumPy is 1.2 to 3 times as fast across rows of fewer than 16")
    return None


def _extremes(predicate: str) -> tuple[Callable[..., Array | Declined], Callable[..., Array | Declined]]:
    """(amax, argmax) for ">", (amin, argmin) for "<"."""
    larger = _choice(predicate)
    sign = 1 if predicate == ">" else -1

    @inlined
    def exceeds(a, b):
        return a > b if sign > 0 else a < b

    @jit
    def of_row(x):
        """(the largest, whether there is a NaN, which makes the first meaningless) of one element or more."""
        half = x.size // 2 if x.size > 16384 else 0  # two streams are faster where the row is long
        largest, nan = x[0], False
        for i in range(half):
            a, b = x[i], x[half + i]
            nan |= (a != a) | (b != b)
            largest = larger(largest, larger(a, b))
        rest = x[2 * half :]
        for i in range(rest.size):
            nan |= rest[i] != rest[i]
            largest = larger(largest, rest[i])
        return largest, nan

    @jit
    def rows(x, out):
        for r in range(x.shape[0]):
            largest, nan = of_row(x[r])
            out[r] = np.nan if nan else largest

    @jit
    def columns(x, out):
        outer, size, inner = x.shape
        whole = 1 + (size - 1) // 4 * 4
        for o in range(outer):
            for first in range(0, inner, _WIDE_TILE):
                last = min(first + _WIDE_TILE, inner)
                best = out[o, first:last]
                for c in range(best.size):
                    best[c] = x[o, 0, first + c]
                for r in range(1, whole, 4):
                    p, q, s, t = x[o, r, first:], x[o, r + 1, first:], x[o, r + 2, first:], x[o, r + 3, first:]
                    for c in range(best.size):
                        nan = ((p[c] != p[c]) | (q[c] != q[c])) | ((s[c] != s[c]) | (t[c] != t[c]))
                        nan |= best[c] != best[c]
                        four = larger(larger(p[c], q[c]), larger(s[c], t[c]))
                        best[c] = np.nan if nan else larger(best[c], four)
                for r in range(whole, size):
                    p = x[o, r, first:]
                    for c in range(best.size):
                        nan = (p[c] != p[c]) | (best[c] != best[c])
                        best[c] = np.nan if nan else larger(best[c], p[c])

    def extreme(x: Array, axes: Axes, keepdim: bool) -> Array | Declined:
        if x.size == 0:
            return Declined("there is nothing to compare")
        return _reduce_or_decline(x, axes, keepdim, rows, columns, x.dtype)

    @jit
    def first_of(x):
        """Where the first of the largest is, or the first NaN: the best block, then the place in it."""
        place, best = 0, x[0]
        for block in range(0, x.size, _WIDE_TILE):
            part = x[block : block + _WIDE_TILE]
            largest, nan = of_row(part)
            if nan:
                for i in range(part.size):
                    if part[i] != part[i]:
                        return block + i
            if exceeds(largest, best):
                place, best = block, largest
        return place + _find(x[place : place + _WIDE_TILE], best)

    @jit
    def first_in_rows(x, out):
        for r in range(x.shape[0]):
            out[r] = first_of(x[r])

    @jit
    def first_in_columns(x, out):
        outer, size, inner = x.shape
        work = np.empty(min(inner, _WIDE_TILE), x.dtype)
        for o in range(outer):
            for first in range(0, inner, _WIDE_TILE):
                last = min(first + _WIDE_TILE, inner)
                places = out[o, first:last]
                best = work[: places.size]
                for c in range(best.size):
                    best[c], places[c] = x[o, 0, first + c], 0
                for r in range(1, size):
                    p = x[o, r, first:]
                    for c in range(best.size):
                        better = exceeds(p[c], best[c]) | ((p[c] != p[c]) & (best[c] == best[c]))
                        best[c] = p[c] if better else best[c]
                        places[c] = r if better else places[c]

    def first_extreme(x: Array, axis: int, keepdim: bool) -> Array | Declined:
        refusal = _place_refusal(x, axis)
        if refusal is not None:
            return refusal
        return _reduce(x, (axis,), keepdim, first_in_rows, first_in_columns, np.int64)

    return extreme, first_extreme


amax, argmax = _extremes(">")
amin, argmin = _extremes("<")
