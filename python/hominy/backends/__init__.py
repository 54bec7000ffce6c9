"""Which code computes: the backends, how one is chosen, and what each has to say.

A backend is a module with functions of the same names over NumPy arrays: `native` (C++), `numba_jit`, `reference`
(NumPy, the specification). A function that does not compute its arguments returns a `Declined` with the reason, and the
next backend is asked:

    native, where the compiled module is there; else numba, where Numba is installed; then reference.

Numba is not asked where native is loaded: it computes the same dtypes, and importing it takes longer than most
programs. A backend that the caller names (`use_backend`) is asked alone, and its refusal is an error.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .conv_choice import conv_algorithm, use_conv_algorithm
from .declined import Declined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

__all__ = [
    "Declined", "available", "conv_algorithm", "current_backend", "direct", "explain", "run", "use_backend",
    "use_conv_algorithm",
]  # fmt: skip

_MODULES = {"native": "native", "numba": "numba_jit", "reference": "reference"}
NAMES = tuple(_MODULES)

_loaded: dict[str, Any] = {}  # name -> module, or the exception its import raised
_chosen: str | None = None  # the backend the caller named; None: automatic
_table: dict[str, tuple[Any, ...]] = {}  # function name -> the functions to ask, in turn

# The compiled functions, where native is asked first, else empty. An operator whose arguments are a kernel's own calls
# it at once and takes the long way (promotion, `run`) only when it declines: at four elements that halves the time.
direct: dict[str, Any] = {}


def _load(name: str) -> ModuleType | ImportError:
    if name not in _loaded:
        try:
            _loaded[name] = importlib.import_module("." + _MODULES[name], __name__)
        except ImportError as error:
            _loaded[name] = error
    return _loaded[name]


def available(name: str) -> str:
    """Why backend `name` cannot be used here, or "" if it can."""
    if name not in _MODULES:
        raise ValueError(f"[backends] name: expected one of {', '.join(NAMES)}, got {name!r}")
    module = _load(name)
    return str(module) if isinstance(module, ImportError) else ""


def _order() -> tuple[str, ...]:
    if _chosen is not None:
        return (_chosen,)
    return ("native", "reference") if not available("native") else ("numba", "reference")


def _functions(name: str) -> Iterator[tuple[str, Any]]:
    for backend in _order():
        module = _load(backend)
        function = None if isinstance(module, ImportError) else getattr(module, name, None)
        if function is not None:
            yield backend, function


def run(name: str, *args: Any) -> Any:
    """Compute the backend function `name`: the first backend in turn that does not decline.

    Raises:
        ValueError: the backend that the caller named declines, or has no such function.
    """
    functions = _table.get(name)
    if functions is None:
        functions = _table[name] = tuple(function for _, function in _functions(name))
    result = None
    for function in functions:
        result = function(*args)
        if type(result) is not Declined:
            return result
    reason = result if functions else "it has no such function"
    raise ValueError(f"[{name}] backend {_chosen or 'reference'!r} declines: {reason}")


class use_backend:
    """Compute with one backend alone, at once and, as a context manager, until the block ends; None: automatic choice.

    The choice holds for the whole process.

        hominy.use_backend("reference")
        with hominy.use_backend("numba"): ...

    Raises:
        ValueError: no such backend, or it cannot be used here.
    """

    def __init__(self, name: str | None) -> None:
        self.previous = _chosen
        if name is not None:
            reason = available(name)
            if reason:
                raise ValueError(f"[use_backend] name: {name!r} cannot be used here: {reason}")
        _choose(name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        _choose(self.previous)


def _choose(name: str | None) -> None:
    global _chosen
    _chosen = name
    _table.clear()
    direct.clear()
    if _order()[0] == "native":
        direct.update(vars(_load("native")))


def current_backend() -> str:
    """The backend that is asked first."""
    return next(name for name in _order() if not available(name))


def explain(name: str, *args: Any) -> str:
    """Say, for a call of the backend function `name` with `args` (tensors or arrays), what each backend answers.

        >>> print(hominy.backends.explain("matmul", a, b))
        native     computes it
        numba      not asked: native is loaded
        reference  not asked

    Every backend that is asked does compute; a refusal stands as it was given.
    """
    from ..autograd import TensorBase

    arrays = [arg._array if isinstance(arg, TensorBase) else arg for arg in args]
    lines = []
    found = False
    for backend in NAMES:
        if found:
            answer = "not asked"
        elif _chosen is not None and backend != _chosen:
            answer = f"not asked: {_chosen!r} was named"
        elif reason := available(backend):
            answer = f"cannot be used: {reason}"
        elif backend not in _order():
            answer = "not asked: native is loaded"
        else:
            function = getattr(_load(backend), name, None)
            if function is None:
                answer = f"declines: it has no function {name!r}"
            else:
                result = function(*arrays)
                found = type(result) is not Declined
                answer = "computes it" if found else f"declines: {result}"
        lines.append(f"{backend:<10} {answer}")
    return "\n".join(lines)


_choose(None)
