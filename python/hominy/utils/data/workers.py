"""Worker processes that make a loader's batches.

Each worker has two socket pairs to the loader's process: one brings it tasks (which samples), the other takes batches
back. Nothing is shared between workers, so one that is killed, whatever it was doing, can block nobody: its sockets
close, and the loader reports it.

The arrays of a batch travel in shared memory without a name: the worker writes them into a memory file of its own
(`memfd_create`, elsewhere a file that is unlinked as soon as it is open), and sends the descriptor through the socket.
The loader's process maps it, and the batch's tensors lie there, not copied again. The kernel frees it with the last
mapping, so that no ending of any process can leave blocks behind; and it is not bound by the size of /dev/shm, 64 MB in
a container, as named blocks are.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import socket
import tempfile
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, reduction
from typing import Any

import numpy as np

SHARED_FROM = 1 << 14  # bytes; a smaller batch goes through the socket
LIVE_BLOCKS = 32  # a worker: a program that keeps more batches gets copies, since each block is an open descriptor
_ALIGNMENT = 64
_PATIENCE = 5.0  # seconds that a worker gets to finish its batch when the loader ends
_PARENT_CHECK = 2.0  # seconds between looks whether the loader's process is still there


@dataclass
class WorkerInfo:
    """What `get_worker_info()` says in a worker: its number, how many there are, its seed, its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_worker_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The worker that this process is; None in the loader's own process.

    A dataset read in order uses it to yield its share only: each worker has a copy of the whole.
    """
    return _worker_info


class Failure:
    """An exception in a worker, with its traceback as text."""

    def __init__(self, error: BaseException):
        self.kind: Any = type(error)
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            pickle.loads(pickle.dumps(self.kind))
        except Exception:  # a class that the loader's process could not find
            self.kind = RuntimeError
        if issubclass(self.kind, StopIteration):  # which would end the caller's loop in silence
            self.kind = RuntimeError

    def error(self, worker: int) -> BaseException:
        """The same exception for the loader's caller, its message the worker's whole traceback."""
        message = f"in worker {worker} of a DataLoader; its traceback:\n\n{self.text}"
        if issubclass(self.kind, KeyError):  # whose text is the repr of its argument, line breaks escaped
            message = _Verbatim(message)
        try:
            return self.kind(message)
        except Exception:  # a constructor with arguments of its own
            return RuntimeError(message)


class Exhausted:
    """A worker's answer when its copy of a dataset read in order has no more."""


class _Verbatim(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


# ---- arrays in shared memory -----------------------------------------------------------------------------------------


def _memory_file(size: int) -> int:
    """The descriptor of `size` bytes of memory without a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("hominy-batch", os.MFD_CLOEXEC)
    else:
        descriptor, path = tempfile.mkstemp(prefix="hominy-batch-")
        os.unlink(path)
    os.ftruncate(descriptor, size)
    return descriptor


class Blocks:
    """A worker's memory files. One whose batch the loader's process has dropped is written again: its pages are there
    already, in both processes, and fetching new pages is most of what a new block costs."""

    def __init__(self) -> None:
        self.descriptors: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.free: list[int] = []

    def take(self, size: int) -> tuple[int, bool]:
        """The number of a block of `size` bytes or more, and whether the other side has to map it (anew)."""
        if not self.free:
            number = len(self.descriptors)
            self.descriptors[number], self.sizes[number] = _memory_file(size), size
            return number, True
        number = max(self.free, key=self.sizes.__getitem__)
        self.free.remove(number)
        grows = self.sizes[number] < size
        if grows:
            os.ftruncate(self.descriptors[number], size)
            self.sizes[number] = size
        return number, grows


def send(channel: connection.Connection, task: Any, value: Any, blocks: Blocks) -> None:
    """Send (task, value), the arrays in it through shared memory."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps((task, value), 5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    places = [0, *itertools.accumulate(-(-view.nbytes // _ALIGNMENT) * _ALIGNMENT for view in views)]
    if places[-1] < SHARED_FROM:
        channel.send_bytes(pickle.dumps((pickled, [bytearray(view) for view in views], None, None), 5))
        return
    number, fresh = blocks.take(places[-1])
    descriptor = blocks.descriptors[number]
    for view, place in zip(views, places, strict=False):
        while view.nbytes:  # written, not mapped and copied: no page faults
            count = os.pwrite(descriptor, view, place)
            view, place = view[count:], place + count
    layout = [(place, buffer.raw().nbytes) for buffer, place in zip(buffers, places, strict=False)]
    channel.send_bytes(pickle.dumps((pickled, layout, number, blocks.sizes[number] if fresh else None), 5))
    if fresh:
        reduction.send_handle(channel, descriptor, None)


class Mapped:
    """The loader's view of one worker's blocks, and the numbers of those that no array uses any more."""

    def __init__(self) -> None:
        self.maps: dict[int, mmap.mmap] = {}
        self.freed: deque[int] = deque()

    def take_freed(self) -> list[int]:
        """The numbers, once."""
        return [self.freed.popleft() for _ in range(len(self.freed))]

    def receive(self, channel: connection.Connection) -> tuple[Any, Any]:
        """(task, value) of one `send`."""
        pickled, parts, number, size = pickle.loads(channel.recv_bytes())
        if number is None:
            return pickle.loads(pickled, buffers=parts)
        if size is not None:
            descriptor = reduction.recv_handle(channel)
            try:
                self.maps[number] = mmap.mmap(descriptor, size)  # unmapped with the last array over it
            finally:
                os.close(descriptor)
        whole = np.frombuffer(self.maps[number], np.uint8)  # the base of all arrays of the batch
        weakref.finalize(whole, self.freed.append, number).atexit = False
        if number >= LIVE_BLOCKS:
            whole = whole[: parts[-1][0] + parts[-1][1]].copy()
        return pickle.loads(pickled, buffers=[whole.data[place : place + count] for place, count in parts])


# ---- a worker --------------------------------------------------------------------------------------------------------


def _read_tasks(channel: connection.Connection, tasks: deque[Any], ready: threading.Semaphore) -> None:
    """Take tasks off the socket as they come, so that the loader never waits to hand one over; None ends."""
    parent = os.getppid()
    with contextlib.suppress(EOFError, OSError):
        while True:
            if connection.wait([channel], _PARENT_CHECK):
                tasks.append(channel.recv())
                ready.release()
            elif os.getppid() != parent:
                break
    tasks.clear()
    tasks.append(None)
    ready.release()


def _work(
    fetchers: Callable[[], Callable[[Any], Any]],
    dataset: Any,
    number: int,
    count: int,
    seed: int,
    initialise: Callable[[int], Any] | None,
    tasks_in: connection.Connection,
    batches_out: connection.Connection,
    others: list[connection.Connection],
) -> None:
    """The life of a worker: a task is (epoch, position, samples, blocks that are free again), its answer
    (epoch and position, batch or Failure or Exhausted)."""
    global _worker_info
    for channel in others:  # the loader's ends, which a forked process inherits
        channel.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the loader's process decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tasks: deque[Any] = deque()
    ready = threading.Semaphore(0)
    threading.Thread(target=_read_tasks, args=(tasks_in, tasks, ready), daemon=True).start()
    failure = None
    try:
        from ... import set_num_threads
        from ...random import manual_seed

        set_num_threads(1)
        manual_seed(seed)
        random.seed(seed)
        np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002
        _worker_info = WorkerInfo(number, count, seed, dataset)
        if initialise is not None:
            initialise(number)
    except Exception as error:
        failure = Failure(error)
    epoch, fetch, blocks = None, None, Blocks()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            ready.acquire()
            try:
                task = tasks.popleft()
            except IndexError:  # the loader ended between the two lines
                return
            if task is None:
                return
            blocks.free += task[3]
            value: Any = failure
            if failure is None:
                try:
                    if task[0] != epoch:
                        epoch, fetch = task[0], fetchers()
                    assert fetch is not None
                    value = fetch(task[2])
                except Exception as error:
                    value = Failure(error)
            try:
                send(batches_out, task[:2], value, blocks)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # what cannot be pickled
                send(batches_out, task[:2], Failure(error), blocks)
            value = None


# ---- the loader's side -----------------------------------------------------------------------------------------------


class Workers:
    """The processes of one loader, and the batches on their way."""

    def __init__(
        self,
        fetchers: Callable[[], Callable[[Any], Any]],
        dataset: Any,
        count: int,
        seed: int,
        initialise: Callable[[int], Any] | None,
        context: Any,
    ):
        if context is None or isinstance(context, str):
            context = multiprocessing.get_context(context)
        self.count, self.owner, self.closed = count, os.getpid(), False
        self.processes: list[Any] = []
        self.tasks: list[connection.Connection] = []
        self.batches: list[connection.Connection] = []
        self.mapped = [Mapped() for _ in range(count)]
        self.epoch = 0
        try:
            for number in range(count):
                theirs_in, ours_out = connection.Pipe()
                ours_in, theirs_out = connection.Pipe()
                self.tasks.append(ours_out)
                self.batches.append(ours_in)
                others = self.tasks + self.batches if context.get_start_method() == "fork" else []
                process = context.Process(
                    target=_work,
                    args=(fetchers, dataset, number, count, seed + number, initialise, theirs_in, theirs_out, others),
                    daemon=True,
                    name=f"DataLoader worker {number}",
                )  # fmt: skip
                process.start()
                self.processes.append(process)
                theirs_in.close()
                theirs_out.close()
        except BaseException:
            self.close()
            raise

    def submit(self, worker: int, task: tuple[int, int, Any]) -> None:
        """Hand a task to a worker. One that is gone is noticed when its batch is waited for."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.tasks[worker].send((*task, self.mapped[worker].take_freed()))

    def wait(self, worker: int, timeout: float) -> tuple[Any, Any]:
        """The next (task, value) that `worker` sends.

        Raises:
            RuntimeError: the worker is gone, or `timeout` seconds (if not 0) have passed.
        """
        channel, process = self.batches[worker], self.processes[worker]
        found = connection.wait([channel, process.sentinel], timeout or None)
        if channel in found or channel.poll():
            with contextlib.suppress(EOFError, OSError):
                return self.mapped[worker].receive(channel)
        if not found:
            raise RuntimeError(
                f"[DataLoader] timeout: expected a batch of worker {worker} within {timeout:g} seconds, got none"
            )
        process.join(_PATIENCE)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        raise RuntimeError(f"[DataLoader] num_workers: worker {worker} (process {process.pid}) {how} before its batch")

    def close(self) -> None:
        """End the processes: each finishes the batch at hand, and is killed if that takes long."""
        if self.closed or os.getpid() != self.owner:  # in a forked process these are the parent's
            return
        self.closed = True
        for channel in self.tasks + self.batches:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(channel.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)  # also where other processes inherited this end
            channel.close()
        for mapped in self.mapped:
            mapped.maps.clear()
        deadline = time.monotonic() + _PATIENCE
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for end_it in ("terminate", "kill"):
            for process in self.processes:
                if process.exitcode is None:
                    getattr(process, end_it)()
            for process in self.processes:
                process.join(_PATIENCE)
        for process in self.processes:
            if process.exitcode is not None:
                process.close()


class WorkerIterator:
    """One pass over a dataset by workers: tasks are dealt round robin, batches come back in the order of the tasks."""

    def __init__(self, workers: Workers, tasks: Iterator[Any], ahead: int, timeout: float, keeper: Any):
        self.workers, self.tasks, self.timeout = workers, tasks, timeout
        workers.epoch += 1
        self.epoch = workers.epoch
        self.keeper = keeper  # a loader whose workers outlive the pass, or None
        self.position = 0  # of the next task
        self.turn = 0  # the worker that gets it
        self.expected: deque[tuple[int, int]] = deque()  # (position, worker) in the order in which batches are yielded
        self.ended = [False] * workers.count  # workers whose share of a dataset read in order is exhausted
        if keeper is None:
            weakref.finalize(self, workers.close)
        try:
            for _ in range(ahead * workers.count):
                self._submit()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> WorkerIterator:
        return self

    def _submit(self) -> None:
        for _ in range(self.workers.count):
            worker, self.turn = self.turn, (self.turn + 1) % self.workers.count
            if not self.ended[worker]:
                break
        else:
            return
        for samples in self.tasks:
            self.workers.submit(worker, (self.epoch, self.position, samples))
            self.expected.append((self.position, worker))
            self.position += 1
            return

    def __next__(self) -> Any:
        try:
            return self._next()
        except Received as received:
            raise received.error from None
        except StopIteration:
            if self.keeper is None:
                self.close()
            raise
        except BaseException:  # a killed worker, a timeout, an interrupt
            self.close()
            raise

    def _next(self) -> Any:
        while self.expected:
            if self.workers.epoch != self.epoch:
                raise RuntimeError("[DataLoader] persistent_workers: expected one pass at a time, got a second one")
            if self.workers.closed:
                raise RuntimeError("[DataLoader] num_workers: expected workers that run, got a closed loader")
            position, worker = self.expected[0]
            task, value = self.workers.wait(worker, self.timeout)
            if task[0] != self.epoch:
                continue  # of an earlier pass, which was left
            assert task[1] == position, "a worker answers in the order of its tasks"
            self.expected.popleft()
            if isinstance(value, Exhausted):
                self.ended[worker] = True
                if not all(self.ended):
                    self._submit()
                continue
            self._submit()
            if isinstance(value, Failure):
                raise Received(value.error(worker))
            return value
        raise StopIteration

    def close(self) -> None:
        """End the workers now; otherwise they end with the pass, or when this iterator is collected."""
        self.expected.clear()
        self.workers.close()


class Received(Exception):
    """Wraps an exception of a worker on its way to the caller: the pass can go on after it."""

    def __init__(self, error: BaseException):
        self.error = error
