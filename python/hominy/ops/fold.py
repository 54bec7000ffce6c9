"""Windows of images as columns of a matrix, and back: unfold (im2col) and fold, each the other's gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .define import as_tensor, functional, operator, require_floating
from .pool import unbatched
from .windows import require_countable, sizes

Sizes = tuple[int, int]


def _blocks(name: str, size: Sizes, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes) -> Sizes:
    """How many windows there are down and across."""
    counts = []
    for d in range(2):
        room = size[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1
        if room < 0:
            raise ValueError(
                f"[{name}] kernel_size: expected a window that fits into the padded image's {size[d] + 2 * padding[d]} "
                f"elements in dimension {d - 2}, got one of {dilation[d] * (kernel[d] - 1) + 1}"
            )
        counts.append(room // stride[d] + 1)
    return counts[0], counts[1]


def _taps(
    size: Sizes, kernel: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes, blocks: Sizes
) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
    """For each place in the window: (place, the blocks that have it inside the image, where in the image)."""
    for place in itertools.product(range(kernel[0]), range(kernel[1])):
        inner, image = [], []
        for d in range(2):
            offset = place[d] * dilation[d] - padding[d]
            first = max(0, -(offset // stride[d]))
            end = min(blocks[d], (size[d] - 1 - offset) // stride[d] + 1)
            end = max(end, first)
            start = offset + first * stride[d]
            inner.append(slice(first, end))
            image.append(slice(start, start + (end - first) * stride[d], stride[d]) if end > first else slice(0, 0))
        yield place, (inner[0], inner[1]), (image[0], image[1])


@operator(public=False)
def unfold_images(input, kernel, dilation, padding, stride, blocks):
    """(N, C kh kw, L): the windows of input (N, C, H, W), zero outside of it."""
    x = require_floating("unfold", "input", input)
    n, c, h, w = x.shape
    columns = np.zeros((n, c, *kernel, *blocks), x.dtype)
    for place, inner, image in _taps((h, w), kernel, dilation, padding, stride, blocks):
        columns[:, :, place[0], place[1], inner[0], inner[1]] = x[:, :, image[0], image[1]]
    return columns.reshape(n, c * math.prod(kernel), math.prod(blocks))


@operator(public=False)
def fold_columns(input, size, kernel, dilation, padding, stride, blocks):
    """(N, C, *size): the sums of the windows that input (N, C kh kw, L) holds."""
    x = require_floating("fold", "input", input)
    n = len(x)
    c = x.shape[1] // math.prod(kernel)
    columns = x.reshape(n, c, *kernel, *blocks)
    out = np.zeros((n, c, *size), x.dtype)
    with np.errstate(all="ignore"):
        for place, inner, image in _taps(size, kernel, dilation, padding, stride, blocks):
            out[:, :, image[0], image[1]] += columns[:, :, place[0], place[1], inner[0], inner[1]]
    return out


unfold_images.gradient(
    input=lambda grad, shape_of_input, kernel, dilation, padding, stride, blocks: fold_columns(
        grad, shape_of_input[2:], kernel, dilation, padding, stride, blocks
    )
)
fold_columns.gradient(
    input=lambda grad, kernel, dilation, padding, stride, blocks: unfold_images(
        grad, kernel, dilation, padding, stride, blocks
    )
)


def _arguments(
    name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    kernel = sizes(name, "kernel_size", kernel_size, 2)
    dilated = sizes(name, "dilation", dilation, 2)
    return kernel, dilated, sizes(name, "padding", padding, 2, 0), sizes(name, "stride", stride, 2)  # type: ignore[return-value]


@functional
def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The windows of input (N, C, H, W), or (C, H, W), as columns: (N, C kh kw, L), L windows row by row.

    padding: zeros on each side.

    Raises:
        ValueError: a window does not fit into the padded image, sizes are not positive.
    """
    name = "unfold"
    x = as_tensor(name, "input", input)
    if x._array.ndim not in (3, 4):
        raise ValueError(f"[{name}] input: expected shape (N, C, H, W) or (C, H, W), got {x._array.shape}")
    alone = x._array.ndim == 3
    x = x.unsqueeze(0) if alone else x
    n, c, h, w = x._array.shape
    if not c * h * w:
        raise ValueError(f"[{name}] input: expected sizes above 0 but for the batch, got {x._array.shape}")
    kernel, dilated, pad, step = _arguments(name, kernel_size, dilation, padding, stride)
    blocks = _blocks(name, (h, w), kernel, dilated, pad, step)
    require_countable(name, (n, c, *kernel, *blocks), 8)
    return unbatched(unfold_images(x, kernel, dilated, pad, step, blocks), alone)


@functional
def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Images (N, C, *output_size) whose elements are the sums of those of the windows that cover them, from the windows
    as columns: input (N, C kh kw, L), or without N.

    Raises:
        ValueError: the rows are no multiple of kh kw, or L is not the number of windows that output_size has.
    """
    name = "fold"
    x = as_tensor(name, "input", input)
    if x._array.ndim not in (2, 3):
        raise ValueError(f"[{name}] input: expected shape (N, C kh kw, L) or (C kh kw, L), got {x._array.shape}")
    alone = x._array.ndim == 2
    x = x.unsqueeze(0) if alone else x
    n, rows, columns = x._array.shape
    size = sizes(name, "output_size", output_size, 2)
    kernel, dilated, pad, step = _arguments(name, kernel_size, dilation, padding, stride)
    if rows == 0 or rows % math.prod(kernel):
        raise ValueError(
            f"[{name}] input: expected rows in multiples of {math.prod(kernel)}, the kernel's elements, got {rows}"
        )
    blocks = _blocks(name, size, kernel, dilated, pad, step)  # type: ignore[arg-type]
    if columns != math.prod(blocks):
        raise ValueError(
            f"[{name}] input: expected {math.prod(blocks)} columns, {blocks[0]} x {blocks[1]} windows, got {columns}"
        )
    require_countable(name, (n, rows // math.prod(kernel), *size), 8)
    return unbatched(fold_columns(x, size, kernel, dilated, pad, step, blocks), alone)
