"""Convolution where no compiler was there at installation. Part of `numba_jit`.

Images are laid out, a few at a time, so that every tap of a kernel is one shift: a channel's padded space as one long
row, and with a stride its phases apart, positions 0, s, 2s ... then 1, s + 1 ... What a tap meets is then a slice of
that row, and a convolution is a sum of slices times weights:

    out[o] = sum over c, t of weight[o, c, t] * row[c][shift[t] : shift[t] + length]

with a little waste, the positions between one line's last output and the next line's first. With many channels, each
tap is a product of matrices, which NumPy's BLAS computes on the slices as they are; with few, a Numba loop adds four
slices at a time. Both compute in the arrays' own dtype; the input gradient adds weights times rows to the slices, and
the weight gradient is made of inner products. Two to twenty times as fast as the reference, which computes in float64.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from . import reference
from .declined import Declined
from .numba_math import jit
from .reference_conv import Array, Ints, Pairs, conv_space, lay_like

# Channels of a group from which products of matrices win: 3x3 over 28x28, one thread of BLAS, were even at 8 to 16.
_BLAS_FROM = 12
_ROW = 1024  # positions at a time: four rows of them stay in the first-level cache
_POSITIONS = 4096  # at least so many at once for BLAS, by taking several images


class _Rows:
    """Where images lie as rows: `count` images of x's space at a time, or of one of the output's."""

    def __init__(self, size: Ints, kernel: Ints, out: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> None:
        self.out = out
        self.plane = tuple(
            -(-((q - 1) * s + (k - 1) * d + 1) // s) for q, s, k, d in zip(out, stride, kernel, dilation, strict=True)
        )
        self.positions = math.prod(self.plane)  # of one phase of one image
        self.phases = list(np.ndindex(*stride))
        steps = [math.prod(self.plane[i + 1 :]) for i in range(len(self.plane))]
        self.last = sum((q - 1) * step for q, step in zip(out, steps, strict=True))  # the last output's place
        # For each tap: the phase it reads, and how far its row is shifted.
        self.taps = []
        for tap in np.ndindex(*kernel):
            moves = [divmod(t * d, s) for t, d, s in zip(tap, dilation, stride, strict=True)]
            phase = self.phases.index(tuple(rest for _, rest in moves))
            self.taps.append((phase, sum(whole * step for (whole, _), step in zip(moves, steps, strict=True))))
        # For each phase: which part of a plane holds elements of x, and which elements.
        self.places: list[tuple[Any, Any]] = []
        for phase in self.phases:
            inside, read = [], []
            for p, s, (before, _), n, length in zip(phase, stride, padding, self.plane, size, strict=True):
                first = max(-((p - before) // s), 0)
                start = first * s + p - before
                count = max(min(n - first, -((start - length) // s)), 0)
                inside.append(slice(first, first + count))
                read.append(slice(start, start + count * s if count else start, s))
            self.places.append(((..., *inside), (..., *read)))

    def fill(self, x: Array) -> Array:
        """(phases, C, N, *plane) of x (N, C, *space)."""
        rows = np.zeros((len(self.phases), x.shape[1], x.shape[0], *self.plane), x.dtype)
        moved = np.swapaxes(x, 0, 1)
        for phase, (inside, read) in zip(rows, self.places, strict=True):
            phase[inside] = moved[read]
        return rows

    def take(self, rows: Array, size: Ints) -> Array:
        """(N, C, *size) out of rows as `fill` makes them."""
        x = np.zeros((rows.shape[2], rows.shape[1], *size), rows.dtype)
        moved = np.swapaxes(x, 0, 1)
        for phase, (inside, read) in zip(rows, self.places, strict=True):
            moved[read] = phase[inside]
        return x

    def fill_output(self, grad: Array) -> Array:
        """(O, N, *plane) of grad (N, O, *out), zero between lines."""
        rows = np.zeros((grad.shape[1], grad.shape[0], *self.plane), grad.dtype)
        rows[self._inside()] = np.swapaxes(grad, 0, 1)
        return rows

    def take_output(self, rows: Array) -> Array:
        """(N, O, *out) out of (O, N, *plane)."""
        return np.swapaxes(rows[self._inside()], 0, 1)

    def _inside(self) -> Any:
        return (..., *(slice(0, q) for q in self.out))

    def length(self, images: int) -> int:
        """How many positions a slice has: up to the last output of the last image."""
        return (images - 1) * self.positions + self.last + 1

    def starts(self, channels: int, images: int) -> Array:
        """Where each tap's slice of channel 0 starts in flat rows."""
        phase_size = channels * images * self.positions
        return np.array([phase * phase_size + shift for phase, shift in self.taps])


@jit
def _add_rows(x, starts, step, weight, groups, length, out):
    """out (O, ...) += sum of weight (O, C / groups, taps) times slices of the flat rows x, `step` apart."""
    outputs, channels, taps = weight.shape
    each = outputs // groups
    for first in range(0, length, _ROW):
        size = min(_ROW, length - first)
        for o in range(outputs):
            y = out[o, first : first + size]
            channel = o // each * channels
            w = weight[o].reshape(-1)
            i = 0
            while i < w.size:
                a = starts[i % taps] + (channel + i // taps) * step + first
                if i + 3 < w.size:
                    b = starts[(i + 1) % taps] + (channel + (i + 1) // taps) * step + first
                    c = starts[(i + 2) % taps] + (channel + (i + 2) // taps) * step + first
                    d = starts[(i + 3) % taps] + (channel + (i + 3) // taps) * step + first
                    wa, wb, wc, wd = w[i], w[i + 1], w[i + 2], w[i + 3]
                    xa, xb, xc, xd = x[a : a + size], x[b : b + size], x[c : c + size], x[d : d + size]
                    for q in range(size):
                        y[q] += (wa * xa[q] + wb * xb[q]) + (wc * xc[q] + wd * xd[q])
                    i += 4
                else:
                    wa, xa = w[i], x[a : a + size]
                    for q in range(size):
                        y[q] += wa * xa[q]
                    i += 1


@jit
def _add_to_rows(g, starts, step, weight, groups, length, x):
    """Slices of the flat rows x += weight (O, C / groups, taps) times g (O, ...): the transpose of `_add_rows`."""
    outputs, channels, taps = weight.shape
    each = outputs // groups
    for first in range(0, length, _ROW):
        size = min(_ROW, length - first)
        for group in range(groups):
            for c in range(channels):
                for t in range(taps):
                    start = starts[t] + (group * channels + c) * step + first
                    y = x[start : start + size]
                    o, end = group * each, (group + 1) * each
                    while o + 3 < end:
                        wa, wb, wc, wd = weight[o, c, t], weight[o + 1, c, t], weight[o + 2, c, t], weight[o + 3, c, t]
                        ga, gb = g[o, first : first + size], g[o + 1, first : first + size]
                        gc, gd = g[o + 2, first : first + size], g[o + 3, first : first + size]
                        for q in range(size):
                            y[q] += (wa * ga[q] + wb * gb[q]) + (wc * gc[q] + wd * gd[q])
                        o += 4
                    while o < end:
                        wa, ga = weight[o, c, t], g[o, first : first + size]
                        for q in range(size):
                            y[q] += wa * ga[q]
                        o += 1


@functools.partial(jit, fastmath={"contract", "reassoc", "nsz"})
def _inner_product(a, b):
    """In whatever order suits vector code; the order is the same each time."""
    total = a.dtype.type(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@jit
def _multiply_rows(g, x, starts, step, groups, length, out):
    """out (O, C / groups, taps) += inner products of g (O, ...) and slices of the flat rows x."""
    outputs, channels, taps = out.shape
    each = outputs // groups
    for first in range(0, length, _ROW):
        size = min(_ROW, length - first)
        for o in range(outputs):
            for c in range(channels):
                for t in range(taps):
                    start = starts[t] + (o // each * channels + c) * step + first
                    out[o, c, t] += _inner_product(g[o, first : first + size], x[start : start + size])


def _refusal(name: str, algorithm: str, *arrays: Array) -> Declined | None:
    dtype = arrays[0].dtype
    if dtype.char not in "fd" or any(x.dtype != dtype for x in arrays):
        return Declined(f"dtypes {', '.join(str(x.dtype) for x in arrays)} are not all float32, or all float64")
    if algorithm not in ("auto", "product"):
        raise ValueError(f"[{name}] algorithm: expected 'auto' or 'product' of this backend, got {algorithm!r}")
    if any(x.size == 0 for x in arrays):
        return Declined("NumPy adds nothing as fast")
    return None


def _by_blas(weight_shape: Ints, groups: int) -> bool:
    """Whether taps are products of matrices that are worth BLAS's call."""
    return min(weight_shape[0] // groups, weight_shape[1]) >= _BLAS_FROM


def _batches(images: int, rows: _Rows, blas: bool) -> list[slice]:
    """The images that are computed together."""
    each = max(1, _POSITIONS // rows.positions) if blas else 1
    return [slice(first, min(first + each, images)) for first in range(0, images, each)]


def _matrices(weight: Array, groups: int) -> Array:
    """(taps, groups, O / groups, C / groups): a matrix for each tap and group."""
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return np.ascontiguousarray(parts.transpose(3, 0, 1, 2))


def _by_group(rows: Array, groups: int) -> Array:
    """(channels, images, *plane) as (groups, channels of one, images * positions)."""
    return rows.reshape(groups, rows.shape[0] // groups, -1)


@np.errstate(all="ignore")
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
) -> Array | Declined:
    refusal = _refusal("conv", algorithm, x, weight)
    if refusal is not None:
        return refusal
    out_space = conv_space(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    rows = _Rows(x.shape[2:], weight.shape[2:], out_space, stride, padding, dilation)
    result = np.empty((len(x), len(weight), *out_space), x.dtype)
    blas = _by_blas(weight.shape, groups)
    w = _matrices(weight, groups) if blas else np.ascontiguousarray(weight).reshape(*weight.shape[:2], -1)
    for some in _batches(len(x), rows, blas):
        images = rows.fill(x[some])
        count, length = images.shape[2], rows.length(images.shape[2])
        out = np.zeros((len(weight), count, *rows.plane), x.dtype)
        if blas:
            total = _by_group(out, groups)[..., :length]
            part = np.empty(total.shape, x.dtype)
            for (phase, shift), matrices in zip(rows.taps, w, strict=True):
                np.matmul(matrices, _by_group(images[phase], groups)[..., shift : shift + length], out=part)
                total += part
        else:
            starts, step = rows.starts(x.shape[1], count), count * rows.positions
            _add_rows(images.reshape(-1), starts, step, w, groups, length, out.reshape(len(weight), -1))
        result[some] = rows.take_output(out)
    if bias is not None:
        result += bias.reshape(-1, *(1,) * (x.ndim - 2))
    if residual is not None:
        result += residual
    if activation != "none":
        result = getattr(reference, activation)(result, result)
    return lay_like(result, x, x.dtype)


@np.errstate(all="ignore")
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
) -> Array | Declined:
    refusal = _refusal("conv_input_gradient", algorithm, grad, weight)
    if refusal is not None:
        return refusal
    rows = _Rows(size, weight.shape[2:], grad.shape[2:], stride, padding, dilation)
    channels = weight.shape[1] * groups
    result = np.empty((len(grad), channels, *size), grad.dtype)
    blas = _by_blas(weight.shape, groups)
    w = _matrices(weight, groups) if blas else np.ascontiguousarray(weight).reshape(*weight.shape[:2], -1)
    for some in _batches(len(grad), rows, blas):
        g = rows.fill_output(grad[some])
        count, length = g.shape[1], rows.length(g.shape[1])
        images = np.zeros((len(rows.phases), channels, count, *rows.plane), grad.dtype)
        if blas:
            source = _by_group(g, groups)[..., :length]
            part = np.empty((groups, weight.shape[1], length), grad.dtype)
            for (phase, shift), matrices in zip(rows.taps, w, strict=True):
                np.matmul(matrices.swapaxes(1, 2), source, out=part)
                target = _by_group(images[phase], groups)[..., shift : shift + length]
                target += part
        else:
            starts, step = rows.starts(channels, count), count * rows.positions
            _add_to_rows(g.reshape(len(weight), -1), starts, step, w, groups, length, images.reshape(-1))
        result[some] = rows.take(images, size)
    if bias is not None:
        result += bias.reshape(-1, *(1,) * (grad.ndim - 2))
    return lay_like(result, grad, grad.dtype)


@np.errstate(all="ignore")
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
) -> Array | Declined:
    refusal = _refusal("conv_weight_gradient", algorithm, grad, x)
    if refusal is not None:
        return refusal
    rows = _Rows(x.shape[2:], size, grad.shape[2:], stride, padding, dilation)
    outputs, channels = grad.shape[1], x.shape[1] // groups
    blas = _by_blas((outputs, channels), groups)
    matrices = np.zeros((len(rows.taps), groups, outputs // groups, channels), x.dtype)
    result = np.zeros((outputs, channels, len(rows.taps)), x.dtype)
    for some in _batches(len(x), rows, blas):
        images, g = rows.fill(x[some]), rows.fill_output(grad[some])
        count, length = g.shape[1], rows.length(g.shape[1])
        if blas:
            source = _by_group(g, groups)[..., :length]
            for (phase, shift), total in zip(rows.taps, matrices, strict=True):
                total += source @ _by_group(images[phase], groups)[..., shift : shift + length].swapaxes(1, 2)
        else:
            starts, step = rows.starts(x.shape[1], count), count * rows.positions
            _multiply_rows(g.reshape(outputs, -1), images.reshape(-1), starts, step, groups, length, result)
    if blas:
        result = np.ascontiguousarray(matrices.transpose(1, 2, 3, 0))
    return result.reshape(outputs, channels, *size)
