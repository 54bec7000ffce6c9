"""Timing side by side: contenders take turns in one process, A B A B, so that what disturbs one disturbs the other.

A shared machine's speed drifts by tens of percent within a minute; the ratio of two times taken within one round does
not. On every switch comes a pause and two untimed calls: other libraries' workers keep spinning for a while after a
call returns, and the caches hold the last contender's data.

    >>> times = paired_times({"hominy": lambda: kernels.matmul(a, b), "numpy": lambda: a @ b})
    >>> ratio = Quartiles.of(ratios(times["numpy"], times["hominy"]))      # above 1: hominy is faster
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

PAUSE_SECONDS = 0.010
LONGEST_PAUSE_SECONDS = 0.5


class Quartiles(NamedTuple):
    """The median of some samples and the middle half of them."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Quartiles:
        """Of one sample or more."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        return cls(*statistics.quantiles(samples, n=4, method="inclusive"))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The quotients of samples taken in the same rounds."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def paired_times(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int = 20, block_seconds: float = 0.005
) -> dict[str, list[float]]:
    """Seconds a call, one sample a round, for each contender.

    A sample is the mean over a block of calls that takes about `block_seconds`, and of one call at least.
    """
    counts = {name: _calls_in(block_seconds, call) for name, call in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contenders.items():
                _wait_until_idle()
                call()
                call()
                times[name].append(_seconds(call, counts[name]) / counts[name])
    finally:
        if collecting:
            gc.enable()
    return times


class Disturbance:
    """`cores` that other processes kept busy inside a `with` block; NaN where the system does not say.

    Two threads on two cores, of which one is taken, show little but the scheduler: OpenBLAS took 20 ms for 0.3 ms.
    """

    cores = math.nan

    def __enter__(self) -> Disturbance:
        self._before = self._read()
        return self

    def __exit__(self, *exc: object) -> None:
        total, own, clock = (after - before for before, after in zip(self._before, self._read(), strict=True))
        self.cores = max(0.0, (total - own) / max(clock, 1e-9))

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds of processor time of all processes and of this one, and the clock."""
        try:
            with open("/proc/stat") as file:
                user, nice, system, _, _, *rest = (float(field) for field in file.readline().split()[1:9])
            total = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            total = math.nan
        return total, time.process_time(), time.perf_counter()


def _wait_until_idle() -> None:
    for _ in range(round(LONGEST_PAUSE_SECONDS / PAUSE_SECONDS)):
        before = time.process_time()
        time.sleep(PAUSE_SECONDS)
        if time.process_time() - before < PAUSE_SECONDS / 10:
            return


def _seconds(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, count):
        call()
    return time.perf_counter() - start


def _calls_in(seconds: float, call: Callable[[], Any]) -> int:
    """How many calls fill `seconds`, by blocks of growing length; 1 for a call that takes longer."""
    call()
    count = 1
    while True:
        taken = _seconds(call, count)
        if taken * 4 >= seconds:
            return max(1, round(count * seconds / taken))
        count *= 2 if taken * 16 >= seconds else 8
