"""One entry of the table of operator cases, and what entries are made of: sizes, draws, error bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends import reference
from .layouts import lay_out

Array = np.ndarray
Bound = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One operator with fixed scalar arguments.

    `make(rng, dtype, size)` gives the arguments of the kernel, for every size of `sizes` (tests: with 0, 1, vector
    widths and their neighbours, primes) and of `timing` (benchmarks). `bound(y, u, *arguments)` is the error that the
    kernel may make in each element of the exact result y. `numpy(*arguments)` and `torch(torch, *arguments)` are what a
    user of those libraries would write.
    """

    kernel: str  # function of the backends, "" where there is none
    family: str
    make: Callable[..., tuple[Any, ...]]
    sizes: tuple[Any, ...]
    bound: Bound | None = None
    label: str = ""
    timing: tuple[Any, ...] = ()
    numpy: Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None
    operations: Callable[..., float] | None = None  # floating-point operations of a call; None: one an element
    operator: str = ""  # name in hominy.ops.REGISTRY
    extra: tuple[Any, ...] = ()  # arguments that the operator takes after the kernel's
    differentiable: tuple[int, ...] = ()  # positions of the arguments that have a gradient
    twice: bool = True  # whether its gradient has a gradient
    gradient_sizes: tuple[Any, ...] = ()
    exact: Callable[..., Any] | None = None  # in place of the float64 reference, for arrays of extended precision
    writes: tuple[int, ...] = ()  # positions of the arguments (lists of arrays) that it overwrites: its results
    ufunc: bool = False  # the reference is one NumPy ufunc of the arguments' dtype

    def __str__(self) -> str:
        return self.label or self.kernel or self.operator

    def arguments(self, rng: np.random.Generator, dtype: Any, size: Any, *layouts: str) -> tuple[Any, ...]:
        """Arguments for the kernel; arrays in the given layouts, one after the other, the last for all that follow."""
        made = self.make(rng, np.dtype(dtype), size)
        if not layouts:
            return made
        remaining = list(layouts)

        def placed(x: Any) -> Any:
            if not isinstance(x, Array):
                return x
            return lay_out(x, remaining.pop(0) if len(remaining) > 1 else remaining[0])

        return tuple(placed(x) for x in made)

    def expected(self, arguments: tuple[Any, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The exact results in float64 (or wider), and how far a result may be from each."""
        precision = np.longdouble if self.exact else np.float64
        wide = tuple(_widened(x, precision) for x in arguments)
        function = self.exact or getattr(reference, self.kernel)
        before = tuple(_widened(x, np.float64) for x in arguments)
        with np.errstate(all="ignore"):
            exact = self._results(function(*wide), wide)
        u = unit_roundoff(_dtype(arguments))
        assert self.bound is not None
        with np.errstate(all="ignore"):
            errors = _tuple(self.bound(*self._bundle(exact), u, *before))
            own = _tuple(self.bound(*self._bundle(exact), unit_roundoff(precision), *before))
        return exact, tuple(np.asarray(e + o) for e, o in zip(errors, own, strict=True))

    def results(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """What `function` makes of `arguments`: its results, or what it wrote."""
        result = function(*arguments)
        return result if not self.writes or isinstance(result, str) else self._results(result, arguments)

    def verify(self, result: Any, arguments: tuple[Any, ...], what: str = "") -> float:
        """Raise an AssertionError unless `result` is right: dtype, shape, and every element within the bound.

        Returns the largest error, in bounds. For a case that overwrites arguments, `arguments` are those from before
        the call.
        """
        exact, bounds = self.expected(arguments)
        largest = 0.0
        for number, (got, want, bound) in enumerate(zip(_tuple(result), exact, bounds, strict=True)):
            name = f"{what or self}{f', result {number}' if len(exact) > 1 else ''}"
            dtype = want.dtype if want.dtype.kind in "bi" else _dtype(arguments)
            assert got.dtype == dtype, f"{name}: expected dtype {dtype}, got {got.dtype}"
            largest = max(largest, assert_within(got, want, bound, name))
        return largest

    def bytes_moved(self, arguments: tuple[Any, ...], result: Any) -> int:
        """Memory that a call must at least read and write."""
        return sum(x.nbytes for x in _arrays(arguments)) + sum(x.nbytes for x in _arrays(result))

    def operation_count(self, arguments: tuple[Any, ...], result: Any) -> float:
        """Floating-point operations of a call; for transcendental functions one an element."""
        if self.operations is not None:
            return float(self.operations(*arguments))
        return float(max((x.size for x in _arrays((arguments, result))), default=0))

    def _results(self, result: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x for i in self.writes for x in arguments[i] or ()) if self.writes else _tuple(result)

    def _bundle(self, exact: tuple[Array, ...]) -> tuple[Any]:
        return (exact[0] if len(exact) == 1 and not self.writes else exact,)


def unit_roundoff(dtype: Any) -> float:
    """2^-24 for float32, 2^-53 for float64: half the distance from 1 to the next number."""
    return float(np.finfo(dtype).eps) / 2


def assert_within(got: Array, want: Array, bound: Any, what: str) -> float:
    """Raise an AssertionError that shows the worst element unless |got - want| <= bound; NaN and infinity are equal.

    Returns the largest error, in bounds.
    """
    assert got.shape == want.shape, f"{what}: expected shape {want.shape}, got {got.shape}"
    if got.dtype.kind != "f":
        bound = 0
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        wide = np.longdouble if want.dtype == np.longdouble else np.float64
        distance = np.abs(got.astype(wide) - want) if got.dtype.kind == "f" else (got != want).astype(float)
        special = ~np.isfinite(rounded) if got.dtype.kind == "f" else np.zeros(got.shape, bool)
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded)) if got.dtype.kind == "f" else got == rounded
        wrong = np.where(special, ~same, ~(distance <= bound) & ~same)
    if wrong.any():
        with np.errstate(all="ignore"):
            share = np.where(wrong, np.nan_to_num(distance / np.broadcast_to(bound, got.shape), nan=np.inf), -1)
        worst = np.unravel_index(int(np.argmax(share)), got.shape)
        place = tuple(int(i) for i in worst)
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {got.size} elements are wrong; the worst, at {place}, is {got[worst]!r}, "
            f"expected {want[worst]!r} +- {np.broadcast_to(bound, got.shape)[worst]:.3g}"
        )
    inexact = ~(same | special)
    return float(np.max(distance[inexact] / np.broadcast_to(bound, got.shape)[inexact], initial=0))


def _tuple(x: Any) -> tuple[Any, ...]:
    """Results as a tuple, without those that are None."""
    return tuple(each for each in x if each is not None) if isinstance(x, (tuple, list)) else (x,)


def _arrays(x: Any) -> Iterator[Array]:
    if isinstance(x, Array):
        yield x
    elif isinstance(x, (tuple, list)):
        for item in x:
            yield from _arrays(item)


def _dtype(arguments: Any) -> np.dtype:
    return next(x.dtype for x in _arrays(arguments) if x.dtype.kind == "f")


def _widened(x: Any, dtype: Any) -> Any:
    if isinstance(x, list):
        return [_widened(item, dtype) for item in x]
    if isinstance(x, Array):
        return x.astype(dtype) if x.dtype.kind == "f" else x.copy()
    return x


# --- sizes ------------------------------------------------------------------------------------------------------------

# 0, 1, every vector width (2 to 16) and two or four of them, each +-1; primes; sizes that threads share.
LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 131)
SHAPES = (
    *((n,) for n in LENGTHS), (), (1, 1), (0, 3), (3, 0, 2), (3, 1), (1, 7), (13, 1), (5, 17), (17, 5), (3, 33),
    (2, 3, 5), (4, 1, 9), (2, 3, 1, 7), (2, 2, 2, 2, 3), (1009,), (40009,), (97, 401),
)  # fmt: skip
TIMED_SHAPES = ((1000,), (1 << 20,), (1024, 1024))
MATRICES = ((0, 3), (3, 0), (1, 1), (1, 7), (7, 1), (5, 16), (16, 5), (33, 17), (3, 131), (131, 3), (129, 301))
TIMED_MATRICES = ((64, 10), (1024, 1000), (32, 50257))


# --- making arguments -------------------------------------------------------------------------------------------------


def draw(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...], low: float = -4, high: float = 4) -> Array:
    """Uniform in [low, high)."""
    return np.asarray(rng.uniform(low, high, shape), dtype)


def _one(*scalars: Any, low: float = -12, high: float = 12) -> Callable[..., tuple[Any, ...]]:
    return lambda rng, dtype, shape: (draw(rng, dtype, shape, low, high), *scalars)


def _two(*scalars: Any, low: float = -12, high: float = 12, second: Any = None) -> Callable[..., tuple[Any, ...]]:
    return lambda rng, dtype, shape: (
        draw(rng, dtype, shape, low, high), draw(rng, dtype, shape, *(second or (low, high))), *scalars
    )  # fmt: skip


# --- bounds -----------------------------------------------------------------------------------------------------------


def _exactly(y: Any, u: float, *arguments: Any) -> Any:
    return 0.0


def _smallest(u: float) -> float:
    return 2.0**-149 if u > 2.0**-50 else 2.0**-1074


def _ulps(count: float, scale: Callable[..., Any] | None = None) -> Bound:
    """`count` units in the last place of the result or, where terms cancel, of `scale(*arguments)` if larger."""

    def bound(y: Array, u: float, *arguments: Any) -> Any:
        size = np.abs(y) if scale is None else np.maximum(np.abs(y), scale(*arguments))
        return count * (2 * u * np.where(np.isfinite(size), size, 0) + _smallest(u))

    return bound


def _terms(x: Array, axes: Any) -> int:
    return math.prod(x.shape[axis] for axis in axes)
