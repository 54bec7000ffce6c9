"""Whole networks beside PyTorch, both channels-last: ResNet-18 and MobileNetV2 predicting, ResNet-18 learning.

hominy runs as written ("eager") and as `model.fused()` gives it; PyTorch runs the same layers in eager mode, under
no_grad. Results are compared before anything is timed. Memory at peak is that of a process of its own, without what it
had when the network was built but for the weights.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hominy.testing.paired import Disturbance, Quartiles, paired_times, ratios

from .contenders import limit_threads
from .report import _spread, aligned, duration


class Work(NamedTuple):
    """A network at one size of input; `training`: a step instead of a prediction."""

    model: str
    batch: int
    side: int
    training: bool = False

    @property
    def label(self) -> str:
        return f"{self.model}, {'training, ' if self.training else ''}{self.batch} at {self.side}"


WORKS = (
    Work("resnet18", 1, 224), Work("resnet18", 8, 224), Work("mobilenet_v2", 1, 224), Work("mobilenet_v2", 8, 224),
    Work("resnet18", 8, 128, True),
)  # fmt: skip


def in_torch(module: Any) -> Any:
    """PyTorch's layers of the names and settings of hominy's, and hominy's own `forward` where a class has parts."""
    import torch

    kind = type(module).__name__
    own = getattr(torch.nn, kind, None)
    made: Any
    if kind == "Conv2d":
        sizes = (module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding)
        made = torch.nn.Conv2d(*sizes, module.dilation, module.groups, module.bias is not None)
    elif kind == "BatchNorm2d":
        made = torch.nn.BatchNorm2d(module.num_features, module.eps, module.momentum)
    elif kind == "Linear":
        made = torch.nn.Linear(module.in_features, module.out_features)
    elif kind == "MaxPool2d":
        made = torch.nn.MaxPool2d(module.kernel_size, module.stride, module.padding)
    elif kind == "AdaptiveAvgPool2d":
        made = torch.nn.AdaptiveAvgPool2d(module.output_size)
    elif kind == "Dropout":
        made = torch.nn.Dropout(module.p)
    elif kind in ("ReLU", "ReLU6"):
        made = getattr(torch.nn, kind)(inplace=True)
    else:
        methods = {name: value for name, value in vars(type(module)).items() if callable(value) and name[0] != "_"}
        made = own() if kind == "Sequential" else type(kind, (torch.nn.Module,), methods)()  # type: ignore[misc]
        for name, value in vars(module).items():
            if isinstance(value, (bool, type(None))) and name != "training":
                setattr(made, name, value)
        for name, child in module.named_children():
            made.add_module(name, in_torch(child))
    return made


def networks(work: Work) -> tuple[Any, Any]:
    """hominy's and PyTorch's, channels-last, with the same weights."""
    import hominy
    import torch

    hominy.manual_seed(0)
    own = getattr(hominy.models, work.model)()
    peer = in_torch(own)
    peer.load_state_dict({name: torch.from_numpy(value.numpy()) for name, value in own.state_dict().items()})
    own.to(memory_format=hominy.channels_last).train(work.training)
    return own, peer.to(memory_format=torch.channels_last).train(work.training)


def call(framework: Any, network: Any, work: Work) -> Callable[[], Any]:
    """A prediction, or a step of gradient descent, whose loss it returns."""
    rng = np.random.default_rng(0)
    picture = rng.standard_normal((work.batch, 3, work.side, work.side)).astype(np.float32)
    x = framework.from_numpy(picture).to(memory_format=framework.channels_last)
    target = framework.from_numpy(rng.integers(0, 1000, work.batch))
    if not work.training:

        def predict() -> Any:
            with framework.no_grad():
                return network(x)

        return predict
    loss = framework.nn.CrossEntropyLoss()
    optimizer = framework.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> Any:
        optimizer.zero_grad()
        value = loss(network(x), target)
        value.backward()
        optimizer.step()
        return value

    return step


def calls(work: Work) -> dict[str, Callable[[], Any]]:
    """Of every contender."""
    import hominy
    import torch

    own, peer = networks(work)
    made = {"hominy": call(hominy, own, work)}
    if not work.training:
        made["fused"] = call(hominy, own.fused(), work)
    return made | {"torch": call(torch, peer, work)}


# ---- memory ----------------------------------------------------------------------------------------------------------


def _status(field: str) -> int:
    """Bytes, of /proc/self/status."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field + ":")).split()[1]) * 1024


def print_memory(contender: str, *work: Any) -> None:
    """Print bytes at peak of a few calls of one contender, in this process."""
    import hominy
    import torch

    own, peer = networks(Work(*work))
    framework = torch if contender == "torch" else hominy
    network = {"hominy": lambda: own, "fused": lambda: own.fused(), "torch": lambda: peer}[contender]()
    own = peer = None
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts again, from what is in use now
    before = _status("VmRSS")
    run = call(framework, network, Work(*work))
    for _ in range(3):
        run()
    print(_status("VmHWM") - before + weights)


def memory(contender: str, work: Work) -> int:
    """Bytes at peak, measured in a process of its own."""
    code = f"from bench.models import print_memory; print_memory({contender!r}, *{tuple(work)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


# ---- the command -----------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", nargs="+", metavar="WORD", help="works whose names have all: resnet18 8 224")
    parser.add_argument("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-memory", action="store_true", help="times alone")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples there")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    words = arguments.only or []
    works = [work for work in WORKS if all(word in work.label.replace(",", "").split() for word in words)]
    lines, collected = [], {}
    for work in works:
        made = calls(work)
        results = {name: each().detach().numpy() for name, each in made.items()}
        for result in results.values():
            scale = np.abs(results["torch"]).max()
            np.testing.assert_allclose(result, results["torch"], rtol=1e-3, atol=1e-3 * scale)
        for threads in (int(count) for count in arguments.threads.split(",")):
            with limit_threads(threads), Disturbance() as others:
                times = paired_times(made, rounds=arguments.rounds)
            collected[f"{work.label}, threads: {threads}"] = times
            spreads = [
                _spread(Quartiles.of(ratios(times["torch"], times[name]))) if name in times else ""
                for name in ("hominy", "fused")
            ]
            medians = [
                duration(statistics.median(times[name])) if name in times else ""
                for name in ("hominy", "fused", "torch")
            ]
            lines.append([work.label, str(threads), f"{others.cores:.1f}", *medians, *spreads])
    print(aligned(["", "threads", "taken", "eager", "fused", "PyTorch", "times as fast", "fused"], lines))
    if not arguments.no_memory:
        print()
        rows = []
        for work in works:
            names = ("hominy", "torch") if work.training else ("hominy", "fused", "torch")
            peaks = {name: memory(name, work) / 1e6 for name in names}
            rows.append(
                [work.label, *(f"{peaks[n]:.0f} MB" if n in peaks else "" for n in ("hominy", "fused", "torch"))]
            )
        print(aligned(["memory at peak", "eager", "fused", "PyTorch"], rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(collected))
    return 0
