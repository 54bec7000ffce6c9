"""Softmax and its logarithm, along any dimension."""

from __future__ import annotations

from typing import Any

from ..backends import run
from ..dtypes import normalize_dtype
from .define import normalize_axis, operator, require_array, require_floating
from .elementwise import _stored_as, as_float, exp


def _softmax(kernel: str, input: Any, dim: Any, dtype: Any) -> Any:
    if dtype is not None:
        input = require_array(kernel, "input", input).astype(normalize_dtype(dtype), copy=False)
    array = as_float(kernel, input)
    if dim is None:
        raise TypeError(f"[{kernel}] dim: expected an integer, got None")
    axis = normalize_axis(kernel, dim, array.ndim)
    if array.ndim == 0:
        return _stored_as(run(kernel, array.reshape(1), 0).reshape(()), input)
    return _stored_as(run(kernel, array, axis), input)


@operator(functional=True)
def softmax(input, dim, dtype=None):
    """exp(input) / sum(exp(input)) along dim, computed from the largest element so that nothing overflows; with dtype,
    of input cast to it."""
    return _softmax("softmax", input, dim, dtype)


@operator(functional=True)
def log_softmax(input, dim, dtype=None):
    """log(softmax(input)) along dim, without its rounding; with dtype, of input cast to it."""
    return _softmax("log_softmax", input, dim, dtype)


def _softmax_backward(kernel: str, grad: Any, result: Any, dim: int) -> Any:
    grad, result = require_floating(kernel, "grad", grad), require_floating(kernel, "result", result)
    if result.ndim == 0:
        return run(kernel, grad.reshape(1), result.reshape(1), 0).reshape(())
    return run(kernel, grad, result, normalize_axis(kernel, dim, result.ndim))


@operator(public=False)
def softmax_backward(grad, result, dim):
    """result * (grad - sum(grad * result))."""
    return _softmax_backward("softmax_backward", grad, result, dim)


@operator(public=False)
def log_softmax_backward(grad, result, dim):
    """grad - exp(result) * sum(grad)."""
    return _softmax_backward("log_softmax_backward", grad, result, dim)


softmax.gradient(input=lambda grad, output, dim: softmax_backward(grad, output, dim))
log_softmax.gradient(input=lambda grad, output, dim: log_softmax_backward(grad, output, dim))
softmax_backward.gradient(
    grad=lambda outer, result, dim: softmax_backward(outer, result, dim),
    result=lambda outer, grad, result, dim: (
        outer * (grad - (grad * result).sum(dim, True)) - grad * (outer * result).sum(dim, True)
    ),
)
log_softmax_backward.gradient(
    grad=lambda outer, result, dim: outer - (outer * exp(result)).sum(dim, True),
    result=lambda outer, grad, result, dim: outer * exp(result) * grad.sum(dim, True) * -1.0,
)
