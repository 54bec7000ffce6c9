"""PyTorch's `linalg` names for what hominy has of it: norms and products."""

from __future__ import annotations

from .ops.define import FUNCTIONS, REGISTRY
from .ops.statistics import linalg_norm

norm = linalg_norm
vector_norm, matrix_norm = FUNCTIONS["vector_norm"], FUNCTIONS["matrix_norm"]
matmul, cross, diagonal = REGISTRY["matmul"], FUNCTIONS["cross"], REGISTRY["diagonal"]


def vecdot(x, y, *, dim=-1):
    """The sum of products of two tensors over dim."""
    return (x * y).sum(dim)


def multi_dot(tensors):
    """The product of several matrices (the first and last may be vectors), from left to right."""
    tensors = list(tensors)
    if len(tensors) < 2:
        raise ValueError(f"[multi_dot] tensors: expected at least two, got {len(tensors)}")
    result = tensors[0]
    for factor in tensors[1:]:
        result = matmul(result, factor)
    return result


__all__ = ["cross", "diagonal", "matmul", "matrix_norm", "multi_dot", "norm", "vecdot", "vector_norm"]
