"""Activations. Those with kernels have a backward operator of the gradient and what the forward kept, itself
differentiable; the others, at the end of the file, are made of these. Gradients at kinks are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import run
from .define import functional, normalize_axis, operator, require_array, require_floating, scalar
from .elementwise import (
    _stored_as,
    _unary,
    abs,
    as_float,
    clamp,
    clamp_backward,
    exp,
    log1p,
    negative,
    square,
    subtract,
    where,
)
from .elementwise import log as _log
from .shape import reshape
from .softmax import softmax


def _with_scalars(kernel: str, input: Any, *scalars: Any) -> Any:
    array = as_float(kernel, input)
    result = run(kernel, array, *scalars)
    return result if array is input else _stored_as(result, input)


def _gradient_operands(name: str, grad: Any, kept: Any) -> tuple[np.ndarray, np.ndarray]:
    return require_floating(name, "grad", grad), require_floating(name, "input", kept)


@operator(functional=True, direct="relu")
def relu(input, out=None):
    """max(input, 0); its gradient at 0 is 0."""
    return _unary("relu", input, out)


@operator(functional=True, direct="sigmoid")
def sigmoid(input, out=None):
    """1 / (1 + e^-input)."""
    return _unary("sigmoid", input, out)


@operator(functional=True, direct="tanh")
def tanh(input, out=None):
    """The hyperbolic tangent."""
    return _unary("tanh", input, out)


@operator(functional=True, public=False, direct="silu")
def silu(input):
    """input * sigmoid(input) (https://arxiv.org/abs/1702.03118)."""
    return _unary("silu", input, None)


@operator(functional=True, public=False, direct="softsign")
def softsign(input):
    """input / (1 + |input|), between -1 and 1."""
    return _unary("softsign", input, None)


@operator(functional=True, public=False)
def gelu(input, approximate="none"):
    """input/2 (1 + erf(input / sqrt 2)), or with approximate="tanh" its tanh form (https://arxiv.org/abs/1606.08415)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"[gelu] approximate: expected 'none' or 'tanh', got {approximate!r}")
    return _unary("gelu" if approximate == "none" else "gelu_tanh", input, None)


@operator(functional=True, public=False)
def leaky_relu(input, negative_slope=0.01):
    """input where positive, else negative_slope * input."""
    return _with_scalars("leaky_relu", input, scalar("leaky_relu", "negative_slope", negative_slope))


@operator(functional=True, public=False)
def elu(input, alpha=1.0):
    """input where positive, else alpha * (e^input - 1) (https://arxiv.org/abs/1511.07289)."""
    return _with_scalars("elu", input, scalar("elu", "alpha", alpha))


@operator(functional=True, public=False)
def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + e^(beta input)) / beta; input itself where beta * input > threshold."""
    return _with_scalars(
        "softplus", input, scalar("softplus", "beta", beta), scalar("softplus", "threshold", threshold)
    )


@operator(functional=True, public=False)
def hardtanh(input, min_val=-1.0, max_val=1.0):
    """input limited to [min_val, max_val]; the gradient is that between the bounds, and 0 on them and beyond.

    Raises:
        ValueError: min_val is above max_val.
    """
    array = require_array("hardtanh", "input", input)
    low, high = scalar("hardtanh", "min_val", min_val), scalar("hardtanh", "max_val", max_val)
    if low > high:
        raise ValueError(f"[hardtanh] max_val: expected a number not below min_val={low}, got {high}")
    return clamp.arrays(array, low, high)


@operator(public=False, direct="relu_backward")
def relu_backward(grad, result):
    """grad where result > 0, else 0."""
    return run("relu_backward", *_gradient_operands("relu_backward", grad, result))


@operator(public=False, direct="sigmoid_backward")
def sigmoid_backward(grad, result):
    """grad * result * (1 - result)."""
    return run("sigmoid_backward", *_gradient_operands("sigmoid_backward", grad, result))


@operator(public=False, direct="tanh_backward")
def tanh_backward(grad, result):
    """grad * (1 - result^2)."""
    return run("tanh_backward", *_gradient_operands("tanh_backward", grad, result))


@operator(public=False, direct="silu_backward")
def silu_backward(grad, input):
    """grad * sigmoid(input) * (1 + input * (1 - sigmoid(input)))."""
    return run("silu_backward", *_gradient_operands("silu_backward", grad, input))


@operator(public=False)
def gelu_backward(grad, input, approximate):
    """grad times the derivative of gelu."""
    kernel = "gelu_backward" if approximate == "none" else "gelu_tanh_backward"
    return run(kernel, *_gradient_operands(kernel, grad, input))


@operator(public=False)
def leaky_relu_backward(grad, input, negative_slope):
    """grad where input > 0, else negative_slope * grad."""
    return run("leaky_relu_backward", *_gradient_operands("leaky_relu_backward", grad, input), float(negative_slope))


@operator(public=False)
def elu_backward(grad, input, alpha):
    """grad where input > 0, else grad * alpha * e^input."""
    return run("elu_backward", *_gradient_operands("elu_backward", grad, input), float(alpha))


@operator(public=False)
def softplus_backward(grad, input, beta, threshold):
    """grad * sigmoid(beta input); grad itself where beta * input > threshold."""
    return run(
        "softplus_backward", *_gradient_operands("softplus_backward", grad, input), float(beta), float(threshold)
    )


relu.gradient(input=lambda grad, output: relu_backward(grad, output))
sigmoid.gradient(input=lambda grad, output: sigmoid_backward(grad, output))
tanh.gradient(input=lambda grad, output: tanh_backward(grad, output))
silu.gradient(input=lambda grad, input: silu_backward(grad, input))
softsign.gradient(input=lambda grad, input: grad / square(abs(input) + 1.0))
gelu.gradient(input=lambda grad, input, approximate: gelu_backward(grad, input, approximate))
leaky_relu.gradient(input=lambda grad, input, negative_slope: leaky_relu_backward(grad, input, negative_slope))
elu.gradient(input=lambda grad, input, alpha: elu_backward(grad, input, alpha))
softplus.gradient(input=lambda grad, input, beta, threshold: softplus_backward(grad, input, beta, threshold))


def _hardtanh_gradient(grad, input, min_val, max_val):
    # clamp's gradient, whose bounds count as inside: one number further in, they are the last that do.
    low, high = input.dtype.type(min_val), input.dtype.type(max_val)
    return clamp_backward(grad, input, np.nextafter(low, high), np.nextafter(high, low))


hardtanh.gradient(input=_hardtanh_gradient)

# Second derivatives: each backward operator is linear in `grad`, so its rule for `grad` is itself; the other rule is
# the incoming gradient times grad times the function's second derivative.

relu_backward.gradient(grad=lambda outer, result: relu_backward(outer, result))
leaky_relu_backward.gradient(
    grad=lambda outer, input, negative_slope: leaky_relu_backward(outer, input, negative_slope)
)
sigmoid_backward.gradient(
    grad=lambda outer, result: sigmoid_backward(outer, result),
    result=lambda outer, grad, result: outer * grad * (1.0 - result * 2.0),
)
tanh_backward.gradient(
    grad=lambda outer, result: tanh_backward(outer, result),
    result=lambda outer, grad, result: outer * grad * (result * -2.0),
)


def _silu_second(x):
    s = sigmoid(x)
    return s * (1.0 - s) * (x * (1.0 - s * 2.0) + 2.0)


silu_backward.gradient(
    grad=lambda outer, input: silu_backward(outer, input),
    input=lambda outer, grad, input: outer * grad * _silu_second(input),
)


def _gelu_second(x, approximate):
    if approximate == "none":
        return exp(square(x) * -0.5) * (1.0 / math.sqrt(2.0 * math.pi)) * (2.0 - square(x))
    c = math.sqrt(2.0 / math.pi)
    t = tanh((x + x * square(x) * 0.044715) * c)
    first = (square(x) * (3.0 * 0.044715) + 1.0) * c  # u', where t = tanh(u)
    second = x * (6.0 * 0.044715 * c)  # u''
    slope = 1.0 - square(t)
    return slope * first + x * 0.5 * (slope * second - t * slope * square(first) * 2.0)


gelu_backward.gradient(
    grad=lambda outer, input, approximate: gelu_backward(outer, input, approximate),
    input=lambda outer, grad, input, approximate: outer * grad * _gelu_second(input, approximate),
)
elu_backward.gradient(
    grad=lambda outer, input, alpha: elu_backward(outer, input, alpha),
    input=lambda outer, grad, input, alpha: outer * grad * where(input >= 0.0, 0.0, exp(clamp(input, max=0.0)) * alpha),
)


def _softplus_second(x, beta, threshold):
    s = sigmoid(x * beta)
    return where(x * beta >= threshold, 0.0, s * (1.0 - s) * beta)


softplus_backward.gradient(
    grad=lambda outer, input, beta, threshold: softplus_backward(outer, input, beta, threshold),
    input=lambda outer, grad, input, beta, threshold: outer * grad * _softplus_second(input, beta, threshold),
)


# Activations made of the others. `inplace` is accepted where PyTorch has it; the result is always a new tensor.


@functional
def relu6(input: Any, inplace: bool = False) -> Any:
    """input limited to [0, 6]."""
    return hardtanh(input, 0.0, 6.0)


@functional
def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """relu6(input + 3) / 6, piecewise linear from 0 to 1."""
    return hardtanh(input + 3.0, 0.0, 6.0) * (1.0 / 6.0)


@functional
def hardswish(input: Any, inplace: bool = False) -> Any:
    """input * hardsigmoid(input) (https://arxiv.org/abs/1905.02244)."""
    return input * hardsigmoid(input)


@functional
def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """0 where -lambd <= input <= lambd, else input."""
    lambd = scalar("hardshrink", "lambd", lambd)
    return where((input >= -lambd) & (input <= lambd), 0.0, input)


@functional
def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """input moved towards 0 by lambd, and 0 where it lies nearer.

    Raises:
        ValueError: lambd is negative.
    """
    lambd = scalar("softshrink", "lambd", lambd)
    if not lambd >= 0.0:
        raise ValueError(f"[softshrink] lambd: expected a number of 0 or more, got {lambd}")
    return subtract(input, clamp(input, -lambd, lambd))


@functional
def tanhshrink(input: Any) -> Any:
    """input - tanh(input)."""
    return subtract(input, tanh(input))


@functional
def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """input where it is above threshold, else value; NaN stays NaN."""
    limit = scalar("threshold", "threshold", threshold)
    return where(input <= limit, scalar("threshold", "value", value), input)


@functional
def selu(input: Any, inplace: bool = False) -> Any:
    """scale * elu(input, alpha), with the two constants that keep mean 0 and variance 1
    (https://arxiv.org/abs/1706.02515)."""
    return elu(input, 1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


@functional
def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """input where positive, else alpha (e^(input / alpha) - 1) (https://arxiv.org/abs/1704.07483).

    Raises:
        ValueError: alpha is not above 0, where the two pieces would not meet smoothly.
    """
    alpha = scalar("celu", "alpha", alpha)
    if not alpha > 0.0:
        raise ValueError(f"[celu] alpha: expected a number above 0, got {alpha}")
    if alpha == 1.0:
        return elu(input)
    return where(input > 0.0, input, elu(input * (1.0 / alpha)) * alpha)


@functional
def mish(input: Any, inplace: bool = False) -> Any:
    """input * tanh(softplus(input)) (https://arxiv.org/abs/1908.08681)."""
    return input * tanh(softplus(input))


@functional
def logsigmoid(input: Any) -> Any:
    """log(sigmoid(input)) = -log(1 + e^-input)."""
    return softplus(input * -1.0, 1.0, math.inf) * -1.0


@functional
def glu(input: Any, dim: int = -1) -> Any:
    """a * sigmoid(b), where a and b are the halves of input along dim (https://arxiv.org/abs/1612.08083).

    Raises:
        ValueError: the size along dim is odd, or input has no dimension.
    """
    shape = input.shape
    axis = normalize_axis("glu", dim, len(shape))
    if not shape or shape[axis] % 2:
        raise ValueError(f"[glu] input: expected an even size along dim {dim}, got shape {tuple(shape)}")
    before, half = (slice(None),) * axis, shape[axis] // 2
    first, second = (*before, slice(None, half)), (*before, slice(half, None))
    return input[first] * sigmoid(input[second])


@functional
def prelu(input: Any, weight: Any) -> Any:
    """input where positive, else weight * input (https://arxiv.org/abs/1502.01852).

    weight (1,), or (C,) with one slope for each place along input's dimension 1.

    Raises:
        ValueError: weight has another number of slopes.
    """
    shape = input.shape
    channels = shape[1] if len(shape) > 1 else 1
    slopes = weight.shape[0] if weight.ndim == 1 else 1
    if weight.ndim > 1 or slopes not in (1, channels):
        raise ValueError(f"[prelu] weight: expected shape (1,) or ({channels},), got {tuple(weight.shape)}")
    if slopes != 1:
        weight = reshape(weight, (slopes,) + (1,) * (len(shape) - 2))
    elif weight.ndim > len(shape):
        weight = reshape(weight, ())
    return where(input > 0.0, input, input * weight)


@functional
def rrelu(
    input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Any:
    """input where positive, else a slope times input: drawn uniformly from [lower, upper) for each element while
    training, their mean otherwise (https://arxiv.org/abs/1505.00853).

    Raises:
        ValueError: lower is above upper.
    """
    low, high = scalar("rrelu", "lower", lower), scalar("rrelu", "upper", upper)
    if not low <= high:
        raise ValueError(f"[rrelu] upper: expected a number not below lower={low}, got {high}")
    if not training:
        return leaky_relu(input, (low + high) / 2.0)
    from ..random import rand_like

    return where(input > 0.0, input, input * (rand_like(input) * (high - low) + low))


@functional
def softmin(input: Any, dim: int, dtype: Any = None) -> Any:
    """softmax(-input) along dim; with dtype, of input cast to it."""
    return softmax(negative(input), dim, dtype)


@functional
def gumbel_softmax(logits: Any, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """softmax((logits + g) / tau) along dim, where g is standard Gumbel noise (https://arxiv.org/abs/1611.01144).

    With `hard` the result is one-hot, and its gradient that of the soft sample. `eps` is there for the sake of ported
    code and has no effect.
    """
    from ..random import rand_like

    tau = scalar("gumbel_softmax", "tau", tau)
    if not tau > 0.0:
        raise ValueError(f"[gumbel_softmax] tau: expected a number above 0, got {tau}")
    waiting = clamp(negative(log1p(negative(rand_like(logits)))), min=1e-30)  # exponential, and never 0
    soft = softmax((logits - _log(waiting)) * (1.0 / tau), dim)
    if not hard:
        return soft
    from .loss import one_hot

    axis = normalize_axis("gumbel_softmax", dim, soft.ndim)
    picked = one_hot(soft.argmax(axis), soft.shape[axis]).to(soft.dtype)
    order = (*range(axis), soft.ndim - 1, *range(axis, soft.ndim - 1))
    return picked.permute(order) - soft.detach() + soft
