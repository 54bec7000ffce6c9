"""Memory formats: in which order a tensor of pictures lies in memory, its shape being (N, C, H, W) in any case.

    channels_last       the channels of a pixel side by side: the strides of (N, H, W, C); of 4-d tensors
    channels_last_3d    the same of volumes (N, C, D, H, W); of 5-d tensors
    contiguous_format   C order, rows of one channel side by side
    preserve_format     the order that the tensor has already

    x = x.to(memory_format=hominy.channels_last)
    model = model.to(memory_format=hominy.channels_last)

Operators keep their input's order, so that one conversion at the entry holds for a whole network and its gradients. A
tensor of one channel, or of one pixel, is in both formats at once; operators take it as contiguous.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np


class MemoryFormat(enum.Enum):
    """The kinds of memory format; hominy has each under its own name, `hominy.channels_last`."""

    contiguous_format = "contiguous_format"
    preserve_format = "preserve_format"
    channels_last = "channels_last"
    channels_last_3d = "channels_last_3d"

    def __repr__(self) -> str:
        return f"hominy.{self.value}"


contiguous_format = MemoryFormat.contiguous_format
preserve_format = MemoryFormat.preserve_format
channels_last = MemoryFormat.channels_last
channels_last_3d = MemoryFormat.channels_last_3d

# Axes from the slowest to the fastest.
ORDERS = {channels_last: (0, 2, 3, 1), channels_last_3d: (0, 2, 3, 4, 1)}


def checked(where: str, memory_format: Any) -> Any:
    """`memory_format` itself: a format or None.

    Raises:
        TypeError: anything else.
    """
    if memory_format is not None and not isinstance(memory_format, MemoryFormat):
        raise TypeError(
            f"[{where}] memory_format: expected hominy.channels_last, channels_last_3d, contiguous_format or "
            f"preserve_format, got {memory_format!r}"
        )
    return memory_format


def order_of(where: str, memory_format: Any, ndim: int) -> tuple[int, ...]:
    """The axes of an array of `ndim` dimensions in that format, from the slowest to the fastest.

    Raises:
        ValueError: the format is of another number of dimensions, or is preserve_format, which is no order.
        TypeError: not a format.
    """
    if checked(where, memory_format) is contiguous_format:
        return tuple(range(ndim))
    if memory_format not in ORDERS:
        raise ValueError(f"[{where}] memory_format: expected one that is an order, got {memory_format!r}")
    order = ORDERS[memory_format]
    if len(order) != ndim:
        raise ValueError(
            f"[{where}] memory_format: expected {len(order)} dimensions for {memory_format!r}, got {ndim} dimensions"
        )
    return order


def lies_in(array: np.ndarray, order: tuple[int, ...]) -> bool:
    """Whether the elements lie along the axes of `order` without gaps; strides of sizes of 1 say nothing."""
    step = array.itemsize
    for axis in reversed(order):
        size = array.shape[axis]
        if size != 1:
            if array.strides[axis] != step:
                return False
            step *= size
    return True


def is_contiguous(array: np.ndarray, memory_format: Any) -> bool:
    """Whether an array lies in that format; False where the format is of another number of dimensions.

    As in PyTorch, preserve_format stands for contiguous_format here.
    """
    if memory_format in (contiguous_format, preserve_format):
        return array.flags.c_contiguous
    if memory_format in ORDERS and len(ORDERS[memory_format]) != array.ndim:
        return False
    return lies_in(array, order_of("is_contiguous", memory_format, array.ndim))


def channels_last_order(array: np.ndarray) -> tuple[int, ...] | None:
    """The axes from the slowest to the fastest, where `array` is channels-last; else None."""
    return next((order for order in ORDERS.values() if len(order) == array.ndim and lies_in(array, order)), None)


def empty_in(shape: tuple[int, ...], dtype: Any, order: tuple[int, ...]) -> np.ndarray:
    """A new array whose axes lie in `order`."""
    places = sorted(range(len(order)), key=order.__getitem__)
    return np.empty([shape[axis] for axis in order], dtype).transpose(places)
