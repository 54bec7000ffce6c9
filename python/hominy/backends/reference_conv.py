"""The specification of convolution. Part of `reference`.

Everything is computed in float64 and rounded once. Arrays are batched: images (N, channels, *space), weights
(O, C / groups, *kernel), with a space of 1 to 3 dimensions; stride and dilation hold an integer a dimension, padding a
pair (before, after) of counts of zeros. A position p of the output meets position p * stride + t * dilation - before of
the input under tap t of the kernel, and zero outside.

The sums over channels are matrix products, one a tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

__all__ = ["conv", "conv_algorithm", "conv_input_gradient", "conv_weight_gradient"]

ALGORITHMS = ("auto", "product", "depthwise", "grouped", "winograd2", "winograd4")


def channels_last(x: Array) -> bool:
    """Whether the channels of a position are neighbours in memory: (N, C, *space) behind strides of (N, *space, C).

    What is in C order, too, counts as C order: one channel, or one position; so does what has neither order.
    """
    steps = [abs(step) for step, size in zip(x.strides[2:], x.shape[2:], strict=True) if size > 1]
    return not x.flags.c_contiguous and x.shape[1] > 1 and bool(steps) and abs(x.strides[1]) < min(steps)


def lay_like(result: Array, model: Array, dtype: Any) -> Array:
    """`result` rounded to dtype, in the memory order of `model`: channels-last or C order."""
    if not channels_last(model):
        return np.ascontiguousarray(result, dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(result, 1, -1), dtype), -1, 1)


def conv_space(size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """The space of a convolution's output."""
    return tuple(
        (length + before + after - d * (k - 1) - 1) // s + 1
        for length, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _require_product(name: str, algorithm: str) -> None:
    if algorithm not in ("auto", "product"):
        raise ValueError(f"[{name}] algorithm: expected 'auto' or 'product' of this backend, got {algorithm!r}")


def _wide(x: Array) -> Array:
    return x.astype(np.promote_types(x.dtype, np.float64), copy=False)


def _taps(kernel: Ints, out: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Any, Any]]:
    """For each tap of the kernel: its index in a weight, and that of what it meets in the padded input."""
    for tap in np.ndindex(kernel):
        places = (slice(t * d, t * d + (q - 1) * s + 1, s)
                  for t, q, s, d in zip(tap, out, stride, dilation, strict=True))  # fmt: skip
        yield (..., *tap), (..., *places)


def _reach(out: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Ints:
    """How much of the padded input is read."""
    return tuple((q - 1) * s + (k - 1) * d + 1 for q, k, s, d in zip(out, kernel, stride, dilation, strict=True))


def _padded(x: Array, padding: Pairs, reach: Ints) -> Array:
    """x between zeros, as far as it is read."""
    result = np.zeros((*x.shape[:2], *reach), np.promote_types(x.dtype, np.float64))
    starts = [before for before, _ in padding]
    sizes = [max(min(size, r - start), 0) for size, r, start in zip(x.shape[2:], reach, starts, strict=True)]
    inside: Any = (..., *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))
    read: Any = (..., *(slice(0, size) for size in sizes))
    result[inside] = x[read]
    return result


def _grouped(x: Array, groups: int) -> Array:
    """(N, channels, *space) as (N, groups, channels of one, positions)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, int(np.prod(x.shape[2:])))


def _weights(weight: Array, groups: int) -> Array:
    """(O, C / groups, *kernel) as (groups, O / groups, C / groups, *kernel)."""
    return _wide(weight).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _per_channel(bias: Array, ndim: int) -> Array:
    return _wide(bias).reshape(-1, *(1,) * (ndim - 2))


def conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    residual: Array | None,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    activation: str,
    algorithm: str = "auto",
    exact: bool = False,
) -> Array:
    """activation(bias[o] + sum over c and t of weight[o, c, t] x[n, c, p stride + t dilation - before]
    + residual[n, o, p]), where output channel o reads the channels c of its own group."""
    from . import reference

    _require_product("conv", algorithm)
    kernel = weight.shape[2:]
    out_space = conv_space(x.shape[2:], kernel, stride, padding, dilation)
    with np.errstate(all="ignore"):
        padded = _padded(x, padding, _reach(out_space, kernel, stride, dilation))
        w = _weights(weight, groups)
        total: Any = np.zeros((len(x), groups, w.shape[1], int(np.prod(out_space))), padded.dtype)
        for tap, places in _taps(kernel, out_space, stride, dilation):
            total += w[tap] @ _grouped(padded[places], groups)
        total = total.reshape(len(x), len(weight), *out_space)
        if bias is not None:
            total += _per_channel(bias, x.ndim)
        if residual is not None:
            total += residual
        if activation != "none":
            total = getattr(reference, activation)(total)
        return lay_like(total, x, x.dtype)


def conv_input_gradient(
    grad: Array,
    weight: Array,
    bias: Array | None,
    size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    algorithm: str = "auto",
    exact: bool = False,
) -> Array:
    """The gradient (N, C, *size) of conv's x from that of its output, grad (N, O, *); + bias[c], so that it is the
    transposed convolution, too."""
    _require_product("conv_input_gradient", algorithm)
    kernel, out_space = weight.shape[2:], grad.shape[2:]
    reach = _reach(out_space, kernel, stride, dilation)
    ends = tuple(before + length for length, (before, _) in zip(size, padding, strict=True))
    with np.errstate(all="ignore"):
        w = np.swapaxes(_weights(weight, groups), 1, 2)
        channels = groups * w.shape[1]
        g = _grouped(_wide(grad), groups)
        total = np.zeros((len(grad), channels, *map(max, reach, ends)), g.dtype)
        for tap, places in _taps(kernel, out_space, stride, dilation):
            total[places] += (w[tap] @ g).reshape(len(grad), channels, *out_space)
        inside: Any = (..., *(slice(end - length, end) for length, end in zip(size, ends, strict=True)))
        total = total[inside]
        if bias is not None:
            total = total + _per_channel(bias, grad.ndim)
        return lay_like(total, grad, grad.dtype)


def conv_weight_gradient(
    grad: Array,
    x: Array,
    size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    algorithm: str = "auto",
    exact: bool = False,
) -> Array:
    """The gradient (O, C / groups, *size) of conv's weight from that of its output, grad (N, O, *), and x."""
    _require_product("conv_weight_gradient", algorithm)
    out_space = grad.shape[2:]
    out, channels = grad.shape[1] // groups, x.shape[1] // groups
    with np.errstate(all="ignore"):
        padded = _padded(x, padding, _reach(out_space, size, stride, dilation))
        rows = _grouped(_wide(grad), groups)
        g = rows.transpose(1, 2, 0, 3).reshape(groups, out, rows.shape[0] * rows.shape[3])
        total = np.zeros((groups, out, channels, *size), padded.dtype)
        for tap, places in _taps(size, out_space, stride, dilation) if total.size else ():
            columns = _grouped(padded[places], groups).transpose(1, 0, 3, 2)
            total[tap] = g @ columns.reshape(groups, g.shape[2], channels)
        return total.reshape(groups * out, channels, *size).astype(x.dtype)


def conv_algorithm(
    direction: str,
    x_shape: Ints,
    weight_shape: Ints,
    channels_last: bool,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
    dtype: Any,
    exact: bool,
) -> str:
    """The algorithm that "auto" stands for; direction: "forward", "input_gradient" or "weight_gradient"."""
    return "product"
