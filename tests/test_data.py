"""Datasets, samplers, collation and loaders."""

import gc
import importlib
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

import hominy
import numpy as np
import pytest
from hominy.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    get_worker_info,
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


def test_stack_and_chain():
    stacked = StackDataset(Squares(3), range(3))
    assert len(stacked) == 3 and stacked[2] == (4, 2)
    named = StackDataset(x=Squares(3), y=SquaresAtOnce(3))
    assert len(named) == 3 and named[2] == {"x": 4, "y": 4}
    assert named.__getitems__([0, 2]) == [{"x": 0, "y": 0}, {"x": 4, "y": 4}]
    assert named.datasets["y"].asked == [2, [0, 2]]
    (x, y), *_ = DataLoader(stacked, 2)
    assert x.numpy().tolist() == [0, 1] == y.numpy().tolist()
    for build in (StackDataset, lambda: StackDataset(range(2), x=range(2)), lambda: StackDataset(range(2), range(3))):
        with pytest.raises(ValueError, match=r"\[StackDataset\] args: expected datasets"):
            build()
    chain = Counting(2) + Counting(3)
    assert isinstance(chain, ChainDataset) and list(chain) == [0, 1, 0, 1, 2]
    with pytest.raises(TypeError, match="expected datasets read in order, got 'range'"):
        list(ChainDataset([range(3)]))


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


def test_samplers_of_subsets_and_weights():
    generator = hominy.Generator().manual_seed(3)
    order = list(SubsetRandomSampler([4, 8, 15, 16], generator))
    assert sorted(order) == [4, 8, 15, 16] and order == list(
        SubsetRandomSampler([4, 8, 15, 16], generator.manual_seed(3))
    )
    weights = np.array([0.0, 1.0, 3.0, 0.0, 4.0, 0.0])
    drawn = np.bincount(list(WeightedRandomSampler(weights, 20000, generator=generator)), minlength=6)
    expected = 20000 * weights / 8
    assert (np.abs(drawn - expected) <= 5 * np.sqrt(expected * (1 - weights / 8))).all()  # five standard deviations
    first = np.zeros(6)
    for _ in range(2000):
        once = list(WeightedRandomSampler(hominy.tensor(weights), 3, replacement=False, generator=generator))
        assert sorted(once) == [1, 2, 4]
        first[once[0]] += 1
    expected = 2000 * weights / 8
    assert (np.abs(first - expected) <= 5 * np.sqrt(expected * (1 - weights / 8))).all()
    for settings, pattern in [
        (([1.0, -1.0], 1), "weights: expected a row of finite numbers"),
        (([0.0, 0.0], 1), "weights: expected"),
        (([np.nan, 1.0], 1), "weights: expected"),
        (([[1.0]], 1), "weights: expected"),
        (([], 1), "weights: expected"),
        (([1.0, 0.0], 2, False), "num_samples: expected at most the 1 positive weights, got 2"),
        (([1.0], 0), "num_samples: expected a positive integer"),
    ]:
        with pytest.raises(ValueError, match=r"\[WeightedRandomSampler\] " + pattern):
            WeightedRandomSampler(*settings)


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
        ({"num_workers": -1}, r"num_workers: expected an integer of 0 or more"),
        ({"batch_size": 0}, r"batch_size: expected a positive integer, got 0"),
        ({"batch_size": 1.5}, r"batch_size: expected a positive integer, got 1.5"),
        ({"shuffle": True, "sampler": [1]}, r"shuffle: expected False beside a sampler"),
        ({"batch_sampler": [[1]], "batch_size": 2}, r"batch_sampler: expected no batch_size"),
        ({"batch_size": None, "drop_last": True}, r"drop_last: expected False"),
        ({"prefetch_factor": 3}, r"prefetch_factor: expected none without workers"),
        ({"timeout": 3}, r"timeout: expected none without workers"),
        ({"persistent_workers": True}, r"persistent_workers: expected none without workers"),
        ({"multiprocessing_context": "fork"}, r"multiprocessing_context: expected none without workers"),
        ({"num_workers": 1, "prefetch_factor": 0}, r"prefetch_factor: expected a positive integer"),
        ({"num_workers": 1, "timeout": -1}, r"timeout: expected a finite number of 0 or more"),
        ({"num_workers": 1, "in_order": False}, r"in_order: expected True"),
    ],
)
def test_settings_are_checked(settings, pattern):
    with pytest.raises((TypeError, ValueError), match=r"\[DataLoader\] " + pattern):
        DataLoader(Squares(5), **settings)


# ---- workers ---------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
FORK = {"multiprocessing_context": "fork"}  # whatever Python's default is: the tests pass on what cannot be pickled
METHODS = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]


class Pictures(Dataset):
    """Samples large enough for shared memory, with a number, a text and an empty array."""

    def __init__(self, size=23):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        picture = np.full((3, 32, 32), index, np.float32)
        return {"picture": hominy.from_numpy(picture), "turned": picture.T, "number": index, "text": str(index),
                "none": np.zeros((0, 2))}  # fmt: skip


class Misbehaving(Dataset):
    """Does to the worker what `deed` says, at sample 5."""

    def __init__(self, deed):
        self.deed = deed

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.deed() if index == 5 else index


class Shared(IterableDataset):
    """0 to 19, each from one worker."""

    def __iter__(self):
        info = get_worker_info()
        return iter(range(20) if info is None else range(info.id, 20, info.num_workers))


class Draws(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        info = get_worker_info()
        return [hominy.rand(1).item(), random.random(), np.random.rand(), info.seed, info.id]  # noqa: NPY002


def gone(process):
    """Whether a process has ended, within some seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{process}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            if os.path.isdir("/proc/self"):
                return True
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
        time.sleep(0.01)
    return False


def blocks_by_name():
    """Shared memory that would outlive its processes: there is none, as blocks have no names."""
    folders = [folder for folder in ("/dev/shm", tempfile.gettempdir()) if os.path.isdir(folder)]
    return [name for folder in folders for name in os.listdir(folder) if name.startswith("hominy-batch")]


@pytest.fixture
def nothing_left():
    """No process, no open descriptor and no block of shared memory stays behind."""
    import multiprocessing.resource_tracker

    if "spawn" in METHODS:  # whose helper, started once, stays
        multiprocessing.resource_tracker.ensure_running()

    def used():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self") else 0

    before = used()
    yield
    if multiprocessing.active_children() or used() > before:  # what an exception's traceback keeps
        gc.collect()
    assert multiprocessing.active_children() == [] and used() <= before and blocks_by_name() == []


def plain(value):
    """A batch as lists, to compare."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else getattr(value, "tolist", lambda: value)()


@pytest.mark.parametrize("method", METHODS)
def test_workers_make_the_same_batches(method, nothing_left):
    workers = {"num_workers": 2, "multiprocessing_context": method}
    for dataset, settings in [
        (Pictures(), {"batch_size": 4, "shuffle": True}),
        (rows(23), {"batch_size": 5, "shuffle": True, "drop_last": True}),
        (Subset(rows(23), range(3, 20)), {"batch_size": 5, "prefetch_factor": 1}),
        (Pictures(5), {"batch_size": None}),
        (Pictures(0), {}),
    ]:
        settings = dict(settings)
        ahead = {"prefetch_factor": settings.pop("prefetch_factor")} if "prefetch_factor" in settings else {}
        hominy.manual_seed(4)
        expected = plain(list(DataLoader(dataset, **settings)))
        hominy.manual_seed(4)
        loader = DataLoader(dataset, **settings, **workers, **ahead)
        batches = list(loader)
        assert plain(batches) == expected and len(loader) == len(expected)
        if batches and isinstance(batches[0], dict) and settings["batch_size"]:
            batches[0]["picture"].fill_(-1)  # its memory can be written to, and outlives the workers
            assert type(batches[0]["picture"]) is hominy.Tensor and batches[0]["picture"].numpy().max() == -1
        if method == "spawn":
            break  # starting processes anew takes a second


class Growing(Dataset):
    """Pictures of different sizes: 8, 16, ... 64 KB, again and again."""

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return np.full((1 + index % 8, 1 << 11), index, np.float32)


def test_memory_is_used_again_only_when_nothing_of_it_is_held(nothing_left):
    loader = DataLoader(Growing(), None, num_workers=2, **FORK)
    kept = {}
    for position, batch in enumerate(loader):
        assert batch.shape[0] == 1 + position % 8 and (batch.numpy() == position).all()
        if position % 3 == 0:
            kept[position] = batch[-1, 5:].numpy()[::7] if position % 2 else hominy.from_dlpack(batch)
        batch = None
    for position, part in kept.items():
        assert (np.asarray(part) == position).all()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
def test_batches_that_are_kept_do_not_use_up_descriptors(nothing_left):
    loader = DataLoader(ConcatDataset([Growing()] * 3), None, num_workers=2, **FORK)
    before = len(os.listdir("/proc/self/fd"))
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(179)]
    workers = [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers_of(iterator)]
    assert max(len(os.listdir("/proc/self/fd")), *workers) < before + 2 * 32 + 25
    assert all((batch.numpy() == position % 60).all() for position, batch in enumerate(kept))
    del iterator, kept


def test_a_stream_is_read_by_workers(nothing_left):
    for count in (1, 2, 3):
        loader = DataLoader(Shared(), 3, num_workers=count, **FORK, persistent_workers=True)
        for _ in range(2):
            assert sorted(itertools.chain.from_iterable(numbers(loader))) == list(range(20))
    assert numbers(DataLoader(Shared(), 3, num_workers=2, **FORK))[:3] == [[0, 2, 4], [1, 3, 5], [6, 8, 10]]
    assert len(list(DataLoader(Shared(), 8, num_workers=2, **FORK, drop_last=True))) == 2
    assert list(DataLoader(Shared(), None, num_workers=2, **FORK)) == list(range(20))


def test_workers_are_seeded(nothing_left):
    def drawn():
        return list(DataLoader(Draws(), None, num_workers=2, **FORK, generator=generator))

    generator = hominy.Generator().manual_seed(8)
    first, second = drawn(), drawn()
    generator.manual_seed(8)
    assert drawn() == first != second
    assert [sample[4] for sample in first] == [0, 1, 0, 1, 0, 1] and first[1][3] == first[0][3] + 1
    for position in range(3):
        assert len({sample[position] for sample in first + second}) == 12


def setting_up(worker):
    get_worker_info().dataset.deed = lambda: 100 + worker


def test_a_worker_can_be_set_up(nothing_left):
    assert get_worker_info() is None
    loader = DataLoader(Misbehaving(None), None, num_workers=2, **FORK, worker_init_fn=setting_up)
    assert list(loader) == [0, 1, 2, 3, 4, 101, 6, 7, 8, 9, 10, 11]

    def failing(worker):
        raise OSError("no disk")

    with pytest.raises(OSError, match=r"in worker 0 of a DataLoader(.|\n)*no disk"):
        list(DataLoader(Misbehaving(None), None, num_workers=2, **FORK, worker_init_fn=failing))


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def raising(error):
    def deed():
        raise error

    return deed


@pytest.mark.parametrize(
    ("deed", "kind", "text"),
    [
        (raising(ValueError("bad sample")), ValueError, "ValueError: bad sample"),
        (raising(KeyError("a\nb")), KeyError, "KeyError: 'a"),
        (raising(Odd(1, 2)), RuntimeError, "Odd: 1 2"),
        (raising(type("Local", (Exception,), {})("here")), RuntimeError, "Local: here"),
        (raising(StopIteration("early")), RuntimeError, "StopIteration: early"),
        (lambda: lambda: 0, TypeError, "TypeError"),
    ],
)
def test_an_exception_comes_with_its_traceback(deed, kind, text, nothing_left):
    loader = DataLoader(Misbehaving(deed), 2, num_workers=2, **FORK)
    iterator = iter(loader)
    assert [next(iterator).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(kind, match=f"in worker 0 of a DataLoader; its traceback:\n\nTraceback(.|\\n)*{text}"):
        next(iterator)
    assert [batch.tolist() for batch in iterator] == [[6, 7], [8, 9], [10, 11]]  # the others are not lost
    with pytest.raises(kind):
        for _ in loader:
            pass


def test_what_cannot_be_pickled_is_an_exception(nothing_left):
    loader = DataLoader(range(6), 6, num_workers=1, **FORK, collate_fn=lambda samples: lambda: samples)
    with pytest.raises(Exception, match=r"in worker 0 of a DataLoader(.|\n)*pickle"):
        next(iter(loader))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("deed", "text"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda: os._exit(3), "ended with exit code 3"),
        (raising(SystemExit(4)), "ended with exit code 4"),
    ],
)
def test_a_killed_worker_is_an_error(deed, text, persistent, nothing_left):
    dataset = Misbehaving(deed)
    loader = DataLoader(dataset, None, num_workers=2, **FORK, persistent_workers=persistent)
    with pytest.raises(RuntimeError, match=rf"\[DataLoader\] num_workers: worker 1 \(process \d+\) {text}"):
        list(loader)
    dataset.deed = lambda: 5
    assert list(loader) == list(range(12))  # with new workers


def test_a_slow_worker_runs_into_the_timeout(nothing_left, monkeypatch):
    monkeypatch.setattr("hominy.utils.data.workers._PATIENCE", 0.1)
    loader = DataLoader(Misbehaving(lambda: time.sleep(60)), None, num_workers=2, **FORK, timeout=0.3)
    with pytest.raises(RuntimeError, match=r"\[DataLoader\] timeout: expected a batch of worker 1 within 0.3 seconds"):
        list(loader)


def workers_of(iterator):
    return [process.pid for process in iterator.workers.processes]


def test_nothing_is_left_when_a_loop_is_left(nothing_left):
    loader = DataLoader(Pictures(100), 4, num_workers=2, **FORK, prefetch_factor=4)
    for _ in loader:
        break
    assert multiprocessing.active_children() == []
    iterator = iter(loader)
    next(iterator)
    pids = workers_of(iterator)
    del iterator
    assert all(map(gone, pids))
    with pytest.raises(KeyboardInterrupt):
        for _ in loader:
            raise KeyboardInterrupt
    iterator = iter(loader)
    iterator.cycle = iterator  # found by the collector alone
    del iterator
    gc.collect()
    assert multiprocessing.active_children() == []


def test_workers_that_stay(nothing_left):
    loader = DataLoader(Pictures(12), 2, num_workers=2, **FORK, persistent_workers=True)
    expected = plain(list(DataLoader(Pictures(12), 2)))
    iterator = iter(loader)
    pids = workers_of(iterator)
    next(iterator)  # left early: what is on its way belongs to no later pass
    for _ in range(2):
        again = iter(loader)
        assert workers_of(again) == pids and plain(list(again)) == expected
    with pytest.raises(RuntimeError, match="expected one pass at a time"):
        next(iterator)
    assert plain(list(loader)) == expected
    copied = pickle.loads(pickle.dumps(loader))
    assert plain(next(iter(copied))) == expected[0]
    del copied, loader, iterator, again
    gc.collect()
    assert all(map(gone, pids))


SCRIPT = """
import os, signal, sys, time
import hominy
from hominy.utils.data import DataLoader, Dataset

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background begin with it ignored

class Slow(Dataset):
    def __len__(self):
        return 10000

    def __getitem__(self, index):
        time.sleep(0.01)
        return hominy.zeros(10000)

iterator = iter(DataLoader(Slow(), 4, num_workers=2, persistent_workers={persistent}, multiprocessing_context="fork"))
next(iterator)
print(*(process.pid for process in iterator.workers.processes), flush=True)
{ending}
for batch in iterator:
    pass
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("end", ["interrupt", "kill", "exit"])
def test_nothing_is_left_when_a_program_ends(end, persistent, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(persistent=persistent, ending="sys.exit(7)" if end == "exit" else ""))
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 2
    if end == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # the terminal's Ctrl-C goes to the workers, too
    elif end == "kill":
        process.kill()
    try:
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    expected = {"interrupt": -signal.SIGINT, "kill": -signal.SIGKILL, "exit": 7}[end]
    assert process.returncode == expected and output == ""
    assert errors.count("Traceback") == (end == "interrupt"), errors
    assert all(map(gone, pids))
    assert blocks_by_name() == []
