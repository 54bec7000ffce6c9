"""What every transform does with its input: one picture or a batch, a tensor or an array, bytes or floats."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..creation import from_numpy
from ..random import rand
from ..tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
KINDS = ("uint8", "float16", "float32", "float64")


def opened(where: str, pictures: Any) -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """`pictures` as an (N, C, H, W) array, and the function that gives a result the form in which they came.

    Raises:
        TypeError: not a tensor or an array of one of `KINDS`. ValueError: not (C, H, W) or (N, C, H, W).
    """
    array = pictures._array if isinstance(pictures, Tensor) else pictures
    if not isinstance(array, np.ndarray) or str(array.dtype) not in KINDS:
        got = str(array.dtype) if isinstance(array, np.ndarray) else type(pictures).__name__
        raise TypeError(f"[{where}] pictures: expected a tensor or an array of {', '.join(KINDS)}, got {got}")
    if array.ndim not in (3, 4):
        raise ValueError(f"[{where}] pictures: expected (C, H, W) or (N, C, H, W), got shape {array.shape}")

    def restored(result: np.ndarray) -> Any:
        result = np.ascontiguousarray(result if array.ndim == 4 else result[0])
        return from_numpy(result) if isinstance(pictures, Tensor) else result

    return (array if array.ndim == 4 else array[None]), restored


def on_pictures(function: F) -> F:
    """A function of (N, C, H, W) arrays as one of pictures in any of the forms that `opened` takes."""

    @functools.wraps(function)
    def wrapped(pictures: Any, *arguments: Any, **keywords: Any) -> Any:
        array, restored = opened(function.__name__, pictures)
        return restored(function(array, *arguments, **keywords))

    return wrapped  # type: ignore[return-value]


def computing(array: np.ndarray) -> np.ndarray:
    """The array in the dtype of the arithmetic: float64 as it is, everything else as float32."""
    return array if array.dtype == np.float64 else array.astype(np.float32)


def as_before(result: np.ndarray, array: np.ndarray) -> np.ndarray:
    """`result` in the dtype of `array`; bytes are rounded to nearest and held within 0 and 255."""
    if array.dtype == np.uint8:
        return np.clip(np.rint(result), 0, 255).astype(np.uint8)
    return result.astype(array.dtype, copy=False)


def white(array: np.ndarray) -> float:
    """The largest intensity: 255 of bytes, 1 of floats."""
    return 255.0 if array.dtype == np.uint8 else 1.0


def each(where: str, argument: str, value: Any, count: int) -> np.ndarray:
    """One number for all pictures, or one for each, as `count` float64 numbers."""
    values = np.asarray(value._array if isinstance(value, Tensor) else value, np.float64)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != count):
        raise ValueError(f"[{where}] {argument}: expected one number or {count}, got shape {values.shape}")
    return np.broadcast_to(values, (count,))


def uniform(count: int, low: Any = 0.0, high: Any = 1.0, generator: Any = None) -> np.ndarray:
    """`count` float64 numbers in [low, high), by hominy's generator or the one given."""
    return low + (high - low) * rand(count, dtype=np.float64, generator=generator).numpy()


def below(count: int, limits: Any, generator: Any = None) -> np.ndarray:
    """`count` integers, each at least 0 and below its limit."""
    return np.floor(uniform(count, generator=generator) * limits).astype(np.int64)
