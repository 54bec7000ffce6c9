"""The kernels behind layers in the table of cases: normalisation, embedding, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import reference
from ..backends.reference_layers import channel_spread
from .case import Array, Case, _exactly, draw


def _additions(n: int) -> float:
    """How many roundings an element of a mean of n goes through, at worst, whatever the vectors' width."""
    return 40 + min(n / 8, 256) + n / 600


def _statistics(x: Array, axes: Any, u: float, epsilon: float, about: Any = None) -> tuple[Any, ...]:
    """Of x over axes: mean, its error, rstd, its relative error, variance and its error; all kept as dimensions."""
    n = max(math.prod(x.shape[axis] for axis in axes), 1)
    c = _additions(n) * u
    mean = x.sum(axes, keepdims=True) / n if about is None else np.asarray(about)
    of_mean = (c * np.abs(x).sum(axes, keepdims=True) / n + u * np.abs(mean)) if about is None else 0 * mean
    variance = ((x - mean) ** 2).sum(axes, keepdims=True) / n
    # Means of parts, each wrong by of_mean, are put together.
    of_variance = (c + 6 * u) * variance + 2 * np.sqrt(variance) * of_mean + of_mean**2
    rstd = 1 / np.sqrt(variance + epsilon)
    return mean, of_mean, rstd, of_variance / (variance + epsilon) + 2 * u, variance, of_variance


def _affine_error(x: Array, statistics: Any, weight: Any, bias: Any, u: float) -> Array:
    mean, of_mean, rstd, of_rstd = statistics[:4]
    z = (x - mean) * rstd
    scale, offset = 1 if weight is None else weight, 0 if bias is None else bias
    error = np.abs(scale) * (rstd * of_mean + np.abs(z) * (of_rstd + 5 * u))
    return error + 2 * u * (np.abs(z * scale) + np.abs(offset)) + 1e-37


def _list(rng: Any, dtype: Any, n: int, given: bool) -> Any:
    return draw(rng, dtype, (n,), 0.5, 2) if given else None


# --- layer norm -------------------------------------------------------------------------------------------------------

_ROWS = ((1, 1), (3, 5), (2, 1), (7, 33), (1, 131), (130, 17), (5, 2049), (0, 3), (300, 64), (33, 257))
_TIMED_ROWS = ((32, 8), (128, 256), (1024, 768), (4096, 1024), (16384, 1024))


def layer_norm(label: str, affine: bool, rms: bool) -> Case:
    """f(x (M, N), weight, bias, dims, epsilon, rms)."""

    def make(rng: Any, dtype: Any, shape: Any) -> Any:
        x = draw(rng, dtype, shape, -3, 5)
        return x, _list(rng, dtype, shape[1], affine), _list(rng, dtype, shape[1], affine and not rms), 1, 1e-5, rms

    def bound(y: Any, u: float, x: Array, weight: Any, bias: Any, dims: int, epsilon: float, rms: bool) -> Any:
        statistics = _statistics(x, (1,), u, epsilon, about=0.0 if rms else None)
        _, of_mean, rstd, of_rstd = statistics[:4]
        errors = _affine_error(x, statistics, weight, bias, u), of_mean[:, 0] if not rms else None
        return *(e for e in errors if e is not None), (rstd * of_rstd)[:, 0]

    def torch(t: Any, x: Any, weight: Any, bias: Any, dims: int, epsilon: float, rms: bool) -> Any:
        if rms:
            return t.nn.functional.rms_norm(x, x.shape[1:], weight, epsilon)
        return t.nn.functional.layer_norm(x, x.shape[1:], weight, bias, epsilon)

    return Case("layer_norm", "rows", make, _ROWS, bound, label=label, timing=_TIMED_ROWS if affine else (),
                numpy=reference.layer_norm, torch=torch)  # fmt: skip


def layer_norm_backward(label: str, affine: bool, rms: bool) -> Case:
    """f(grad, x, weight, mean, rstd, dims, needs)."""

    def make(rng: Any, dtype: Any, shape: Any) -> Any:
        x, weight = draw(rng, dtype, shape, -3, 5), _list(rng, dtype, shape[1], affine)
        _, mean, rstd = reference.layer_norm(x, weight, None, 1, 1e-5, rms)
        return draw(rng, dtype, shape, -2, 2), x, weight, mean, rstd, 1, 7 if affine else 1

    def bound(
        y: Any, u: float, grad: Array, x: Array, weight: Any, mean: Any, rstd: Array, dims: int, needs: int
    ) -> Any:
        scale = rstd[:, None]
        z = np.abs(x - (0 if mean is None else mean[:, None])) * scale
        g = np.abs(grad)
        weighted = g if weight is None else g * np.abs(weight)
        n = max(x.shape[1], 1)
        factor = (_additions(n) + 12) * u
        of_x = scale * (weighted + weighted.sum(1, keepdims=True) / n + z * (weighted * z).sum(1, keepdims=True) / n)
        columns = (110 + len(x) / 32) * u
        every = (factor * of_x + 1e-37, columns * (g * z).sum(0) + 1e-37, columns * g.sum(0) + 1e-37)
        return tuple(each for i, each in enumerate(every) if needs >> i & 1)

    return Case("layer_norm_backward", "rows", make, _ROWS, bound, label=label)


# --- channel norm -----------------------------------------------------------------------------------------------------

_CHANNELS = ((2, 4, 15), (3, 8, 1), (1, 4, 7), (4, 8, 49), (2, 64, 99), (70, 4, 33), (0, 4, 3), (2, 4, 2500),
             (300, 8, 1))  # fmt: skip


def _spread(values: Any, x: Array, groups: int) -> Array:
    return channel_spread(np.asarray(values, np.float64), x, groups)


def _channel_statistics(x: Array, u: float, epsilon: float, groups: int) -> tuple[Any, ...]:
    """As _statistics, flat, with each number spread to x's channels."""
    n, channels, s = x.shape
    if groups:
        found = _statistics(x.reshape(n, groups, channels // groups, s), (2, 3), u, epsilon)
    else:
        found = _statistics(x, (0, 2), u, epsilon)
    return tuple(np.asarray(each).reshape(-1) for each in found)


def channel_norm(label: str, groups: int, affine: bool = True, fixed: bool = False) -> Case:
    """f(x (N, C, S), weight, bias, mean, variance, groups, epsilon)."""

    def make(rng: Any, dtype: Any, shape: Any) -> Any:
        channels = shape[1]
        lists = [_list(rng, dtype, channels, given) for given in (affine, affine, fixed, fixed)]
        return draw(rng, dtype, shape, -3, 5), *lists, groups, 1e-5

    def bound(
        y: Any, u: float, x: Array, weight: Any, bias: Any, mean: Any, variance: Any, groups: int, epsilon: float
    ) -> Any:
        column = (1, -1, 1)
        w, b = (None if each is None else each.reshape(column) for each in (weight, bias))
        if fixed:
            rstd = 1 / np.sqrt(variance + epsilon)
            return _affine_error(x, (mean.reshape(column), 0, rstd.reshape(column), 3 * u), w, b, u)
        found = _channel_statistics(x, u, epsilon, groups)
        spread = tuple(_spread(each, x, groups) for each in found)
        return _affine_error(x, spread, w, b, u), found[1], found[5] + 1e-37

    def torch(t: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, groups: int, epsilon: float) -> Any:
        if groups:
            return t.nn.functional.group_norm(x, groups, weight, bias, epsilon)
        return t.nn.functional.batch_norm(x, mean, variance, weight, bias, not fixed, 0.1, epsilon)

    return Case("channel_norm", "channels", make, _CHANNELS, bound, label=label, numpy=reference.channel_norm,
                torch=torch, timing=((8, 64, 3136), (32, 256, 196), (128, 256, 1)) if affine else ())  # fmt: skip


def channel_norm_backward(label: str, groups: int, affine: bool = True, fixed: bool = False) -> Case:
    """f(grad, x, weight, mean, variance, groups, epsilon, fixed, needs)."""

    def make(rng: Any, dtype: Any, shape: Any) -> Any:
        x = draw(rng, dtype, shape, -3, 5)
        weight = _list(rng, dtype, shape[1], affine)
        if fixed:
            mean, variance = _list(rng, dtype, shape[1], True), _list(rng, dtype, shape[1], True)
        else:
            _, mean, variance = reference.channel_norm(x, None, None, None, None, groups, 1e-5)
        return draw(rng, dtype, shape, -2, 2), x, weight, mean, variance, groups, 1e-5, fixed, 7

    def bound(
        y: Any, u: float, grad: Array, x: Array, weight: Any, mean: Array, variance: Array, groups: int, epsilon: float,
        fixed: bool, needs: int,
    ) -> Any:  # fmt: skip
        n, channels, s = x.shape
        rstd = 1 / np.sqrt(_spread(variance, x, groups) + epsilon)
        z, g = np.abs(x - _spread(mean, x, groups)) * rstd, np.abs(grad)
        weighted = g if weight is None else g * np.abs(weight)[None, :, None]
        share = (n if groups == 0 else channels // groups) * s
        factor = (_additions(max(share, 1)) + 16) * u
        of_x = weighted
        if not fixed:

            def mean_of(values: Array) -> Array:
                if groups == 0:
                    return values.sum((0, 2), keepdims=True) / max(share, 1)
                return _spread(values.reshape(n, groups, share).sum(2).reshape(-1) / max(share, 1), x, groups)

            of_x = weighted + mean_of(weighted) + z * mean_of(weighted * z)
        columns = (_additions(max(n * s, 1)) + 8) * u
        return (
            factor * of_x * rstd + 1e-37, columns * (g * z).sum((0, 2)) + 1e-37, columns * g.sum((0, 2)) + 1e-37
        )  # fmt: skip

    return Case("channel_norm_backward", "channels", make, _CHANNELS, bound, label=label)


# --- embedding and dropout --------------------------------------------------------------------------------------------

_TABLES = (((1, 1), 1), ((5, 3), 7), ((3, 17), 0), ((2, 0), 4), ((33, 16), 131), ((131, 5), 33), ((7, 65), 1009))


def _embedding_arguments(rng: Any, dtype: Any, size: Any) -> Any:
    (rows, columns), count = size
    return draw(rng, dtype, (rows, columns)), rng.integers(0, rows, count)


def _embedding_backward_arguments(rng: Any, dtype: Any, size: Any) -> Any:
    (rows, columns), count = size
    return draw(rng, dtype, (count, columns)), rng.integers(0, rows, count), rows, min(1, rows - 1)


def _sum_of_rows_bound(y: Array, u: float, grad: Array, indices: Array, rows: int, ignored: int) -> Any:
    terms = np.bincount(indices, minlength=rows)[:, None]
    return 1.01 * terms * u * reference.embedding_backward(np.abs(grad), indices, rows, ignored)


def _dropout_arguments(p: float) -> Callable[..., Any]:
    return lambda rng, dtype, shape: (draw(rng, dtype, shape, 0.5, 4), p, int(rng.integers(2**62)))


_DROPPED = ((1,), (0,), (), (15,), (16,), (17,), (63,), (64,), (65,), (3, 5, 7), (1009,), (97, 401))

LAYERS = [
    layer_norm("layer_norm", True, False),
    layer_norm("layer_norm, no affine", False, False),
    layer_norm("rms_norm", True, True),
    layer_norm_backward("layer_norm_backward", True, False),
    layer_norm_backward("layer_norm_backward, no affine", False, False),
    layer_norm_backward("rms_norm_backward", True, True),
    channel_norm("batch_norm", 0),
    channel_norm("batch_norm, evaluation", 0, fixed=True),
    channel_norm("group_norm", 2),
    channel_norm("group_norm, no affine", 4, affine=False),
    channel_norm_backward("batch_norm_backward", 0),
    channel_norm_backward("batch_norm_backward, evaluation", 0, fixed=True),
    channel_norm_backward("group_norm_backward", 2),
    channel_norm_backward("group_norm_backward, no affine", 4, affine=False),
    Case("embedding", "embedding", _embedding_arguments, _TABLES, _exactly,
         timing=(((1000, 64), 256), ((30000, 128), 4096)), numpy=lambda weight, indices: weight[indices],
         torch=lambda t, weight, indices: t.nn.functional.embedding(indices, weight)),
    Case("embedding_backward", "embedding", _embedding_backward_arguments, _TABLES, _sum_of_rows_bound,
         timing=(((1000, 64), 256), ((30000, 128), 4096)),
         torch=lambda t, grad, indices, rows, ignored: t.ops.aten.embedding_dense_backward(
             grad, indices, rows, ignored, False)),
    *(Case("dropout", "dropout", _dropout_arguments(p), _DROPPED, lambda y, u, *rest: 3 * u * np.abs(y),
           label=f"dropout, p={p}") for p in (0.1, 0.5, 0.0, 1.0)),
]  # fmt: skip
