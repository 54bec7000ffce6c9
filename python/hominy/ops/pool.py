"""Pooling: maxima, averages and p-norms over windows, and unpooling.

Inputs are (N, C, *space) or, without a batch, (C, *space), float32 or float64, NCHW or channels-last in memory; the
result lies in memory as its input. Averages are linear maps (`resample`), whose gradients are such maps again. Maxima
keep the indices of what they selected, by which their gradients are scattered and the gradients of those gathered.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..autograd import TensorBase, is_grad_enabled
from ..backends import run
from ..utils.arguments import are_plain_integers, wrong
from . import windows
from .define import REGISTRY, as_tensor, functional, operator, require_floating, scalar
from .windows import Windows, output_size, require_countable, sizes

# --- the operators: (N, C, *space) ------------------------------------------------------------------------------------


@operator(public=False)
def resample(input, windows):
    """Weighted sums of windows of input (N, C, *space), divided by the windows' divisors: (N, C, *windows.size)."""
    return run("resample", require_floating("resample", "input", input), windows.lists)


resample.gradient(input=lambda grad, windows: resample(grad, windows.turned))


@operator(public=False)
def max_pool(input, windows, index_bytes):
    """(out, indices) of input (N, C, *space): the largest element of each window, and its number in the plane (*space)
    as an integer of `index_bytes`; None where those are 0."""
    return run("max_pool", require_floating("max_pool", "input", input), windows.lists, index_bytes)


@operator(public=False)
def gather_planes(input, indices):
    """input (N, C, *space) at the numbers `indices` (N, C, *): elements of each plane counted in C order."""
    return run("gather_planes", require_floating("gather_planes", "input", input), indices)


@operator(public=False)
def scatter_planes(input, indices, size, sum):
    """(N, C, *size): 0 but where indices (N, C, *) put the elements of input; with `sum` they add up, else the last one
    stays."""
    return run("scatter_planes", require_floating("scatter_planes", "input", input), indices, size, sum)


@operator(public=False)
def max_pool_backward(grad, indices, windows):
    """(N, C, *windows.size): each element is the sum of grad (N, C, *space) over the outputs that `windows`, those of
    the pooling turned round, list for it, where their index is its number."""
    return run("max_pool_backward", require_floating("max_pool_backward", "grad", grad), indices, windows.lists)


def _max_pool_gradient(grad, output_1, windows):
    if output_1.dtype.itemsize == grad[0].dtype.itemsize:
        return max_pool_backward(grad[0], output_1, windows.turned)
    return scatter_planes(grad[0], output_1, windows.inputs, True)


max_pool.gradient(input=_max_pool_gradient)
max_pool_backward.gradient(grad=lambda grad, indices: gather_planes(grad, indices))
gather_planes.gradient(
    input=lambda grad, indices, shape_of_input: scatter_planes(grad, indices, shape_of_input[2:], True)
)
scatter_planes.gradient(input=lambda grad, indices: gather_planes(grad, indices))


# --- arguments --------------------------------------------------------------------------------------------------------


def images(name: str, input: Any, dims: int) -> tuple[Any, bool]:
    """input as (N, C, *space), and whether it came without a batch.

    Raises:
        TypeError, ValueError: it is not a float tensor of that many dimensions.
    """
    tensor = as_tensor(name, "input", input)
    array = require_floating(name, "input", tensor._array)
    if array.ndim not in (dims + 1, dims + 2):
        space = ", ".join("DHW"[3 - dims :]) if dims > 1 else "L"
        raise ValueError(
            f"[{name}] input: expected shape (N, C, {space}) or (C, {space}), got {dims_text(array.shape)}"
        )
    if 0 in array.shape[array.ndim - dims :]:
        raise ValueError(f"[{name}] input: expected sizes above 0 but for batch and channels, got {array.shape}")
    if array.ndim == dims + 2:
        return tensor, False
    return tensor.unsqueeze(0), True


def dims_text(shape: tuple[int, ...]) -> str:
    """A shape, for a message."""
    return str(tuple(shape))


def unbatched(result: Any, alone: bool) -> Any:
    """`result` without its batch of one, if the input had none."""
    return result.squeeze(0) if alone else result


def _plain(value: Any) -> Any:
    """An argument as a key: lists as tuples."""
    return tuple(value) if isinstance(value, list) else value


def _windows(
    name: str,
    array: np.ndarray,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    divide: str = "",
    divisor: int = 0,
) -> Windows:
    """The windows of a pooling of array (N, C, *space), whose arguments are checked."""
    space = array.shape[2:]
    plain = _plain(kernel_size), _plain(stride), _plain(padding), _plain(dilation)
    known = max(space) <= 4096 and are_plain_integers(*plain)
    make = _sliding if known else _sliding.__wrapped__
    lists: Windows = make(name, space, *plain, bool(ceil_mode), divide, divisor)
    require_countable(name, (*array.shape[:2], *lists.size), 8)
    return lists


@functools.lru_cache(256)
def _sliding(
    name: str,
    space: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    divide: str,
    divisor: int,
) -> Windows:
    dims = len(space)
    kernel = sizes(name, "kernel_size", kernel_size, dims)
    step = kernel if stride is None or stride == () else sizes(name, "stride", stride, dims)
    pad = sizes(name, "padding", padding, dims, 0)
    dilated = sizes(name, "dilation", dilation, dims)
    size = []
    for d, n in enumerate(space):
        reach = dilated[d] * (kernel[d] - 1) + 1
        if pad[d] > reach // 2:
            expected = f"at most half of the kernel's reach, {reach} in dimension {d - dims}"
            raise ValueError(wrong(name, "padding", expected, pad[d]))
        count = output_size(n, kernel[d], step[d], pad[d], dilated[d], ceil_mode)
        if count < 1:
            raise ValueError(
                f"[{name}] kernel_size: expected a window that fits into the padded input's {n + 2 * pad[d]} elements "
                f"in dimension {d - dims}, got one of {reach}"
            )
        size.append(count)
    require_countable(name, size, 8)
    lists = windows.sliding(space, tuple(size), kernel, step, pad, dilated, divide, divisor)
    for d, each in enumerate(lists.lists):
        if not each.counts.all():
            raise ValueError(
                f"[{name}] dilation: expected windows that each have an element of the input, got {dilated[d]} with "
                f"kernel {kernel[d]} and padding {pad[d]} for {space[d]} elements"
            )
    return lists


# --- maxima -----------------------------------------------------------------------------------------------------------


def _pooled_maxima(name: str, x: Any, alone: bool, lists: Windows, return_indices: bool) -> Any:
    array = x._array
    index_bytes = 0
    if return_indices:
        index_bytes = 8
    elif x._requires_grad and is_grad_enabled():
        index_bytes = array.itemsize if math.prod(lists.inputs) <= windows.LARGEST else 8
    out, indices = max_pool(x, lists, index_bytes)
    if return_indices:
        return unbatched(out, alone), unbatched(indices, alone)
    return unbatched(out, alone)


def _max_pool(
    name: str,
    dims: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    x, alone = images(name, input, dims)
    lists = _windows(name, x._array, kernel_size, stride, padding, dilation, ceil_mode)
    return _pooled_maxima(name, x, alone, lists, return_indices)


@functional
def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of input (N, C, L), or (C, L); NaN where there is one.

    stride: None is kernel_size. padding: of -inf, at most half of the kernel's reach. ceil_mode: windows may go over
    the end. return_indices: (out, indices); indices (int64) count the elements of the input's plane in C order, and of
    equal elements the first is meant.

    Raises:
        ValueError: a window does not fit, sizes are not positive, padding is negative or too large.
    """
    name = "max_pool1d"
    return _max_pool(name, 1, input, kernel_size, stride, padding, dilation, ceil_mode, bool(return_indices))


@functional
def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As max_pool1d for input (N, C, H, W), or without N."""
    name = "max_pool2d"
    return _max_pool(name, 2, input, kernel_size, stride, padding, dilation, ceil_mode, bool(return_indices))


@functional
def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As max_pool1d for input (N, C, D, H, W), or without N."""
    name = "max_pool3d"
    return _max_pool(name, 3, input, kernel_size, stride, padding, dilation, ceil_mode, bool(return_indices))


@functional
def max_pool1d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> Any:
    """max_pool1d with return_indices=True."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


@functional
def max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> Any:
    """max_pool2d with return_indices=True."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


@functional
def max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = True,
) -> Any:
    """max_pool3d with return_indices=True."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _adaptive_size(name: str, output_size: Any, space: tuple[int, ...]) -> tuple[int, ...]:
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(space)
    if len(given) == 1:
        given = tuple(given) * len(space)
    if len(given) != len(space):
        raise ValueError(wrong(name, "output_size", f"an integer or {len(space)} of them", output_size))
    filled = tuple(n if each is None else each for each, n in zip(given, space, strict=True))
    return sizes(name, "output_size", filled, len(space), 0)


def _adaptive_max_pool(name: str, dims: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    x, alone = images(name, input, dims)
    space = x._array.shape[2:]
    size = _adaptive_size(name, output_size, space)
    require_countable(name, (*x._array.shape[:2], *size), 8)
    return _pooled_maxima(name, x, alone, windows.adaptive(space, size, False), return_indices)


@functional
def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest element of each of output_size windows that cover input (N, C, L), or (C, L): window i of n reads
    from floor(i L / n) to ceil((i + 1) L / n). return_indices: (out, indices)."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, bool(return_indices))


@functional
def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """As adaptive_max_pool1d for input (N, C, H, W), or without N; None keeps a size."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, bool(return_indices))


@functional
def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """As adaptive_max_pool1d for input (N, C, D, H, W), or without N; None keeps a size."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, bool(return_indices))


@functional
def adaptive_max_pool1d_with_indices(input: Any, output_size: Any, return_indices: bool = True) -> Any:
    """adaptive_max_pool1d with return_indices=True."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, True)


@functional
def adaptive_max_pool2d_with_indices(input: Any, output_size: Any, return_indices: bool = True) -> Any:
    """adaptive_max_pool2d with return_indices=True."""
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, True)


@functional
def adaptive_max_pool3d_with_indices(input: Any, output_size: Any, return_indices: bool = True) -> Any:
    """adaptive_max_pool3d with return_indices=True."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, True)


# --- averages ---------------------------------------------------------------------------------------------------------


def _avg_pool(
    name: str,
    dims: int,
    input: Any,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any = None,
) -> Any:
    x, alone = images(name, input, dims)
    divide, divisor = "padded" if count_include_pad else "inside", 0
    if divisor_override is not None:
        divide, divisor = "divisor", divisor_override.__index__() if hasattr(divisor_override, "__index__") else 0
        if divisor == 0:
            raise ValueError(wrong(name, "divisor_override", "an integer other than 0", divisor_override))
    lists = _windows(name, x._array, kernel_size, stride, padding, 1, ceil_mode, divide, divisor)
    return unbatched(resample(x, lists), alone)


@functional
def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of input (N, C, L), or (C, L); zeros of the padding count with count_include_pad.

    Raises:
        ValueError: a window does not fit, sizes are not positive, padding is negative or more than half of the kernel.
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


@functional
def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of input (N, C, H, W), or without N; zeros of the padding count with count_include_pad.
    divisor_override: what each sum is divided by instead.

    Raises:
        ValueError: a window does not fit, sizes are not positive, padding is negative or more than half of the kernel.
    """
    name = "avg_pool2d"
    return _avg_pool(name, 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@functional
def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """As avg_pool2d for input (N, C, D, H, W), or without N."""
    name = "avg_pool3d"
    return _avg_pool(name, 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool(name: str, dims: int, input: Any, output_size: Any) -> Any:
    """The mean of each of the windows that cover input; one window is a plain mean."""
    x, alone = images(name, input, dims)
    space = x._array.shape[2:]
    size = _adaptive_size(name, output_size, space)
    require_countable(name, (*x._array.shape[:2], *size), 8)
    if set(size) == {1}:
        return unbatched(REGISTRY["mean"](x, tuple(range(2, 2 + dims)), True), alone)
    return unbatched(resample(x, windows.adaptive(space, size, True)), alone)


@functional
def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """The mean of each of output_size windows that cover input (N, C, L), or (C, L): window i of n reads from
    floor(i L / n) to ceil((i + 1) L / n)."""
    return adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


@functional
def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """As adaptive_avg_pool1d for input (N, C, H, W), or without N; None keeps a size."""
    return adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


@functional
def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """As adaptive_avg_pool1d for input (N, C, D, H, W), or without N; None keeps a size."""
    return adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


# --- p-norms ----------------------------------------------------------------------------------------------------------


def _lp_pool(name: str, dims: int, input: Any, norm_type: Any, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    p = scalar(name, "norm_type", norm_type)
    count = float(math.prod(sizes(name, "kernel_size", kernel_size, dims)))
    mean = _avg_pool(name, dims, as_tensor(name, "input", input) ** p, kernel_size, stride, 0, ceil_mode, True)
    # As PyTorch: of a negative sum (an odd p) the positive part, 0.
    return (mean.sign() * REGISTRY["relu"](mean.abs()) * count) ** (1.0 / p)


@functional
def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x^p)^(1/p), p = norm_type, over each window of input (N, C, L), or (C, L)."""
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


@functional
def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x^p)^(1/p), p = norm_type, over each window of input (N, C, H, W), or without N."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


@functional
def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """(sum of x^p)^(1/p), p = norm_type, over each window of input (N, C, D, H, W), or without N."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


# --- unpooling --------------------------------------------------------------------------------------------------------


def _unpooled_size(
    name: str, space: tuple[int, ...], kernel: Any, stride: Any, padding: Any, wanted: Any
) -> tuple[int, ...]:
    """The size that a pooling came from: by default the smallest, else one that pools to `space`."""
    default = tuple((n - 1) * s + k - 2 * p for n, k, s, p in zip(space, kernel, stride, padding, strict=True))
    if wanted is None:
        size = default
    else:
        given = tuple(wanted)
        if len(given) == len(space) + 2:
            given = given[2:]
        if len(given) != len(space):
            raise ValueError(wrong(name, "output_size", f"{len(space)} sizes or {len(space) + 2}", tuple(wanted)))
        size = sizes(name, "output_size", given, len(space), 0)
        for n, usual, step in zip(size, default, stride, strict=True):
            if not usual - step < n < usual + step:
                expected = f"each size less than a stride from {default}"
                raise ValueError(wrong(name, "output_size", expected, size))
    if min(size) < 0:
        raise ValueError(f"[{name}] padding: expected an output of sizes above 0, got {size}")
    return size


def _max_unpool(
    name: str, dims: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Any:
    x, alone = images(name, input, dims)
    kernel = sizes(name, "kernel_size", kernel_size, dims)
    absent = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    step = kernel if absent else sizes(name, "stride", stride, dims)
    pad = sizes(name, "padding", padding, dims, 0)
    numbers = indices._array if isinstance(indices, TensorBase) else indices
    if not isinstance(numbers, np.ndarray) or numbers.dtype != np.int64:
        got = numbers.dtype if isinstance(numbers, np.ndarray) else type(numbers).__name__
        raise TypeError(f"[{name}] indices: expected int64, got {got}")
    if numbers.ndim == dims + 1:
        numbers = numbers[None]
    if numbers.shape != x._array.shape:
        raise ValueError(f"[{name}] indices: expected input's shape {x._array.shape}, got {numbers.shape}")
    size = _unpooled_size(name, x._array.shape[2:], kernel, step, pad, output_size)
    require_countable(name, (*x._array.shape[:2], *size), 8)
    return unbatched(scatter_planes(x, numbers, size, False), alone)


@functional
def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """Zeros, but where indices say: there input (N, C, L), or (C, L). What max_pool1d with return_indices=True gave
    goes back to where it came from; output_size says how large that was, where several sizes pool to L.

    Raises:
        IndexError: an index outside the output. ValueError: shapes or output_size do not fit.
    """
    return _max_unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@functional
def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """As max_unpool1d for input (N, C, H, W), or without N."""
    return _max_unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@functional
def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Any:
    """As max_unpool1d for input (N, C, D, H, W), or without N."""
    return _max_unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
