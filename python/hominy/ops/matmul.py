"""Products: matmul and its special cases, the linear layer with bias and activation, and the bilinear form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import run
from ..dtypes import category, promote_types
from .activation import relu_backward, sigmoid_backward, tanh_backward
from .define import operator, require_array
from .elementwise import _stored_as
from .reduce import sum_to_size
from .shape import matrix_transpose, reshape, transpose, unsqueeze


def _pair(
    name: str, input: Any, other: Any, first: str = "input", second: str = "other"
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one dtype that has a product: half precision multiplies in float32."""
    a, b = require_array(name, first, input), require_array(name, second, other)
    if a.dtype is b.dtype and a.dtype.char in "fd":
        return a, b
    if a.dtype != b.dtype:
        dtype = promote_types(a.dtype, b.dtype)
        a, b = a.astype(dtype, copy=False), b.astype(dtype, copy=False)
    if category(a.dtype) == 2 and a.dtype.itemsize == 2:
        a, b = a.astype(np.float32), b.astype(np.float32)
    return a, b


def _product(name: str, input: Any, other: Any) -> np.ndarray:
    a, b = _pair(name, input, other)
    try:
        result = run("matmul", a, b)
    except ValueError:
        _require_product(name, a, b)
        raise
    return result if a is input else _stored_as(result, input)


def _require_product(name: str, a: np.ndarray, b: np.ndarray) -> None:
    """Say why two shapes have no product, in the operator's terms."""
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"[{name}] input, other: expected at least 1 dimension each, got shapes {a.shape} and {b.shape}"
        )
    depth = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != depth:
        expected = f"(..., {a.shape[-1]}, n)" if b.ndim > 1 else f"({a.shape[-1]},)"
        raise ValueError(f"[{name}] other: expected shape {expected} to follow {a.shape}, got {b.shape}")
    for size_a, size_b in zip(a.shape[-3::-1], b.shape[-3::-1], strict=False):
        if size_a != size_b and size_a != 1 and size_b != 1:
            raise ValueError(
                f"[{name}] other: expected batch dimensions that broadcast with {a.shape[:-2]}, got {b.shape[:-2]}"
            )


@operator(direct="matmul")
def matmul(input, other):
    """The matrix product with NumPy's meanings: vectors, matrices, and batches of matrices that broadcast.

    (..., M, K) @ (..., K, N) is (..., M, N); a vector on the left is a row, on the right a column, and its dimension
    disappears. Float32 and float64 accumulate in their own precision.

    Raises:
        ValueError: the depths differ, or the batch dimensions do not broadcast.
    """
    return _product("matmul", input, other)


def _require_dims(name: str, **expected: tuple[Any, int]) -> None:
    for argument, (value, ndim) in expected.items():
        array = require_array(name, argument, value)
        if array.ndim != ndim:
            raise ValueError(f"[{name}] {argument}: expected {ndim} dimensions, got shape {array.shape}")


@operator
def mm(input, mat2):
    """The product of two matrices, (M, K) and (K, N)."""
    _require_dims("mm", input=(input, 2), mat2=(mat2, 2))
    return _product("mm", input, mat2)


@operator
def bmm(input, mat2):
    """The products of two batches of matrices, (B, M, K) and (B, K, N)."""
    _require_dims("bmm", input=(input, 3), mat2=(mat2, 3))
    if input.shape[0] != mat2.shape[0]:
        raise ValueError(f"[bmm] mat2: expected batch size {input.shape[0]}, got {mat2.shape[0]}")
    return _product("bmm", input, mat2)


@operator
def mv(input, vec):
    """The product of a matrix (M, K) and a vector (K,)."""
    _require_dims("mv", input=(input, 2), vec=(vec, 1))
    return _product("mv", input, vec)


@operator
def dot(input, tensor):
    """The inner product of two vectors."""
    _require_dims("dot", input=(input, 1), tensor=(tensor, 1))
    return _product("dot", input, tensor)


def _rows(x):
    """`x` (..., N) as a matrix of rows; their number spelled out, since -1 has no answer where N is 0."""
    return reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul_input_gradient(grad, shape_of_input, other):
    """grad @ other^T, where vectors are given back the dimension that the product dropped."""
    if len(other.shape) == 1:
        return unsqueeze(grad, -1) * other if len(shape_of_input) > 1 else grad * other
    if len(shape_of_input) == 1:
        return reshape(matmul(unsqueeze(grad, -2), matrix_transpose(other)), grad.shape[:-1] + shape_of_input)
    return matmul(grad, matrix_transpose(other))


def _matmul_other_gradient(grad, input, shape_of_other):
    """input^T @ grad, summed over the batch dimensions that a matrix `other` was stretched along."""
    if len(shape_of_other) == 1:
        return grad * input if len(input.shape) == 1 else matmul(reshape(grad, (-1,)), _rows(input))
    if len(input.shape) == 1:
        return unsqueeze(input, -1) * unsqueeze(grad, -2)
    if len(shape_of_other) == 2:  # one product over all rows: the sum over the batch happens inside it
        rows = _rows(input)
        return matmul(matrix_transpose(rows), _rows(grad))
    return matmul(matrix_transpose(input), grad)


matmul.gradient(input=_matmul_input_gradient, other=_matmul_other_gradient)
mm.gradient(
    input=lambda grad, mat2: matmul(grad, matrix_transpose(mat2)),
    mat2=lambda grad, input: matmul(matrix_transpose(input), grad),
)
bmm.gradient(
    input=lambda grad, mat2: matmul(grad, matrix_transpose(mat2)),
    mat2=lambda grad, input: matmul(matrix_transpose(input), grad),
)
mv.gradient(input=lambda grad, vec: unsqueeze(grad, -1) * vec, vec=lambda grad, input: matmul(grad, input))
dot.gradient(input=lambda grad, tensor: grad * tensor, tensor=lambda grad, input: grad * input)


@operator
def addmm(input, mat1, mat2, beta=1.0, alpha=1.0):
    """beta * input + alpha * (mat1 @ mat2), where input broadcasts to (M, N)."""
    _require_dims("addmm", mat1=(mat1, 2), mat2=(mat2, 2))
    product = _product("addmm", mat1, mat2)
    array = require_array("addmm", "input", input)
    if array.ndim > 2 or any(
        size not in (1, full) for size, full in zip(reversed(array.shape), reversed(product.shape), strict=False)
    ):
        raise ValueError(f"[addmm] input: expected a shape that broadcasts to {product.shape}, got {array.shape}")
    if alpha != 1:
        product = run("multiply", product, alpha, None)
    if beta == 0:  # as in PyTorch, NaN in input is then ignored
        return product
    if beta != 1:
        array = run("multiply", array, beta, None)
    return run("add", product, array.astype(product.dtype, copy=False), None)


addmm.gradient(
    input=lambda grad, beta: grad if beta == 1 else grad * beta,
    mat1=lambda grad, mat2, alpha: _scaled(matmul(grad, matrix_transpose(mat2)), alpha),
    mat2=lambda grad, mat1, alpha: _scaled(matmul(matrix_transpose(mat1), grad), alpha),
)


def _scaled(x, factor):
    return x if factor == 1 else x * factor


@operator(functional=True, public=False, direct="linear")
def linear(input, weight, bias=None):
    """input @ weight^T + bias; input (..., in_features), weight (out_features, in_features), bias (out_features,).

    The bias is added in the store of the product. A weight of shape (in_features,) gives a result without the last
    dimension.
    """
    return _linear(input, weight, bias, "none")


@operator(public=False)
def linear_activation(input, weight, bias=None, activation="relu"):
    """activation(linear(input, weight, bias)), the activation applied in the store of the product.

    activation: "none", "relu", "sigmoid", "tanh"; gradients come from the output alone. "gelu" and "silu" too where no
    gradient is wanted.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"[linear_activation] activation: expected one of {', '.join(_ACTIVATIONS)}, got {activation!r}"
        )
    return _linear(input, weight, bias, activation)


_ACTIVATIONS = ("none", "relu", "sigmoid", "tanh", "gelu", "silu")


def _linear(input: Any, weight: Any, bias: Any, activation: str) -> Any:
    x, w = _pair("linear", input, weight, "input", "weight")
    if w.ndim == 1 and bias is None and activation == "none":
        return _product("linear", input, weight)
    if w.ndim != 2:
        raise ValueError(f"[linear] weight: expected shape (out_features, in_features), got {w.shape}")
    if x.ndim == 0 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"[linear] input: expected shape (..., in_features={w.shape[1]}), got {x.shape}")
    if bias is not None:
        b = require_array("linear", "bias", bias)
        if b.shape != (w.shape[0],):
            if b.ndim != 0 and b.shape != (1,):
                raise ValueError(f"[linear] bias: expected shape (out_features={w.shape[0]},), got {b.shape}")
            b = np.broadcast_to(b, (w.shape[0],))
        bias = b.astype(x.dtype, copy=False)
    return _stored_as(run("linear", x, w, bias, activation), input)


def _linear_weight_gradient(grad, input, shape_of_weight):
    if len(shape_of_weight) == 1:
        return matmul(reshape(grad, (-1,)), _rows(input))
    if len(input.shape) != 2:
        grad, input = _rows(grad), _rows(input)
    return matmul(matrix_transpose(grad), input)


@operator(public=False, direct="linear_backward")
def linear_backward(grad, input, weight, needs):
    """(grad @ weight, grad^T @ input, grad summed over its rows): those that bits 0, 1 and 2 of `needs` ask for, else
    None.

    grad (..., out_features), input (..., in_features), weight (out_features, in_features); what is not read may be
    None.
    """
    dtype = require_array("linear_backward", "grad", grad).dtype
    for name, array in (("input", input), ("weight", weight)):
        if array is not None:
            dtype = promote_types(dtype, require_array("linear_backward", name, array).dtype)
    if dtype.itemsize == 2:
        dtype = np.dtype(np.float32)
    arrays = [x if x is None else x.astype(dtype, copy=False) for x in (grad, input, weight)]
    return run("linear_backward", *arrays, needs)


def _linear_gradients(grad, needs, input, weight, shape_of_weight):
    if len(shape_of_weight) == 2:
        return linear_backward(grad, input, weight, needs)
    return (
        unsqueeze(grad, -1) * weight if needs & 1 else None,
        matmul(reshape(grad, (-1,)), _rows(input)) if needs & 2 else None,
        None,
    )


def _linear_backward_grad_gradient(outer, shape_of_grad, input, weight):
    for_input, for_weight, for_bias = outer
    total = None if for_input is None else linear(for_input, weight)
    if for_weight is not None:
        part = linear(input, for_weight)
        total = part if total is None else total + part
    if for_bias is not None:
        part = for_bias.broadcast_to(shape_of_grad)
        total = part if total is None else total + part
    return total


linear.joint_gradient("input weight bias", _linear_gradients, input="weight", weight="input")
linear_backward.gradient(
    grad=_linear_backward_grad_gradient,
    input=lambda outer, grad: None if outer[1] is None else matmul(grad, outer[1]),
    weight=lambda outer, grad, shape_of_weight: (
        None if outer[0] is None else _linear_weight_gradient(grad, outer[0], shape_of_weight)
    ),
)


def _before_activation(grad, output, activation):
    """The gradient of what the activation was applied to."""
    if activation == "none":
        return grad
    rules = {"relu": relu_backward, "sigmoid": sigmoid_backward, "tanh": tanh_backward}
    if activation not in rules:
        raise RuntimeError(
            f"[linear_activation] {activation} keeps no gradient: its derivative needs the product itself; "
            f"use linear and {activation} one after the other"
        )
    return rules[activation](grad, output)


linear_activation.gradient(
    input=lambda grad, output, weight, activation: matmul(_before_activation(grad, output, activation), weight),
    weight=lambda grad, output, input, shape_of_weight, activation: _linear_weight_gradient(
        _before_activation(grad, output, activation), input, shape_of_weight
    ),
    bias=lambda grad, output, shape_of_bias, activation: sum_to_size(
        _before_activation(grad, output, activation), shape_of_bias
    ),
)


@operator(functional=True, public=False)
def bilinear(input1, input2, weight, bias=None):
    """x1^T A x2 + b for every output feature: input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,)."""
    _require_dims("bilinear", weight=(weight, 3))
    x1, x2 = _pair("bilinear", input1, input2, "input1", "input2")
    features, width1, width2 = weight.shape
    for argument, x, width in (("input1", x1, width1), ("input2", x2, width2)):
        if x.ndim == 0 or x.shape[-1] != width:
            raise ValueError(f"[bilinear] {argument}: expected shape (..., {width}), got {x.shape}")
    if x1.shape[:-1] != x2.shape[:-1]:
        raise ValueError(f"[bilinear] input2: expected shape {x1.shape[:-1] + (width2,)}, got {x2.shape}")
    if bias is not None and bias.shape != (features,):
        raise ValueError(f"[bilinear] bias: expected shape ({features},), got {bias.shape}")
    rows = math.prod(x1.shape[:-1])
    rows1, rows2 = x1.reshape(rows, width1), x2.reshape(rows, width2)
    # (R, I) @ (I, O*J) = (R, O, J), then the inner product with x2 over J.
    left = run("matmul", rows1, weight.transpose(1, 0, 2).reshape(width1, features * width2))
    left = left.reshape(rows, features, width2)
    result = run("matmul", left, rows2[:, :, None])[:, :, 0]
    if bias is not None:
        result = run("add", result, bias, None)
    return np.ascontiguousarray(result).reshape(x1.shape[:-1] + (features,))


def _bilinear_input1_gradient(grad, input2, weight):
    # sum_o g[r,o] (W[o] x2[r]): (R, J) @ (J, O*I) = (R, O, I), weighted by g.
    features, width1, width2 = weight.shape
    moved = reshape(weight.permute((2, 0, 1)), (width2, features * width1))
    right = reshape(matmul(_rows(input2), moved), (math.prod(grad.shape[:-1]), features, width1))
    return reshape(matmul(unsqueeze(_rows(grad), 1), right), grad.shape[:-1] + (width1,))


def _bilinear_input2_gradient(grad, input1, weight):
    features, width1, width2 = weight.shape
    moved = reshape(weight.permute((1, 0, 2)), (width1, features * width2))
    left = reshape(matmul(_rows(input1), moved), (math.prod(grad.shape[:-1]), features, width2))
    return reshape(matmul(unsqueeze(_rows(grad), 1), left), grad.shape[:-1] + (width2,))


def _bilinear_weight_gradient(grad, input1, input2):
    # (O, R) x (R, I) x (R, J): one product a feature.
    weighted = unsqueeze(transpose(_rows(grad), 0, 1), -1) * _rows(input1)  # (O, R, I)
    return matmul(matrix_transpose(weighted), _rows(input2))


bilinear.gradient(
    input1=_bilinear_input1_gradient,
    input2=_bilinear_input2_gradient,
    weight=_bilinear_weight_gradient,
    bias=lambda grad, shape_of_bias: sum_to_size(grad, shape_of_bias),
)
