"""Random numbers: one counter-based generator for the process, or generators of one's own.

Philox4x64-10 (Salmon et al., SC'11, https://doi.org/10.1145/2063384.2063405) with the seed as its key: block number i
of a stream is a function of (seed, i), four 64-bit words, and a draw takes whole blocks, from the stream's position on.
What is made of the words uses only operations that are exact to the last bit, so that the same seed gives the same
numbers on every machine, with any NumPy:

- uniform in [0, 1): the top 24 bits of half a word (float32 and the half precisions) or the top 53 bits of a word;
- integers: a word modulo the range, words beyond its largest multiple drawn anew;
- permutations: the order of random words;
- normal: the quantile function (`hominy.quantile`) of half a word, for float64 of a word, at the middle of its cell: at
  most 6.3 (float64: 8.3) standard deviations; exponential and geometric: the same file's logarithm.

`log_normal_` and `cauchy_` end in NumPy's exp and tan, whose last bit depends on the machine. Generators may be shared
by threads: each draw is one piece of the stream, in the order in which they come.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from .creation import _dtype, _made, _sized, on_cpu
from .memory_format import checked, preserve_format
from .quantile import natural_logarithm, normal_quantile
from .tensor import Tensor, as_array
from .utils.arguments import integer, number

_CHUNK = 8192  # normals at a time: their temporaries stay in cache


class Generator:
    """A stream of random numbers with a seed of its own; without one it is seeded when first used, from the system."""

    def __init__(self, device: str = "cpu") -> None:
        on_cpu("Generator", device)
        self.device = "cpu"
        self._lock = threading.RLock()
        self._seed: int | None = None
        self._position = 0  # blocks drawn so far
        self._source: Any = None

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream anew from `seed`, an integer, modulo 2^64."""
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"[manual_seed] seed: expected an integer, got {type(seed).__name__}")
        with self._lock:
            self._seed = seed.__index__() % 2**64
            self._position = 0
            self._source = None
        return self

    def seed(self) -> int:
        """Start the stream anew from a seed of the system's, which is returned."""
        import secrets

        return self.manual_seed(secrets.randbits(64)).initial_seed()

    def initial_seed(self) -> int:
        """The seed in use."""
        with self._lock:
            if self._seed is None:
                self.seed()
            assert self._seed is not None
            return self._seed

    def get_state(self) -> Tensor:
        """What `set_state` needs to go on from here: seed and position, as 24 bytes in a uint8 tensor."""
        with self._lock:
            state = self.initial_seed().to_bytes(8, "little") + self._position.to_bytes(16, "little")
        return Tensor(np.frombuffer(state, np.uint8).copy())

    def set_state(self, state: Tensor) -> None:
        """Go on from where `get_state` was called.

        Raises:
            ValueError: not such a state.
        """
        array = as_array(state)
        if array.dtype != np.uint8 or array.shape != (24,):
            raise ValueError(f"[set_state] state: expected 24 bytes of get_state(), got {array.shape} of {array.dtype}")
        raw = array.tobytes()
        with self._lock:
            self._seed = int.from_bytes(raw[:8], "little")
            self._position = int.from_bytes(raw[8:], "little")
            self._source = None

    def clone_state(self) -> Generator:
        """A generator at the same place of the same stream."""
        clone = Generator()
        clone.set_state(self.get_state())
        return clone

    def __reduce__(self) -> Any:
        return _rebuilt, (self.get_state(),)

    def words(self, count: int) -> np.ndarray:
        """The stream's next 64-bit words, `count` of them, as uint64."""
        with self._lock:
            seed, blocks = self.initial_seed(), (count + 3) // 4
            if self._source is None:  # imported late: numpy.random takes longer to import than hominy
                self._source = np.random.Philox(key=seed, counter=self._position)
            self._position += blocks
            return np.asarray(self._source.random_raw(4 * blocks))[:count]

    def half_words(self, count: int) -> np.ndarray:
        """The stream's next words cut in two, the lower half first: `count` of uint32."""
        return self.words((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count].astype(np.uint32, copy=False)

    def __repr__(self) -> str:
        return f"<hominy.Generator, seed {self._seed}, block {self._position}>"


def _rebuilt(state: Tensor) -> Generator:
    generator = Generator()
    generator.set_state(state)
    return generator


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the process's generator: what follows is the same on every run."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the process's generator from the system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the process's generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the process's generator, for `set_rng_state`."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Let the process's generator go on from where `get_rng_state` was called."""
    default_generator.set_state(new_state)


# What is made of words.


def _source(generator: Generator | None) -> Generator:
    return default_generator if generator is None else generator


def _count(size: tuple[int, ...]) -> int:
    count = 1
    for length in size:
        count *= length
    return count


def _uniform(source: Generator, size: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Uniform in [0, 1): float64 with 53 random bits, else 24 (float16: 11, bfloat16: 8)."""
    count = _count(size)
    if dtype == np.float64:
        return ((source.words(count) >> np.uint64(11)) * 2.0**-53).reshape(size)
    bits = {"float16": 11, "bfloat16": 8}.get(str(dtype), 24)
    drawn = (source.half_words(count) >> np.uint32(32 - bits)).astype(np.float32)
    drawn *= np.float32(2.0**-bits)
    return drawn.astype(dtype, copy=False).reshape(size)


def _open_uniform(source: Generator, size: tuple[int, ...]) -> np.ndarray:
    """Uniform in (0, 1), float64: the middles of 2^52 cells."""
    words = source.words(_count(size)) >> np.uint64(12)
    return ((words + 0.5) * 2.0**-52).reshape(size)


def _normal(source: Generator, size: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Standard normal: the quantile function at the middle of one of 2^32 (float64: 2^52) cells."""
    count = _count(size)
    result = np.empty(count, dtype)
    if dtype == np.float64:
        words, half, cell = source.words(count) >> np.uint64(12), 2.0**51 - 0.5, 2.0**-52
    else:
        words, half, cell = source.half_words(count), 2.0**31 - 0.5, 2.0**-32
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        result[part] = normal_quantile((words[part] - half) * cell)
    return result.reshape(size)


def _integers(source: Generator, low: int, high: int, size: tuple[int, ...]) -> np.ndarray:
    """Integers in [low, high), each as likely as the next, int64."""
    count, span = _count(size), high - low
    words = source.words(count)
    limit = 2**64 - 2**64 % span
    if limit != 2**64:
        beyond = np.flatnonzero(words >= np.uint64(limit))
        while len(beyond):
            words[beyond] = source.words(len(beyond))
            beyond = beyond[words[beyond] >= np.uint64(limit)]
    drawn = words if span == 2**64 else words % np.uint64(span)
    return (drawn + np.uint64(low % 2**64)).view(np.int64).reshape(size)  # modulo 2^64: two's complement


def _floating(name: str, dtype: Any) -> Any:
    dtype = _dtype(dtype)
    if dtype.kind not in "fV":
        raise TypeError(f"[{name}] dtype: expected a float dtype, got {dtype}")
    return dtype


# New tensors.


def rand(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [0, 1)."""
    on_cpu("rand", device)
    return _made(_uniform(_source(generator), _sized("rand", size), _floating("rand", dtype)), requires_grad)


def randn(
    *size: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal."""
    on_cpu("randn", device)
    return _made(_normal(_source(generator), _sized("randn", size), _floating("randn", dtype)), requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high), int64; randint(high, size) starts at 0."""
    on_cpu("randint", device)
    if size is None:
        low, high, size = (0, low, high) if isinstance(high, (tuple, list)) or not hasattr(high, "__index__") else (
            low, high, ()
        )  # fmt: skip
    low, high = low.__index__(), high.__index__()
    if not low < high:
        raise ValueError(f"[randint] high: expected more than low ({low}), got {high}")
    if low < -(2**63) or high > 2**63:
        raise ValueError(f"[randint] high: expected a range within int64, got [{low}, {high})")
    with _source(generator)._lock:
        drawn = _integers(_source(generator), low, high, _sized("randint", (size,)))
    return _made(drawn.astype(_dtype(dtype, np.dtype("int64")), copy=False), requires_grad)


def randperm(
    n: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, generator: Generator | None = None
) -> Tensor:
    """The integers 0 to n - 1 in random order, int64."""
    on_cpu("randperm", device)
    words = _source(generator).words(integer("randperm", "n", n, 0))
    order = np.argsort(words)
    ordered = words[order]
    if (ordered[1:] == ordered[:-1]).any():  # equal words, one time in 2^64 / n^2: in the order in which they came
        order = np.argsort(words, kind="stable")
    return _made(order.astype(_dtype(dtype, np.dtype("int64")), copy=False), requires_grad)


def rand_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Uniform in [0, 1), with input's shape, dtype and memory order; the numbers are those that `rand` draws."""
    drawn = rand(input.shape, dtype=input.dtype if dtype is None else dtype)
    return _arranged("rand_like", drawn, input, memory_format).requires_grad_(requires_grad)


def randn_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Standard normal, with input's shape, dtype and memory order; the numbers are those that `randn` draws."""
    drawn = randn(input.shape, dtype=input.dtype if dtype is None else dtype)
    return _arranged("randn_like", drawn, input, memory_format).requires_grad_(requires_grad)


def _arranged(name: str, drawn: Tensor, like: Tensor, memory_format: Any) -> Tensor:
    array = as_array(like)
    if checked(name, memory_format) not in (None, preserve_format):
        return drawn.contiguous(memory_format)
    if array.flags.c_contiguous:
        return drawn
    arranged = np.empty_like(array, drawn.dtype)
    arranged[...] = drawn._array
    return _made(arranged, False)


def randint_like(input: Tensor, low: int, high: Any = None, *, dtype: Any = None, memory_format: Any = None) -> Tensor:
    """Integers in [low, high), or [0, low), with input's shape, dtype and memory order."""
    low, high = (0, low) if high is None else (low, high)
    drawn = randint(low, high, input.shape, dtype=input.dtype if dtype is None else dtype)
    return _arranged("randint_like", drawn, input, memory_format)


def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, dtype: Any = None, generator: Generator | None = None
) -> Tensor:
    """Normal with the given means and standard deviations, numbers or tensors; for two numbers, of shape `size`."""
    means, stds = (x._array if isinstance(x, Tensor) else x for x in (mean, std))
    if np.any(np.asarray(stds) < 0):
        raise ValueError(f"[normal] std: expected at least 0, got {float(np.min(stds))}")
    arrays = [x for x in (means, stds) if isinstance(x, np.ndarray)]
    shape = np.broadcast_shapes(*(x.shape for x in arrays)) if arrays else _sized("normal", (() if size is None else
            size,))  # fmt: skip
    wanted = _floating("normal", arrays[0].dtype if arrays and dtype is None else dtype)
    drawn = _normal(_source(generator), shape, wanted)
    return _made(np.asarray(drawn * stds + means).astype(wanted), False)


def _probabilities(name: str, array: np.ndarray) -> np.ndarray:
    if array.size and not (np.min(array) >= 0 and np.max(array) <= 1):
        wrong = array[~((array >= 0) & (array <= 1))].flat[0]
        raise ValueError(f"[{name}] input: expected probabilities in [0, 1], got {wrong}")
    return array


def bernoulli(input: Tensor, p: Any = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that input (or p) gives, else 0; of input's shape and dtype."""
    array = as_array(input if p is None else p).astype(np.float64)
    _probabilities("bernoulli", array)
    drawn = _uniform(_source(generator), input.shape, np.float64) < array
    return _made(np.asarray(drawn).astype(input.dtype), False)


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """num_samples indices a row of input, each drawn with its (relative) weight; int64.

    Without replacement, by exponential races: the order is that in which they would be drawn one by one.
    """
    weights = as_array(input).astype(np.float64)
    if weights.ndim not in (1, 2):
        raise ValueError(f"[multinomial] input: expected 1 or 2 dimensions, got shape {weights.shape}")
    integer("multinomial", "num_samples", num_samples)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("[multinomial] input: expected finite weights of 0 or more")
    positive = (weights > 0).sum(-1)
    needed = 1 if replacement else num_samples
    if (positive < needed).any():
        raise ValueError(
            f"[multinomial] num_samples: expected at most the number of positive weights ({int(positive.min())}), got "
            f"{num_samples}"
        )
    rows = np.atleast_2d(weights)
    source = _source(generator)
    if replacement:
        ends = np.cumsum(rows, 1)
        drawn = _uniform(source, (len(rows), num_samples), np.float64) * ends[:, -1:]
        found = np.stack([np.searchsorted(end, values, "right") for end, values in zip(ends, drawn, strict=True)])
        last = rows.shape[1] - 1 - np.argmax(rows[:, ::-1] > 0, 1)
        found = np.minimum(found, last[:, None])
    else:
        times = -natural_logarithm(_open_uniform(source, rows.shape))
        with np.errstate(divide="ignore"):
            found = np.argsort(times / rows, 1, kind="stable")[:, :num_samples]
    return _made(found.astype(np.int64).reshape((*weights.shape[:-1], num_samples)), False)


# In-place fills: methods of Tensor.


def _scaled(self: Tensor, name: str, drawn: np.ndarray, scale: float, shift: float) -> Tensor:
    kind = drawn.dtype.type
    return self._write(name, drawn * kind(scale) + kind(shift))


def uniform_(self: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers uniform in [a, b)."""
    a, b = number("uniform_", "a", a), number("uniform_", "b", b)
    if not a <= b:
        raise ValueError(f"[uniform_] b: expected at least a ({a}), got {b}")
    drawn = _uniform(_source(generator), self.shape, _floating("uniform_", self.dtype))
    return _scaled(self, "uniform_", drawn, b - a, a)


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with normal numbers of the given mean and standard deviation."""
    if not std >= 0:
        raise ValueError(f"[normal_] std: expected at least 0, got {std}")
    drawn = _normal(_source(generator), self.shape, _floating("normal_", self.dtype))
    return _scaled(self, "normal_", drawn, std, mean)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 where a draw of probability p (a number or a tensor) hits, else 0."""
    chances = _probabilities("bernoulli_", np.asarray(as_array(p), np.float64))
    return self._write("bernoulli_", _uniform(_source(generator), self.shape, np.float64) < chances)


def random_(self: Tensor, low: Any = 0, high: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Fill with integers in [low, high), or [0, low); without bounds, with all that the dtype holds exactly, from 0."""
    if high is None:
        kinds = {"b": 2, "f": 2 ** (np.finfo(self.dtype).nmant + 1) if self.dtype.kind == "f" else 0, "V": 2**8}
        largest = kinds[self.dtype.kind] if self.dtype.kind in kinds else int(np.iinfo(self.dtype).max) + 1
        low, high = 0, low or largest
    return self._write("random_", randint(low, high, self.shape, generator=generator)._array)


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponential numbers of rate lambd."""
    if not lambd > 0:
        raise ValueError(f"[exponential_] lambd: expected more than 0, got {lambd}")
    return self._write("exponential_", natural_logarithm(_open_uniform(_source(generator), self.shape)) / -lambd)


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with the number of trials, from 1 on, until one of probability p succeeds."""
    if not 0 < p < 1:
        raise ValueError(f"[geometric_] p: expected a number between 0 and 1, got {p}")
    base = natural_logarithm(np.asarray([1.0 - p]))[0]
    drawn = natural_logarithm(_open_uniform(_source(generator), self.shape)) / base
    return self._write("geometric_", np.maximum(np.ceil(drawn), 1))


def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal."""
    if not std >= 0:
        raise ValueError(f"[log_normal_] std: expected at least 0, got {std}")
    return self._write("log_normal_", np.exp(_normal(_source(generator), self.shape, np.float64) * std + mean))


def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with Cauchy numbers of the given median and half width."""
    if not sigma > 0:
        raise ValueError(f"[cauchy_] sigma: expected more than 0, got {sigma}")
    drawn = np.tan(np.pi * (_open_uniform(_source(generator), self.shape) - 0.5))
    return self._write("cauchy_", drawn * sigma + median)


__all__ = [
    "Generator", "bernoulli", "default_generator", "get_rng_state", "initial_seed", "manual_seed", "multinomial",
    "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "seed",
    "set_rng_state",
]  # fmt: skip

for _fill in (uniform_, normal_, bernoulli_, random_, exponential_, geometric_, log_normal_, cauchy_):
    setattr(Tensor, _fill.__name__, _fill)
setattr(Tensor, "bernoulli", bernoulli)  # noqa: B010
setattr(Tensor, "multinomial", multinomial)  # noqa: B010
