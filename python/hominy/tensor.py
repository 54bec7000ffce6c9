"""`Tensor`: an array with a place in the graph, and the bridges to NumPy and DLPack.

The arithmetic, the shape operations and the reductions are operators (`ops/`), attached to this class by name when the
package loads; what is written here is what is not an operator: fields, conversions, printing, in-place writes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd
from .autograd import Storage, TensorBase, bump, check_in_place, set_tensor_type, wrap
from .dtypes import dtype_name, normalize_dtype
from .memory_format import contiguous_format, is_contiguous
from .printing import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_hook_numbers = itertools.count()


class RemovableHandle:
    """Takes a hook away again: `handle.remove()`."""

    def __init__(self, hooks: dict[int, Any], hook: Any) -> None:
        self._hooks = hooks
        self._key = next(_hook_numbers)
        hooks[self._key] = hook

    def remove(self) -> None:
        """Remove the hook; harmless when it is gone already."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Tensor(TensorBase):
    """A multi-dimensional array that can remember how it was computed.

    Made by `hominy.tensor`, `hominy.from_numpy`, `hominy.zeros` and the like; names and meanings are PyTorch's. On the
    CPU its memory is a NumPy array's: `numpy()` and `from_numpy` copy nothing.
    """

    __slots__ = ()
    __array_priority__ = 1000

    if TYPE_CHECKING:
        # Attached by ops/ when the package loads.
        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...

    # Facts.

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return self._array.shape

    @property
    def dtype(self) -> Any:
        """The element type, a NumPy dtype."""
        return self._array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @property
    def device(self) -> str:
        """Where the memory lies: "cpu"."""
        return "cpu"

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user and not by an operator that recorded it."""
        return self._grad_fn is None

    @property
    def grad_fn(self) -> Any:
        """The node that made this tensor; None for a leaf."""
        return self._grad_fn

    @property
    def _version(self) -> int:
        """The number of in-place writes to the storage."""
        return self._storage.version

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of dimension `dim`."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self._array.size

    nelement = numel
    ndimension = dim

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._array.nbytes

    def element_size(self) -> int:
        """Bytes an element."""
        return self._array.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Steps between neighbours along each dimension (or along `dim`), in elements."""
        itemsize = self._array.itemsize
        strides = tuple(step // itemsize for step in self._array.strides)
        return strides if dim is None else strides[dim]

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._array.ctypes.data

    def is_contiguous(self, memory_format: Any = contiguous_format) -> bool:
        """Whether the elements lie in C order, or in that of `memory_format`, without gaps."""
        return is_contiguous(self._array, memory_format)

    def storage_offset(self) -> int:
        """Elements between the start of the memory and the first element."""
        owner = self._storage.owner
        if not isinstance(owner, np.ndarray):
            return 0
        return (self._array.ctypes.data - owner.ctypes.data) // max(self._array.itemsize, 1)

    def is_complex(self) -> bool:
        """False: there are no complex tensors."""
        return False

    def is_nonzero(self) -> bool:
        """Whether the only element is not 0."""
        return bool(self.item())

    def is_floating_point(self) -> bool:
        """Whether the dtype is a floating-point one."""
        return self._array.dtype.kind in "fV"

    # Gradients.

    @property
    def requires_grad(self) -> bool:
        """Whether operators on this tensor are recorded."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Switch recording for this leaf on or off.

        Raises:
            RuntimeError: an integer tensor cannot require grad, a non-leaf cannot stop requiring it.
        """
        if requires_grad and not self.is_floating_point():
            raise RuntimeError(
                f"[requires_grad_] only floating-point tensors can require grad, got {dtype_name(self.dtype)}"
            )
        if self._grad_fn is not None and not requires_grad:
            raise RuntimeError("[requires_grad_] only a leaf can stop requiring grad; use detach()")
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up; None before the first."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, TensorBase):
                raise TypeError(f"[grad] expected a tensor or None, got {type(value).__name__}")
            if value.shape != self.shape:
                raise ValueError(f"[grad] expected shape {self.shape}, got {value.shape}")
            if value.dtype != self.dtype:
                raise TypeError(f"[grad] expected dtype {dtype_name(self.dtype)}, got {dtype_name(value.dtype)}")
        self._grad = value

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf it came from; see `hominy.autograd.backward`."""
        autograd.backward(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory outside the graph."""
        return wrap(self._array, self._storage)

    def detach_(self) -> Tensor:
        """Leave the graph: this tensor becomes a leaf."""
        self._grad_fn = None
        self._output = 0
        self._requires_grad = False
        return self

    @property
    def data(self) -> Tensor:
        """The same memory outside the graph, as `detach()`."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        self._array = value._array
        self._storage = value._storage
        bump(self)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call `hook(grad)` whenever the gradient of this tensor is computed; what it returns, if anything, replaces
        it.

        Raises:
            RuntimeError: the tensor does not require grad.
        """
        if not self._requires_grad:
            raise RuntimeError("[register_hook] this tensor does not require grad")
        if self._grad_fn is None:
            if self._hooks is None:
                self._hooks = {}
            return RemovableHandle(self._hooks, hook)
        node = self._grad_fn
        if node.hooks is None:
            node.hooks = {}
        return RemovableHandle(node.hooks.setdefault(self._output, {}), hook)

    def retain_grad(self) -> None:
        """Keep `.grad` for this non-leaf too."""
        if self._grad_fn is None or self._retains:
            return
        self._retains = True

        def keep(grad: Tensor) -> None:
            self._grad = grad if self._grad is None else self._grad + grad

        self.register_hook(keep)

    # NumPy and DLPack.

    def numpy(self) -> np.ndarray:
        """The tensor as a NumPy array over the same memory.

        Raises:
            RuntimeError: the tensor requires grad; use `detach().numpy()`.
        """
        if self._requires_grad:
            raise RuntimeError("[numpy] this tensor requires grad; use detach().numpy()")
        return self._array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._requires_grad:
            raise RuntimeError("[__array__] this tensor requires grad; use detach().numpy()")
        if dtype is None or np.dtype(dtype) == self._array.dtype:
            return self._array.copy() if copy else self._array
        if copy is False:
            raise ValueError(f"[__array__] a cast to {np.dtype(dtype)} needs a copy, which copy=False forbids")
        return self._array.astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """`numpy_array + tensor` and `np.exp(tensor)`: the operator of the ufunc's name, so that gradients survive."""
        from . import ops

        operator = ops.of_ufunc(ufunc.__name__)
        if method != "__call__" or kwargs or operator is None:
            return NotImplemented
        return operator(*inputs)

    def __dlpack__(self, *, stream: Any = None, **kwargs: Any) -> Any:
        """The tensor as a DLPack capsule; nothing is copied.

        Raises:
            BufferError: the tensor requires grad, or its dtype has no DLPack code.
        """
        if self._requires_grad:
            raise BufferError("[__dlpack__] this tensor requires grad; use detach()")
        try:
            return self._array.__dlpack__(stream=stream, **kwargs)
        except TypeError:  # NumPy before 2.1 knows fewer arguments
            return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def item(self) -> Any:
        """The only element, as a Python number.

        Raises:
            ValueError: there is not exactly one element.
        """
        if self._array.size != 1:
            raise ValueError(f"[item] expected a tensor of one element, got shape {self.shape}")
        return self._array.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return self._array.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self._array.size != 1:
            raise ValueError(f"[bool] the truth of a tensor of shape {self.shape} is ambiguous; use any() or all()")
        return bool(self._array)

    def __index__(self) -> int:
        if self._array.dtype.kind not in "iub" or self._array.size != 1:
            raise TypeError("[index] only an integer tensor of one element can be an index")
        return int(self._array.item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("[len] a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("[iter] a 0-d tensor cannot be iterated")
        return iter([self[i] for i in range(self.shape[0])])

    def __contains__(self, value: Any) -> bool:
        other = value._array if isinstance(value, TensorBase) else value
        return bool((self._array == other).any())

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        body = text_of(self._array, "tensor(")
        notes = ""
        if self.dtype not in (np.dtype("float32"), np.dtype("int64"), np.dtype("bool")) or self._array.size == 0:
            notes += f", dtype={dtype_name(self.dtype)}"
        if self._array.size == 0 and self.ndim != 1:
            notes += f", size={self.shape}"
        if self._grad_fn is not None:
            notes += f", grad_fn={self._grad_fn!r}"
        elif self._requires_grad:
            notes += ", requires_grad=True"
        return f"tensor({body}{notes})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self._array.size == 1 else repr(self)

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self._array, self._requires_grad and self._grad_fn is None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if self._grad_fn is not None:
            raise RuntimeError("[deepcopy] only leaves can be copied deeply; use detach() first")
        copied = type(self)(self._array.copy(order="K"))
        copied._requires_grad = self._requires_grad
        if self._grad is not None:
            copied._grad = self._grad.__deepcopy__(memo)
        memo[id(self)] = copied
        return copied

    # Writes. In-place arithmetic (`add_`, `+=`) is attached with its operators.

    def _write(self, name: str, value: Any) -> Tensor:
        """Overwrite everything; gradients that flowed into the old value end here."""
        if self._requires_grad and autograd.is_grad_enabled():
            check_in_place(name, self)
            self._grad_fn = None
            self._requires_grad = False
        np.copyto(self._array, value, casting="unsafe")
        bump(self)
        return self

    def zero_(self) -> Tensor:
        """Set every element to 0, in place."""
        return self._write("zero_", 0)

    def fill_(self, value: float) -> Tensor:
        """Set every element to `value`, in place."""
        return self._write("fill_", value.item() if isinstance(value, Tensor) else value)

    def _bump(self) -> None:
        """Note a write that went around the tensor's own methods."""
        bump(self)

    # Conversions.

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The tensor cast to a dtype: to(dtype), to(other) with another tensor's dtype, to("cpu"), to("cpu", dtype);
        with `memory_format` laid out in that one (`hominy.channels_last`; contiguous_format always gives C order, where
        PyTorch leaves what is not channels-last). `copy=True` copies in any case; `non_blocking` changes nothing.

        Raises:
            ValueError: a device other than the CPU. TypeError: no dtype of hominy's.
        """
        from .creation import on_cpu
        from .ops.define import REGISTRY

        dtype = kwargs.pop("dtype", None)
        device = kwargs.pop("device", None)
        copy = kwargs.pop("copy", False)
        flags = []
        for argument in args:
            if isinstance(argument, TensorBase):
                dtype = argument._array.dtype
            elif isinstance(argument, bool):
                flags.append(argument)
            elif argument is None:
                continue
            elif isinstance(argument, str) and argument.split(":")[0] in _DEVICES:
                device = argument
            else:
                dtype = argument
        if len(flags) > 1:
            copy = flags[1]
        memory_format = kwargs.pop("memory_format", None)
        if kwargs.pop("other", None) is not None or set(kwargs) - {"non_blocking"}:
            raise TypeError(f"[to] expected dtype, device, copy, non_blocking or memory_format, got {sorted(kwargs)}")
        on_cpu("to", device)
        result = self if dtype is None and memory_format is None else REGISTRY["to"](self, dtype, memory_format)
        if copy and result._array is self._array:
            return REGISTRY["clone"](self, memory_format)
        return self if result._array is self._array else result

    def type(self, dtype: Any = None) -> Any:
        """Cast to `dtype`; without one, the dtype's name."""
        return dtype_name(self.dtype) if dtype is None else self.to(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """The tensor cast to other's dtype."""
        return self.to(other.dtype)

    def byte(self, memory_format: Any = None) -> Tensor:
        """As uint8."""
        return self.to(np.dtype("uint8"), memory_format=memory_format)

    def char(self, memory_format: Any = None) -> Tensor:
        """As int8."""
        return self.to(np.dtype("int8"), memory_format=memory_format)

    def short(self, memory_format: Any = None) -> Tensor:
        """As int16."""
        return self.to(np.dtype("int16"), memory_format=memory_format)

    def share_memory_(self) -> Tensor:
        """The tensor itself: data loaders share memory by their own means."""
        return self

    def pin_memory(self) -> Tensor:
        """The tensor itself: there is no device to copy to."""
        return self

    def float(self, memory_format: Any = None) -> Tensor:
        """As float32."""
        return self.to(np.dtype("float32"), memory_format=memory_format)

    def double(self, memory_format: Any = None) -> Tensor:
        """As float64."""
        return self.to(np.dtype("float64"), memory_format=memory_format)

    def half(self, memory_format: Any = None) -> Tensor:
        """As float16."""
        return self.to(np.dtype("float16"), memory_format=memory_format)

    def bfloat16(self, memory_format: Any = None) -> Tensor:
        """As bfloat16 (needs the ml_dtypes package)."""
        return self.to(normalize_dtype("bfloat16"), memory_format=memory_format)

    def int(self, memory_format: Any = None) -> Tensor:
        """As int32."""
        return self.to(np.dtype("int32"), memory_format=memory_format)

    def long(self, memory_format: Any = None) -> Tensor:
        """As int64."""
        return self.to(np.dtype("int64"), memory_format=memory_format)

    def bool(self, memory_format: Any = None) -> Tensor:
        """As bool."""
        return self.to(np.dtype("bool"), memory_format=memory_format)

    def cpu(self) -> Tensor:
        """The tensor itself: it is on the CPU."""
        return self


_DEVICES = ("cpu", "cuda", "mps", "meta", "xpu")


def _rebuild(cls: type[Tensor], array: np.ndarray, requires_grad: bool) -> Tensor:
    tensor = cls(array)
    tensor._requires_grad = requires_grad
    return tensor


def as_array(value: Any) -> np.ndarray:
    """`value` (tensor, array, number, nested sequence) as an array: Python numbers get PyTorch's default dtypes."""
    if isinstance(value, TensorBase):
        return value._array
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, (list, tuple)) and any(isinstance(item, TensorBase) for item in value):
        value = [
            item._array.item() if isinstance(item, TensorBase) and item._array.ndim == 0 else as_array(item)
            for item in value
        ]
    array = np.asarray(value)
    if array.dtype == np.float64 and not isinstance(value, np.generic):
        array = array.astype(np.float32)
    return array


set_tensor_type(Tensor)

__all__ = ["RemovableHandle", "Storage", "Tensor", "as_array"]
