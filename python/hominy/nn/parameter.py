"""Parameter: a tensor that a module learns."""

from __future__ import annotations

from typing import Any

from ..creation import empty
from ..tensor import Tensor
from ..utils.arguments import wrong


class Parameter(Tensor):
    """A leaf tensor that a module registers when it is assigned as an attribute; it shares the memory of `data`.

    Operations on it give plain tensors.
    """

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True):
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise TypeError(wrong("Parameter", "data", "a hominy.Tensor", type(data).__name__))
        super().__init__(data._array, data._storage)
        data._storage.viewed = True
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        copy = memo[id(self)] = type(self)(self.detach().clone(), self.requires_grad)
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.detach(), self.requires_grad)
