"""Who takes part: hominy twice, with plain arrays and with tensors, and the libraries beside it.

Arrays stand beside NumPy and ONNX Runtime, which take arrays; tensors stand beside PyTorch, whose cost a call is a
tensor's. What each library's user would write comes from the case table.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hominy.testing.cases import Case

NAMES = {
    "arrays": "hominy, arrays",
    "tensors": "hominy, tensors",
    "numpy": "NumPy",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
}
BESIDE = {"numpy": "arrays", "onnxruntime": "arrays", "torch": "tensors"}  # peer -> the form of hominy it stands beside

Call = Callable[[], Any]

_ONNX_OPERATORS = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "power": "Pow", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf", "relu": "Relu", "gelu": "Gelu",
    "where": "Where", "softmax": "Softmax", "log_softmax": "LogSoftmax", "matmul": "MatMul",
}  # fmt: skip


def installed() -> tuple[str, ...]:
    """The contenders that this machine can run."""
    return tuple(
        name for name in NAMES if name not in ("torch", "onnxruntime") or importlib.util.find_spec(name) is not None
    )


def candidates(case: Case) -> tuple[str, ...]:
    """The contenders that can have a call for `case`; layouts and dtypes may still rule one out."""
    has = {
        "arrays": True,
        "tensors": bool(case.operator),
        "numpy": case.numpy is not None,
        "torch": case.torch is not None,
        "onnxruntime": case.kernel in _ONNX_OPERATORS,
    }
    return tuple(name for name in installed() if has[name])


def versions() -> dict[str, str]:
    """Their versions, by package."""
    import hominy

    found = {"hominy": hominy.__version__, "numpy": np.__version__}
    for name in ("torch", "onnxruntime"):
        if name in installed():
            found[name] = importlib.import_module(name).__version__
    return found


@contextlib.contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Every contender that is in the process gets so many threads; ONNX Runtime gets them when a session is made."""
    import hominy

    libraries: list[Any] = [hominy]
    if "torch" in installed():
        import torch

        libraries.append(torch)
    before = [library.get_num_threads() for library in libraries]
    for library in libraries:
        library.set_num_threads(threads)
    try:
        with _limited_blas(threads):
            yield
    finally:
        for library, count in zip(libraries, before, strict=True):
            library.set_num_threads(count)


def _limited_blas(threads: int) -> contextlib.AbstractContextManager[Any]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[Any] = threadpool_limits(threads, user_api="blas")
    return limits


def numpy_obeys(threads: int) -> bool:
    """Whether NumPy's BLAS runs so many threads: with threadpoolctl always, else if OPENBLAS_NUM_THREADS says so."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        return True
    return os.environ.get("OPENBLAS_NUM_THREADS") == str(threads)


def calls(case: Case, arguments: tuple[Any, ...], threads: int) -> dict[str, Call]:
    """A call of `case` on `arguments` for each contender that has one; all of them return (or write) the same thing."""
    makers = {"arrays": _arrays, "tensors": _tensors, "numpy": _numpy, "torch": _torch, "onnxruntime": _onnxruntime}
    made = {name: makers[name](case, arguments, threads) for name in candidates(case)}
    return {name: call for name, call in made.items() if call is not None}


def _arrays(case: Case, arguments: tuple[Any, ...], threads: int) -> Call | None:
    from hominy import backends
    from hominy.ops import REGISTRY

    operator = REGISTRY.get(case.operator)
    if operator is None:
        kernel = case.kernel
        return lambda: backends.run(kernel, *arguments)
    function, every = operator.arrays, operator.bind((*arguments, *case.extra), {})  # hominy.kernels' function
    return lambda: function(*every)


def _tensors(case: Case, arguments: tuple[Any, ...], threads: int) -> Call | None:
    import hominy
    from hominy.ops import REGISTRY

    operator = REGISTRY[case.operator]
    every = tuple(hominy.from_numpy(x) if isinstance(x, np.ndarray) else x for x in (*arguments, *case.extra))
    return lambda: operator(*every)


def _numpy(case: Case, arguments: tuple[Any, ...], threads: int) -> Call | None:
    function = case.numpy
    assert function is not None
    if case.family == "matmul" and not numpy_obeys(threads):
        return None
    return lambda: function(*arguments)


def _torch(case: Case, arguments: tuple[Any, ...], threads: int) -> Call | None:
    import torch

    function = case.torch
    assert function is not None
    every = tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in arguments)
    return lambda: function(torch, *every)


def _onnxruntime(case: Case, arguments: tuple[Any, ...], threads: int) -> Call | None:
    arrays = [x for x in arguments if isinstance(x, np.ndarray)]
    if not all(x.flags.c_contiguous for x in arrays):  # it would copy them first, which its users do once
        return None
    import onnxruntime

    from .onnx_model import one_operator

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    dtype = next(x.dtype for x in arrays if x.dtype.kind == "f")
    try:
        session = onnxruntime.InferenceSession(
            one_operator(_ONNX_OPERATORS[case.kernel], arrays, dtype), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # an operator that its CPU provider lacks in this dtype
        if "NOT_IMPLEMENTED" in str(error):
            return None
        raise
    feeds = {f"x{i}": x for i, x in enumerate(arrays)}
    return lambda: session.run(None, feeds)[0]


def as_arrays(result: Any) -> tuple[np.ndarray, ...]:
    """A contender's result as NumPy arrays."""
    listed = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(x if isinstance(x, np.ndarray) else np.asarray(x) for x in listed)
