"""Datasets, samplers, collation and loaders."""

import importlib
from collections import namedtuple

import hominy
import numpy as np
import pytest
from hominy.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)


@pytest.fixture
def torch():
    """PyTorch; the mark `torch` says what happens where it is absent."""
    return importlib.import_module("torch")


class Squares(Dataset):
    """0, 1, 4, ...; remembers what it was asked for."""

    def __init__(self, size):
        self.size, self.asked = size, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        self.asked.append(index)
        return index * index


class SquaresAtOnce(Squares):
    def __getitems__(self, indices):
        self.asked.append(list(indices))
        return [index * index for index in indices]


class Counting(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(range(self.size))


def rows(size=10):
    return TensorDataset(hominy.arange(size * 3).reshape(size, 3), hominy.arange(size))


def numbers(loader):
    return [batch.numpy().tolist() for batch in loader]


# ---- datasets --------------------------------------------------------------------------------------------------------


def test_tensor_dataset():
    dataset = rows()
    assert len(dataset) == 10 and dataset[3][0].numpy().tolist() == [9, 10, 11] and dataset[-1][1].item() == 9
    with pytest.raises(IndexError):
        dataset[10]
    for tensors, error, pattern in [
        ((), ValueError, "tensors: expected one tensor or more"),
        ((np.zeros(3),), TypeError, r"tensors\[0\]: expected a hominy.Tensor, got ndarray"),
        ((hominy.zeros(3), hominy.zeros(4)), ValueError, r"tensors\[1\]: expected the first size of tensors\[0\]"),
        ((hominy.tensor(1.0),), ValueError, r"tensors\[0\]: expected the first size"),
    ]:
        with pytest.raises(error, match=r"\[TensorDataset\] " + pattern):
            TensorDataset(*tensors)


def test_subset_and_concat():
    both = Subset(Squares(10), [3, 5]) + Squares(2)
    assert isinstance(both, ConcatDataset) and len(both) == 4
    assert [both[i] for i in range(4)] == [9, 25, 0, 1] and both[-1] == 1 and both[-4] == 9
    for index in (4, -5):
        with pytest.raises(IndexError, match="expected an index of 4 samples"):
            both[index]
    with pytest.raises(TypeError, match="expected datasets read by index, got 'Counting'"):
        ConcatDataset([Counting(3)])
    with pytest.raises(ValueError, match="expected one dataset or more"):
        ConcatDataset([])


def test_random_split():
    hominy.manual_seed(1)
    parts = random_split(Squares(10), [7, 3])
    assert sorted(parts[0].indices + parts[1].indices) == list(range(10)) and len(parts[0]) == 7
    assert [len(part) for part in random_split(Squares(10), [0.55, 0.45])] == [6, 4]
    assert [len(part) for part in random_split(Squares(7), [1 / 3, 1 / 3, 1 / 3])] == [3, 2, 2]
    generator = hominy.Generator().manual_seed(3)
    first = random_split(Squares(10), [5, 5], generator)[0].indices
    assert first == random_split(Squares(10), [5, 5], hominy.Generator().manual_seed(3))[0].indices
    for lengths in ([3, 3], [0.5, 0.6], [11, -1], [True, 9]):
        with pytest.raises((TypeError, ValueError), match=r"\[random_split\] lengths: expected"):
            random_split(Squares(10), lengths)


def test_base_classes_say_what_is_missing():
    for use in (lambda: Dataset()[0], lambda: iter(IterableDataset()), lambda: iter(Sampler())):
        with pytest.raises(NotImplementedError, match="expected a method of the subclass"):
            use()
    assert Dataset[int] and DataLoader[int]  # for annotations


# ---- samplers --------------------------------------------------------------------------------------------------------


def test_samplers():
    assert list(SequentialSampler(range(4))) == [0, 1, 2, 3]
    hominy.manual_seed(2)
    order = list(RandomSampler(range(50)))
    assert sorted(order) == list(range(50)) and order != list(range(50)) and order != list(RandomSampler(range(50)))
    hominy.manual_seed(2)
    assert order == list(RandomSampler(range(50)))
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=40))
    assert len(drawn) == 40 and set(drawn) == {0, 1, 2}
    longer = list(RandomSampler(range(3), num_samples=7))
    assert len(longer) == 7 and sorted(longer[:3]) == sorted(longer[3:6]) == [0, 1, 2]
    assert list(RandomSampler([])) == [] and len(RandomSampler(range(5))) == 5


def test_batch_sampler():
    assert list(BatchSampler(range(5), 2)) == [[0, 1], [2, 3], [4]] and len(BatchSampler(range(5), 2)) == 3
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]] and len(BatchSampler(range(5), 2, True)) == 2
    for bad in (0, -1, 2.0, True):
        with pytest.raises((TypeError, ValueError), match=r"\[BatchSampler\] batch_size: expected a positive integer"):
            BatchSampler(range(5), bad)


# ---- collation -------------------------------------------------------------------------------------------------------


@pytest.mark.torch
def test_collate_dtypes_are_torchs(torch):
    from torch.utils.data import default_collate as theirs

    for batch in ([1, 2], [1.0, 2.0], [True, False], [np.float32(1), np.float32(2)], [np.int64(1), np.int64(2)],
                  [np.zeros(2, "float32"), np.ones(2, "float32")], [np.zeros((2, 3), "uint8")]):  # fmt: skip
        ours, expected = default_collate(batch), theirs(batch)
        assert str(ours.dtype) == str(expected.dtype).removeprefix("torch.")
        assert np.array_equal(ours.numpy(), expected.numpy())


def test_collate_keeps_structure():
    Pair = namedtuple("Pair", "x y")
    batch = default_collate([{"a": (1, "s"), "b": Pair(hominy.ones(2), [0.5])} for _ in range(3)])
    assert batch["a"][0].numpy().tolist() == [1, 1, 1] and batch["a"][1] == ["s", "s", "s"]
    assert isinstance(batch["b"], Pair) and tuple(batch["b"].x.shape) == (3, 2) and len(batch["b"].y) == 1
    for bad, error, pattern in [
        ([(1, 2), (1,)], ValueError, "samples of one length"),
        ([np.zeros(2), np.zeros(3)], ValueError, "arrays of one shape"),
        ([object()], TypeError, "expected tensors, arrays, numbers"),
    ]:
        with pytest.raises(error, match=r"\[default_collate\] batch: .*" + pattern):
            default_collate(bad)


def test_a_batch_does_not_share_memory_with_its_dataset():
    dataset = rows()
    (x, _), *_ = DataLoader(dataset, batch_size=10)
    assert not np.shares_memory(x.numpy(), dataset.tensors[0].numpy())


# ---- loaders ---------------------------------------------------------------------------------------------------------


def test_batches_in_order():
    assert numbers(DataLoader(Squares(5), batch_size=2)) == [[0, 1], [4, 9], [16]]
    assert numbers(DataLoader(Squares(5), batch_size=2, drop_last=True)) == [[0, 1], [4, 9]]
    assert [len(DataLoader(Squares(5), batch_size=2, drop_last=drop)) for drop in (False, True)] == [3, 2]
    assert list(DataLoader(Squares(3), batch_size=None)) == [0, 1, 4] and len(DataLoader(Squares(3), None)) == 3
    loader = DataLoader(Squares(4), 3)
    assert numbers(loader) == numbers(loader)


def test_shuffling_follows_the_seed():
    hominy.manual_seed(9)
    loader = DataLoader(Squares(40), 40, shuffle=True)
    first, second = numbers(loader), numbers(loader)
    assert first != second and sorted(first[0]) == [i * i for i in range(40)]
    hominy.manual_seed(9)
    assert first == numbers(loader)
    loaders = [DataLoader(Squares(40), 40, True, generator=hominy.Generator().manual_seed(4)) for _ in range(2)]
    assert numbers(loaders[0]) == numbers(loaders[1])


def test_own_samplers():
    assert numbers(DataLoader(Squares(9), 2, sampler=[8, 1, 1])) == [[64, 1], [1]]
    loader = DataLoader(Squares(9), batch_sampler=[[1, 2, 3], [8]])
    assert numbers(loader) == [[1, 4, 9], [64]] and len(loader) == 2
    with pytest.raises(IndexError):
        list(DataLoader(rows(), 2, sampler=[3, 10]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_tensor_datasets_are_gathered(shuffle, monkeypatch):
    """One indexing a tensor and a batch, and the same batches as sample by sample, through subsets of subsets too."""
    dataset, calls, original = rows(11), [], hominy.Tensor.index_select
    monkeypatch.setattr(hominy.Tensor, "index_select", lambda *arguments: (calls.append(1), original(*arguments))[1])
    for data in (dataset, Subset(dataset, [7, 1, 1, 3, 10]), Subset(Subset(dataset, [7, 1, 3, 10]), range(1, 4))):
        hominy.manual_seed(5)
        slow = list(DataLoader(data, 4, shuffle, collate_fn=lambda samples: default_collate(samples)))
        calls.clear()
        hominy.manual_seed(5)
        fast = list(DataLoader(data, 4, shuffle))
        assert len(calls) == 2 * len(fast)
        for one, other in zip(fast, slow, strict=True):
            assert type(one) is type(other) is list
            for x, y in zip(one, other, strict=True):
                assert np.array_equal(x.numpy(), y.numpy()) and x.dtype == y.dtype


def test_a_subclass_reads_its_own_way():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(tensor * 2 for tensor in super().__getitem__(index))

    for dataset in (Doubled(hominy.arange(4)), Subset(Doubled(hominy.arange(4)), range(4))):
        assert [x.numpy().tolist() for (x,) in DataLoader(dataset, 2)] == [[0, 2], [4, 6]]


def test_getitems_is_asked_once_a_batch():
    dataset = SquaresAtOnce(5)
    assert numbers(DataLoader(dataset, 3)) == [[0, 1, 4], [9, 16]] and dataset.asked == [[0, 1, 2], [3, 4]]
    dataset = SquaresAtOnce(5)
    assert numbers(DataLoader(Subset(dataset, [4, 0, 2]), 3)) == [[16, 0, 4]] and dataset.asked == [[4, 0, 2]]


def test_datasets_that_stream():
    assert numbers(DataLoader(Counting(5), 2)) == [[0, 1], [2, 3], [4]]
    assert numbers(DataLoader(Counting(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Counting(2), None)) == [0, 1]
    for settings in ({"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}):
        with pytest.raises(ValueError, match=r"\[DataLoader\] dataset: expected one read by index"):
            DataLoader(Counting(5), **settings)


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"num_workers": 2}, r"num_workers: expected 0, since batches are made in this process only, got 2"),
        ({"num_workers": -1}, r"num_workers: expected an integer of 0 or more"),
        ({"batch_size": 0}, r"batch_size: expected a positive integer, got 0"),
        ({"batch_size": 1.5}, r"batch_size: expected a positive integer, got 1.5"),
        ({"shuffle": True, "sampler": [1]}, r"shuffle: expected False beside a sampler"),
        ({"batch_sampler": [[1]], "batch_size": 2}, r"batch_sampler: expected no batch_size"),
        ({"batch_size": None, "drop_last": True}, r"drop_last: expected False"),
    ],
)
def test_settings_are_checked(settings, pattern):
    with pytest.raises((TypeError, ValueError), match=r"\[DataLoader\] " + pattern):
        DataLoader(Squares(5), **settings)
