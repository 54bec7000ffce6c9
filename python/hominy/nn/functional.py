"""PyTorch's functional names, derived: the operators and functions that `ops/` marks as functional, where they are
defined, and those operators whose `inplace` has no other home.

`inplace` is accepted for the sake of ported code; the result is always a new tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..ops.define import COMPOSED, FUNCTIONAL, REGISTRY

if TYPE_CHECKING:
    from ..tensor import Tensor

    def __getattr__(name: str) -> Any: ...


globals().update({name: REGISTRY[name] for name in FUNCTIONAL} | COMPOSED)

_relu, _leaky_relu, _elu = REGISTRY["relu"], REGISTRY["leaky_relu"], REGISTRY["elu"]
_silu, _hardtanh = REGISTRY["silu"], REGISTRY["hardtanh"]


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0); its gradient at 0 is 0."""
    return _relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where positive, else negative_slope * input."""
    return _leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where positive, else alpha * (e^input - 1) (https://arxiv.org/abs/1511.07289)."""
    return _elu(input, alpha)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input) (https://arxiv.org/abs/1702.03118)."""
    return _silu(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """input limited to [min_val, max_val]; the gradient is that between the bounds, and 0 on them and beyond."""
    return _hardtanh(input, min_val, max_val)


__all__ = sorted({*FUNCTIONAL, *COMPOSED})
