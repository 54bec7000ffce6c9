"""Layers that only reshape."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from ..utils.arguments import integer, wrong
from .module import Module


class Flatten(Module):
    """Joins the dimensions start_dim to end_dim (both included): (N, C, H, W) -> (N, C*H*W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits `dim` into `unflattened_size`, of which one may be -1: Unflatten(1, (C, H, W)) undoes Flatten."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        super().__init__()
        self.dim = integer("Unflatten", "dim", dim, lowest=-64)
        self.unflattened_size = tuple(
            integer("Unflatten", "unflattened_size", size, lowest=-1) for size in unflattened_size
        )
        if not self.unflattened_size or self.unflattened_size.count(-1) > 1:
            raise ValueError(
                wrong(
                    "Unflatten", "unflattened_size", "one size or more, at most one of them -1", self.unflattened_size
                )
            )

    def forward(self, input: Tensor) -> Tensor:
        shape = tuple(input.shape)
        dim = self.dim + len(shape) if self.dim < 0 else self.dim
        if not 0 <= dim < len(shape):
            raise IndexError(wrong("Unflatten", "input", f"a tensor with a dimension {self.dim}", shape))
        return input.reshape(shape[:dim] + self.unflattened_size + shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
