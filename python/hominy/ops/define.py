"""How an operator is defined, and where its name then appears.

`@operator` turns a forward function of arrays into an `Operator` and enters it into the registry, from which everything
else is derived: `hominy.<name>`, `Tensor.<name>`, `hominy.nn.functional.<name>`, `hominy.kernels.<name>`, the in-place
`Tensor.<name>_`. The first parameter decides: an operator of `input` is a tensor method, one of anything else is not.
"""

from __future__ import annotations

import functools
from operator import index as operator_index
from typing import Any, NamedTuple

import numpy as np

from ..autograd import Operator, TensorBase, wrap
from ..dtypes import get_default_dtype

REGISTRY: dict[str, Operator] = {}
FUNCTIONAL: set[str] = set()  # names that nn.functional offers
COMPOSED: dict[str, Any] = {}  # plain functions made of operators, offered by nn.functional
FUNCTIONS: dict[str, Any] = {}  # public plain functions made of operators: hominy.<name>, and methods of `input`
HIDDEN: set[str] = set()  # names that are not hominy.<name>: functional only, or helpers of gradients


def operator(
    forward: Any = None, *, view: bool = False, functional: bool = False, public: bool = True, direct: str = ""
) -> Any:
    """Make `forward` an operator. `view`: it returns a view of its first argument where it can. `functional`: it is
    offered by `nn.functional` too. `public=False`: by nothing else, unless `functional`. `direct`: the compiled kernel
    that takes the same arguments and is tried first."""
    if forward is None:
        return lambda function: operator(function, view=view, functional=functional, public=public, direct=direct)
    made = Operator(forward, view, direct)
    REGISTRY[made.name] = made
    if functional:
        FUNCTIONAL.add(made.name)
    if not public:
        HIDDEN.add(made.name)
    return made


def functional(function: Any) -> Any:
    """Offer a plain function, made of operators, in nn.functional."""
    COMPOSED[function.__name__] = function
    return function


def as_tensor(name: str, argument: str, value: Any) -> Any:
    """`value` itself when it is a tensor; an array or a number as one.

    Raises:
        TypeError: anything else.
    """
    if isinstance(value, TensorBase):
        return value
    if isinstance(value, np.ndarray):
        return wrap(require_array(name, argument, value))
    if isinstance(value, (bool, int, float, np.generic)):
        return wrap(np.asarray(value, get_default_dtype() if type(value) is float else None))
    raise TypeError(f"[{name}] {argument}: expected a tensor or an array, got {type(value).__name__}")


class ValuesIndices(NamedTuple):
    """What `max`, `sort`, `topk` and the like return."""

    values: Any
    indices: Any


NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "b": "other"}


def composed(function: Any = None, *, functional: bool = False, name: str = "") -> Any:
    """Offer a plain function, made of operators, as `hominy.<name>`; as a tensor method, too, when its first parameter
    is `input`, which then always comes as a tensor. NumPy's `axis` and `keepdims` are taken for `dim` and `keepdim`."""
    if function is None:
        return lambda function: composed(function, functional=functional, name=name)
    name = name or function.__name__.rstrip("_")
    code = function.__code__
    parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    of_input = bool(parameters) and parameters[0] == "input"

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            for ours, torchs in NUMPY_NAMES.items():
                if ours in kwargs and ours not in parameters and torchs in parameters and torchs not in kwargs:
                    kwargs[torchs] = kwargs.pop(ours)
        if of_input:
            if args:
                if not isinstance(args[0], TensorBase):
                    args = (as_tensor(name, "input", args[0]), *args[1:])
            elif "input" in kwargs:
                kwargs["input"] = as_tensor(name, "input", kwargs["input"])
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself is wrong
                raise TypeError(f"[{name}] {error}") from None
            raise

    call.__name__ = name
    call.of_input = of_input  # type: ignore[attr-defined]
    FUNCTIONS[name] = call
    if functional:
        COMPOSED[name] = call
    return call


def scalar(name: str, argument: str, value: Any) -> float:
    """`value` as a Python float.

    Raises:
        TypeError: it is not a number.
    """
    if isinstance(value, TensorBase):
        value = value.item()  # type: ignore[attr-defined]
    try:
        return float(value)
    except OverflowError:
        message = f"[{name}] {argument}: expected a number in float64's range, got an integer beyond it"
        raise OverflowError(message) from None
    except (TypeError, ValueError):
        raise TypeError(f"[{name}] {argument}: expected a number, got {type(value).__name__}") from None


def normalize_axis(name: str, dim: Any, ndim: int) -> int:
    """`dim` in [0, ndim), counted from the end where negative; a 0-d array counts as one of 1 dimension.

    Raises:
        TypeError: it is not an integer.
        IndexError: it is out of range.
    """
    if type(dim) is not int:
        try:
            if isinstance(dim, bool):
                raise TypeError
            dim = int(operator_index(dim))
        except TypeError:
            raise TypeError(f"[{name}] dim: expected an integer, got {type(dim).__name__}") from None
    bound = ndim or 1
    if not -bound <= dim < bound:
        raise IndexError(f"[{name}] dim: expected an integer in [{-bound}, {bound - 1}], got {dim}")
    return dim + bound if dim < 0 else dim


_ALL_AXES = tuple(tuple(range(ndim)) for ndim in range(8))


def normalize_axes(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """`dim` (None, an integer, several) as a tuple of distinct axes; None and () mean all.

    Raises:
        ValueError: an axis is given twice.
    """
    if dim is None:
        return _ALL_AXES[ndim] if ndim < len(_ALL_AXES) else tuple(range(ndim))
    if not isinstance(dim, (tuple, list)):
        axis = normalize_axis(name, dim, ndim)
        return (axis,) if ndim else ()
    if not dim:
        return tuple(range(ndim))
    axes = tuple(sorted(normalize_axis(name, axis, ndim) for axis in dim))
    if len(set(axes)) != len(axes):
        raise ValueError(f"[{name}] dim: expected distinct dimensions, got {tuple(dim)}")
    return axes if ndim else ()


# What hominy computes or stores, by NumPy's characters: bool, integers, float16, float32, float64. bfloat16 has none.
NUMBERS = "?bBhHiIlLqQefd"


def require_array(name: str, argument: str, value: Any) -> np.ndarray:
    """`value` itself when it is an array of numbers.

    Raises:
        TypeError: it is not a tensor or an array, or holds something else.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"[{name}] {argument}: expected a tensor or an array, got {type(value).__name__}")
    if value.dtype.char not in NUMBERS and value.dtype.name != "bfloat16":
        raise TypeError(f"[{name}] {argument}: expected numbers, got dtype {value.dtype}")
    return value


def require_floating(name: str, argument: str, value: Any) -> np.ndarray:
    """`value` itself when it is an array of float32 or float64; float16 and bfloat16 must be cast first.

    Raises:
        TypeError: anything else.
    """
    array = require_array(name, argument, value)
    if array.dtype.char not in "fd":
        raise TypeError(f"[{name}] {argument}: expected dtype float32 or float64, got {array.dtype}")
    return array
