"""Random numbers: one counter-based generator for the process, or generators of one's own.

Philox (Salmon et al., SC'11, https://doi.org/10.1145/2063384.2063405) gives the same integers and uniforms on every
machine for the same seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .creation import _dtype, _made, _sized
from .tensor import Tensor


class Generator:
    """A stream of random numbers with a seed of its own; a number is seeded when it is first drawn."""

    def __init__(self, device: str = "cpu") -> None:
        self._seed: int | None = None
        self._source: Any = None

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream anew from `seed`, an integer."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"[manual_seed] seed: expected an integer, got {type(seed).__name__}")
        self._seed = seed.__index__() % 2**64
        self._source = None
        return self

    def initial_seed(self) -> int:
        """The seed in use."""
        self._numpy()
        assert self._seed is not None
        return self._seed

    def _numpy(self) -> Any:
        """The NumPy generator behind it (imported late: numpy.random takes longer to import than hominy)."""
        if self._source is None:
            if self._seed is None:
                self._seed = int(np.random.SeedSequence().entropy) % 2**64  # type: ignore[arg-type]
            self._source = np.random.Generator(np.random.Philox(self._seed))
        return self._source

    def get_state(self) -> Any:
        """What `set_state` needs to go on from here."""
        self._numpy()
        return self._seed, self._numpy().bit_generator.state

    def set_state(self, state: Any) -> None:
        """Go on from where `get_state` was called."""
        self._seed = state[0]
        self._source = None
        self._numpy().bit_generator.state = state[1]


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the process's generator: what follows is the same on every run."""
    return default_generator.manual_seed(seed)


def initial_seed() -> int:
    """The seed of the process's generator."""
    return default_generator.initial_seed()


def _source(generator: Generator | None) -> Any:
    return (default_generator if generator is None else generator)._numpy()


def rand(*size: Any, dtype: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Uniform in [0, 1)."""
    dtype = _dtype(dtype)
    return _made(_uniform(_source(generator), _sized("rand", size), dtype), requires_grad)


def _uniform(source: Any, size: tuple[int, ...], dtype: Any) -> np.ndarray:
    if dtype in (np.float32, np.float64):
        return np.asarray(source.random(size, dtype=dtype))
    return np.asarray(source.random(size, dtype=np.float32)).astype(dtype)


def randn(*size: Any, dtype: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Standard normal."""
    dtype = _dtype(dtype)
    return _made(_normal(_source(generator), _sized("randn", size), dtype), requires_grad)


def _normal(source: Any, size: tuple[int, ...], dtype: Any) -> np.ndarray:
    if dtype in (np.float32, np.float64):
        return np.asarray(source.standard_normal(size, dtype=dtype))
    return np.asarray(source.standard_normal(size, dtype=np.float32)).astype(dtype)


def randint(low: int, high: Any, size: Any = None, dtype: Any = None, generator: Generator | None = None) -> Tensor:
    """Integers in [low, high), int64; randint(high, size) starts at 0."""
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise ValueError(f"[randint] high: expected more than low ({low}), got {high}")
    drawn = _source(generator).integers(low, high, _sized("randint", (size,)), np.int64)
    return _made(np.asarray(drawn).astype(_dtype(dtype, np.dtype("int64"))), False)


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The integers 0 to n - 1 in random order, int64."""
    if n < 0:
        raise ValueError(f"[randperm] n: expected at least 0, got {n}")
    return _made(_source(generator).permutation(n), False)


def rand_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Uniform in [0, 1), with input's shape and dtype."""
    return rand(*input.shape, dtype=input.dtype if dtype is None else dtype)


def randn_like(input: Tensor, dtype: Any = None) -> Tensor:
    """Standard normal, with input's shape and dtype."""
    return randn(*input.shape, dtype=input.dtype if dtype is None else dtype)


# In-place fills: methods of Tensor.


def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with numbers uniform in [a, b)."""
    if not a <= b:
        raise ValueError(f"[uniform_] b: expected at least a ({a}), got {b}")
    drawn = _uniform(_source(generator), self.shape, self.dtype)
    return self._write("uniform_", drawn * self.dtype.type(b - a) + self.dtype.type(a))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of the given mean and standard deviation."""
    if not std >= 0:
        raise ValueError(f"[normal_] std: expected at least 0, got {std}")
    drawn = _normal(_source(generator), self.shape, self.dtype)
    return self._write("normal_", drawn * self.dtype.type(std) + self.dtype.type(mean))


__all__ = [
    "Generator", "default_generator", "initial_seed", "manual_seed", "normal_", "rand", "rand_like", "randint",
    "randn", "randn_like", "randperm", "uniform_",
]  # fmt: skip

for _fill in (uniform_, normal_):
    setattr(Tensor, _fill.__name__, _fill)
