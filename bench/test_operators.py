"""Every timed case of the operator table, at every size it names: hominy beside its peers, verified, timed in turn.

pytest-benchmark runs one callable in a row, which on a shared machine compares two different minutes. So a case is
measured once, by the paired protocol (hominy.testing.paired), and each contender's test then replays its own samples
into pytest-benchmark through a clock that they move: groups, statistics and JSON are pytest-benchmark's, and sample i
of every contender of a group is from the same round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hominy.testing.cases import CASES, Case, assert_within
from hominy.testing.paired import Disturbance, paired_times

from . import contenders
from .contenders import as_arrays

# A peer has its own error bound, which we do not know: it is refused only where it computes something else.
_PEER_BOUNDS = 1000


class SampleClock:
    """A timer for pytest-benchmark that shows the sum of the samples it was moved by."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, samples: Iterator[float]) -> None:
        """Move on by the next sample."""
        self.seconds += next(samples)


_clock = SampleClock()


def describe(size: Any, family: str = "") -> str:
    """A size of the case table in words: shapes, and what else it holds."""
    if isinstance(size, int):
        return str(size)
    if all(isinstance(part, int) for part in size):
        return "x".join(map(str, size)) or "scalar"
    if isinstance(size[-1], str):  # a product: two shapes, and which of them is stored transposed
        return " @ ".join(describe(shape) + ".T" * (name in size[-1]) for name, shape in zip("ab", size, strict=False))
    if family == "optimizer":
        return f"{len(size)} arrays of {sum(math.prod(shape) for shape in size):,} elements"
    shape, rest = size
    return f"{describe(shape)} to {rest}" if family == "matmul" else f"{describe(shape)}, axis {describe(rest)}"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One case at one size: samples, and how wrong each contender was, in error bounds of the case."""

    times: dict[str, list[float]]
    errors: dict[str, float]
    facts: dict[str, Any]


@functools.lru_cache(maxsize=1)
def measure(case: Case, size: Any, dtype: str, threads: int, rounds: int) -> Measured:
    """Verify every contender, then time them in turn."""
    rng = np.random.default_rng(zlib.crc32(f"{case} {size}".encode()))
    arguments = case.arguments(rng, dtype, size)
    with contenders.limit_threads(threads), _no_tape():
        errors, result = _verified(case, arguments, threads)
        calls = contenders.calls(case, arguments, threads)
        with Disturbance() as disturbance:
            times = paired_times({name: calls[name] for name in errors}, rounds=rounds)
    facts = {
        "family": case.kernel if case.family == "matmul" else case.family,  # products and fused layers apart
        "case": str(case),
        "size": describe(size, case.family),
        "dtype": dtype,
        "threads": threads,
        "operations": case.operation_count(arguments, result),
        "bytes": case.bytes_moved(arguments, result),
        "cores_taken": disturbance.cores,
    }
    return Measured(times, errors, facts)


@contextlib.contextmanager
def _no_tape() -> Iterator[None]:
    import hominy

    with contextlib.ExitStack() as stack:
        stack.enter_context(hominy.no_grad())
        if "torch" in contenders.installed():
            import torch

            stack.enter_context(torch.no_grad())
        yield


def _verified(case: Case, arguments: tuple[Any, ...], threads: int) -> tuple[dict[str, float], Any]:
    """The error of every contender, in bounds of the case, and hominy's result; raises where one is wrong."""
    # In float64: extended precision takes minutes for a large product, and the bound allows for float64's own error.
    exact, bounds = dataclasses.replace(case, exact=None).expected(arguments)
    errors, result = {}, None
    for name in contenders.calls(case, arguments, threads):
        own = tuple([x.copy() for x in a] if isinstance(a, list) else a for a in arguments)
        got = as_arrays(case.results(lambda *_, own=own, name=name: contenders.calls(case, own, threads)[name](), own))
        result = got if name == "arrays" else result
        limit = 1 if name in ("arrays", "tensors") else _PEER_BOUNDS
        what = f"{case} by {contenders.NAMES[name]}"
        errors[name] = limit * max(  # not strict: a peer's loss comes without its logsumexp
            assert_within(x, want, limit * bound, what) for x, want, bound in zip(got, exact, bounds, strict=False)
        )
    return errors, result


def _id(*parts: Any) -> str:
    return "-".join(map(str, parts)).replace(",", "").replace(" ", "-")


_TIMED = [
    pytest.param(case, size, name, id=_id(case, describe(size, case.family), name))
    for case in CASES
    for size in case.timing
    for name in contenders.candidates(case)
]


@pytest.mark.parametrize(("case", "size", "contender"), _TIMED)
@pytest.mark.benchmark(timer=_clock)
def test_speed(
    benchmark: Any, case: Case, size: Any, threads: int, contender: str, ceilings: Any, request: pytest.FixtureRequest
) -> None:
    """One contender's share of a paired measurement."""
    measured = measure(case, size, request.config.getoption("dtype"), threads, request.config.getoption("rounds"))
    if contender not in measured.times:
        pytest.skip(f"{contenders.NAMES[contender]} does not take {case}, {describe(size, case.family)}")
    benchmark.group = "{case}, {size}, {dtype}, threads: {threads}".format_map(measured.facts)
    benchmark.extra_info.update(measured.facts, contender=contender, error_in_bounds=measured.errors[contender])
    samples = iter(measured.times[contender])
    benchmark.pedantic(_clock.advance, (samples,), rounds=len(measured.times[contender]))
