"""Samplers: the order in which a loader visits a dataset."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..arguments import integer, wrong

Index = TypeVar("Index", covariant=True)


class Sampler(Generic[Index]):
    """Base class of samplers: a subclass defines `__iter__`, over indices, and `__len__` where it knows its length."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(wrong(type(self).__name__, "__iter__", "a method of the subclass", None))


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source: Any):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """A new random order at each iteration, by hominy's generator or the one given.

    Args:
        replacement: draw each index independently of the others.
        num_samples: how many indices; the dataset's length if None. Beyond it, without replacement, one order follows
            another.
    """

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ):
        if not isinstance(replacement, bool):
            raise TypeError(wrong("RandomSampler", "replacement", "a bool", replacement))
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = None if num_samples is None else integer("RandomSampler", "num_samples", num_samples)

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        from ...random import randint, randperm

        size, count = len(self.data_source), self.num_samples
        if self.replacement:
            return iter(randint(0, size, (count,), generator=self.generator).numpy().tolist() if count else ())
        if count == size:
            return iter(randperm(size, generator=self.generator).numpy().tolist())
        orders = (randperm(size, generator=self.generator).numpy().tolist() for _ in range(-(-count // size)))
        return itertools.islice(itertools.chain.from_iterable(orders), count)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in a new random order at each iteration."""

    def __init__(self, indices: Sequence[int], generator: Any = None):
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        from ...random import randperm

        return (self.indices[i] for i in randperm(len(self.indices), generator=self.generator).numpy().tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices drawn with probabilities proportional to `weights`.

    Without replacement an index is drawn at most once: those of the largest u ** (1 / weight), u uniform in (0, 1), in
    that order, which is drawing one after another (Efraimidis and Spirakis, https://doi.org/10.1016/j.ipl.2005.11.003).

    Raises:
        ValueError: a weight is negative or not finite, all are 0, or fewer than `num_samples` are positive without
            replacement.
    """

    def __init__(self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None):
        where = "WeightedRandomSampler"
        if not isinstance(replacement, bool):
            raise TypeError(wrong(where, "replacement", "a bool", replacement))
        self.weights = np.array(weights.numpy() if hasattr(weights, "numpy") else weights, np.float64)
        if (
            self.weights.ndim != 1
            or not (np.isfinite(self.weights) & (self.weights >= 0)).all()
            or not (self.weights > 0).any()
        ):
            raise ValueError(wrong(where, "weights", "a row of finite numbers of 0 or more, not all 0", weights))
        self.num_samples = integer(where, "num_samples", num_samples)
        self.replacement, self.generator = replacement, generator
        positive = int(np.count_nonzero(self.weights))
        if not replacement and self.num_samples > positive:
            raise ValueError(wrong(where, "num_samples", f"at most the {positive} positive weights", num_samples))

    def __iter__(self) -> Iterator[int]:
        from ...random import rand

        if self.replacement:
            drawn = rand(self.num_samples, dtype=np.float64, generator=self.generator).numpy()
            edges = np.cumsum(self.weights)
            last = int(np.flatnonzero(self.weights)[-1])  # where rounding would go past the last edge
            found = np.searchsorted(edges, drawn * edges[-1], side="right")
            return iter(np.minimum(found, last).tolist())
        (choices,) = np.nonzero(self.weights)
        drawn = 1.0 - rand(len(choices), dtype=np.float64, generator=self.generator).numpy()
        order = np.argsort(-np.log(drawn) / self.weights[choices], kind="stable")
        return iter(choices[order[: self.num_samples]].tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of `sampler`; the last may be shorter, unless `drop_last`."""

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool = False):
        if not isinstance(drop_last, bool):
            raise TypeError(wrong("BatchSampler", "drop_last", "a bool", drop_last))
        self.sampler, self.drop_last = sampler, drop_last
        self.batch_size = integer("BatchSampler", "batch_size", batch_size)

    def __iter__(self) -> Iterator[list[Any]]:
        return batches(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def batches(items: Iterable[Any], batch_size: int, drop_last: bool) -> Iterator[list[Any]]:
    """Lists of `batch_size` successive items; a shorter last one unless `drop_last`."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, batch_size)):
        if len(batch) < batch_size and drop_last:
            return
        yield batch
