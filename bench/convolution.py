"""Convolutions of the networks people use beside PyTorch and ONNX Runtime: forward, and with all gradients.

hominy runs in both memory layouts, as PyTorch does (weights channels-last as well); ONNX Runtime takes NCHW alone and
packs its weights ahead, as `hominy.prepare` does for those that are timed as "packed". Where "high" precision chooses
Winograd's algorithm, "exact" is timed beside it. Results and gradients are compared with PyTorch's in float64 before
anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import pathlib
import statistics
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from hominy.testing.paired import Disturbance, Quartiles, paired_times, ratios

from .contenders import limit_threads
from .onnx_model import convolution as onnx_convolution
from .report import _spread, aligned, duration

Array = np.ndarray
Call = Callable[[], Any]


class Work(NamedTuple):
    """One convolution: input (batch, channels, *space), weight (outputs, channels / groups, *kernel)."""

    family: str
    name: str
    channels: int
    outputs: int
    space: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    groups: int = 1
    transposed: bool = False

    @property
    def function(self) -> str:
        """Its name in nn.functional."""
        return f"conv{'_transpose' if self.transposed else ''}{len(self.space)}d"

    def operations(self, batch: int) -> float:
        """Floating-point operations of the forward pass."""
        pairs = zip(self.space, self.kernel, strict=True)
        positions = math.prod(
            size if self.transposed else (size + 2 * self.padding - k) // self.stride + 1 for size, k in pairs
        )
        return 2.0 * batch * positions * self.channels * self.outputs // self.groups * math.prod(self.kernel)

    def arrays(self, batch: int) -> tuple[Array, Array, Array]:
        """(input, weight, bias), drawn normal; the weight of a size that keeps the input's."""
        rng = np.random.default_rng(0)
        first, second = self.outputs, self.channels // self.groups
        if self.transposed:
            first, second = self.channels, self.outputs // self.groups
        scale = 1 / math.sqrt(self.channels // self.groups * math.prod(self.kernel))
        x = rng.standard_normal((batch, self.channels, *self.space), np.float32)
        weight = rng.standard_normal((first, second, *self.kernel), np.float32) * np.float32(scale)
        return x, weight, rng.standard_normal(self.outputs, np.float32)

    def call(self, F: Any, x: Any, weight: Any, bias: Any) -> Any:
        """What a user writes, in hominy and in PyTorch."""
        return getattr(F, self.function)(x, weight, bias, stride=self.stride, padding=self.padding, groups=self.groups)


def _square(family: str, name: str, channels: int, outputs: int, size: int, k: int, **more: Any) -> Work:
    more.setdefault("padding", k // 2)
    return Work(family, name, channels, outputs, (size, size), (k, k), **more)


WORKS = (
    _square("first", "7x7/2 3-64 @224", 3, 64, 224, 7, stride=2),
    _square("first", "3x3/2 3-32 @224", 3, 32, 224, 3, stride=2),
    _square("1x1", "1x1 64-256 @56", 64, 256, 56, 1),
    _square("1x1", "1x1 256-64 @56", 256, 64, 56, 1),
    _square("3x3", "3x3 64 @56", 64, 64, 56, 3),
    _square("3x3", "3x3 128 @28", 128, 128, 28, 3),
    _square("3x3", "3x3 256 @14", 256, 256, 14, 3),
    _square("3x3", "3x3 512 @7", 512, 512, 7, 3),
    _square("strided", "3x3/2 128 @56", 128, 128, 56, 3, stride=2),
    _square("depthwise", "depthwise 3x3 32 @112", 32, 32, 112, 3, groups=32),
    _square("depthwise", "depthwise 3x3 128 @56", 128, 128, 56, 3, groups=128),
    _square("depthwise", "depthwise 3x3 512 @14", 512, 512, 14, 3, groups=512),
    _square("depthwise", "depthwise 5x5 240 @28", 240, 240, 28, 5, groups=240),
    _square("grouped", "3x3, 32 groups, 256 @28", 256, 256, 28, 3, groups=32),
    _square("small", "5x5 1-16 @28", 1, 16, 28, 5),
    Work("1d", "1d k9 64 @1000", 64, 64, (1000,), (9,), padding=4),
    Work("3d", "3d 3x3x3 16-32 @32", 16, 32, (32, 32, 32), (3, 3, 3), padding=1),
    Work("transposed", "transposed 4x4/2 128-64 @28", 128, 64, (28, 28), (4, 4), stride=2, padding=1, transposed=True),
)


def channels_last(x: Array) -> Array:
    """The same elements, the channels of a position side by side."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def _laid(arrays: tuple[Array, Array, Array], layout: str) -> tuple[Array, Array, Array]:
    x, weight, bias = arrays
    return (channels_last(x), channels_last(weight), bias) if layout == "NHWC" else arrays


def _forward(framework: Any, work: Work, arrays: tuple[Array, ...]) -> Call:
    F, tensors = framework.nn.functional, [framework.from_numpy(x) for x in arrays]

    def forward() -> Any:
        with framework.no_grad():
            return work.call(F, *tensors)

    return forward


def _both(framework: Any, work: Work, arrays: tuple[Array, ...]) -> Call:
    """Forward and backward; returns (result, gradients of input, weight and bias)."""
    F, tensors = framework.nn.functional, [framework.from_numpy(x).requires_grad_() for x in arrays]
    model = _forward(framework, work, arrays)().numpy()
    flow = framework.from_numpy(_flow(model))

    def both() -> Any:
        for x in tensors:
            x.grad = None
        y = work.call(F, *tensors)
        y.backward(flow)
        return y.detach(), *(x.grad for x in tensors)

    return both


def _flow(result: Array) -> Array:
    """The gradient that flows in, in the result's layout."""
    flow = np.empty_like(result)
    flow[...] = np.random.default_rng(1).standard_normal(result.shape, np.float32)
    return flow


def _packed(work: Work, arrays: tuple[Array, ...]) -> Call | None:
    """Forward by a prepared weight; None where nothing is packed."""
    import hominy
    import hominy.nn.functional

    if work.transposed:
        return None
    x, weight, bias = (hominy.from_numpy(a) for a in arrays)
    prepared = hominy.prepare(weight)

    def forward() -> Any:
        with hominy.no_grad():
            return work.call(hominy.nn.functional, x, prepared, bias)

    forward()
    return forward if len(prepared) else None


def _exact(call: Call) -> Call:
    import hominy

    def exact() -> Any:
        hominy.set_float_precision("exact")
        try:
            return call()
        finally:
            hominy.set_float_precision("high")

    return exact


def _onnxruntime(work: Work, arrays: tuple[Array, Array, Array], threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    x, weight, bias = arrays
    n = len(work.space)
    model = onnx_convolution(
        "ConvTranspose" if work.transposed else "Conv", x, weight, bias, (work.stride,) * n, (work.padding,) * n,
        work.groups,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def _uses_winograd(work: Work, arrays: tuple[Array, ...], backward: bool) -> bool:
    from hominy import backends

    if work.transposed:
        return False
    directions = ("forward", "input_gradient") if backward else ("forward",)
    geometry = {"stride": work.stride, "padding": work.padding, "groups": work.groups}
    return any(
        backends.conv_algorithm(*arrays[:2], **geometry, direction=direction).startswith("winograd")
        for direction in directions
    )


def calls(work: Work, batch: int, threads: int, backward: bool) -> dict[str, Call]:
    """Every contender by name: its library, its layout, and what is special."""
    import hominy
    import hominy.nn.functional

    made: dict[str, Call] = {}
    of = _both if backward else _forward
    arrays = work.arrays(batch)
    for layout in ("NCHW", "NHWC"):
        laid = _laid(arrays, layout)
        call = of(hominy, work, laid)
        made[f"hominy {layout}"] = call
        if _uses_winograd(work, laid, backward):
            made[f"hominy {layout} exact"] = _exact(call)
        if not backward and (packed := _packed(work, laid)) is not None:
            made[f"hominy {layout} packed"] = packed
    if importlib.util.find_spec("torch") is not None:
        import torch

        made["PyTorch NCHW"] = of(torch, work, arrays)
        if len(work.space) > 1:
            made["PyTorch NHWC"] = of(torch, work, _laid(arrays, "NHWC"))
    if not backward and importlib.util.find_spec("onnxruntime") is not None:
        made["ONNX Runtime"] = _onnxruntime(work, arrays, threads)
    return made


def _copy(work: Work, batch: int) -> Call | None:
    """Copying the input, which a depthwise convolution cannot be faster than."""
    import hominy

    x = hominy.from_numpy(work.arrays(batch)[0])
    return x.clone if work.family == "depthwise" else None


def _results(call: Call) -> list[Array]:
    result = call()
    return [np.asarray(x) for x in (result if isinstance(result, tuple) else (result,))]


def verify(work: Work, batch: int, made: dict[str, Call], backward: bool) -> None:
    """Raise an AssertionError unless all are within 1e-4 of the largest element of PyTorch's result in float64."""
    import torch

    wide = tuple(torch.from_numpy(x).double().requires_grad_() for x in work.arrays(batch))
    y = work.call(torch.nn.functional, *wide)
    want = [y.detach().numpy()]
    if backward:
        y.backward(torch.from_numpy(_flow(_results(made["hominy NCHW"])[0])).double())
        want += [x.grad.numpy() for x in wide]  # type: ignore[union-attr]
    for name, call in made.items():
        for number, (got, exact) in enumerate(zip(_results(call), want, strict=True)):
            assert got.shape == exact.shape and got.dtype == np.float32, f"{work.name}, {name}: {got.shape}"
            error = np.abs(got - exact).max() / np.abs(exact).max()
            assert error < 1e-4, f"{work.name}, {name}: result {number} is off by {error:.1e} of the largest element"


class Line(NamedTuple):
    """What is shown of one convolution, batch and thread count."""

    what: str
    cells: list[str]
    ratio: float
    exact: float
    packed: float


def _best(times: dict[str, list[float]], *starts: str) -> str | None:
    """The contender of the least median among those of these libraries that are nothing special."""
    found = [name for name in times if name.startswith(starts) and name.endswith(("NCHW", "NHWC", "Runtime"))]
    return min(found, key=lambda name: statistics.median(times[name]), default=None)


def summarise(work: Work, batch: int, threads: int, times: dict[str, list[float]], facts: dict[str, Any]) -> Line:
    """Ratios of the peers' times to hominy's: the better layout of each, and layout by layout."""
    peers = ("PyTorch", "ONNX")

    def against(own: str | None, peer: str | None) -> Quartiles | None:
        return Quartiles.of(ratios(times[peer], times[own])) if own in times and peer in times else None

    def shown(ratio: Quartiles | None) -> str:
        return "" if ratio is None else _spread(ratio)

    own, peer = _best(times, "hominy"), _best(times, *peers)
    best = against(own, peer)
    assert own is not None
    exact, packed = (against(_best_of(times, suffix), peer) for suffix in (" exact", " packed"))
    median = statistics.median(times[own])
    copied = statistics.median(times["copy"]) if "copy" in times else math.nan
    cells = [
        work.name, str(batch), str(threads),
        *(duration(statistics.median(times[name])) if name in times else ""
          for name in ("hominy NCHW", "hominy NHWC", "PyTorch NCHW", "PyTorch NHWC", "ONNX Runtime")),
        f"{work.operations(batch) * facts['passes'] / median / 1e9:.0f}",
        shown(best),
        shown(against("hominy NCHW", _best({n: t for n, t in times.items() if "NHWC" not in n}, *peers))),
        shown(against("hominy NHWC", "PyTorch NHWC")),
        shown(exact), shown(packed),
        "" if math.isnan(copied) else f"{median / copied:.2f}",
        facts["algorithm"], f"{facts['taken']:.1f}",
    ]  # fmt: skip
    numbers = [math.nan if ratio is None else ratio.median for ratio in (best, exact, packed)]
    return Line(f"{work.name}, batch {batch}, threads {threads}", cells, *numbers)


def _best_of(times: dict[str, list[float]], suffix: str) -> str:
    """hominy's better layout with `suffix`; a layout without such a contender counts as it is."""
    names = [f"hominy {layout}{suffix}" for layout in ("NCHW", "NHWC")]
    names = [name if name in times else name.removesuffix(suffix) for name in names]
    return min(names, key=lambda name: statistics.median(times[name]))


HEAD = [
    "convolution", "batch", "threads", "hominy NCHW", "NHWC", "PyTorch NCHW", "NHWC", "ONNX Runtime", "GFLOP/s",
    "best by best", "NCHW", "NHWC", "exact", "packed", "of a copy", "algorithm", "taken",
]  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    families = ", ".join(dict.fromkeys(work.family for work in WORKS))
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"families ({families}) or parts of names")
    parser.add_argument("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    parser.add_argument("--batch", default="8,1", help="batch sizes, as 8,1 (the default)")
    parser.add_argument("--pass", dest="passes", default="forward,both", help="forward, both (with gradients)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples there")


def _chosen(only: list[str] | None) -> Iterator[Work]:
    families = {work.family for work in WORKS}
    for work in WORKS:
        if not only or any(word == work.family if word in families else word in work.name for word in only):
            yield work


def measure(work: Work, batch: int, threads: int, backward: bool, rounds: int) -> tuple[Line, dict[str, list[float]]]:
    """Verify, then time in turn."""
    from hominy import backends

    made = calls(work, batch, threads, backward)
    verify(work, batch, made, backward)
    if not backward and (copy := _copy(work, batch)) is not None:
        made["copy"] = copy
    with Disturbance() as disturbance:
        times = paired_times(made, rounds=rounds)
    x, weight, _ = work.arrays(batch)
    geometry: dict[str, Any] = {"stride": work.stride, "padding": work.padding, "groups": work.groups}
    if work.transposed:  # the input gradient of a convolution of its result
        x, geometry["direction"] = _results(made["hominy NCHW"])[0], "input_gradient"
    chosen = [backends.conv_algorithm(a, weight, **geometry) for a in (x, channels_last(x))]
    algorithm = chosen[0] if chosen[0] == chosen[1] else "; ".join(chosen)
    facts = {"algorithm": algorithm, "taken": disturbance.cores, "passes": 3 if backward else 1}
    return summarise(work, batch, threads, times, facts), times


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    collected: dict[str, Any] = {}
    for name in arguments.passes.split(","):
        lines: list[Line] = []
        for threads in map(int, arguments.threads.split(",")):
            with limit_threads(threads):
                for batch in map(int, arguments.batch.split(",")):
                    for work in _chosen(arguments.only):
                        line, times = measure(work, batch, threads, name == "both", arguments.rounds)
                        lines.append(line)
                        collected[f"{line.what}, {name}"] = times
        print(f"\n{'forward and backward' if name == 'both' else name}\n")
        print(aligned(HEAD, [line.cells for line in lines]))
        for title, ratios_of in (
            ("best by best", [line.ratio for line in lines]),
            ("exact", [line.exact for line in lines]),
            ("packed", [line.packed for line in lines]),
        ):
            print(_summary(title, lines, ratios_of))
    if arguments.json:
        arguments.json.write_text(json.dumps(collected))
    return 0


def _summary(title: str, lines: list[Line], numbers: list[float]) -> str:
    known = [(number, line.what) for number, line in zip(numbers, lines, strict=True) if not math.isnan(number)]
    if not known:
        return f"{title}: no peer"
    mean = math.exp(statistics.fmean(math.log(number) for number, _ in known))
    slow = "; ".join(f"{what} ({number:.2f})" for number, what in known if number < 0.85)
    return f"{title}: geometric mean {mean:.2f}, least {min(known)[0]:.2f}; under 0.85: {slow or 'none'}"
