"""Making tensors: from data, of constants, of ranges, from other libraries' arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .autograd import TensorBase
from .dtypes import get_default_dtype, normalize_dtype
from .tensor import Tensor, as_array


def _sized(name: str, size: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape given as f(2, 3) or f((2, 3)).

    Raises:
        ValueError: a size is negative.
        TypeError: a size is not an integer.
    """
    if len(size) == 1 and isinstance(size[0], (tuple, list)):
        size = tuple(size[0])
    for length in size:
        if not hasattr(length, "__index__"):
            raise TypeError(f"[{name}] size: expected integers, got {type(length).__name__}")
        if length.__index__() < 0:
            raise ValueError(f"[{name}] size: expected sizes of at least 0, got {tuple(size)}")
    return tuple(length.__index__() for length in size)


def _made(array: np.ndarray, requires_grad: bool) -> Tensor:
    made = Tensor(array)
    return made.requires_grad_() if requires_grad else made


def _dtype(dtype: Any, default: Any = None) -> Any:
    return (get_default_dtype() if default is None else default) if dtype is None else normalize_dtype(dtype)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences, an array or a tensor.

    Python floats get the default dtype (float32), integers int64, as in PyTorch; arrays keep theirs.
    """
    array = as_array(data)
    if dtype is None and array.dtype == np.float32 and not _has_array(data):
        dtype = get_default_dtype()
    return _made(
        np.array(array, dtype=normalize_dtype(array.dtype if dtype is None else dtype), order="C"), requires_grad
    )


def _has_array(data: Any) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, TensorBase))


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` as a tensor, sharing its memory where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray):
        made = from_numpy(data)
        return made if dtype is None else made.to(dtype)
    return tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor over a NumPy array's memory; writes through either are seen by both.

    Raises:
        TypeError: not an array, or of a dtype that hominy has no tensors of.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"[from_numpy] array: expected a NumPy array, got {type(array).__name__}")
    if not array.dtype.isnative:
        raise TypeError(f"[from_numpy] array: expected native byte order, got {array.dtype}")
    normalize_dtype(array.dtype)
    return Tensor(array.view(np.ndarray))


def from_dlpack(source: Any) -> Tensor:
    """A tensor over the memory of anything that speaks DLPack on the CPU (PyTorch, JAX, NumPy, ...)."""
    return from_numpy(np.from_dlpack(source))


def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return _made(np.zeros(_sized("zeros", size), _dtype(dtype)), requires_grad)


def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _made(np.ones(_sized("ones", size), _dtype(dtype)), requires_grad)


def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose elements are not set."""
    return _made(np.empty(_sized("empty", size), _dtype(dtype)), requires_grad)


def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor filled with one value."""
    default = as_array(fill_value).dtype
    shape = _sized("full", (size,))
    return _made(np.full(shape, fill_value, _dtype(dtype, default)), requires_grad)


def zeros_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros with input's shape and, unless given, its dtype."""
    return _made(np.zeros_like(as_array(input), dtype=None if dtype is None else normalize_dtype(dtype)), requires_grad)


def ones_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones with input's shape and, unless given, its dtype."""
    return _made(np.ones_like(as_array(input), dtype=None if dtype is None else normalize_dtype(dtype)), requires_grad)


def empty_like(input: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with input's shape whose elements are not set."""
    return _made(np.empty_like(as_array(input), dtype=None if dtype is None else normalize_dtype(dtype)), requires_grad)


def full_like(input: Tensor, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value with input's shape and, unless given, its dtype."""
    array = np.full_like(as_array(input), fill_value, dtype=None if dtype is None else normalize_dtype(dtype))
    return _made(array, requires_grad)


def arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below end; arange(end) starts at 0. Integers give int64."""
    if end is None:
        start, end = 0, start
    if step == 0:
        raise ValueError("[arange] step: expected a number other than 0, got 0")
    whole = all(isinstance(value, (int, np.integer)) for value in (start, end, step))
    values: Any = np.arange(start, end, step, dtype=_dtype(dtype, np.dtype("int64") if whole else None))
    return _made(values, requires_grad)


def linspace(start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers from start to end, both included, evenly spaced."""
    if steps < 0:
        raise ValueError(f"[linspace] steps: expected at least 0, got {steps}")
    return _made(np.linspace(start, end, steps).astype(_dtype(dtype)), requires_grad)


def eye(n: int, m: int | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix."""
    return _made(np.eye(n, m, dtype=_dtype(dtype)), requires_grad)
