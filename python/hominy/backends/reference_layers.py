"""The specification of the kernels behind layers: normalisation, embedding, dropout. Part of `reference`.

Everything is computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

__all__ = [
    "channel_norm", "channel_norm_backward", "dropout", "embedding", "embedding_backward", "layer_norm",
    "layer_norm_backward",
]  # fmt: skip


def _wide(x: Array | None) -> Any:
    return None if x is None else x.astype(np.promote_types(x.dtype, np.float64), copy=False)


def _affine(z: Array, weight: Any, bias: Any) -> Array:
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


# --- layer norm: over the last `dims` dimensions of x -----------------------------------------------------------------


def layer_norm(
    x: Array, weight: Array | None, bias: Array | None, dims: int, epsilon: float, rms: bool
) -> tuple[Array, Array | None, Array]:
    """(out, mean, rstd): out = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + epsilon); with `rms` mean is
    taken as 0 and returned as None. weight and bias have the shape of the last `dims`; mean and rstd are lists."""
    axes = tuple(range(x.ndim - dims, x.ndim))
    with np.errstate(all="ignore"):
        wide = _wide(x)
        count = max(int(np.prod(x.shape[x.ndim - dims :])), 1)
        mean = np.zeros(()) if rms else wide.sum(axes, keepdims=True) / count
        rstd = 1 / np.sqrt(((wide - mean) ** 2).sum(axes, keepdims=True) / count + epsilon)
        out = _affine((wide - mean) * rstd, _wide(weight), _wide(bias))
        return out.astype(x.dtype), None if rms else mean.reshape(-1).astype(x.dtype), rstd.reshape(-1).astype(x.dtype)


def layer_norm_backward(
    grad: Array, x: Array, weight: Array | None, mean: Array | None, rstd: Array, dims: int, needs: int
) -> tuple[Array | None, ...]:
    """Gradients of (x, weight, bias), where bits 0, 1 and 2 of `needs` ask for them; mean is None after `rms`."""
    axes, others = tuple(range(x.ndim - dims, x.ndim)), tuple(range(x.ndim - dims))
    column = (*x.shape[: x.ndim - dims], *(1,) * dims)
    with np.errstate(all="ignore"):
        g, scale = _wide(grad), _wide(rstd).reshape(column)
        count = max(int(np.prod(x.shape[x.ndim - dims :])), 1)
        z = (_wide(x) - (0 if mean is None else _wide(mean).reshape(column))) * scale
        weighted = _affine(g, _wide(weight), None)
        centered = weighted if mean is None else weighted - weighted.sum(axes, keepdims=True) / count
        of_x = scale * (centered - z * ((weighted * z).sum(axes, keepdims=True) / count))
        results = (of_x, (g * z).sum(others), g.sum(others))
        return tuple(np.asarray(each, x.dtype) if needs >> i & 1 else None for i, each in enumerate(results))


# --- channel norm: x (N, C, *); groups = 0: batch norm ----------------------------------------------------------------


def _positions(x: Array) -> Array:
    return x.reshape(*x.shape[:2], int(np.prod(x.shape[2:])))


def _grouped(x: Array, groups: int) -> tuple[Array, tuple[int, ...]]:
    """x with the axes that share a statistic apart from the others, and which axes those are."""
    n, c, s = x.shape
    if groups == 0:
        return x, (0, 2)
    return x.reshape(n, groups, c // groups, s), (2, 3)


def channel_spread(statistic: Array, x: Array, groups: int) -> Array:
    """A statistic for each channel of each item: broadcasts with x."""
    n, c, _ = x.shape
    if groups == 0:
        return _wide(statistic)[None, :, None]
    return np.repeat(_wide(statistic).reshape(n, groups), c // groups, 1)[:, :, None]


def channel_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array | None,
    variance: Array | None,
    groups: int,
    epsilon: float,
) -> tuple[Array, Array | None, Array | None]:
    """(out, mean, variance) with weight and bias (C,). Statistics: of each channel (C,) where groups is 0, else of each
    of the groups of channels of each item (N * groups,). Where mean and variance are given they are used instead, and
    None is returned for them."""
    shape = x.shape
    x = _positions(x)
    with np.errstate(all="ignore"):
        fixed = mean is not None and variance is not None
        if not fixed:
            parts, axes = _grouped(_wide(x), groups)
            count = np.float64(np.prod([parts.shape[axis] for axis in axes]))
            center = parts.sum(axes, keepdims=True) / count
            squares = ((parts - center) ** 2).sum(axes) / count
            mean, variance = center.reshape(-1).astype(x.dtype), squares.reshape(-1).astype(x.dtype)
        assert mean is not None and variance is not None
        z = (_wide(x) - channel_spread(mean, x, groups)) / np.sqrt(channel_spread(variance, x, groups) + epsilon)
        out = _affine(
            z,
            None if weight is None else _wide(weight)[None, :, None],
            None if bias is None else _wide(bias)[None, :, None],
        )
        return out.reshape(shape).astype(x.dtype), None if fixed else mean, None if fixed else variance


def channel_norm_backward(
    grad: Array,
    x: Array,
    weight: Array | None,
    mean: Array,
    variance: Array,
    groups: int,
    epsilon: float,
    fixed: bool,
    needs: int,
) -> tuple[Array | None, ...]:
    """Gradients of (x, weight, bias), where bits 0, 1 and 2 of `needs` ask for them. `fixed`: mean and variance did not
    come from x."""
    shape = x.shape
    x, grad = _positions(x), _positions(grad)
    with np.errstate(all="ignore"):
        g, rstd = _wide(grad), 1 / np.sqrt(channel_spread(variance, x, groups) + epsilon)
        z = (_wide(x) - channel_spread(mean, x, groups)) * rstd
        weighted = g if weight is None else g * _wide(weight)[None, :, None]
        of_x = weighted
        if not fixed:
            parts, axes = _grouped(weighted, groups)
            products, _ = _grouped(weighted * z, groups)
            count = np.float64(np.prod([parts.shape[axis] for axis in axes]))
            of_x = weighted - channel_spread((parts.sum(axes) / count).reshape(-1), x, groups)
            of_x = of_x - z * channel_spread((products.sum(axes) / count).reshape(-1), x, groups)
        results = ((of_x * rstd).reshape(shape), (g * z).sum((0, 2)), g.sum((0, 2)))
        return tuple(each.astype(x.dtype) if needs >> i & 1 else None for i, each in enumerate(results))


# --- embedding --------------------------------------------------------------------------------------------------------


def _require_rows(op: str, indices: Array, rows: int) -> None:
    wrong = indices[(indices < 0) | (indices >= rows)]
    if wrong.size:
        raise IndexError(f"[{op}] input: expected indices in [0, {rows}), got {wrong[0]}")


def embedding(weight: Array, indices: Array) -> Array:
    """weight (V, D)[indices (N,)]: (N, D)."""
    _require_rows("embedding", indices, len(weight))
    return weight[indices]


def embedding_backward(grad: Array, indices: Array, rows: int, ignored: int) -> Array:
    """(rows, D): for each index, but `ignored`, the sum of its rows of grad (N, D)."""
    _require_rows("embedding_backward", indices, rows)
    out = np.zeros((rows, grad.shape[1]))
    kept = indices != ignored
    np.add.at(out, indices[kept], _wide(grad)[kept])
    return out.astype(grad.dtype)


# --- dropout ----------------------------------------------------------------------------------------------------------


def _philox(seed: int, counters: Array) -> Array:
    """The four 32-bit words (4, n) of Philox4x32 with 7 rounds (https://doi.org/10.1145/2063384.2063405)."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c = [counters & low, counters >> half, np.zeros_like(counters), np.zeros_like(counters)]
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(7):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> half) ^ c[1] ^ np.uint64(keys[0]), b & low, (a >> half) ^ c[3] ^ np.uint64(keys[1]), a & low]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c)


def dropout(x: Array, p: float, seed: int) -> Array:
    """x / (1 - p) where the element's draw is at least p 2^32, else 0. Of 64 elements in C order, number 16 w + l takes
    word w of the counter 16 chunk + l."""
    chunks = -(-x.size // 64)
    draws = _philox(seed, np.arange(chunks * 16, dtype=np.uint64)).reshape(4, chunks, 16)
    kept = draws.transpose(1, 0, 2).reshape(-1)[: x.size] >= np.uint64(p * 4294967296.0)
    factor = x.dtype.type(1 / (1 - p)) if p < 1 else x.dtype.type(0)
    with np.errstate(all="ignore"):
        return np.where(kept.reshape(x.shape), x * factor, x.dtype.type(0))
