"""Datasets, samplers and loaders, under PyTorch's names."""

from typing import Any

from .collate import default_collate, default_convert
from .dataloader import DataLoader
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
]


def get_worker_info() -> Any:
    """The worker process that this is (its `id`, `num_workers`, `seed` and `dataset`); None in the loader's process.

    A dataset read in order uses it to yield its share only: each worker has a copy of the whole.
    """
    import sys

    workers = sys.modules.get(__name__ + ".workers")  # multiprocessing is imported only where there are workers
    return None if workers is None else workers.get_worker_info()
