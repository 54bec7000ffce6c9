"""Recurrent layers beside PyTorch and ONNX Runtime: forward, with all gradients, and a single step for serving.

What a user writes is timed: a layer called on a tensor. ONNX Runtime, forward alone, packs its weights when the session
is made; hominy and PyTorch in every call, hominy "packed" as ONNX Runtime does, by `hominy.nn.utils.prepare`. Results
and gradients are compared with PyTorch's in float64 before anything is timed. A shape's target is a multiple of the
fastest peer's speed, or 85% of the measured peak of multiply-adds where that is less: nobody computes the same products
faster than the machine.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import pathlib
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hominy.testing.paired import Disturbance, Quartiles, paired_times, ratios

from .contenders import limit_threads
from .machine import fma_peak
from .onnx_model import recurrent as onnx_recurrent
from .report import _spread, aligned, duration

Array = np.ndarray
Call = Callable[[], Any]

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TARGETS = {"forward": {"LSTM": 1.3, "GRU": 2.0, "RNN": 2.0}, "both": {"LSTM": 1.5, "GRU": 2.5, "RNN": 2.0}}
SHARE_OF_PEAK = 0.85


class Work(NamedTuple):
    """Steps, batch, features, units a direction; layers of so many directions."""

    steps: int
    batch: int
    features: int
    units: int
    layers: int = 1
    directions: int = 1

    @property
    def name(self) -> str:
        """As printed."""
        more = f" {self.layers} layers, {self.directions} directions" if self.layers > 1 else ""
        return f"{self.steps},{self.batch},{self.features},{self.units}{more}"

    def operations(self, cell: str) -> float:
        """Floating-point operations of the products of a forward pass."""
        features = [self.features] + [self.directions * self.units] * (self.layers - 1)
        widths = sum(width + self.units for width in features)
        return 2.0 * self.steps * self.batch * GATES[cell] * self.units * self.directions * widths


WORKS = (
    Work(50, 32, 128, 256),
    Work(100, 1, 128, 128),
    Work(128, 16, 512, 512),
    Work(35, 20, 200, 200),
    Work(30, 64, 100, 128),
    Work(200, 1, 64, 64),
    Work(20, 128, 256, 256),
    Work(40, 16, 100, 150, layers=2, directions=2),
)


def _layer(framework: Any, cell: str, work: Work, dtype: Any = None) -> Any:
    kind = getattr(framework.nn, cell)
    return kind(work.features, work.units, work.layers, bidirectional=work.directions == 2, dtype=dtype)


def _input(work: Work) -> Array:
    return np.random.default_rng(0).standard_normal((work.steps, work.batch, work.features), np.float32)


def _flow(work: Work) -> Array:
    """The gradient that flows in."""
    shape = (work.steps, work.batch, work.directions * work.units)
    return np.random.default_rng(1).standard_normal(shape, np.float32)


def _call(framework: Any, layer: Any, x: Array, flow: Array | None) -> Call:
    """The layer's output; with a gradient that flows in, the output and the gradients of input and weights."""
    tensor = framework.from_numpy(x)
    if flow is None:

        def forward() -> Any:
            with framework.no_grad():
                return (layer(tensor)[0],)

        return forward
    tensor.requires_grad_()
    gradient, parameters = framework.from_numpy(flow), list(layer.parameters())

    def both() -> Any:
        for value in (tensor, *parameters):
            value.grad = None
        y = layer(tensor)[0]
        y.backward(gradient)
        return y.detach(), tensor.grad, *(value.grad for value in parameters)

    return both


def _onnxruntime(layer: Any, x: Array, threads: int) -> Call:
    import onnxruntime
    from hominy.nn.utils.recurrent_weights import onnx_weights

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    model = onnx_recurrent(layer.mode, x, [onnx_weights(layer, number) for number in range(layer.num_layers)])
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def verified_calls(cell: str, work: Work, threads: int, backward: bool) -> dict[str, Call]:
    """Contenders by name, with the same weights; an AssertionError where one is off by 1e-4 of the largest element."""
    import hominy
    import torch

    own, x, flow = _layer(hominy, cell, work), _input(work), _flow(work) if backward else None
    peer, exact = _layer(torch, cell, work), _layer(torch, cell, work, torch.float64)
    state = {name: torch.from_numpy(value.detach().numpy()) for name, value in own.named_parameters()}
    peer.load_state_dict(state)
    exact.load_state_dict(state)
    made = {"hominy": _call(hominy, own, x, flow), "PyTorch": _call(torch, peer, x, flow)}
    if not backward:
        ready = copy.deepcopy(own)
        hominy.nn.utils.prepare(ready)
        made["packed"] = _call(hominy, ready, x, None)
        if importlib.util.find_spec("onnxruntime") is not None:
            made["ONNX Runtime"] = _onnxruntime(own, x, threads)
    want = _call(torch, exact, x.astype(np.float64), None if flow is None else flow.astype(np.float64))()
    for name, call in made.items():
        for number, (got, right) in enumerate(zip(map(np.asarray, call()), map(np.asarray, want), strict=True)):
            error = np.abs(got - right).max() / np.abs(right).max()
            assert got.shape == right.shape and error < 1e-4, f"{cell} {work.name}, {name}: {number} is off by {error}"
    return made


class Line(NamedTuple):
    """What is shown of one layer, shape and thread count; `needed` is the ratio that the target comes to."""

    what: str
    cells: list[str]
    ratio: float
    needed: float


def measure(cell: str, work: Work, threads: int, backward: bool, rounds: int, peak: float) -> tuple[Line, Any]:
    """Verify, then time in turn."""
    made = verified_calls(cell, work, threads, backward)
    with Disturbance() as disturbance:
        times = paired_times(made, rounds=rounds)
    medians = {name: statistics.median(samples) for name, samples in times.items()}
    against = {
        name: Quartiles.of(ratios(times[name], times["hominy"]))
        for name in times
        if name in ("PyTorch", "ONNX Runtime")
    }
    fastest = min(against, key=lambda name: medians[name])
    packed = Quartiles.of(ratios(times[fastest], times["packed"])) if "packed" in times else None
    rate = work.operations(cell) * (3 if backward else 1) / medians["hominy"]
    ratio, target = against[fastest].median, TARGETS["both" if backward else "forward"][cell]
    needed = min(target, ratio * SHARE_OF_PEAK * peak / rate)  # the ratio at 85% of the peak
    cells = [
        f"{cell} {work.name}", str(threads), *(duration(medians[name]) if name in medians else ""
                                               for name in ("hominy", "PyTorch", "ONNX Runtime")),
        f"{100 * rate / peak:.0f}%",
        *(_spread(against.get(name)) for name in ("PyTorch", "ONNX Runtime")),
        _spread(packed), f"{needed:.2f}", "yes" if ratio >= needed else f"{ratio / needed:.2f}",
        f"{disturbance.cores:.1f}",
    ]  # fmt: skip
    return Line(f"{cell} {work.name}, threads {threads}", cells, ratio, needed), times


HEAD = ["layer (T,B,I,H)", "threads", "hominy", "PyTorch", "ONNX Runtime", "of peak", "PyTorch", "ONNX Runtime",
        "packed", "target", "reached", "taken"]  # fmt: skip


def step(cell: str, rounds: int) -> list[str]:
    """A line of the table of steps: one row, 128 features and units, on one thread, the state carried on; hominy by
    `StreamingRecurrent`, PyTorch by its layer on a sequence of one step."""
    import hominy
    import torch

    work = Work(1, 1, 128, 128)
    own, peer, x = _layer(hominy, cell, work), _layer(torch, cell, work), _input(work)[0]
    peer.load_state_dict({name: torch.from_numpy(value.detach().numpy()) for name, value in own.named_parameters()})
    stream, sequence, carried = hominy.nn.StreamingRecurrent(own), torch.from_numpy(x[None]), [None]

    def theirs() -> Any:
        with torch.no_grad():
            y, carried[0] = peer(sequence, carried[0])
        return y[0]

    for _ in range(2):
        np.testing.assert_allclose(np.asarray(stream.step(x)), theirs().numpy(), rtol=0, atol=1e-6)
    times = paired_times({"hominy": lambda: stream.step(x), "PyTorch": theirs}, rounds=rounds)
    return [cell, *(duration(statistics.median(times[name])) for name in times),
            _spread(Quartiles.of(ratios(times["PyTorch"], times["hominy"])))]  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cells (LSTM, GRU, RNN) or parts of shapes")
    parser.add_argument("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    passes = "forward,both,step"
    parser.add_argument("--pass", dest="passes", default=passes, help=f"{passes} (the default); both: with gradients")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples there")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    collected: dict[str, Any] = {}
    only = arguments.only or []
    cells = [cell for cell in GATES if cell in only] or list(GATES)
    parts = [word for word in only if word not in GATES]
    works = [work for work in WORKS if not parts or any(part in work.name for part in parts)]
    for name in arguments.passes.split(","):
        if name == "step":
            with limit_threads(1):
                rows = [step(cell, arguments.rounds) for cell in cells]
            print("\na step of one row, 128 features and units, one thread\n")
            print(aligned(["layer", "hominy", "PyTorch", "times as fast"], rows))
            continue
        lines: list[Line] = []
        for threads in map(int, arguments.threads.split(",")):
            with limit_threads(threads):
                # One core's times their number: virtual CPUs may share a core just while the peak is measured.
                peak = max(fma_peak(threads)[0], threads * fma_peak(1)[0])
                for cell in cells:
                    for work in works:
                        line, times = measure(cell, work, threads, name == "both", arguments.rounds, peak)
                        lines.append(line)
                        collected[f"{line.what}, {name}"] = times
        print(f"\n{'forward and backward' if name == 'both' else name}\n")
        print(aligned(HEAD, [line.cells for line in lines]))
        for threads in map(int, arguments.threads.split(",")):
            for cell in cells:
                print(
                    _summary(
                        cell, threads, [x for x in lines if x.what.startswith(cell) and x.cells[1] == str(threads)]
                    )
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(collected))
    return 0


def _summary(cell: str, threads: int, lines: list[Line]) -> str:
    mean = math.exp(statistics.fmean(math.log(line.ratio) for line in lines))
    reached = math.exp(statistics.fmean(math.log(line.ratio / line.needed) for line in lines))
    least = min(lines, key=lambda line: line.ratio)
    return (
        f"{cell}, threads {threads}: {mean:.2f} times as fast as the fastest peer (geometric mean), least "
        f"{least.ratio:.2f} ({least.what}); over the targets {reached:.2f}"
    )
