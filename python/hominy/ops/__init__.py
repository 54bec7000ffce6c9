"""The operators, one file a family, and what is derived from them.

Importing this package enters every operator into `define.REGISTRY` and attaches the tensor methods: `x.relu()` for
every public operator whose first parameter is `input`, `x.relu_()` for those that can write into it, Python's operators
below.
"""

from __future__ import annotations

from typing import Any

from ..autograd import Operator, TensorBase, check_in_place, is_grad_enabled
from ..dtypes import category
from ..tensor import Tensor
from . import (  # noqa: F401
    activation,
    arrange,
    conv,
    cumulative,
    dropout,
    einsum,
    elementwise,
    embedding,
    fold,
    indexing,
    interpolate,
    loss,
    matmul,
    normalization,
    optimizer,
    pool,
    recurrent,
    reduce,
    scatter,
    shape,
    softmax,
    sort,
    special,
    statistics,
)  # fmt: skip
from .define import COMPOSED, FUNCTIONAL, FUNCTIONS, HIDDEN, REGISTRY

__all__ = [
    "ALIASES", "COMPOSED", "FUNCTIONAL", "FUNCTIONS", "HIDDEN", "REGISTRY", "of_ufunc", "optimizer", "public_functions",
    "public_operators",
]  # fmt: skip

# PyTorch's and NumPy's second names.
ALIASES = {
    "sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide", "neg": "negative",
    "absolute": "abs", "clip": "clamp", "concat": "cat", "concatenate": "cat", "swapaxes": "transpose", "power": "pow",
    "equal": "eq", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "fix": "trunc",
}  # fmt: skip
_FUNCTION_ALIASES = {
    "moveaxis": "movedim", "ger": "outer", "row_stack": "vstack", "trapz": "trapezoid", "divide": "div",
    "subtract": "sub", "true_divide": "div", "swapaxes": "swapdims",
}  # fmt: skip

# What PyTorch also has in place, besides the operators that write into `out`.
_IN_PLACE = [
    "addbmm",
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "addr",
    "baddbmm",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "clamp_max",
    "clamp_min",
    "cumprod",
    "cumsum",
    "eq",
    "float_power",
    "greater",
    "greater_equal",
    "index_add",
    "index_put",
    "ldexp",
    "lerp",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "masked_fill",
    "masked_scatter",
    "not_equal",
    "put",
    "renorm",
    "scatter",
    "sgn",
]

# The operator whose result a Python operator is.
_PYTHON = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARISONS = {
    "eq": "eq", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip


def public_operators() -> dict[str, Operator]:
    """The operators that are not hidden, aliases included, by name."""
    found = {name: operator for name, operator in REGISTRY.items() if name not in HIDDEN}
    found |= {alias: REGISTRY[name] for alias, name in ALIASES.items()}
    return found


def public_functions() -> dict[str, Any]:
    """What the `hominy` namespace offers: the public operators and, before one of the same name, the functions made of
    operators."""
    aliases = {alias: FUNCTIONS[name] for alias, name in _FUNCTION_ALIASES.items()}
    return public_operators() | FUNCTIONS | aliases


def of_ufunc(name: str) -> Any:
    """The operator that does what the NumPy ufunc `name` does, or None."""
    return public_operators().get({"invert": "bitwise_not", "rint": "round"}.get(name, name))


def _forward(operator: Operator) -> Any:
    def python_operator(self: Any, other: Any) -> Any:
        return operator(self, other)

    return python_operator


def _reflected(operator: Operator) -> Any:
    def python_operator(self: Any, other: Any) -> Any:
        return operator(other, self)

    return python_operator


def _in_place(operator: Operator) -> Any:
    """The in-place form of an operator that writes into `out`; by way of a copy where a gradient needs what was there
    before."""
    wants = [operator.joint[1]] if operator.joint else [of_rule for _, of_rule in operator.rules.values()]
    rereads = any((0, 0) in each for each in wants)  # the rules ask for the first argument
    copied = _assigned(operator.name, operator)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if rereads and is_grad_enabled():
            for argument in (self, *args):
                if isinstance(argument, TensorBase) and argument._requires_grad:
                    return copied(self, *args, **kwargs)
        return operator.in_place(self, *args, **kwargs)

    method.__name__ = operator.name + "_"
    method.__doc__ = f"In place: {operator.__doc__}"
    return method


def _checked_for(name: str, target: Any, result: Any) -> Any:
    """`result`, if it can be written over `target`.

    Raises:
        TypeError: target's dtype does not hold it. ValueError: it has another shape.
    """
    if category(result.dtype) > category(target.dtype):
        raise TypeError(f"[{name}_] a result of dtype {result.dtype} cannot be stored in a tensor of {target.dtype}")
    if result.shape != target.shape:
        raise ValueError(f"[{name}_] expected a result of shape {target.shape}, got {result.shape}")
    return result


def _assigned(name: str, function: Any) -> Any:
    """The in-place form of a function: its result, written over the tensor."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = self
        if self._requires_grad and is_grad_enabled():
            check_in_place(name + "_", self)
            before = REGISTRY["clone"](self)  # what the gradient may need survives
        return REGISTRY["assign"].in_place(self, _checked_for(name, self, function(before, *args, **kwargs)))

    method.__name__ = name + "_"
    method.__doc__ = f"In place: {function.__doc__}"
    return method


def _with_options(operator: Operator, function: Any) -> Any:
    """The in-place form of an operator whose public function takes more arguments."""
    plain, full = _in_place(operator), _assigned(operator.name, function)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (full if kwargs else plain)(self, *args, **kwargs)

    method.__name__ = operator.name + "_"
    method.__doc__ = f"In place: {function.__doc__}"
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
    operators = public_operators()
    for name, operator in operators.items():
        if operator.parameters[0] == "input" and not hasattr(Tensor, name):
            setattr(Tensor, name, operator)
        if operator.has_out and operator.parameters[0] == "input":
            setattr(Tensor, name + "_", _in_place(operator))
    functions = public_functions()
    for name, function in functions.items():
        if getattr(function, "of_input", False) and name not in vars(Tensor):
            setattr(Tensor, name, function)
        elif getattr(function, "of_input", False) and name in operators:
            setattr(Tensor, name, function)
            if operators[name].has_out:
                setattr(Tensor, name + "_", _with_options(operators[name], function))
    for name in _IN_PLACE:
        for alias in (name, *(alias for alias, meant in ALIASES.items() if meant == name and alias != "equal")):
            setattr(Tensor, alias + "_", _assigned(alias, functions[name]))
    for name in ("reshape", "view", "permute", "expand", "flip", "sum_to_size"):
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
        "polygamma": lambda self, n: REGISTRY["polygamma"](n, self),
        "where": lambda self, condition, other: FUNCTIONS["where"](condition, self, other),
        "T": property(lambda x: REGISTRY["permute"](x, tuple(range(x.ndim - 1, -1, -1)))),
        "H": property(lambda x: REGISTRY["t"](x)),
        "mH": property(lambda x: REGISTRY["matrix_transpose"](x)),
        "mT": property(lambda x: REGISTRY["matrix_transpose"](x)),
    }
    for name, attribute in others.items():
        setattr(Tensor, name, attribute)


_attach()
