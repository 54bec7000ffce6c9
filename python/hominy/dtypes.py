"""Element types: NumPy's dtypes under PyTorch's names, and the rules by which two of them meet.

float32 and float64 compute; the integers and bool index, count and compare; float16 and bfloat16 are storage, cast to
compute. bfloat16 comes from the ml_dtypes package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

bool_ = np.dtype("bool")
uint8, int8, int16, int32, int64 = (np.dtype(name) for name in ("uint8", "int8", "int16", "int32", "int64"))
float16, float32, float64 = (np.dtype(name) for name in ("float16", "float32", "float64"))

_NAMED = {str(dtype): dtype for dtype in (bool_, uint8, int8, int16, int32, int64, float16, float32, float64)}
_NAMED |= {"float": float32, "double": float64, "half": float16, "int": int32, "long": int64, "short": int16}
_PYTHON = {float: float32, int: int64, bool: bool_}

_default = float32


def dtype_name(dtype: Any) -> str:
    """`float32` and the like, for messages."""
    return str(np.dtype(dtype))


def bfloat16() -> np.dtype:
    """The bfloat16 dtype.

    Raises:
        ImportError: the ml_dtypes package, which gives NumPy this type, is not installed.
    """
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError("bfloat16 needs the ml_dtypes package: pip install ml_dtypes") from error
    return np.dtype(ml_dtypes.bfloat16)


def normalize_dtype(dtype: Any) -> np.dtype:
    """`dtype` as a NumPy dtype: one, its name, a NumPy scalar type, or Python's float, int, bool (PyTorch's defaults).

    Raises:
        TypeError: hominy has no such element type.
    """
    if isinstance(dtype, np.dtype):
        found = dtype
    elif dtype in _PYTHON:
        found = _PYTHON[dtype]
    elif isinstance(dtype, str):
        name = dtype.removeprefix("torch.").removeprefix("hominy.")
        if name == "bfloat16":
            return bfloat16()
        if name not in _NAMED:
            raise TypeError(f"[dtype] expected one of {', '.join(_NAMED)} or bfloat16, got {dtype!r}")
        return _NAMED[name]
    else:
        found = np.dtype(dtype)
    if str(found) not in _NAMED and str(found) != "bfloat16":
        raise TypeError(f"[dtype] hominy has no tensors of dtype {found}")
    return found.newbyteorder("=")


def get_default_dtype() -> np.dtype:
    """The dtype of tensors made from Python floats."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Change the dtype of tensors made from Python floats: float32 or float64."""
    global _default
    dtype = normalize_dtype(dtype)
    if dtype not in (float32, float64):
        raise TypeError(f"[set_default_dtype] dtype: expected float32 or float64, got {dtype_name(dtype)}")
    _default = dtype


# bool < integers < floats: only a higher category changes the other operand's dtype, and a scalar or a 0-d tensor
# changes nothing within its own category (PyTorch's rule, https://docs.pytorch.org/docs/stable/tensor_attributes.html).
_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2}


def category(dtype: np.dtype) -> int:
    """0 for bool, 1 for integers, 2 for floats."""
    return _CATEGORY[dtype.kind]


def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype in which two arrays of `a` and `b` meet."""
    if a == b:
        return a
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if a.kind == "V" or b.kind == "V":  # bfloat16 meets float16 in float32
        other = b if a.kind == "V" else a
        return float32 if other.itemsize == 2 else other
    return np.promote_types(a, b)


def result_type(a: Any, b: Any) -> np.dtype:
    """The dtype in which `a` and `b` meet; each an array or a Python number."""
    rank_a, dtype_a = _rank(a)
    rank_b, dtype_b = _rank(b)
    if rank_a == rank_b:
        return promote_types(dtype_a, dtype_b)
    strong, weak = (dtype_a, dtype_b) if rank_a > rank_b else (dtype_b, dtype_a)
    if category(weak) <= category(strong):
        return strong
    return weak if min(rank_a, rank_b) > 0 else get_default_dtype() if category(weak) == 2 else weak


def _rank(value: Any) -> tuple[int, np.dtype]:
    """2 for arrays with dimensions, 1 for 0-d ones, 0 for Python numbers; and the dtype."""
    if isinstance(value, np.ndarray):
        return (2 if value.ndim else 1), value.dtype
    if isinstance(value, bool):
        return 0, bool_
    if isinstance(value, int):
        return 0, int64
    if isinstance(value, float):
        return 0, _default
    raise TypeError(f"expected a tensor, an array or a number, got {type(value).__name__}")
