"""The pools behind the kernels: forks, many Python threads at once, exceptions inside a kernel, exit with work in
flight, and the memory pool's books."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import hominy
import numpy as np
import pytest

pytestmark = pytest.mark.native
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def work(seed=0):
    """A product and a sum large enough for the thread pool, as bytes."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 257, 311)).astype(np.float32)
    x = rng.standard_normal(400_003).astype(np.float32)
    return hominy.kernels.matmul(a, b.T).tobytes() + hominy.kernels.tanh(x).tobytes() + hominy.kernels.sum(x).tobytes()


def python(code, seconds=60, **environment):
    """Run `code` in a fresh interpreter; (exit code, output, error output)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )
    return done.returncode, done.stdout, done.stderr


def test_number_of_threads():
    for n in (1, 3, 8):
        hominy.set_num_threads(n)
        assert hominy.get_num_threads() == n
    for wrong, error in (
        (0, ValueError),
        (-1, ValueError),
        (1025, ValueError),
        (10**30, ValueError),
        (1.5, TypeError),
        (True, TypeError),
        ("2", TypeError),
    ):
        with pytest.raises(error, match=r"\[set_num_threads\] n: expected an integer"):
            hominy.set_num_threads(wrong)
    assert hominy.get_num_threads() == 8


def test_threads_from_the_environment():
    show = "import hominy; print(hominy.get_num_threads())"
    assert python(show, HOMINY_NUM_THREADS="3")[1] == "3\n"
    assert python(show, HOMINY_NUM_THREADS="1")[1] == "1\n"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for nonsense in ("", "0", "-2", "many", "99999999999999999999"):
        code, out, _ = python(show, HOMINY_NUM_THREADS=nonsense)
        assert code == 0 and 1 <= int(out) <= max(available, 1024), nonsense


@forks
def test_a_forked_child_computes_with_threads():
    hominy.set_num_threads(4)
    expected = work()
    for _ in range(3):
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                right = work() == expected and hominy.get_num_threads() == 4
                os.write(sending, b"1" if right else b"0")
            finally:
                os._exit(0)
        os.close(sending)
        answer = os.read(receiving, 1)
        os.close(receiving)
        assert os.waitpid(child, 0)[1] == 0 and answer == b"1"
    assert work() == expected


@forks
def test_fork_while_other_threads_compute():
    hominy.set_num_threads(4)
    expected, stop = work(), threading.Event()

    def keep_busy():
        while not stop.is_set():
            assert work() == expected

    busy = [threading.Thread(target=keep_busy) for _ in range(3)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if work() == expected else 3)
            deadline = time.monotonic() + 60
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
                assert time.monotonic() < deadline, "the forked child hangs"
                time.sleep(0.01)
            assert os.waitstatus_to_exitcode(done[1]) == 0
    finally:
        stop.set()
        for thread in busy:
            thread.join()


@forks
def test_multiprocessing():
    hominy.set_num_threads(2)
    expected = [work(seed) for seed in range(4)]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(work, range(4)) == expected, method


def test_many_python_threads_at_once():
    hominy.set_num_threads(4)
    expected = [work(seed) for seed in range(4)]
    with ThreadPoolExecutor(12) as pool:
        for number, got in enumerate(pool.map(work, [i % 4 for i in range(48)])):
            assert got == expected[number % 4]


def test_the_number_of_threads_changes_under_running_kernels():
    expected, stop = work(), threading.Event()

    def turn():
        while not stop.is_set():
            for n in (1, 5, 2, 8):
                hominy.set_num_threads(n)

    turning = threading.Thread(target=turn)
    turning.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            assert all(got == expected for got in pool.map(lambda _: work(), range(20)))
    finally:
        stop.set()
        turning.join()


def test_an_exception_inside_a_kernel_leaves_the_pool_whole():
    """A wrong target is found deep inside the kernel, without the interpreter lock, on any thread."""
    hominy.set_num_threads(4)
    logits = np.zeros((3000, 50), np.float32)
    right = np.zeros(3000, np.int64)
    wrong = right.copy()
    wrong[1234] = 50
    run = hominy.kernels.cross_entropy_rows

    def attempt(number):
        if number % 2:
            with pytest.raises(
                IndexError, match=r"\[cross_entropy\] target: expected classes in \[0, 50\), got 50 at row 1234"
            ):
                run(logits, wrong, None, -100, 0.0)
            return True
        losses, _ = run(logits, right, None, -100, 0.0)
        return bool((losses == losses[0]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(attempt, range(64)))
    assert work() == work()


def test_a_target_that_changes_while_the_kernel_reads_it():
    """Indices are checked where they are used: another thread may write them meanwhile, to no harm."""
    hominy.set_num_threads(2)
    logits = np.zeros((20000, 10), np.float32)
    target = np.zeros(20000, np.int64)
    stop = threading.Event()

    def scribble():
        while not stop.is_set():
            target[:] = 2**62
            target[:] = 3

    scribbling = threading.Thread(target=scribble)
    scribbling.start()
    try:
        for _ in range(60):
            try:
                losses, _ = hominy.kernels.cross_entropy_rows(logits, target, None, -100, 0.0)
                assert np.isfinite(losses).all()
            except IndexError:
                pass
    finally:
        stop.set()
        scribbling.join()


def test_exit_with_work_in_flight():
    code, out, err = python(
        """
        import threading, numpy as np, hominy
        hominy.set_num_threads(4)
        a = np.ones((1500, 1500), np.float32)
        started = threading.Barrier(4)
        def forever():
            started.wait()
            while True:
                hominy.kernels.matmul(a, a)
        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        started.wait()
        hominy.kernels.matmul(a, a)
        print("leaving", flush=True)
        """
    )
    assert code == 0 and out == "leaving\n", (code, err)


def test_exit_through_an_exception_and_through_os_exit():
    code, _, err = python(
        "import hominy, numpy as np; hominy.kernels.exp(np.ones(10**6, np.float32)); raise SystemExit(7)"
    )
    assert code == 7, err
    code, _, err = python("import os, hominy, numpy as np; hominy.kernels.exp(np.ones(10**6, np.float32)); os._exit(5)")
    assert code == 5, err


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_the_memory_pool_keeps_books():
    hominy.memory.empty_cache()
    before = hominy.memory.statistics()
    assert before["free_bytes"] == 0
    x = np.ones((512, 512), np.float32)
    y = hominy.kernels.exp(x)
    during = hominy.memory.statistics()
    assert during["in_use_bytes"] - before["in_use_bytes"] >= y.nbytes and y.ctypes.data % 64 == 0
    assert during["in_use_bytes"] - before["in_use_bytes"] <= y.nbytes * 1.125 + 4096
    address = y.ctypes.data
    del y
    after = hominy.memory.statistics()
    assert after["in_use_bytes"] == before["in_use_bytes"] and after["free_bytes"] >= x.nbytes
    y = hominy.kernels.exp(x)
    assert y.ctypes.data == address, "the block released last is given out first"
    assert hominy.memory.statistics()["hits"] == after["hits"] + 1
    view = y[3:5].T
    del y
    assert (view == np.e).all() or view.size, "a view keeps its block"
    assert hominy.memory.statistics()["in_use_bytes"] > before["in_use_bytes"]
    del view
    hominy.memory.empty_cache()
    assert hominy.memory.statistics()["free_bytes"] == 0


def test_blocks_outlive_their_tensors_and_stay_apart():
    x = hominy.ones(300, 300)
    kept = [(x * i).numpy() for i in range(20)]
    for i, array in enumerate(kept):
        assert (array == i).all()
    assert len({array.ctypes.data for array in kept}) == 20


def test_the_pool_is_bounded():
    code, out, err = python(
        """
        import numpy as np, hominy
        x = np.ones(1 << 18, np.float32)
        ys = [hominy.kernels.exp(x) for _ in range(16)]
        del ys
        facts = hominy.memory.statistics()
        print(facts["bound_bytes"], facts["free_bytes"] <= facts["bound_bytes"], facts["peak_bytes"] >= 16 * x.nbytes)
        """,
        HOMINY_POOL_BYTES=str(3 << 20),
    )
    assert code == 0 and out.split() == [str(3 << 20), "True", "True"], (out, err)
    code, out, err = python(
        "import hominy, numpy as np; hominy.kernels.exp(np.ones(1 << 16, np.float32));"
        "print(hominy.memory.statistics()['free_bytes'])",
        HOMINY_POOL_BYTES="0",
    )
    assert code == 0 and out == "0\n", (out, err)


def test_memory_is_released_from_other_threads():
    x = np.ones(100_000, np.float32)
    before = hominy.memory.statistics()["in_use_bytes"]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: hominy.kernels.multiply(x, float(i)), range(40)))
    assert all((result == i).all() for i, result in enumerate(results))
    results.clear()
    del results
    assert hominy.memory.statistics()["in_use_bytes"] == before


def test_no_memory_is_an_exception():
    huge = np.broadcast_to(np.float32(1), (1 << 22, 1 << 20))
    for call in (
        lambda: hominy.kernels.exp(huge),
        lambda: hominy.kernels.add(huge, 1.0),
        lambda: hominy.kernels.matmul(huge[:, :1], huge[:1]),
    ):
        with pytest.raises(MemoryError):
            call()
