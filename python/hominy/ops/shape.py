"""Shape operations: views where memory allows, copies where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends import run
from ..memory_format import checked, contiguous_format, empty_in, lies_in, order_of, preserve_format
from .define import normalize_axes, normalize_axis, operator, require_array


def _resolved_shape(name: str, array: np.ndarray, shape: Any) -> tuple[int, ...]:
    """`shape` with its -1 worked out.

    Raises:
        ValueError: another number of elements, or more than one -1.
    """
    sizes = [size.__index__() for size in (shape if isinstance(shape, (tuple, list)) else (shape,))]
    unknown = [i for i, size in enumerate(sizes) if size == -1]
    known = 1
    for size in sizes:
        if size < -1:
            raise ValueError(f"[{name}] shape: expected sizes of at least 0 (or one -1), got {tuple(sizes)}")
        if size != -1:
            known *= size
    fits = known == array.size if not unknown else len(unknown) == 1 and known > 0 and array.size % known == 0
    if not fits:
        raise ValueError(f"[{name}] shape: expected {array.size} elements as in {array.shape}, got {tuple(sizes)}")
    for i in unknown:
        sizes[i] = array.size // known
    return tuple(sizes)


@operator(view=True)
def reshape(input, shape):
    """The same elements in another shape; one size may be -1. A view where the strides allow it."""
    array = require_array("reshape", "input", input)
    return array.reshape(_resolved_shape("reshape", array, shape))


@operator(view=True)
def view(input, shape):
    """As reshape, but never a copy.

    Raises:
        ValueError: the strides do not allow a view.
    """
    array = require_array("view", "input", input)
    resolved = _resolved_shape("view", array, shape)
    result = array.reshape(resolved)
    if array.size and not np.may_share_memory(result, array):
        raise ValueError(
            f"[view] shape: expected one that strides {array.strides} can view, got {resolved}; use reshape"
        )
    return result


@operator(view=True)
def permute(input, dims):
    """The dimensions in another order."""
    array = require_array("permute", "input", input)
    axes = tuple(normalize_axis("permute", axis, array.ndim) for axis in dims)
    if sorted(axes) != list(range(array.ndim)):
        raise ValueError(f"[permute] dims: expected an order of {array.ndim} dimensions, got {tuple(dims)}")
    return array.transpose(axes)


@operator(view=True)
def transpose(input, dim0, dim1):
    """Two dimensions swapped."""
    array = require_array("transpose", "input", input)
    first, second = normalize_axis("transpose", dim0, array.ndim), normalize_axis("transpose", dim1, array.ndim)
    return array.swapaxes(first, second) if array.ndim else array[...]


@operator(view=True)
def matrix_transpose(input):
    """The last two dimensions swapped."""
    array = require_array("matrix_transpose", "input", input)
    if array.ndim < 2:
        raise ValueError(f"[matrix_transpose] input: expected at least 2 dimensions, got shape {array.shape}")
    return array.swapaxes(-1, -2)


@operator(view=True)
def t(input):
    """The transpose of a matrix; vectors and 0-d tensors as they are."""
    array = require_array("t", "input", input)
    if array.ndim > 2:
        raise ValueError(f"[t] input: expected at most 2 dimensions, got shape {array.shape}")
    return array.T


@operator(view=True)
def squeeze(input, dim=None):
    """Without the dimensions of size 1: all of them, or those in dim."""
    array = require_array("squeeze", "input", input)
    nothing = isinstance(dim, (tuple, list)) and not dim  # as in PyTorch, () names no dimension here
    axes = () if nothing else normalize_axes("squeeze", dim, array.ndim)
    return array.squeeze(tuple(axis for axis in axes if array.shape[axis] == 1))


@operator(view=True)
def unsqueeze(input, dim):
    """With a new dimension of size 1 at dim."""
    array = require_array("unsqueeze", "input", input)
    axis = normalize_axis("unsqueeze", dim, array.ndim + 1)
    return array.reshape(array.shape[:axis] + (1,) + array.shape[axis:])


@operator(view=True)
def flatten(input, start_dim=0, end_dim=-1):
    """The dimensions from start_dim to end_dim as one."""
    array = require_array("flatten", "input", input)
    start = normalize_axis("flatten", start_dim, array.ndim)
    end = normalize_axis("flatten", end_dim, array.ndim)
    if start > end:
        raise ValueError(f"[flatten] start_dim: expected at most end_dim ({end}), got {start}")
    if array.ndim == 0:
        return array.reshape(1)
    merged = 1
    for size in array.shape[start : end + 1]:
        merged *= size
    return array.reshape(array.shape[:start] + (merged,) + array.shape[end + 1 :])


@operator(view=True, direct="broadcast_to")
def broadcast_to(input, shape):
    """input stretched to shape by NumPy's rules; a read-only view."""
    array = require_array("broadcast_to", "input", input)
    try:
        return np.broadcast_to(array, tuple(shape))
    except ValueError:
        raise ValueError(
            f"[broadcast_to] shape: expected one that {array.shape} broadcasts to, got {tuple(shape)}"
        ) from None


@operator(view=True)
def expand(input, size):
    """input stretched to size, where -1 keeps a dimension; a read-only view."""
    array = require_array("expand", "input", input)
    lead = len(size) - array.ndim
    full = tuple(array.shape[i - lead] if given == -1 and i >= lead else given for i, given in enumerate(size))
    if lead < 0 or any(given < 0 for given in full):
        raise ValueError(f"[expand] size: expected one that {array.shape} broadcasts to, got {tuple(size)}")
    try:
        return run("broadcast_to", array, full)
    except ValueError:
        raise ValueError(f"[expand] size: expected one that {array.shape} broadcasts to, got {tuple(size)}") from None


@operator
def clone(input, memory_format=None):
    """A copy, in the same memory order or in that of a memory format."""
    array = require_array("clone", "input", input)
    if checked("clone", memory_format) in (None, preserve_format):
        return run("copy", array, None)
    return run("copy", array, empty_in(array.shape, array.dtype, order_of("clone", memory_format, array.ndim)))


@operator(view=True)
def contiguous(input, memory_format=contiguous_format):
    """input itself when it lies in C order (or in the memory format's), else a copy that does."""
    array = require_array("contiguous", "input", input)
    if array.flags.c_contiguous and memory_format in (contiguous_format, preserve_format):
        return array
    order = order_of("contiguous", memory_format, array.ndim)
    return array if lies_in(array, order) else run("copy", array, empty_in(array.shape, array.dtype, order))


@operator(view=True)
def to(input, dtype=None, memory_format=None):
    """input cast to dtype and laid out in the memory format; input's own memory when it is so already."""
    from ..dtypes import normalize_dtype

    array = require_array("to", "input", input)
    dtype = array.dtype if dtype is None else normalize_dtype(dtype)
    if checked("to", memory_format) not in (None, preserve_format):
        order = order_of("to", memory_format, array.ndim)
        if not lies_in(array, order):
            target = empty_in(array.shape, dtype, order)
            if array.dtype == dtype:
                return run("copy", array, target)
            target[...] = array
            return target
    return array if array.dtype == dtype else array.astype(dtype)


def _sequence_of_arrays(name: str, tensors: Any) -> list[np.ndarray]:
    if not isinstance(tensors, (list, tuple)) or not tensors:
        raise TypeError(f"[{name}] tensors: expected a sequence of at least one tensor, got {type(tensors).__name__}")
    return [require_array(name, f"tensors[{i}]", tensor) for i, tensor in enumerate(tensors)]


@operator
def cat(tensors, dim=0):
    """The tensors one after another along dim; their other dimensions are equal. As in PyTorch, a tensor of shape (0,)
    goes with any others, and adds nothing."""
    arrays = _sequence_of_arrays("cat", tensors)
    joined = [array for array in arrays if array.shape != (0,)] or arrays
    shape = joined[0].shape
    axis = normalize_axis("cat", dim, len(shape))
    for i, array in enumerate(arrays):
        expected = shape[:axis] + array.shape[axis : axis + 1] + shape[axis + 1 :]
        if array.ndim == 0 or (array.shape != expected and array.shape != (0,)):
            raise ValueError(f"[cat] tensors[{i}]: expected shape {expected}, got {array.shape}")
    return np.concatenate(joined, axis, dtype=None if joined is arrays else np.result_type(*arrays))


@operator
def stack(tensors, dim=0):
    """The tensors, all of one shape, along a new dimension dim."""
    arrays = _sequence_of_arrays("stack", tensors)
    for i, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(f"[stack] tensors[{i}]: expected shape {arrays[0].shape}, got {array.shape}")
    return np.stack(arrays, normalize_axis("stack", dim, arrays[0].ndim + 1))


def _inverse(dims: Any, ndim: int) -> tuple[int, ...]:
    order = [0] * ndim
    for place, axis in enumerate(dims):
        order[axis % ndim] = place
    return tuple(order)


def _same_shape(grad, shape_of_input):
    return reshape(grad, shape_of_input)


for _operator in (reshape, view, squeeze, unsqueeze, flatten):
    _operator.gradient(input=_same_shape)
for _operator in (clone, contiguous, to):
    _operator.gradient(input=lambda grad: grad)
permute.gradient(input=lambda grad, dims: permute(grad, _inverse(dims, len(dims))))
transpose.gradient(input=lambda grad, dim0, dim1: transpose(grad, dim0, dim1))
matrix_transpose.gradient(input=lambda grad: matrix_transpose(grad))
t.gradient(input=lambda grad: t(grad))
broadcast_to.gradient(input=lambda grad, shape_of_input: grad.sum_to_size(shape_of_input))
expand.gradient(input=lambda grad, shape_of_input: grad.sum_to_size(shape_of_input))


def _cat_gradient(grad, shape_of_tensors, dim, index):
    if shape_of_tensors[index] == (0,):
        return reshape(grad, (-1,))[:0]
    axis = normalize_axis("cat", dim, grad.ndim)
    start = 0
    for shape in shape_of_tensors[:index]:
        start += 0 if shape == (0,) else shape[axis]
    return grad[(slice(None),) * axis + (slice(start, start + shape_of_tensors[index][axis]),)]


def _stack_gradient(grad, dim, index):
    return grad[(slice(None),) * normalize_axis("stack", dim, grad.ndim) + (index,)]


cat.gradient(tensors=_cat_gradient)
stack.gradient(tensors=_stack_gradient)
