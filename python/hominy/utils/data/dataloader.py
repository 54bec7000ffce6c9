"""DataLoader: batches of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic

import numpy as np

from ..arguments import integer, wrong
from .collate import default_collate, default_convert
from .dataset import IterableDataset, Sample, Subset, TensorDataset, samples
from .sampler import BatchSampler, RandomSampler, SequentialSampler, batches


class DataLoader(Generic[Sample]):
    """Iterates over a dataset in batches.

        for x, y in DataLoader(TensorDataset(images, labels), batch_size=128, shuffle=True):
            ...

    A TensorDataset (or Subsets of one) is batched by one gather a tensor; a dataset with `__getitems__` is asked once a
    batch; any other gives its samples one by one. Then `collate_fn` makes them a batch.

    Args:
        batch_size: samples a batch; None yields the samples themselves.
        shuffle: a new random order each time, by hominy's generator or `generator`.
        sampler: indices in the order wanted, instead of `shuffle`.
        batch_sampler: lists of indices, instead of batch_size, shuffle, sampler and drop_last.
        num_workers: 0; batches are made in this process.
        collate_fn: from a list of samples to a batch; `default_collate` if None.
        drop_last: leave out a last batch that is not full.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        drop_last: bool = False,
        generator: Any = None,
    ):
        where = "DataLoader"
        if integer(where, "num_workers", num_workers, lowest=0):
            raise ValueError(wrong(where, "num_workers", "0, since batches are made in this process only", num_workers))
        iterable = isinstance(dataset, IterableDataset)
        if iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                wrong(where, "dataset", "one read by index beside shuffle or a sampler", type(dataset).__name__)
            )
        if sampler is not None and shuffle:
            raise ValueError(wrong(where, "shuffle", "False beside a sampler", shuffle))
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    wrong(
                        where,
                        "batch_sampler",
                        "no batch_size, shuffle, sampler or drop_last beside it",
                        (batch_size, shuffle, sampler, drop_last),
                    )
                )
            batch_size = None
        elif batch_size is None:
            if drop_last:
                raise ValueError(wrong(where, "drop_last", "False, since batch_size is None", drop_last))
        else:
            batch_size = integer(where, "batch_size", batch_size)
        self.dataset, self.batch_size, self.drop_last, self.num_workers = dataset, batch_size, drop_last, 0
        self.generator = generator
        self.sampler: Iterable[Any] | None = sampler
        if sampler is None and not iterable:
            self.sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.batch_sampler: Iterable[list[Any]] | None = batch_sampler
        if batch_size is not None and self.sampler is not None:
            self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        batched = batch_size is not None or batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)

    def __iter__(self) -> Iterator[Any]:
        dataset, collate = self.dataset, self.collate_fn
        if self.batch_sampler is not None:
            gather = gatherer(dataset) if collate is default_collate else None
            if gather is not None:
                return map(gather, self.batch_sampler)
            return (collate(samples(dataset, indices)) for indices in self.batch_sampler)
        if self.sampler is not None:
            return (collate(dataset[index]) for index in self.sampler)
        if self.batch_size is not None:
            return map(collate, batches(dataset, self.batch_size, self.drop_last))
        return map(collate, dataset)

    def __len__(self) -> int:
        """Number of batches (of samples, without batching)."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        size = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def gatherer(dataset: Any) -> Callable[[Any], list[Any]] | None:
    """The function from indices to a whole batch by one gather a tensor; None where the dataset does not allow it.

    It must be a TensorDataset, or a Subset of one, that reads its samples in the way of those classes.
    """
    kind = type(dataset)
    if hasattr(dataset, "__getitems__") and not (
        isinstance(dataset, Subset) and kind.__getitems__ is Subset.__getitems__
    ):
        return None
    if isinstance(dataset, TensorDataset) and kind.__getitem__ is TensorDataset.__getitem__:
        tensors, size = dataset.tensors, len(dataset)

        def gather(indices: Any) -> list[Any]:
            rows = np.asarray(indices)
            if (rows < 0).any():
                rows = np.where(rows < 0, rows + size, rows)
            # Not tensor[rows]: NumPy's take copies 128 rows of 784 floats in 49 us, its indexing in 73 us.
            return [tensor.index_select(0, rows) for tensor in tensors]

        return gather
    if isinstance(dataset, Subset) and kind.__getitem__ is Subset.__getitem__:
        inner = gatherer(dataset.dataset)
        if inner is not None:
            chosen = np.asarray(dataset.indices)
            return lambda indices: inner(chosen[np.asarray(indices)])
    return None
