"""Making tensors: from data, of constants, of ranges, from other libraries' arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .autograd import TensorBase
from .dtypes import get_default_dtype, normalize_dtype
from .memory_format import checked, contiguous_format, empty_in, order_of, preserve_format
from .tensor import Tensor, as_array
from .utils.arguments import integer


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


def on_cpu(name: str, device: Any) -> None:
    """Refuse a device other than the CPU, the only one there is.

    Raises:
        ValueError: another device.
    """
    if device is not None and str(device).split(":")[0] != "cpu":
        raise ValueError(f"[{name}] device: expected 'cpu', got {str(device)!r}")


def _dtype(dtype: Any, default: Any = None) -> Any:
    return (get_default_dtype() if default is None else default) if dtype is None else normalize_dtype(dtype)


def tensor(data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences, an array or a tensor.

    Python floats get the default dtype (float32), integers int64, as in PyTorch; arrays keep theirs.
    """
    on_cpu("tensor", device)
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


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing its memory where that is possible."""
    on_cpu("as_tensor", device)
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


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    on_cpu("zeros", device)
    return _made(np.zeros(_sized("zeros", size), _dtype(dtype)), requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    on_cpu("ones", device)
    return _made(np.ones(_sized("ones", size), _dtype(dtype)), requires_grad)


def empty(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = contiguous_format,
) -> Tensor:
    """A tensor whose elements are not set."""
    on_cpu("empty", device)
    shape = _sized("empty", size)
    return _made(empty_in(shape, _dtype(dtype), order_of("empty", memory_format, len(shape))), requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor filled with one value."""
    on_cpu("full", device)
    default = as_array(fill_value).dtype
    default = get_default_dtype() if default == np.float32 and isinstance(fill_value, float) else default
    return _made(np.full(_sized("full", (size,)), fill_value, _dtype(dtype, default)), requires_grad)


def scalar_tensor(value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of a number, of the default dtype unless given."""
    on_cpu("scalar_tensor", device)
    return _made(np.asarray(value, _dtype(dtype)), requires_grad)


def _like(
    name: str, make: Any, input: Any, dtype: Any, device: Any, requires_grad: bool, memory_format: Any, *fill: Any
) -> Tensor:
    on_cpu(name, device)
    array = as_array(input)
    dtype = array.dtype if dtype is None else normalize_dtype(dtype)
    if checked(name, memory_format) not in (None, preserve_format):
        array = empty_in(array.shape, dtype, order_of(name, memory_format, array.ndim))
    return _made(make(array, *fill, dtype=dtype), requires_grad)


def zeros_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """Zeros with input's shape and, unless given, its dtype and memory order."""
    return _like("zeros_like", np.zeros_like, input, dtype, device, requires_grad, memory_format)


def ones_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """Ones with input's shape and, unless given, its dtype and memory order."""
    return _like("ones_like", np.ones_like, input, dtype, device, requires_grad, memory_format)


def empty_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None
) -> Tensor:
    """A tensor with input's shape whose elements are not set."""
    return _like("empty_like", np.empty_like, input, dtype, device, requires_grad, memory_format)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """One value with input's shape and, unless given, its dtype and memory order."""
    return _like("full_like", np.full_like, input, dtype, device, requires_grad, memory_format, fill_value)


def _number(value: Any) -> Any:
    """A Python number of a number or a tensor of one."""
    return value.item() if isinstance(value, (TensorBase, np.ndarray, np.generic)) else value  # type: ignore[union-attr]


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """start, start + step, ... below end; arange(end) starts at 0. Integers give int64."""
    on_cpu("arange", device)
    if end is None:
        start, end = 0, start
    start, end, step = _number(start), _number(end), _number(step)
    if step == 0:
        raise ValueError("[arange] step: expected a number other than 0, got 0")
    if end != start and (end > start) != (step > 0):
        raise ValueError(f"[arange] step: expected one that leads from {start} to {end}, got {step}")
    whole = all(isinstance(value, int) for value in (start, end, step))
    wanted = _dtype(dtype, np.dtype("int64") if whole else None)
    count = -((start - end) // step) if whole else max(0, math.ceil((end - start) / step))
    if (not whole and wanted.kind == "f") or wanted.itemsize == 2:
        return _made((start + np.arange(count) * step).astype(wanted), requires_grad)
    return _made(np.arange(start, end, step).astype(wanted)[:count], requires_grad)


def _spaced(name: str, start: Any, end: Any, steps: Any, dtype: Any) -> np.ndarray:
    steps = integer(name, "steps", steps, 0)
    start, end = _number(start), _number(end)
    if dtype.kind in "iub" and dtype.kind != "b":
        start, end = int(start), int(end)
    step = (end - start) / (steps - 1) if steps > 1 else 0.0
    places = np.arange(steps)
    values = np.where((places < steps // 2) | (steps == 1), start + places * step, end - (steps - 1 - places) * step)
    return np.trunc(values) if dtype.kind in "iub" else values


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers from start to end, both included, evenly spaced."""
    on_cpu("linspace", device)
    wanted = _dtype(dtype)
    return _made(_spaced("linspace", start, end, steps, wanted).astype(wanted), requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from base^start to base^end, both included, their logarithms evenly spaced."""
    on_cpu("logspace", device)
    wanted = _dtype(dtype)
    with np.errstate(all="ignore"):
        return _made((float(base) ** _spaced("logspace", start, end, steps, np.dtype(float))).astype(wanted),
                     requires_grad)  # fmt: skip


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix."""
    on_cpu("eye", device)
    for argument, size in (("n", n), ("m", m)):
        if size is not None:
            integer("eye", argument, size, 0)
    return _made(np.eye(n, m, dtype=_dtype(dtype)), requires_grad)


# Methods of Tensor: another tensor of this one's dtype.


def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of data, of this one's dtype unless given."""
    return tensor(data, dtype=self.dtype if dtype is None else dtype, requires_grad=requires_grad)


def new_zeros(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of this tensor's dtype."""
    return zeros(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_ones(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of this tensor's dtype."""
    return ones(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_empty(self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of this one's dtype whose elements are not set."""
    return empty(*size, dtype=self.dtype if dtype is None else dtype, device=device, requires_grad=requires_grad)


def new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """One value, of this tensor's dtype."""
    dtype = self.dtype if dtype is None else dtype
    return full(size, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)


for _method in (new_tensor, new_zeros, new_ones, new_empty, new_full):
    setattr(Tensor, _method.__name__, _method)
