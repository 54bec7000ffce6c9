"""From a list of samples to a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...creation import from_numpy, tensor
from ...ops.shape import stack
from ...tensor import Tensor
from ..arguments import wrong


def default_convert(data: Any) -> Any:
    """Arrays and NumPy scalars in `data` as tensors, its dictionaries, tuples and lists kept."""
    if isinstance(data, np.ndarray) and data.dtype.kind not in "SUOV":
        return from_numpy(data if data.flags.writeable else data.copy())
    if isinstance(data, np.generic) and data.dtype.kind not in "SUOV":
        return from_numpy(np.array(data))
    return _rebuilt(data, [default_convert(value) for value in _parts(data)]) if _is_nested(data) else data


def default_collate(batch: Sequence[Any]) -> Any:
    """Samples as a batch: tensors and arrays are stacked along a new first dimension, numbers become a tensor.

    Python floats give float64, ints int64, bools bool; arrays keep their dtype. Strings stay a list. Of dictionaries,
    tuples and lists, each position is collated by itself; a tuple or list becomes a list, a named tuple stays one.

    Raises:
        ValueError: the samples' shapes or lengths differ. TypeError: they hold something else.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if isinstance(first, (np.ndarray, np.generic)) and first.dtype.kind not in "SUOV":
        shapes = {np.shape(sample) for sample in batch}
        if len(shapes) > 1:
            raise ValueError(wrong("default_collate", "batch", "arrays of one shape", sorted(shapes)))
        return from_numpy(np.stack(batch) if first.ndim else np.array(batch))
    if isinstance(first, (bool, int)):
        return tensor(list(batch))
    if isinstance(first, float):
        return from_numpy(np.array(batch, np.float64))
    if isinstance(first, (str, bytes)):
        return list(batch)
    if isinstance(first, Mapping):
        return _rebuilt(first, [default_collate([sample[key] for sample in batch]) for key in first])
    if isinstance(first, Sequence):
        lengths = {len(sample) for sample in batch}
        if len(lengths) > 1:
            raise ValueError(wrong("default_collate", "batch", "samples of one length", sorted(lengths)))
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        return _rebuilt(first, columns) if hasattr(first, "_fields") else columns
    raise TypeError(
        wrong(
            "default_collate", "batch", "tensors, arrays, numbers, strings, mappings or sequences", type(first).__name__
        )
    )


def _is_nested(data: Any) -> bool:
    return isinstance(data, Mapping) or (isinstance(data, Sequence) and not isinstance(data, (str, bytes)))


def _parts(data: Any) -> list[Any]:
    return list(data.values()) if isinstance(data, Mapping) else list(data)


def _rebuilt(data: Any, parts: list[Any]) -> Any:
    """`parts` in the container that `data` is: a dictionary of its keys, a named tuple, else a list."""
    if isinstance(data, Mapping):
        return dict(zip(data, parts, strict=True))
    if hasattr(data, "_fields"):
        constructor: Callable[..., Any] = type(data)
        return constructor(*parts)
    return parts
