"""Windows: along each dimension of space, the inputs that each position of an output is made of, and their weights.

Pooling (maxima, averages, adaptive or not) and interpolation of every mode differ in these lists alone, and so does the
gradient of the linear ones, whose lists are the same turned round. A geometry's lists are made once and kept.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..utils.arguments import integer, wrong

Array = np.ndarray
LARGEST = 2**31 - 1  # of a size: the lists hold int32


class Lists(NamedTuple):
    """Of one dimension with n positions of output: position i reads positions[:counts[i], i] of the input, times
    weights[:counts[i], i], and its sum is divided by divisors[i]."""

    counts: Array  # (n,) int32
    positions: Array  # (most, n) int32, ascending
    weights: Array | None  # (most, n) float64; None: all 1
    divisors: Array | None  # (n,) float64; None: all 1


class Windows:
    """The lists of all dimensions of space, for an input of the sizes `inputs`."""

    __slots__ = ("_turned", "inputs", "lists")

    def __init__(self, lists: tuple[Lists, ...], inputs: tuple[int, ...]) -> None:
        self.lists = lists
        self.inputs = inputs
        self._turned: Windows | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """The sizes of the output."""
        return tuple(len(each.counts) for each in self.lists)

    @property
    def turned(self) -> Windows:
        """The transpose of the linear map: for each input, the outputs that read it."""
        if self._turned is None:
            lists = tuple(_turn(each, size) for each, size in zip(self.lists, self.inputs, strict=True))
            self._turned = Windows(lists, self.size)
        return self._turned


def _turn(lists: Lists, inputs: int) -> Lists:
    place, output = np.nonzero(np.arange(len(lists.positions))[:, None] < lists.counts)
    read = lists.positions[place, output]
    weights = np.ones(len(read)) if lists.weights is None else lists.weights[place, output]
    if lists.divisors is not None:
        weights = weights / lists.divisors[output]
    order = np.lexsort((output, read))
    read, output, weights = read[order], output[order], weights[order]
    counts = np.bincount(read, minlength=inputs)
    rank = np.arange(len(read)) - (np.cumsum(counts) - counts)[read]
    positions = np.zeros((int(counts.max(initial=0)), inputs), np.int32)
    positions[rank, read] = output
    turned = None
    if (weights != 1).any():
        turned = np.zeros(positions.shape)
        turned[rank, read] = weights
    return Lists(counts.astype(np.int32), positions, turned, None)


def _ranges(first: Array, counts: Array, step: int, divisors: Array | None = None) -> Lists:
    """Windows of `counts` inputs, `step` apart, from `first` on."""
    positions = first + step * np.minimum(np.arange(int(counts.max(initial=0)))[:, None], np.maximum(counts - 1, 0))
    return Lists(counts.astype(np.int32), positions.astype(np.int32), None, divisors)


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows of `kernel` elements fit into `size` and the padding on both sides; with `ceil_mode` a last one
    may go over the end, if it begins before the padding behind."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def _kept(make: Any) -> Any:
    """`make(..., inputs, size, ...)` with its last 256 results kept, but for long ones."""
    short = functools.lru_cache(256)(make)

    @functools.wraps(make)
    def made(inputs: Any, size: Any, *rest: Any) -> Windows:
        return (short if max((*inputs, *size)) <= 4096 else make)(inputs, size, *rest)

    return made


@_kept
def sliding(
    inputs: tuple[int, ...],
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    divide: str = "",
    divisor: int = 0,
) -> Windows:
    """Of a pooling. `divide`: by how many elements a window has "inside" the input or "padded" too, or by "divisor"."""
    lists = []
    for d, n in enumerate(inputs):
        start = np.arange(size[d], dtype=np.int64) * stride[d] - padding[d]
        skipped = np.maximum(-(start // dilation[d]), 0)  # elements before the input
        first = start + skipped * dilation[d]
        last = np.minimum(start + (kernel[d] - 1) * dilation[d], n - 1)
        counts = np.maximum((last - first) // dilation[d] + 1, 0)
        divisors = None
        if divide == "inside":
            divisors = counts.astype(np.float64)
        elif divide == "padded":
            divisors = (np.minimum(start + kernel[d], n + padding[d]) - start).astype(np.float64)
        elif divide and d == 0:
            divisors = np.full(size[d], np.float64(divisor))
        lists.append(_ranges(first, counts, dilation[d], divisors))
    return Windows(tuple(lists), inputs)


@_kept
def adaptive(inputs: tuple[int, ...], size: tuple[int, ...], divide: bool) -> Windows:
    """Output i of n reads the inputs from floor(i inputs / n) to ceil((i + 1) inputs / n), without the last."""
    lists = []
    for n, count in zip(inputs, size, strict=True):
        i = np.arange(count, dtype=np.int64)
        first, end = i * n // max(count, 1), -(-(i + 1) * n // max(count, 1))
        lists.append(_ranges(first, end - first, 1, (end - first).astype(np.float64) if divide else None))
    return Windows(tuple(lists), inputs)


def _nearest(n: int, count: int, scale: float | None, exact: bool, image: bool) -> Lists:
    """As PyTorch computes them for float32, in single precision; `image`: for two dimensions, by another formula."""
    i = np.arange(count, dtype=np.int64)
    step = np.float32(1 / scale) if scale else np.float32(n) / np.float32(max(count, 1))
    if exact and image:
        source = np.floor(((i + 0.5) * np.float64(step)).astype(np.float32))
    elif exact:
        source = ((i + 0.5) * np.float64(step) - 0.5).astype(np.float32)
        source = np.floor(np.maximum(source, 0) + np.float32(0.5))
    elif image and count in (n, 2 * n):  # whatever the scale
        source = i // (count // n)
    else:
        source = np.floor(i.astype(np.float32) * step)
    positions = np.minimum(source.astype(np.int64), n - 1)
    return Lists(np.ones(count, np.int32), positions.astype(np.int32)[None], None, None)


def _sources(n: int, count: int, scale: float | None, align_corners: bool, clamped: bool) -> tuple[Array, Array]:
    """Where each output lies among the inputs: the input before it, and how far it is behind that."""
    i = np.arange(count, dtype=np.float64)
    if align_corners:
        source = i * ((n - 1) / (count - 1) if count > 1 else 0.0)
    else:
        source = (i + 0.5) * (1 / scale if scale else n / max(count, 1)) - 0.5
    if clamped:
        source = np.maximum(source, 0)
    before = np.minimum(np.floor(source), n - 1)
    return before.astype(np.int64), np.clip(source - before, 0, 1)


def _linear(n: int, count: int, scale: float | None, align_corners: bool) -> Lists:
    if count == n:  # a copy, whatever the scale
        return _nearest(n, n, None, False, True)
    before, behind = _sources(n, count, scale, align_corners, True)
    inner = before < n - 1
    weights = np.stack([np.where(inner, 1 - behind, 1.0), np.where(inner, behind, 0.0)])
    return Lists((1 + inner).astype(np.int32), np.stack([before, before + inner]).astype(np.int32), weights, None)


def _cubic(n: int, count: int, scale: float | None, align_corners: bool) -> Lists:
    """Keys' kernel with a = -3/4 (https://doi.org/10.1109/TASSP.1981.1163711); edges are repeated."""
    before, t = _sources(n, count, scale, align_corners, False)
    a = -0.75

    def near(x: Array) -> Array:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Array) -> Array:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    positions = np.clip(before + np.arange(-1, 3)[:, None], 0, n - 1).astype(np.int32)
    weights = np.stack([far(t + 1), near(t), near(1 - t), far(2 - t)])
    return Lists(np.full(count, 4, np.int32), positions, weights, None)


@_kept
def interpolating(
    inputs: tuple[int, ...], size: tuple[int, ...], mode: str, scales: tuple[float | None, ...], align_corners: bool
) -> Windows:
    """Of an interpolation; `scales`: how many times larger than the input the output is meant to be, None: by sizes."""
    lists = []
    for n, count, scale in zip(inputs, size, scales, strict=True):
        if mode.startswith("nearest"):
            lists.append(_nearest(n, count, scale, mode == "nearest-exact", len(inputs) == 2))
        else:
            lists.append((_cubic if mode == "bicubic" else _linear)(n, count, scale, align_corners))
    return Windows(tuple(lists), inputs)


# --- arguments --------------------------------------------------------------------------------------------------------


def sizes(name: str, argument: str, value: Any, dims: int, lowest: int = 1) -> tuple[int, ...]:
    """`value`, an integer or one for each of `dims` dimensions, as a tuple of integers of at least `lowest`.

    Raises:
        TypeError, ValueError: it is something else, or beyond int32.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(given) not in (1, dims):
        raise ValueError(wrong(name, argument, f"an integer or {dims} of them", value))
    numbers = tuple(integer(name, argument, each, lowest) for each in given)
    if max(numbers) > LARGEST:
        raise ValueError(wrong(name, argument, f"integers of at most {LARGEST}", value))
    return numbers if len(numbers) == dims else numbers * dims


def require_countable(name: str, shape: Sequence[int], itemsize: int) -> None:
    """Refuse an output whose size no computer holds, before anything is made for it.

    Raises:
        OverflowError: its bytes are beyond int64.
    """
    total = itemsize
    for size in shape:
        if size > LARGEST:
            raise OverflowError(f"[{name}] the output's size {tuple(shape)}: expected sizes of at most {LARGEST}")
        total *= size
    if total > 2**63 - 1:
        raise OverflowError(f"[{name}] the output's size {tuple(shape)} overflows int64")
