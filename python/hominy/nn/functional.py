"""PyTorch's functional names, derived: the operators and functions that `ops/` marks as functional, where they are
defined, and two that are `clamp` under a second name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ops.define import COMPOSED, FUNCTIONAL, REGISTRY

if TYPE_CHECKING:
    from ..tensor import Tensor

    def __getattr__(name: str) -> Any: ...


globals().update({name: REGISTRY[name] for name in FUNCTIONAL} | COMPOSED)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`clamp(input, min_val, max_val)`, always a new tensor; the gradient is 1 between the bounds and on them."""
    return REGISTRY["clamp"](input, min_val, max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`clamp(input, 0, 6)`, always a new tensor."""
    return hardtanh(input, 0.0, 6.0)


__all__ = sorted({*FUNCTIONAL, *COMPOSED, "hardtanh", "relu6"})
