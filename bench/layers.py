"""Layers and losses of a training step, forward and with their gradients, beside PyTorch: 1 KB to 64 MB of input.

What a user writes is timed, `F.layer_norm(x, ...)` and its `.backward()`, on tensors, so the cost of a call is in it.
Results and gradients are compared with PyTorch's before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from hominy.testing.paired import Quartiles, paired_times, ratios

from .contenders import limit_threads
from .report import _spread, aligned, duration

Array = np.ndarray


class Work(NamedTuple):
    """One layer at one size: `call(framework, F, *tensors)` on float arrays, which get gradients, and integer ones."""

    family: str
    size: str
    call: Callable[..., Any]
    arrays: tuple[Array, ...]
    random: bool = False


def works() -> Iterator[Work]:
    """All of them, the small ones first."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    def last_channels(x: Array) -> Array:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def batch_norm(fw: Any, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        return F.batch_norm(x, None, None, weight, bias, True)

    for rows, columns in ((16, 16), (32, 256), (1024, 256), (1024, 1024), (16384, 1024)):
        x = draw(rows, columns)
        yield Work("softmax", f"{rows}x{columns}", lambda fw, F, x: F.softmax(x, -1), (x,))
        yield Work(
            "layer_norm", f"{rows}x{columns}", lambda fw, F, x, w, b: F.layer_norm(x, w.shape, w, b),
            (x, draw(columns), draw(columns)),
        )  # fmt: skip
        yield Work(
            "cross_entropy", f"{rows}x{columns}", lambda fw, F, x, target: F.cross_entropy(x, target),
            (x, rng.integers(0, columns, rows)),
        )  # fmt: skip
        yield Work("dropout", f"{rows}x{columns}", lambda fw, F, x: F.dropout(x, 0.5), (x,), random=True)
    for shape in ((2, 8, 4, 4), (4, 32, 8, 8), (8, 64, 28, 28), (16, 64, 56, 56), (32, 128, 64, 64)):
        x, lists = draw(*shape), (draw(shape[1]), draw(shape[1]))
        size = "x".join(map(str, shape))
        yield Work("batch_norm", size, batch_norm, (x, *lists))
        yield Work("batch_norm, channels last", size, batch_norm, (last_channels(x), *lists))
    for rows, columns, count in ((32, 8, 16), (1000, 64, 256), (10000, 128, 4096), (100000, 160, 16384)):
        yield Work(
            "embedding", f"{rows}x{columns}, {count} rows", lambda fw, F, table, index: F.embedding(index, table),
            (draw(rows, columns), rng.integers(0, rows, count)),
        )  # fmt: skip


def _tensors(framework: Any, arrays: tuple[Array, ...]) -> list[Any]:
    tensors = [framework.from_numpy(x) for x in arrays]
    return [x.requires_grad_() if array.dtype.kind == "f" else x for x, array in zip(tensors, arrays, strict=True)]


def _calls(framework: Any, work: Work) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], list[Array]]]:
    """The forward pass without the tape; forward and backward; and what both compute."""
    F, tensors = framework.nn.functional, _tensors(framework, work.arrays)
    shape = tuple(work.call(framework, F, *tensors).shape)
    gradient = framework.from_numpy(np.random.default_rng(1).standard_normal(shape).astype(np.float32))
    differentiable = [x for x in tensors if x.requires_grad]

    def forward() -> Any:
        with framework.no_grad():
            return work.call(framework, F, *tensors)

    def both() -> None:
        for x in differentiable:
            x.grad = None
        work.call(framework, F, *tensors).backward(gradient)

    def results() -> list[Array]:
        both()
        return [forward().numpy(), *(x.grad.numpy() for x in differentiable)]

    return forward, both, results


def _adam(framework: Any, sizes: tuple[int, ...]) -> Callable[[], Any]:
    parameters = [framework.ones(size).requires_grad_() for size in sizes]
    for parameter in parameters:
        parameter.grad = framework.ones_like(parameter.detach())
    return framework.optim.Adam(parameters, lr=1e-3).step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", nargs="+", metavar="NAME", help="families, as the table names them")
    parser.add_argument("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples there")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    return run_works(arguments, works, ((256,), (64, 64) * 50, (1 << 18,) * 4, (1 << 22,) * 4))


def run_works(
    arguments: argparse.Namespace, works: Callable[[], Iterator[Work]], adam: tuple[tuple[int, ...], ...] = ()
) -> int:
    """Measure these layers, and steps of Adam over parameters of these sizes; print; the exit status."""
    import hominy
    import hominy.nn.functional
    import hominy.optim
    import torch

    lines: list[list[str]] = []
    collected: dict[str, Any] = {}
    speeds: list[float] = []

    def measure(family: str, size: str, what: str, threads: int, calls: dict[str, Callable[[], Any]]) -> None:
        times = paired_times(calls, rounds=arguments.rounds)
        ratio = Quartiles.of(ratios(times["torch"], times["hominy"]))
        speeds.append(ratio.median)
        collected[f"{family}, {size}, {what}, threads: {threads}"] = times
        medians = [duration(statistics.median(times[name])) for name in ("hominy", "torch")]
        lines.append([f"{family}, {size}", what, str(threads), *medians, _spread(ratio)])

    for threads in (int(count) for count in arguments.threads.split(",")):
        with limit_threads(threads):
            for work in works():
                if arguments.only and work.family.split(",")[0] not in arguments.only:
                    continue
                own, peer = _calls(hominy, work), _calls(torch, work)
                if not work.random:
                    for got, want in zip(own[2](), peer[2](), strict=True):
                        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(want).max()))
                measure(work.family, work.size, "forward", threads, {"hominy": own[0], "torch": peer[0]})
                measure(work.family, work.size, "and backward", threads, {"hominy": own[1], "torch": peer[1]})
            for sizes in adam:
                if arguments.only and "adam" not in arguments.only:
                    continue
                name = f"{len(sizes)} of {sizes[0]:,}"
                measure("Adam", name, "step", threads, {"hominy": _adam(hominy, sizes), "torch": _adam(torch, sizes)})
    print(aligned(["layer", "", "threads", "hominy", "PyTorch", "times as fast"], lines))
    mean = math.exp(statistics.fmean(math.log(speed) for speed in speeds))
    slow = [
        f"{line[0]} {line[1]}, {line[2]} ({speed:.2f})" for line, speed in zip(lines, speeds, strict=True) if speed < 1
    ]
    print(f"\ngeometric mean {mean:.2f}, least {min(speeds):.2f}; slower than PyTorch: {'; '.join(slow) or 'none'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(collected))
    return 0
