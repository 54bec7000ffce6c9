"""The suite's options, and the machine's ceilings in the JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from . import contenders, machine


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest bench --help` lists them under "hominy"."""
    group = parser.getgroup("hominy")
    group.addoption("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    group.addoption("--rounds", type=int, default=20, help="rounds of the paired protocol (default 20)")
    group.addoption("--dtype", default="float32", choices=["float32", "float64"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The thread counts asked for."""
    if "threads" in metafunc.fixturenames:
        counts = [int(count) for count in metafunc.config.getoption("threads").split(",")]
        metafunc.parametrize("threads", counts, ids=[f"{count}t" for count in counts], scope="session")


def pytest_configure(config: pytest.Config) -> None:
    """Peers may warn as they like: they are not under test."""
    config.addinivalue_line("filterwarnings", "default")


@pytest.fixture(scope="session")
def ceilings(threads: int, request: pytest.FixtureRequest) -> Iterator[None]:
    """Peak arithmetic and bandwidth at this thread count: the better of measurements before and after its cases."""
    before = _measured(threads)
    yield
    after = _measured(threads)
    best = before | {key: max(before[key], after[key]) for key in ("fma_peak", "copy_bandwidth")}
    request.config.stash.setdefault(_CEILINGS, {})[str(threads)] = best


def _measured(threads: int) -> dict[str, Any]:
    peak, how = machine.fma_peak(threads)
    return {"fma_peak": peak, "fma_peak_by": how, "copy_bandwidth": machine.copy_bandwidth(threads)}


_CEILINGS = pytest.StashKey[dict[str, Any]]()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]) -> None:
    """What the report needs beside the samples."""
    import hominy
    from hominy import backends

    output_json["hominy"] = {
        "processor": machine.processor(),
        "backend": backends.current_backend(),
        "isa": _isa(),
        "threads_by_default": hominy.get_num_threads(),
        "versions": contenders.versions(),
        "ceilings": config.stash.get(_CEILINGS, {}),
    }


def _isa() -> str | None:
    from hominy import backends

    if backends.available("native"):
        return None
    from hominy import _native

    return str(_native.isa())
