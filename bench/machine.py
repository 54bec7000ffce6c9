"""What the machine can do: the ceilings that a kernel's speed is a percentage of.

The peak of float32 arithmetic is measured, not computed from a data sheet: a loop of independent fused multiply-adds
that never leaves the registers, compiled here with the system's C compiler for this very CPU. Memory bandwidth is that
of a copy far larger than the caches, both directions counted.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# 12 chains hide a latency of 4 cycles on two ports with room to spare, and with their two factors fit 16 registers.
_FMA_SOURCE = r"""
#if defined(__AVX512F__)
enum { BYTES = 64 };
#elif defined(__AVX__)
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
typedef float vec __attribute__((vector_size(BYTES)));
enum { CHAINS = 12 };

double fma_operations(long steps, float *sink) {
  vec sum[CHAINS], factor, term;
  for (int i = 0; i < CHAINS; ++i) sum[i] = (vec){0} + sink[i];
  factor = (vec){0} + sink[0] * 0.25f;
  term = (vec){0} + sink[1];
  for (long step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; ++i) sum[i] = sum[i] * factor + term;
    __asm__ volatile("" : "+r"(steps));
  }
  for (int i = 0; i < CHAINS; ++i) sink[i] = sum[i][0];
  return 2.0 * steps * CHAINS * (BYTES / sizeof(float));
}
"""


def _compile(folder: str) -> Any:
    """The loop as a function of a loaded library; raises OSError where that is impossible."""
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise OSError("no C compiler")
    source, library = os.path.join(folder, "fma.c"), os.path.join(folder, "fma.so")
    with open(source, "w") as file:
        file.write(_FMA_SOURCE)
    target = "-mcpu=native" if platform.machine() in ("aarch64", "arm64") else "-march=native"
    command = [*compiler.split(), "-O3", target, "-ffp-contract=fast", "-shared", "-fPIC", "-o", library, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{compiler} failed: {done.stderr.strip().splitlines()[-1:]}")
    function = ctypes.CDLL(library).fma_operations
    function.argtypes = [ctypes.c_long, ctypes.c_void_p]
    function.restype = ctypes.c_double
    return function


def _on_threads(threads: int, work: Callable[[int], Any]) -> float:
    """Seconds until `work(thread)` is done on every one of so many threads (it must release the interpreter lock)."""
    gate = threading.Barrier(threads + 1)

    def run(thread: int) -> None:
        gate.wait()
        work(thread)

    running = [threading.Thread(target=run, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    gate.wait()
    start = time.perf_counter()
    for thread in running:
        thread.join()
    return time.perf_counter() - start


def fma_peak(threads: int, repeats: int = 8) -> tuple[float, str]:
    """The most float32 operations a second that so many threads were seen to do, and how that was measured.

    Without a C compiler, the rate of NumPy's own 1024³ product stands in for it (and reads up to a tenth low).
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            function = _compile(folder)
        except OSError as reason:
            return _best_product(threads), f"NumPy's best 1024x1024 product, as the FMA loop was not built ({reason})"
        sinks = [np.full(16, 0.5, np.float32) for _ in range(threads)]
        operations = function(200_000, sinks[0].ctypes.data)  # some 5 to 40 ms

        def run(thread: int) -> None:
            function(200_000, sinks[thread].ctypes.data)

        seconds = min(_on_threads(threads, run) for _ in range(repeats))
    return operations * threads / seconds, "a loop of independent fused multiply-adds, best of 8"


def _best_product(threads: int) -> float:
    from .contenders import limit_threads

    a = np.ones((1024, 1024), np.float32)
    with limit_threads(threads):
        return max(2 * 1024.0**3 / _on_threads(1, lambda thread: a @ a) for _ in range(8))


def copy_bandwidth(threads: int, repeats: int = 8, megabytes: int = 256) -> float:
    """Bytes a second that so many threads read and write, each copying its share of a large array; the best of 8."""
    source = np.ones(megabytes << 18, np.float32)
    target = np.zeros_like(source)
    shares = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    seconds = min(_on_threads(threads, lambda thread: np.copyto(*shares[thread])) for _ in range(repeats))
    return 2 * source.nbytes / seconds


def processor() -> str:
    """The CPU's name, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
