"""Lengths of vectors and what is made of them: distance, cosine, normalisation."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import TensorBase
from .define import functional, normalize_axis, require_floating, scalar
from .elementwise import abs, clamp, pow, sqrt, square, where


def vector_length(input: Any, p: float, dim: Any, keepdim: bool) -> Any:
    """(sum of |input|^p)^(1/p) along dim; the largest magnitude for p = inf. The gradient of length 0 is 0."""
    if p == math.inf:
        return abs(input).amax(dim, keepdim)
    if p == 1.0:
        return abs(input).sum(dim, keepdim)
    powers = (square(input) if p == 2.0 else pow(abs(input), p)).sum(dim, keepdim)
    none = powers == 0.0
    safe = where(none, 1.0, powers)
    return where(none, 0.0, sqrt(safe) if p == 2.0 else pow(safe, 1.0 / p))


def _exponent(name: str, p: Any) -> float:
    p = scalar(name, "p", p)
    if not p > 0.0:
        raise ValueError(f"[{name}] p: expected a number above 0, or inf, got {p}")
    return p


def _two(name: str, x1: Any, x2: Any) -> None:
    for argument, value in (("x1", x1), ("x2", x2)):
        if not isinstance(value, TensorBase):
            raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
        require_floating(name, argument, value._array)
    for size1, size2 in zip(reversed(x1._array.shape), reversed(x2._array.shape), strict=False):
        if size1 != size2 and 1 not in (size1, size2):
            raise ValueError(
                f"[{name}] x2: expected a shape that broadcasts with {x1._array.shape}, got {x2._array.shape}"
            )


@functional
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim; the shapes broadcast.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    name = "cosine_similarity"
    _two(name, x1, x2)
    product = x1 * x2
    axis = normalize_axis(name, dim, product.ndim)
    least = scalar(name, "eps", eps) ** 2
    # |x| is sqrt(max(x . x, eps^2)): a square root whose gradient is finite.
    length1, length2 = (sqrt(clamp(_squares(x, axis, product.shape), min=least)) for x in (x1, x2))
    return product.sum(axis) / (length1 * length2)


def _squares(x: Any, axis: int, shape: tuple[int, ...]) -> Any:
    """x . x along `axis` of the `shape` that x is broadcast to."""
    own = axis - len(shape)  # from the end, where broadcasting aligns shapes
    squares = square(x)
    if not shape or x.ndim < -own:
        return squares * float(shape[axis] if shape else 1)
    return squares.sum(own) * float(shape[axis] // x.shape[own] if x.shape[own] else 1)


@functional
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The p-norm of x1 - x2 + eps along the last dimension: (N, D), (N, D) -> (N,), or (D,), (D,) -> ().

    Raises:
        ValueError: the shapes do not broadcast, or p is not above 0.
    """
    name = "pairwise_distance"
    _two(name, x1, x2)
    p, eps = _exponent(name, p), scalar(name, "eps", eps)
    return vector_length(x1 - x2 + eps, p, -1, keepdim)


@functional
def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """input / max(|input|, eps), with the p-norm along dim (one dimension or several).

    Raises:
        ValueError: p is not above 0.
    """
    length = vector_length(input, _exponent("normalize", p), dim, True)
    return input / clamp(length, min=scalar("normalize", "eps", eps))
