"""Layer, RMS, batch, group and instance norm: one kernel a direction for those over rows, one for those over channels.

Gradients of gradients go through the definition, written with differentiable operators.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import TensorBase, bump, is_grad_enabled
from ..autograd import grad as gradients_of
from ..backends import run
from .define import functional, operator, require_array, scalar

# --- over rows --------------------------------------------------------------------------------------------------------


def _computed(name: str, *arrays: Any) -> list[Any]:
    """The arrays in the first one's dtype, half precision in float32."""
    dtype = require_array(name, "input", arrays[0]).dtype
    if dtype.itemsize == 2 and dtype.kind in "fV":
        dtype = np.dtype(np.float32)
    elif dtype.char not in "fd":
        raise TypeError(f"[{name}] input: expected a float dtype, got {dtype}")
    return [None if x is None else x.astype(dtype, copy=False) for x in arrays]


@operator(public=False, direct="layer_norm")
def layer_norm_over(input, weight, bias, dims, eps, rms):
    """(out, mean, rstd) of input over its last `dims` dimensions; mean is None with `rms`."""
    out, mean, rstd = run("layer_norm", *_computed("layer_norm", input, weight, bias), dims, eps, rms)
    return out.astype(input.dtype, copy=False), mean, rstd


@operator(public=False, direct="layer_norm_backward")
def layer_norm_backward(grad, input, weight, mean, rstd, dims, needs):
    """The gradients of input, weight and bias that bits 0, 1 and 2 of `needs` ask for."""
    x, g, w = _computed("layer_norm", input, grad, weight)
    return run("layer_norm_backward", g, x, w, mean, rstd, dims, needs)


def _layer_norm_definition(input, weight, bias, dims, eps, rms):
    axes = tuple(range(input.ndim - dims, input.ndim))
    z = input if rms else input - input.mean(axes, True)
    y = z / ((z * z).mean(axes, True) + eps).sqrt()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _through(definition, grad, needs, tensors, *settings):
    """Gradients of `tensors` that the tape records, where bits of `needs` ask for them."""
    result = definition(*tensors, *settings)
    wanted = [tensor for i, tensor in enumerate(tensors) if needs >> i & 1]
    found = iter(gradients_of(result, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if needs >> i & 1 else None for i in range(len(tensors))]


def _layer_norm_gradients(grad, needs, input, weight, bias, dims, eps, rms, output_1, output_2):
    if is_grad_enabled():
        return _through(_layer_norm_definition, grad[0], needs, (input, weight, bias), dims, eps, rms)
    return layer_norm_backward(grad[0], input, weight, output_1, output_2, dims, needs)


layer_norm_over.joint_gradient("input weight bias", _layer_norm_gradients)


def _require_tensor(name: str, argument: str, value: Any) -> Any:
    if not isinstance(value, TensorBase):
        raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
    return value._array


def _rows(name: str, input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any, rms: bool) -> Any:
    array = _require_tensor(name, "input", input)
    shape = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    shape = tuple(size.__index__() for size in shape)
    if not shape or array.shape[array.ndim - len(shape) :] != shape or array.ndim < len(shape):
        raise ValueError(
            f"[{name}] input: expected shape (..., {', '.join(map(str, shape))}) for normalized_shape {shape}, "
            f"got {array.shape}"
        )
    for argument, value in (("weight", weight), ("bias", bias)):
        if value is not None and _require_tensor(name, argument, value).shape != shape:
            raise ValueError(f"[{name}] {argument}: expected shape {shape}, got {value.shape}")
    return layer_norm_over(input, weight, bias, len(shape), scalar(name, "eps", eps), rms)[0]


@functional
def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(input - mean) / sqrt(variance + eps) * weight + bias, statistics over the last dimensions, `normalized_shape`
    (https://arxiv.org/abs/1607.06450).

    Raises:
        ValueError: input's last dimensions, weight or bias do not have that shape.
    """
    return _rows("layer_norm", input, normalized_shape, weight, bias, eps, False)


@functional
def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """input / sqrt(mean(input^2) + eps) * weight over the last dimensions; eps=None is the dtype's machine epsilon
    (https://arxiv.org/abs/1910.07467)."""
    if eps is None:
        dtype = _require_tensor("rms_norm", "input", input).dtype
        eps = float(np.finfo(dtype if dtype.kind == "f" else np.float32).eps)
    return _rows("rms_norm", input, normalized_shape, weight, None, eps, True)


# --- over channels ----------------------------------------------------------------------------------------------------


@operator(public=False, direct="channel_norm")
def channel_norm(input, weight, bias, mean, variance, groups, eps):
    """(out, mean, variance) of input (N, C, *); the last two are None where they are given."""
    x, w, b, m, v = _computed("channel_norm", input, weight, bias, mean, variance)
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    out, m, v = run("channel_norm", flat, w, b, m, v, groups, eps)
    return out.reshape(x.shape).astype(input.dtype, copy=False), m, v


@operator(public=False, direct="channel_norm_backward")
def channel_norm_backward(grad, input, weight, mean, variance, groups, eps, fixed, needs):
    """The gradients of input, weight and bias that bits 0, 1 and 2 of `needs` ask for."""
    x, g, w, m, v = _computed("channel_norm", input, grad, weight, mean, variance)
    shape = (*x.shape[:2], math.prod(x.shape[2:]))
    results = run("channel_norm_backward", g.reshape(shape), x.reshape(shape), w, m, v, groups, eps, fixed, needs)
    return None if results[0] is None else results[0].reshape(x.shape), *results[1:]


def _channel_norm_definition(input, weight, bias, mean, variance, groups, eps):
    shape = input.shape
    rest = math.prod(shape[2:])
    per_channel = (1, shape[1], 1)
    if mean is not None:
        x = input.reshape((shape[0], shape[1], rest))
        z = (x - mean.reshape(per_channel)) / (variance.reshape(per_channel) + eps).sqrt()
    else:
        split = (groups, shape[1] // groups * rest) if groups else (shape[1], rest)
        x = input.reshape((shape[0], *split))
        axes: Any = 2
        if not groups:
            axes = (0, 2)
        z = x - x.mean(axes, True)
        z = (z / ((z * z).mean(axes, True) + eps).sqrt()).reshape((shape[0], shape[1], rest))
    z = z if weight is None else z * weight.reshape(per_channel)
    return (z if bias is None else z + bias.reshape(per_channel)).reshape(shape)


def _channel_norm_gradients(grad, needs, input, weight, bias, mean, variance, groups, eps, output_1, output_2):
    fixed = mean is not None
    if is_grad_enabled():
        tensors = (input, weight, bias)
        return _through(_channel_norm_definition, grad[0], needs, tensors, mean, variance, groups, eps)
    if not fixed:
        mean, variance = output_1, output_2
    return channel_norm_backward(grad[0], input, weight, mean, variance, groups, eps, fixed, needs)


channel_norm.joint_gradient("input weight bias", _channel_norm_gradients)


def _require_channels(name: str, input: Any, **lists: Any) -> tuple[np.ndarray, int]:
    array = _require_tensor(name, "input", input)
    if array.ndim < 2:
        raise ValueError(f"[{name}] input: expected at least 2 dimensions (N, C, ...), got shape {array.shape}")
    channels = array.shape[1]
    for argument, value in lists.items():
        if value is not None and _require_tensor(name, argument, value).shape != (channels,):
            raise ValueError(f"[{name}] {argument}: expected shape (C={channels},), got {value.shape}")
    return array, channels


def _update(running: Any, new: np.ndarray, momentum: float) -> None:
    """running = (1 - momentum) running + momentum new, in place and outside the tape."""
    if running is not None:
        running._array[...] = (1 - momentum) * running._array + momentum * new
        bump(running)


@functional
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(input - mean) / sqrt(variance + eps) * weight + bias for each channel of input (N, C, *)
    (https://arxiv.org/abs/1502.03167).

    training: statistics of the batch, over N and *; running_mean and running_var (C,) or None move towards them by
    `momentum` (the variance of n elements by n / (n - 1) of it). Else the running statistics are used.

    Raises:
        ValueError: shapes do not fit, one value a channel in training, no running statistics in evaluation.
    """
    lists = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    array, channels = _require_channels("batch_norm", input, **lists)
    eps, momentum = scalar("batch_norm", "eps", eps), scalar("batch_norm", "momentum", momentum)
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("[batch_norm] running_mean, running_var: expected tensors where training is False")
        return channel_norm(input, weight, bias, running_mean, running_var, 0, eps)[0]
    count = array.size // channels if channels else 0
    if count == 1:
        raise ValueError(
            f"[batch_norm] input: expected more than 1 value per channel when training, got shape {array.shape}"
        )
    out, mean, variance = channel_norm(input, weight, bias, None, None, 0, eps)
    if count:
        _update(running_mean, mean._array, momentum)
        _update(running_var, variance._array * (count / (count - 1)), momentum)
    return out


@functional
def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """As layer norm over each of num_groups groups of channels of each item of input (N, C, *), with weight and bias
    (C,) (https://arxiv.org/abs/1803.08494).

    Raises:
        ValueError: C is not a multiple of num_groups, or shapes do not fit.
    """
    _, channels = _require_channels("group_norm", input, weight=weight, bias=bias)
    if isinstance(num_groups, bool) or not hasattr(num_groups, "__index__") or num_groups < 1:
        raise ValueError(f"[group_norm] num_groups: expected an integer of at least 1, got {num_groups!r}")
    if channels % num_groups:
        raise ValueError(f"[group_norm] num_groups: expected a divisor of {channels} channels, got {num_groups}")
    return channel_norm(input, weight, bias, None, None, num_groups.__index__(), scalar("group_norm", "eps", eps))[0]


@functional
def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """As batch norm, with statistics of each item alone: input (N, C, *) (https://arxiv.org/abs/1607.08022).

    Running statistics move towards the mean of the items'.
    """
    lists = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    array, channels = _require_channels("instance_norm", input, **lists)
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(array.shape[2:])
    if count == 1:
        raise ValueError(
            f"[instance_norm] input: expected more than 1 spatial element when training, got shape {array.shape}"
        )
    eps, momentum = scalar("instance_norm", "eps", eps), scalar("instance_norm", "momentum", momentum)
    if channels == 0:
        return input * 1.0
    out, mean, variance = channel_norm(input, weight, bias, None, None, channels, eps)
    if len(array) and count:
        _update(running_mean, mean._array.reshape(-1, channels).mean(0), momentum)
        _update(running_var, variance._array.reshape(-1, channels).mean(0) * (count / (count - 1)), momentum)
    return out
