"""Convolution and transposed convolution, of one to three dimensions: three operators, each the gradient of the others.

    convolution           x, weight -> output
    conv_input_gradient   gradient of the output, weight -> gradient of x; also the transposed convolution
    conv_weight_gradient  gradient of the output, x -> gradient of the weight

All are bilinear, so that gradients of gradients are these three again. They take checked arguments: batched images
(N, channels, *space), stride and dilation as tuples, padding as pairs; `conv2d` and its like make them.

Results lie in their input's memory order: channels-last in, channels-last out.
"""

from __future__ import annotations

import functools
from operator import index as operator_index
from typing import Any

import numpy as np

from ..autograd import TensorBase, is_grad_enabled, wrap
from ..backends import Declined, direct, run
from ..backends.conv_choice import DIRECTIONS, choice, require_algorithm
from ..backends.reference_conv import channels_last, conv_space
from ..prepared import PreparedWeight
from ..utils.arguments import are_plain_integers
from .activation import relu_backward, sigmoid_backward, tanh_backward
from .arrange import constant_pad
from .define import as_tensor, functional, operator, require_array
from .shape import squeeze, unsqueeze

_LARGEST = 2**63 - 1
_SPACES = ("", "L", "H, W", "D, H, W")
_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}  # the dimensions with the channels last
_KERNELS = ("", "k", "kh, kw", "kd, kh, kw")

# --- the operators ----------------------------------------------------------------------------------------------------


def _computed(*arrays: Any) -> list[Any]:
    """The arrays, half precision in float32."""
    return [x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x for x in arrays]


def _images(name: str, argument: str, value: Any) -> np.ndarray:
    array = require_array(name, argument, value)
    if not 3 <= array.ndim <= 5:
        raise ValueError(f"[{name}] {argument}: expected (N, channels, *space) of 3 to 5 dimensions, got {array.shape}")
    return array


@operator(public=False, direct="conv")
def convolution(
    input, weight, bias, residual, stride, padding, dilation, groups, activation, algorithm, exact
):  # fmt: skip
    """activation(input conv weight + bias + residual), with a gradient where activation is "none"."""
    dtype = _images("convolution", "input", input).dtype
    _geometry(
        "convolution", input, require_array("convolution", "weight", weight), bias, stride, padding, dilation, groups
    )
    result = run("conv", *_computed(input, weight, bias, residual), stride, padding, dilation, groups, activation,
                 algorithm, exact)  # fmt: skip
    return result.astype(dtype, copy=False)


@operator(public=False)
def convolution_activation(
    input, weight, bias, residual, stride, padding, dilation, groups, activation, algorithm, exact
):  # fmt: skip
    """As convolution; gradients come from the output, so activation is "none", "relu", "sigmoid" or "tanh" there."""
    return convolution.arrays(
        input, weight, bias, residual, stride, padding, dilation, groups, activation, algorithm, exact
    )


@operator(public=False, direct="conv_input_gradient")
def conv_input_gradient(grad, weight, bias, size, stride, padding, dilation, groups, algorithm, exact):
    """The gradient of convolution's input, of space `size`, from that of its output; + bias[c] of each channel."""
    dtype = _images("conv_input_gradient", "grad", grad).dtype
    _require_settings("conv_input_gradient", grad.ndim - 2, weight.shape[0], size, stride, padding, dilation, groups)
    result = run("conv_input_gradient", *_computed(grad, weight, bias), size, stride, padding, dilation, groups,
                 algorithm, exact)  # fmt: skip
    return result.astype(dtype, copy=False)


@operator(public=False, direct="conv_weight_gradient")
def conv_weight_gradient(grad, input, size, stride, padding, dilation, groups, algorithm, exact):
    """The gradient of convolution's weight, a kernel of `size`, from that of its output."""
    dtype = _images("conv_weight_gradient", "grad", grad).dtype
    _require_settings("conv_weight_gradient", grad.ndim - 2, grad.shape[1], size, stride, padding, dilation, groups)
    result = run("conv_weight_gradient", *_computed(grad, input), size, stride, padding, dilation, groups, algorithm,
                 exact)  # fmt: skip
    return result.astype(dtype, copy=False)


def _other(direction: str) -> str:
    """The algorithm of another direction than that of an operator's own argument."""
    return getattr(choice, direction)


def _channel_sums(grad):
    return grad.sum((0, *range(2, len(grad.shape))))


def _conv_gradients(
    grad, needs, input, weight, shape_of_input, shape_of_weight, stride, padding, dilation, groups, exact
):  # fmt: skip
    rest = (stride, padding, dilation, groups)
    return (
        conv_input_gradient(grad, weight, None, shape_of_input[2:], *rest, _other("input_gradient"), exact)
        if needs & 1
        else None,
        conv_weight_gradient(grad, input, shape_of_weight[2:], *rest, _other("weight_gradient"), exact)
        if needs & 2
        else None,
        _channel_sums(grad) if needs & 4 else None,
        grad if needs & 8 else None,
    )


_BEFORE = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}


def _conv_activation_gradients(
    grad, needs, input, weight, shape_of_input, shape_of_weight, stride, padding, dilation, groups, activation, exact,
    output,
):  # fmt: skip
    if activation != "none":
        if activation not in _BEFORE:
            raise RuntimeError(
                f"[convolution_activation] {activation} keeps no gradient: its derivative needs the sums themselves"
            )
        grad = _BEFORE[activation](grad, output)
    return _conv_gradients(
        grad, needs, input, weight, shape_of_input, shape_of_weight, stride, padding, dilation, groups, exact
    )


def _input_gradient_gradients(
    outer, needs, grad, weight, shape_of_weight, stride, padding, dilation, groups, exact
):  # fmt: skip
    rest = (stride, padding, dilation, groups)
    return (
        convolution(outer, weight, None, None, *rest, "none", _other("forward"), exact) if needs & 1 else None,
        conv_weight_gradient(grad, outer, shape_of_weight[2:], *rest, _other("weight_gradient"), exact)
        if needs & 2
        else None,
        _channel_sums(outer) if needs & 4 else None,
    )


def _weight_gradient_gradients(outer, needs, grad, input, shape_of_input, stride, padding, dilation, groups, exact):
    rest = (stride, padding, dilation, groups)
    return (
        convolution(input, outer, None, None, *rest, "none", _other("forward"), exact) if needs & 1 else None,
        conv_input_gradient(grad, outer, None, shape_of_input[2:], *rest, _other("input_gradient"), exact)
        if needs & 2
        else None,
    )


convolution.joint_gradient("input weight bias residual", _conv_gradients, input="weight", weight="input")
convolution_activation.joint_gradient(
    "input weight bias residual", _conv_activation_gradients, input="weight", weight="input"
)
conv_input_gradient.joint_gradient("grad weight bias", _input_gradient_gradients, grad="weight", weight="grad")
conv_weight_gradient.joint_gradient("grad input", _weight_gradient_gradients, grad="input", input="grad")


# --- geometry: everything is checked before anything is computed ------------------------------------------------------


def _integers(name: str, argument: str, value: Any, count: int, lowest: int) -> tuple[int, ...]:
    """`value`, an integer or one for each of `count` dimensions, as a tuple."""
    if type(value) is not int:
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        try:
            numbers = tuple(operator_index(each) for each in values if not isinstance(each, (bool, np.bool_)))
        except TypeError:
            numbers = ()
        if len(numbers) != len(values):
            raise TypeError(f"[{name}] {argument}: expected an integer or {count} integers, got {value!r}")
        if len(numbers) == 1:
            numbers *= count
        if len(numbers) != count:
            raise ValueError(f"[{name}] {argument}: expected an integer or {count} integers, got {value!r}")
    else:
        numbers = (value,) * count
    for number in numbers:
        if not lowest <= number <= _LARGEST:
            bound = "above 0" if lowest else "of 0 or more"
            raise ValueError(f"[{name}] {argument}: expected integers {bound} and below 2**63, got {value!r}")
    return numbers


def _require_products(name: str, what: str, itemsize: int, *factors: int) -> None:
    """Raise unless the bytes of an array of sizes `factors` have a number below 2**63."""
    product = itemsize
    for factor in factors:
        product *= factor
    if product > _LARGEST:
        raise ValueError(f"[{name}] {what}: expected sizes whose product is below 2**63 bytes, got {factors}")


def _check_channels(
    name: str, x: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] | None, groups: Any, transposed: bool
) -> int:
    """`groups` as an integer, where the channels of input, weight and bias fit each other."""
    n = len(x) - 2
    (groups,) = _integers(name, "groups", groups, 1, 1)
    channels = x[1]
    if channels % groups:
        raise ValueError(f"[{name}] groups: expected a divisor of in_channels={channels}, got {groups}")
    first, second = (
        (f"in_channels={channels}", "out_channels/groups")
        if transposed
        else ("out_channels", f"in_channels/groups={channels // groups}")
    )
    fits = len(weight) == n + 2 and (weight[0] == channels if transposed else weight[1] == channels // groups)
    if not fits or min(weight[2:]) < 1:
        raise ValueError(f"[{name}] weight: expected ({first}, {second}, {_KERNELS[n]}), got {weight}")
    if not transposed and weight[0] % groups:
        raise ValueError(f"[{name}] weight: expected out_channels that groups={groups} divides, got {weight}")
    out_channels = weight[1] * groups if transposed else weight[0]
    if bias is not None and bias != (out_channels,):
        raise ValueError(f"[{name}] bias: expected ({out_channels},), one of each output channel, got {bias}")
    return groups


def _require_settings(
    name: str, n: int, channels: int, size: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> None:
    """Raise unless the settings of a gradient's operator are those of a convolution of `channels` outputs."""
    for argument, values, lowest in (("size", size, 0), ("stride", stride, 1), ("dilation", dilation, 1)):
        _integers(name, argument, values, n, lowest)
    _pairs(name, padding, (1,) * n, stride, dilation)
    if channels % _integers(name, "groups", groups, 1, 1)[0]:
        raise ValueError(f"[{name}] groups: expected a divisor of {channels} channels, got {groups}")


def _same(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """The padding that keeps the space: the odd one behind."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _pairs(
    name: str, padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """`padding` (numbers, pairs of them, "same", "valid") as pairs."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f"[{name}] padding: expected integers, 'same' or 'valid', got {padding!r}")
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if max(stride) > 1:
            raise ValueError(f"[{name}] stride: expected 1 with padding='same', got {stride}")
        return _same(kernel, dilation)
    if isinstance(padding, tuple) and padding and isinstance(padding[0], tuple):
        pairs = tuple(_integers(name, "padding", pair, 2, 0) for pair in padding)
        if len(pairs) != len(kernel):
            raise ValueError(f"[{name}] padding: expected {len(kernel)} pairs, got {padding!r}")
        return tuple((pair[0], pair[1]) for pair in pairs)
    return tuple((p, p) for p in _integers(name, "padding", padding, len(kernel), 0))


def _check_space(
    name: str,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    itemsize: int,
) -> tuple[int, ...]:
    """The output's shape, where the kernel fits into the padded input and no size overflows."""
    space = x[2:]
    for i, (size, k, (before, after), d) in enumerate(zip(space, weight[2:], padding, dilation, strict=True)):
        reach, padded = d * (k - 1) + 1, size + before + after
        if max(padded, reach) > _LARGEST:
            raise ValueError(
                f"[{name}] input: expected sizes below 2**63, got {padded} and a kernel's reach of {reach}"
            )
        if padded < reach:
            raise ValueError(
                f"[{name}] input: expected at least {reach} elements, the kernel's reach ({k} taps, dilation {d}), in "
                f"dimension {i + 2} with its padding, got {size} + {before} + {after}"
            )
    out = (x[0], weight[0], *conv_space(space, weight[2:], stride, padding, dilation))
    _require_products(name, "output", itemsize, *out)
    padded_space = [size + before + after for size, (before, after) in zip(space, padding, strict=True)]
    _require_products(name, "padded input", itemsize, *x[:2], *padded_space)
    return out


@functools.lru_cache(maxsize=1024)
def _transposed_space(
    name: str,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    itemsize: int,
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """(the space that the input reaches, the padding of the convolution that leads back from it to the input's, how
    many positions of the output lie beyond it)."""
    sizes, pairs, beyond = [], [], []
    for i, (size, k, s, p, more, d) in enumerate(
        zip(x[2:], weight[2:], stride, padding, output_padding, dilation, strict=True)
    ):
        if more >= max(s, d):
            raise ValueError(
                f"[{name}] output_padding: expected less than stride or dilation, {max(s, d)} in dimension {i + 2}, "
                f"got {more}"
            )
        whole = (size - 1) * s + d * (k - 1) + 1
        if size < 1 or whole + more - 2 * p < 1:
            raise ValueError(
                f"[{name}] input: expected a size that leaves an output in dimension {i + 2}, got {size}: "
                f"({size} - 1) * {s} - 2 * {p} + {d} * ({k} - 1) + {more} + 1 = {whole + more - 2 * p}"
            )
        if whole + more > _LARGEST:
            raise ValueError(f"[{name}] input: expected output sizes below 2**63, got {whole + more}")
        behind = more - p if more - p >= s else 0  # no tap reaches so far: the convolution back would not, either
        sizes.append(whole + more - 2 * p - behind)
        pairs.append((p, max(p - more, 0)))
        beyond.append(behind)
    _require_products(name, "output", itemsize, x[0], weight[1] * groups, *sizes)
    whole_space = [size + 2 * p + behind for size, p, behind in zip(sizes, padding, beyond, strict=True)]
    _require_products(name, "output, uncut", itemsize, x[0], weight[1] * groups, *whole_space)
    return tuple(sizes), tuple(pairs), tuple(beyond)


Geometry = tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...], int]


def _geometry(
    name: str, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Geometry:
    """(stride, padding, dilation, groups) of a convolution of these arrays, as operators take them, all checked."""
    shapes = (x.shape, weight.shape, None if bias is None else bias.shape, x.itemsize)
    known = are_plain_integers(stride, padding, dilation, groups)
    of_shapes = _geometry_of_shapes if known else _geometry_of_shapes.__wrapped__
    return of_shapes(name, *shapes, stride, padding, dilation, groups)


@functools.lru_cache(maxsize=1024)
def _geometry_of_shapes(
    name: str,
    x: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    itemsize: int,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Geometry:
    n = len(x) - 2
    groups = _check_channels(name, x, weight, bias, groups, False)
    stride, dilation = _integers(name, "stride", stride, n, 1), _integers(name, "dilation", dilation, n, 1)
    pairs = _pairs(name, padding, weight[2:], stride, dilation)
    _check_space(name, x, weight, stride, pairs, dilation, itemsize)
    return stride, pairs, dilation, groups


def _floating(name: str, input: Any, weight: Any, bias: Any = None) -> Any:
    """The arguments as tensors of one dtype, the input's: float32, float64 or half precision."""
    if isinstance(input, TensorBase) and isinstance(weight, TensorBase):
        own = input._array.dtype
        alike = bias is None or (isinstance(bias, TensorBase) and bias._array.dtype is own)
        if alike and own.char in "fd" and weight._array.dtype is own:
            return input, weight, bias
    return _checked_floating(name, input=input, weight=weight, bias=bias)


def _checked_floating(name: str, **arguments: Any) -> Any:
    tensors: list[Any] = []
    dtype: Any = None
    for argument, value in arguments.items():
        if value is None and argument == "bias":
            tensors.append(None)
            continue
        if not isinstance(value, TensorBase):
            value = as_tensor(name, argument, value)
        tensors.append(value)
        own = value._array.dtype
        if dtype is None:
            dtype = own
            if own.char not in "fde" and own.name != "bfloat16":
                raise TypeError(f"[{name}] {argument}: expected a float dtype, got {own}")
        elif own is not dtype and own != dtype:
            raise TypeError(f"[{name}] {argument}: expected dtype {dtype}, as the input's, got {own}")
    return tensors


def _batched(name: str, input: Any, n: int) -> Any:
    """(N, channels, *space), of an input with or without N."""
    ndim = input._array.ndim
    if ndim == n + 2:
        return input
    if ndim != n + 1:
        raise ValueError(
            f"[{name}] input: expected (N, C, {_SPACES[n]}) or (C, {_SPACES[n]}), got shape {input._array.shape}"
        )
    return unsqueeze(input, 0)


# --- the functions ----------------------------------------------------------------------------------------------------


def _conv(name: str, n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any):
    prepared = None
    if type(weight) is PreparedWeight:
        prepared = weight
        weight = prepared.checked(name)
        if is_grad_enabled():
            _refuse_gradients(name, input, weight, bias)
    input, weight, bias = _floating(name, input, weight, bias)
    x = _batched(name, input, n)
    b = None if bias is None else bias._array
    geometry = _geometry(name, x._array, weight._array, b, stride, padding, dilation, groups)
    arguments = (x, weight, bias, None, *geometry, "none", choice.forward, choice.exact)
    result = convolution(*arguments) if prepared is None else by_form(prepared, arguments)
    return result if x is input else squeeze(result, 0)


def by_form(prepared: PreparedWeight, arguments: tuple[Any, ...]) -> Any:
    """convolution(*arguments), not recorded, by a packed form of the weight, where the input lies in either layout
    without gaps."""
    x, weight, bias, residual, stride, padding, dilation, groups, activation, algorithm, exact = arguments
    array = x._array
    last = not array.flags.c_contiguous
    if not last or array.transpose(_LAST[array.ndim]).flags.c_contiguous:
        form = prepared.form(array.shape, last, (stride, padding, dilation, groups, algorithm, exact))
        if form is not None:
            b, r = None if bias is None else bias._array, None if residual is None else residual._array
            result = direct["conv"](
                array, weight._array, b, r, stride, padding, dilation, groups, activation, algorithm, exact, form
            )
            if type(result) is not Declined:
                return wrap(result)
    return convolution(*arguments)


def _refuse_gradients(name: str, *tensors: Any) -> None:
    if any(isinstance(tensor, TensorBase) and tensor._requires_grad for tensor in tensors):
        raise RuntimeError(
            f"[{name}] weight: expected a tensor where gradients are recorded, got a prepared weight, which has none; "
            "use hominy.no_grad() or the weight itself"
        )


@functional
def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    """As `conv2d`, of input (N, in_channels, L) or (in_channels, L), weight (out_channels, in_channels/groups, k)."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@functional
def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    """Cross-correlation, which networks call convolution:

        out[n, o, p] = bias[o] + sum over c, t of weight[o, c, t] * input[n, c, p * stride + t * dilation - padding]

    with the input 0 outside its space. Float32 and float64 are computed as they are, half precision in float32.

    Args:
        input: (N, in_channels, H, W) or (in_channels, H, W); the result lies in its memory order.
        weight: (out_channels, in_channels/groups, kh, kw), of input's dtype; or a `hominy.prepare(weight)`.
        bias: (out_channels,) or None.
        stride, dilation: an integer, or one a dimension.
        padding: zeros before and after, an integer, or one a dimension; "valid" is 0, "same" keeps the space (the odd
            one behind).
        groups: the channels fall into so many groups, each with outputs of its own.

    Returns:
        (N, out_channels, oh, ow), where oh = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1.

    Raises:
        ValueError: shapes do not fit, the kernel is larger than the padded input, a size overflows.
        TypeError: a dtype is another than input's, or none of floats.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@functional
def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Any:
    """As `conv2d`, of input (N, in_channels, D, H, W) or (in_channels, D, H, W) and weight (out_channels,
    in_channels/groups, kd, kh, kw)."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(
    name: str,
    n: int,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
) -> Any:
    if type(weight) is PreparedWeight:
        weight = weight.checked(name)
        if is_grad_enabled():
            _refuse_gradients(name, input, weight, bias)
    input, weight, bias = _floating(name, input, weight, bias)
    x = _batched(name, input, n)
    w = weight._array
    groups = _check_channels(name, x._array.shape, w.shape, None if bias is None else bias._array.shape, groups, True)
    stride = _integers(name, "stride", stride, n, 1)
    dilation = _integers(name, "dilation", dilation, n, 1)
    padding = _integers(name, "padding", padding, n, 0)
    output_padding = _integers(name, "output_padding", output_padding, n, 0)
    size, pairs, beyond = _transposed_space(
        name, x._array.shape, w.shape, stride, padding, output_padding, dilation, groups, w.itemsize
    )
    rest = (size, stride, pairs, dilation, groups, choice.input_gradient, choice.exact)
    if any(beyond):
        margins = tuple(margin for behind in reversed(beyond) for margin in (0, behind))
        result = constant_pad(conv_input_gradient(x, weight, None, *rest), margins, 0.0)
        result = result if bias is None else result + bias.reshape((-1, *(1,) * n))
    else:
        result = conv_input_gradient(x, weight, bias, *rest)
    return result if x is input else squeeze(result, 0)


@functional
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    """As `conv_transpose2d`, of input (N, in_channels, L) or (in_channels, L) and weight (in_channels,
    out_channels/groups, k)."""
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@functional
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    """The gradient of `conv2d` in its input, as a layer: every input position adds weight * input[n, c, p] to the
    output around p * stride - padding.

    Args:
        input: (N, in_channels, H, W) or (in_channels, H, W); the result lies in its memory order.
        weight: (in_channels, out_channels/groups, kh, kw), of input's dtype.
        bias: (out_channels,) or None.
        stride, padding, dilation, groups: those of the convolution that this is the gradient of.
        output_padding: so many positions more at the end, less than stride or dilation.

    Returns:
        (N, out_channels, oh, ow), where oh = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.

    Raises:
        ValueError: shapes do not fit, nothing is left of the output, a size overflows.
        TypeError: a dtype is another than input's, or none of floats.
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@functional
def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    """As `conv_transpose2d`, of input (N, in_channels, D, H, W) or (in_channels, D, H, W) and weight (in_channels,
    out_channels/groups, kd, kh, kw)."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


_ACTIVATIONS = ("none", "relu", "sigmoid", "tanh", "gelu", "silu")


@operator(public=False)
def conv(
    input,
    weight,
    bias=None,
    residual=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    activation="none",
    algorithm=None,
):  # fmt: skip
    """activation(conv(input, weight) + bias + residual) of arrays, all in the store of the convolution: what inference
    makes of a block of layers.

    Args:
        input: (N, in_channels, *space), of one to three dimensions of space, float32 or float64; the result lies in its
            memory order.
        weight: (out_channels, in_channels/groups, *kernel).
        bias: (out_channels,) or None.
        residual: None, or an array of the result's shape.
        stride, padding, dilation, groups: as those of `nn.functional.conv2d`; padding also as pairs (before, after).
        activation: "none", "relu", "sigmoid", "tanh", "gelu" or "silu".
        algorithm: as those of `backends.use_conv_algorithm`, which is what None asks for.

    Raises:
        ValueError, TypeError: as `nn.functional.conv2d`.
    """
    name = f"conv{_images('conv', 'input', input).ndim - 2}d"
    tensors = _floating(name, input, weight, bias)
    x, w, b = (None if each is None else each._array for each in tensors)  # type: Any, Any, Any
    stride, pairs, dilation, groups = _geometry(name, x, w, b, stride, padding, dilation, groups)
    if activation not in _ACTIVATIONS:
        raise ValueError(f"[{name}] activation: expected one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
    if residual is not None:
        shape = _check_space(name, x.shape, w.shape, stride, pairs, dilation, x.itemsize)
        residual = require_array(name, "residual", residual)
        if residual.shape != shape or residual.dtype != x.dtype:
            raise ValueError(f"[{name}] residual: expected {x.dtype} of {shape}, got {residual.dtype} {residual.shape}")
    algorithm = choice.forward if algorithm is None else require_algorithm(name, algorithm)
    return convolution.arrays(x, w, b, residual, stride, pairs, dilation, groups, activation, algorithm, choice.exact)


def algorithm_of(input: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any, direction: str) -> str:
    """backends.conv_algorithm."""
    name = "conv_algorithm"
    if direction not in DIRECTIONS:
        raise ValueError(f"[{name}] direction: expected one of {', '.join(DIRECTIONS)}, got {direction!r}")
    x, w = (tensor._array for tensor in _floating(name, input, weight)[:2])
    x = _images(name, "input", x if x.ndim == w.ndim else x[None])
    geometry = _geometry(name, x, w, None, stride, padding, dilation, groups)
    fixed = getattr(choice, direction)
    if fixed != "auto":
        return fixed
    return run("conv_algorithm", direction, x.shape, w.shape, channels_last(x), *geometry, x.dtype, choice.exact)
