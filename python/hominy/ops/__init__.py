"""The operators, one file a family, and what is derived from them.

Importing this package enters every operator into `define.REGISTRY` and attaches the tensor methods: `x.relu()` for
every public operator whose first parameter is `input`, `x.relu_()` for those that can write into it, Python's operators
below.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Operator
from ..tensor import Tensor
from . import activation, elementwise, indexing, loss, matmul, optimizer, reduce, shape, softmax  # noqa: F401
from .define import COMPOSED, FUNCTIONAL, HIDDEN, REGISTRY

__all__ = ["ALIASES", "COMPOSED", "FUNCTIONAL", "HIDDEN", "REGISTRY", "of_ufunc", "optimizer", "public_operators"]

# PyTorch's and NumPy's second names.
ALIASES = {
    "sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide", "neg": "negative",
    "absolute": "abs", "clip": "clamp", "concat": "cat", "concatenate": "cat", "swapaxes": "transpose", "power": "pow",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip

# The operator whose result a Python operator is.
_PYTHON = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor",
}  # fmt: skip
_COMPARISONS = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


def public_operators() -> dict[str, Operator]:
    """The operators of the `hominy` namespace, aliases included, by name."""
    found = {name: operator for name, operator in REGISTRY.items() if name not in HIDDEN}
    found |= {alias: REGISTRY[name] for alias, name in ALIASES.items()}
    return found


def of_ufunc(name: str) -> Any:
    """The operator that does what the NumPy ufunc `name` does, or None."""
    return public_operators().get({"arctan2": "atan2", "invert": "bitwise_not", "rint": "round"}.get(name, name))


def _forward(operator: Operator) -> Any:
    def python_operator(self: Any, other: Any) -> Any:
        return operator(self, other)

    return python_operator


def _reflected(operator: Operator) -> Any:
    def python_operator(self: Any, other: Any) -> Any:
        return operator(other, self)

    return python_operator


def _in_place(operator: Operator) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return operator.in_place(self, *args, **kwargs)

    method.__name__ = operator.name + "_"
    method.__doc__ = f"In place: {operator.__doc__}"
    return method


def _with_sizes(operator: Operator) -> Any:
    """`x.reshape(2, 3)` for `x.reshape((2, 3))`."""

    def method(self: Any, *sizes: Any, **kwargs: Any) -> Any:
        if (len(sizes) == 1 and isinstance(sizes[0], (tuple, list))) or not sizes:
            return operator(self, *sizes, **kwargs)
        return operator(self, sizes)

    method.__name__ = operator.name
    method.__doc__ = operator.__doc__
    return method


def _set_item(self: Any, index: Any, value: Any) -> None:
    REGISTRY["setitem"].in_place(self, index, value)


def _copy(self: Any, source: Any) -> Any:
    """Overwrite with source, broadcast and cast to this tensor's dtype."""
    return REGISTRY["assign"].in_place(self, source)


def _attach() -> None:
    """Give `Tensor` its methods."""
    for name, operator in public_operators().items():
        if operator.parameters[0] == "input" and not hasattr(Tensor, name):
            setattr(Tensor, name, operator)
        if operator.has_out and operator.parameters[0] == "input":
            setattr(Tensor, name + "_", _in_place(operator))
    for name in ("reshape", "view", "permute", "expand"):
        setattr(Tensor, name, _with_sizes(REGISTRY[name]))
    for python, name in _PYTHON.items():
        operator = REGISTRY[name]
        setattr(Tensor, f"__{python}__", _forward(operator))
        setattr(Tensor, f"__r{python}__", _reflected(operator))
        if operator.has_out:
            setattr(Tensor, f"__i{python}__", _in_place(operator))
    for python, name in _COMPARISONS.items():
        setattr(Tensor, f"__{python}__", _forward(REGISTRY[name]))
    others: dict[str, Any] = {
        "__neg__": REGISTRY["negative"],
        "__abs__": REGISTRY["abs"],
        "__invert__": REGISTRY["bitwise_not"],
        "__getitem__": REGISTRY["getitem"],
        "__setitem__": _set_item,
        "copy_": _copy,
        "T": property(lambda x: REGISTRY["t"](x)),
        "mT": property(lambda x: REGISTRY["matrix_transpose"](x)),
    }
    for name, attribute in others.items():
        setattr(Tensor, name, attribute)


_attach()
