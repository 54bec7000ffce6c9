"""Datasets: what has samples, by index or in order."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ...tensor import Tensor
from ..arguments import integer, number, wrong

Sample = TypeVar("Sample", covariant=True)


class Dataset(Generic[Sample]):
    """Base class of datasets read by index: a subclass defines `__getitem__` and `__len__`.

    It may define `__getitems__(indices)` too, which returns the list of those samples; loaders call it once a batch.
    """

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(wrong(type(self).__name__, "__getitem__", "a method of the subclass", None))

    def __add__(self, other: Any) -> Any:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Sample]):
    """Base class of datasets read in order: a subclass defines `__iter__`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(wrong(type(self).__name__, "__iter__", "a method of the subclass", None))

    def __add__(self, other: Any) -> Any:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples are the rows of tensors of one length: dataset[i] is (tensors[0][i], tensors[1][i], ...).

    A loader makes a batch of it by one gather a tensor.
    """

    def __init__(self, *tensors: Tensor):
        for position, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"[TensorDataset] tensors[{position}]: expected a hominy.Tensor, got {type(tensor).__name__}"
                )
            if not tensor.ndim or tensor.shape[0] != tensors[0].shape[0]:
                raise ValueError(
                    wrong(
                        "TensorDataset",
                        f"tensors[{position}]",
                        f"the first size of tensors[0], {tuple(tensors[0].shape)}",
                        tuple(tensor.shape),
                    )
                )
        if not tensors:
            raise ValueError(wrong("TensorDataset", "tensors", "one tensor or more", "none"))
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])


class Subset(Dataset[Any]):
    """Those samples of `dataset` that `indices` name, in their order."""

    def __init__(self, dataset: Any, indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return samples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[Any]):
    """The samples of several datasets, one after another."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError(wrong("ConcatDataset", "datasets", "one dataset or more", "none"))
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise TypeError(wrong("ConcatDataset", "datasets", "datasets read by index", type(dataset).__name__))
        self.cumulative_sizes = list(itertools.accumulate(len(dataset) for dataset in self.datasets))

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(wrong("ConcatDataset", "index", f"an index of {size} samples", index))
        index %= size
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class StackDataset(Dataset[Any]):
    """Samples are put together from several datasets of one length: a tuple, or, of named datasets, a dictionary.

    StackDataset(images, texts)[0] == (images[0], texts[0])
    StackDataset(image=images, text=texts)[0] == {"image": images[0], "text": texts[0]}
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if bool(args) == bool(kwargs):
            raise ValueError(
                wrong(
                    "StackDataset", "args", "datasets, either all with names or all without", (len(args), len(kwargs))
                )
            )
        self.datasets: Any = args or kwargs
        sizes = {len(dataset) for dataset in args or kwargs.values()}
        if len(sizes) > 1:
            raise ValueError(wrong("StackDataset", "args", "datasets of one length", sorted(sizes)))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list[int]) -> list[Any]:
        if isinstance(self.datasets, dict):
            columns = [samples(dataset, indices) for dataset in self.datasets.values()]
            return [dict(zip(self.datasets, row, strict=True)) for row in zip(*columns, strict=True)]
        return list(zip(*(samples(dataset, indices) for dataset in self.datasets), strict=True))

    def __len__(self) -> int:
        return len(next(iter(self.datasets.values())) if isinstance(self.datasets, dict) else self.datasets[0])


class ChainDataset(IterableDataset[Any]):
    """The samples of several datasets read in order, one after another."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(wrong("ChainDataset", "datasets", "datasets read in order", type(dataset).__name__))
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Split `dataset` at random into subsets of the given lengths, which sum to len(dataset).

    Lengths that sum to 1 are fractions: each gets the floor of its share, and the first ones get one sample more until
    none is left over.
    """
    from ...random import randperm

    size = len(dataset)
    counts: list[Any] = list(lengths)
    if (
        math.isclose(sum(counts), 1.0)
        and sum(counts) <= 1.0 + 1e-9
        and (size != 1 or not all(isinstance(count, int) for count in counts))
    ):
        counts = [math.floor(size * number("random_split", "lengths", fraction, low=0.0)) for fraction in counts]
        for index in range(size - sum(counts)):
            counts[index % len(counts)] += 1
    counts = [integer("random_split", "lengths", count, lowest=0) for count in counts]
    if sum(counts) != size:
        raise ValueError(
            wrong("random_split", "lengths", f"a sum of {size} samples, or fractions that sum to 1", list(lengths))
        )
    order = randperm(size, generator=generator).numpy()
    return [Subset(dataset, part.tolist()) for part in np.split(order, np.cumsum(counts)[:-1])]


def samples(dataset: Any, indices: list[int]) -> list[Any]:
    """The samples at `indices`, by the dataset's own `__getitems__` if it has one."""
    if getattr(dataset, "__getitems__", None) is not None:
        return dataset.__getitems__(indices)
    return [dataset[index] for index in indices]
