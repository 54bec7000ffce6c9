"""Convolutions in the table of cases: every geometry with an algorithm of sums of products (Winograd's, whose error is
another, stand in the tests of convolution).

A size is (shape of x, shape of the weight, stride, padding, dilation, groups).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import reference
from ..backends.reference_conv import conv_space
from .case import Array, Case, _smallest, draw

Size = Any


def _pairs(*padding: int) -> tuple[tuple[int, int], ...]:
    return tuple((p, p) for p in padding)


# Odd sizes, margins uneven and wider than the kernel, gaps, groups, one channel, one position, nothing at all.
CONVOLUTIONS: tuple[Size, ...] = (
    ((2, 3, 11), (5, 3, 3), (1,), _pairs(1), (1,), 1),
    ((1, 4, 17), (6, 2, 4), (2,), ((0, 3),), (2,), 2),
    ((2, 3, 7, 9), (4, 3, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 1),
    ((1, 8, 9, 17), (17, 8, 1, 1), (1, 1), _pairs(0, 0), (1, 1), 1),
    ((2, 3, 13, 11), (5, 3, 5, 4), (2, 3), ((2, 1), (0, 4)), (1, 2), 1),
    ((2, 6, 8, 7), (6, 1, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 6),
    ((1, 3, 6, 9), (6, 1, 3, 5), (2, 1), _pairs(1, 2), (1, 1), 3),
    ((0, 3, 5, 5), (4, 3, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 1),
    ((2, 8, 5, 6), (12, 4, 3, 2), (1, 2), _pairs(0, 3), (2, 1), 2),
    ((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), (1, 2, 1), _pairs(1, 0, 1), (1, 1, 2), 1),
    ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), _pairs(0, 0), (1, 1), 1),
    ((2, 4, 3, 3, 3), (4, 2, 3, 3, 3), (1, 1, 1), _pairs(1, 1, 1), (1, 1, 1), 2),
    ((3, 16, 10, 19), (33, 16, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 1),
)  # fmt: skip

LARGE: tuple[Size, ...] = (
    ((5, 16, 37, 41), (40, 16, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 1),
    ((3, 96, 29, 31), (96, 1, 3, 3), (1, 1), _pairs(1, 1), (1, 1), 96),
    ((4, 64, 27, 25), (72, 64, 1, 1), (1, 1), _pairs(0, 0), (1, 1), 1),
    ((3, 3, 63, 65), (24, 3, 7, 7), (2, 2), _pairs(3, 3), (1, 1), 1),
    ((3, 64, 19, 23), (64, 8, 3, 3), (2, 1), _pairs(1, 1), (1, 1), 8),
)
_GRADIENTS: tuple[Size, ...] = (
    ((2, 2, 5), (3, 2, 2), (2,), ((1, 2),), (1,), 1),
    ((2, 4, 4, 3), (4, 2, 2, 3), (1, 2), ((1, 0), (2, 1)), (2, 1), 2),
    ((1, 2, 3, 2, 3), (2, 1, 2, 2, 1), (1, 1, 1), _pairs(0, 1, 0), (1, 1, 1), 2),
)


def out_shape(size: Size) -> tuple[int, ...]:
    x, weight, stride, padding, dilation, _ = size
    return x[0], weight[0], *conv_space(x[2:], weight[2:], stride, padding, dilation)


def _sums(depth: int, u: float, terms: Array) -> Array:
    """The error of sums of `depth` products, where `terms` is the sum of their magnitudes; two more may be added."""
    return 1.01 * (depth + 3) * u * terms + _smallest(u)


def _magnitudes(*arrays: Array | None) -> list[Any]:
    return [None if x is None else np.abs(x) for x in arrays]


def conv(label: str, bias: bool, residual: bool, activation: str) -> Case:
    """f(x, weight, bias, residual, stride, padding, dilation, groups, activation, algorithm, exact); activation: of a
    slope of at most 1 and without an error of its own."""

    def make(rng: Any, dtype: Any, size: Size) -> Any:
        x, weight, stride, padding, dilation, groups = size
        return (draw(rng, dtype, x), draw(rng, dtype, weight), draw(rng, dtype, weight[:1]) if bias else None,
                draw(rng, dtype, out_shape(size)) if residual else None, stride, padding, dilation, groups, activation,
                "auto", True)  # fmt: skip

    def bound(y: Any, u: float, x: Array, weight: Array, bias: Any, residual: Any, *rest: Any) -> Any:
        stride, padding, dilation, groups = rest[:4]
        x, weight, bias, residual = _magnitudes(x, weight, bias, residual)
        terms = reference.conv(x, weight, bias, residual, stride, padding, dilation, groups, "none")
        return _sums(math.prod(weight.shape[1:]), u, terms)

    def operations(x: Array, weight: Array, bias: Any, residual: Any, *rest: Any) -> float:
        space = conv_space(x.shape[2:], weight.shape[2:], *rest[:3])
        return 2.0 * len(x) * math.prod(space) * weight.size

    differentiable = (0, 1, 2, 3) if bias and residual and activation == "none" else ()
    return Case("conv", "conv", make, CONVOLUTIONS, bound, label=label, operations=operations, operator="convolution",
                differentiable=differentiable, gradient_sizes=_GRADIENTS)  # fmt: skip


def conv_input_gradient(label: str, bias: bool) -> Case:
    """f(grad, weight, bias, size, stride, padding, dilation, groups, algorithm, exact)."""

    def make(rng: Any, dtype: Any, size: Size) -> Any:
        x, weight, stride, padding, dilation, groups = size
        return (draw(rng, dtype, out_shape(size)), draw(rng, dtype, weight),
                draw(rng, dtype, x[1:2]) if bias else None, x[2:], stride, padding, dilation, groups, "auto",
                True)  # fmt: skip

    def bound(y: Any, u: float, grad: Array, weight: Array, bias: Any, size: Any, *rest: Any) -> Any:
        groups = rest[3]
        grad, weight, bias = _magnitudes(grad, weight, bias)
        terms = reference.conv_input_gradient(grad, weight, bias, size, *rest[:4])
        return _sums(weight.size // weight.shape[1] // groups, u, terms)

    return Case("conv_input_gradient", "conv", make, CONVOLUTIONS, bound, label=label, operator="conv_input_gradient",
                differentiable=(0, 1, 2) if bias else (), gradient_sizes=_GRADIENTS)  # fmt: skip


def conv_weight_gradient() -> Case:
    """f(grad, x, size, stride, padding, dilation, groups, algorithm, exact)."""

    def make(rng: Any, dtype: Any, size: Size) -> Any:
        x, weight, stride, padding, dilation, groups = size
        return (draw(rng, dtype, out_shape(size)), draw(rng, dtype, x), weight[2:], stride, padding, dilation, groups,
                "auto", False)  # fmt: skip

    def bound(y: Any, u: float, grad: Array, x: Array, size: Any, *rest: Any) -> Any:
        grad, x = _magnitudes(grad, x)
        terms = reference.conv_weight_gradient(grad, x, size, *rest[:4])
        return _sums(len(grad) * math.prod(grad.shape[2:]), u, terms)

    return Case("conv_weight_gradient", "conv", make, CONVOLUTIONS, bound, operator="conv_weight_gradient",
                differentiable=(0, 1), gradient_sizes=_GRADIENTS)  # fmt: skip


CONVS = [
    conv("conv", True, True, "none"),
    conv("conv, no bias", False, False, "none"),
    conv("conv, bias and relu", True, False, "relu"),
    conv("conv, all in the store", True, True, "relu"),
    conv_input_gradient("conv_input_gradient", False),
    conv_input_gradient("conv_transpose", True),
    conv_weight_gradient(),
]
