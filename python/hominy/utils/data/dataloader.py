"""DataLoader: batches of a dataset."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic

import numpy as np

from ..arguments import integer, number, wrong
from .collate import default_collate, default_convert
from .dataset import IterableDataset, Sample, Subset, TensorDataset, samples
from .sampler import BatchSampler, RandomSampler, SequentialSampler, batches


class DataLoader(Generic[Sample]):
    """Iterates over a dataset in batches.

        for x, y in DataLoader(TensorDataset(images, labels), batch_size=128, shuffle=True):
            ...

    A TensorDataset (or Subsets of one) is batched by one gather a tensor; a dataset with `__getitems__` is asked once a
    batch; any other gives its samples one by one. Then `collate_fn` makes them a batch.

    With workers, processes make the batches ahead of the loop, in the same order; arrays come back in shared memory.
    Each worker seeds hominy, `random` and `numpy.random` with one number a pass of `generator` plus its own number, so
    that a run repeats. An exception in a worker is raised here with the worker's traceback, and the loop may go on; a
    worker that is killed is a RuntimeError. When the loop ends, is left or is interrupted, the workers end, too.

    Args:
        batch_size: samples a batch; None yields the samples themselves.
        shuffle: a new random order each time, by hominy's generator or `generator`.
        sampler: indices in the order wanted, instead of `shuffle`.
        batch_sampler: lists of indices, instead of batch_size, shuffle, sampler and drop_last.
        num_workers: processes that make the batches; 0 makes them in this one.
        collate_fn: from a list of samples to a batch; `default_collate` if None.
        pin_memory: accepted and ignored, as there is no device to copy to.
        drop_last: leave out a last batch that is not full.
        timeout: seconds to wait for a batch of a worker; 0 waits as long as the worker lives.
        worker_init_fn: called in each worker with its number, after seeding.
        multiprocessing_context: a start method ("fork", "spawn", "forkserver") or context; Python's default if None.
            Under "spawn" and "forkserver" the dataset and the functions are pickled.
        prefetch_factor: batches that each worker makes ahead; 2 if None.
        persistent_workers: keep the workers from one pass to the next, until the loader is collected.
        in_order: must be True; batches come in the order of the sampler.
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
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        where = "DataLoader"
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
        self.num_workers = integer(where, "num_workers", num_workers, lowest=0)
        self.timeout = number(where, "timeout", timeout, low=0.0)
        if not self.num_workers:
            for name, value in (("prefetch_factor", prefetch_factor), ("timeout", timeout),
                                ("persistent_workers", persistent_workers),
                                ("multiprocessing_context", multiprocessing_context)):  # fmt: skip
                if value:
                    raise ValueError(wrong(where, name, "none without workers (num_workers=0)", value))
        if not in_order:
            raise ValueError(wrong(where, "in_order", "True", in_order))
        self.prefetch_factor = 2 if prefetch_factor is None else integer(where, "prefetch_factor", prefetch_factor)
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.generator, self.pin_memory, self.worker_init_fn = generator, pin_memory, worker_init_fn
        self.multiprocessing_context, self.persistent_workers = multiprocessing_context, bool(persistent_workers)
        self.sampler: Iterable[Any] | None = sampler
        if sampler is None and not iterable:
            self.sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.batch_sampler: Iterable[list[Any]] | None = batch_sampler
        if batch_size is not None and self.sampler is not None:
            self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        batched = batch_size is not None or batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if batched else default_convert)
        self._workers: Any = None  # those that are kept from one pass to the next

    def __iter__(self) -> Iterator[Any]:
        from ...random import randint

        # What to fetch: lists of indices, single indices, or "the next" of a dataset read in order.
        tasks: Iterable[Any] | None = self.sampler if self.batch_sampler is None else self.batch_sampler
        # Drawn without workers, too, so that their number does not change what is drawn after it: the order, first.
        seed = randint(0, 2**62, (1,), generator=self.generator).item()
        if self.num_workers:
            return self._by_workers(itertools.repeat(None) if tasks is None else iter(tasks), seed)
        if tasks is None:
            return _read(self.dataset, self.collate_fn, self.batch_size, self.drop_last)
        return map(self._fetcher()(), tasks)

    def _fetcher(self) -> Callable[[], Callable[[Any], Any]]:
        """What makes, once a pass, the function from a task to its batch; it can be pickled if the dataset can."""
        if self.batch_sampler is not None:
            return partial(_batch_fetcher, self.dataset, self.collate_fn)
        if self.sampler is not None:
            return partial(_sample_fetcher, self.dataset, self.collate_fn)
        return partial(_next_fetcher, self.dataset, self.collate_fn, self.batch_size, self.drop_last)

    def _by_workers(self, tasks: Iterator[Any], seed: int) -> Iterator[Any]:
        from .workers import WorkerIterator, Workers

        workers = self._workers
        if workers is None or workers.closed or workers.owner != os.getpid():
            workers = Workers(
                self._fetcher(),
                self.dataset,
                self.num_workers,
                seed,
                self.worker_init_fn,
                self.multiprocessing_context,
            )
            if self.persistent_workers:
                self._workers = workers
                weakref.finalize(self, workers.close)
        return WorkerIterator(
            workers, tasks, self.prefetch_factor, self.timeout, self if self.persistent_workers else None
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_workers": None}

    def __len__(self) -> int:
        """Number of batches (of samples, without batching)."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        size = len(self.dataset if self.sampler is None else self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def _batch_fetcher(dataset: Any, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    gather = gatherer(dataset) if collate is default_collate else None
    return gather or (lambda indices: collate(samples(dataset, indices)))


def _sample_fetcher(dataset: Any, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda index: collate(dataset[index])


def _read(dataset: Any, collate: Callable[[Any], Any], batch_size: int | None, drop_last: bool) -> Iterator[Any]:
    return map(collate, dataset if batch_size is None else batches(dataset, batch_size, drop_last))


def _next_fetcher(
    dataset: Any, collate: Callable[[Any], Any], batch_size: int | None, drop_last: bool
) -> Callable[[Any], Any]:
    from .workers import Exhausted

    read = _read(dataset, collate, batch_size, drop_last)
    return lambda _: next(read, Exhausted())


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
            # Not tensor[rows]: index_select copies rows of floats by a kernel of its own.
            return [tensor.index_select(0, rows) for tensor in tensors]

        return gather
    if isinstance(dataset, Subset) and kind.__getitem__ is Subset.__getitem__:
        inner = gatherer(dataset.dataset)
        if inner is not None:
            chosen = np.asarray(dataset.indices)
            return lambda indices: inner(chosen[np.asarray(indices)])
    return None
