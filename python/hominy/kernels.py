"""The operators for plain NumPy arrays: no tensors, no tape, the same road from its second stop.

    >>> from hominy import kernels
    >>> kernels.matmul(a, b)          # NumPy arrays in, a NumPy array out
    >>> kernels.softmax(x, dim=-1)

Every operator is here by its name, backward operators (`relu_backward`, ...) among them.
"""

from __future__ import annotations

from typing import Any

from .ops import ALIASES, REGISTRY

__all__ = sorted({*REGISTRY, *ALIASES})


def __getattr__(name: str) -> Any:
    operator = REGISTRY.get(ALIASES.get(name, name))
    if operator is None:
        raise AttributeError(f"module 'hominy.kernels' has no kernel {name!r}")
    globals()[name] = operator.arrays
    return operator.arrays


def __dir__() -> list[str]:
    return __all__
