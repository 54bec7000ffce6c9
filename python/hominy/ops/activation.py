"""Activations. Each has a backward operator of the gradient and what the forward kept, itself differentiable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import run
from .define import operator, require_floating, scalar
from .elementwise import _stored_as, _unary, abs, as_float, clamp, exp, greater, square, where


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
    input=lambda outer, grad, input, alpha: (
        outer * grad * where(greater(input, 0.0), 0.0, exp(clamp(input, max=0.0)) * alpha)
    ),
)


def _softplus_second(x, beta, threshold):
    s = sigmoid(x * beta)
    return where(greater(x * beta, threshold), 0.0, s * (1.0 - s) * beta)


softplus_backward.gradient(
    grad=lambda outer, input, beta, threshold: softplus_backward(outer, input, beta, threshold),
    input=lambda outer, grad, input, beta, threshold: outer * grad * _softplus_second(input, beta, threshold),
)
