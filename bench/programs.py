"""Whole programs, and the costs that no kernel shows: a small model's step, a tiny tensor's addition, import, size.

The programs are a folder of scripts that take `--framework hominy|torch --threads N --seed S` and close with one JSON
line of figures, of which one says how fast they were (`..._per_second`, or `seconds_per_...`). Each round is a run of
every framework with the round's seed, so that what was learnt is a mean over as many seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hominy.testing.paired import Quartiles, paired_times, ratios

from .contenders import NAMES, installed, limit_threads
from .report import _spread, aligned, duration

_PROGRAMS = (
    "linear_regression", "xor_perceptron", "mlp_mnist", "text_classifier --cell LSTM", "text_classifier --cell GRU",
    "char_rnn --cell GRU", "char_rnn --cell LSTM --layers 2", "cats_dogs --epochs 1",
)  # fmt: skip
_FRAMEWORKS = ("hominy", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="of the programs; without it, only the costs")
    parser.add_argument(
        "--only", nargs="+", default=_PROGRAMS, metavar="'NAME OPTION ...'",
        help=f"programs with their options, quoted; default: {'; '.join(_PROGRAMS)}",
    )  # fmt: skip
    parser.add_argument("--threads", default="1,2", help="thread counts, as 1,2 (the default)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program on each framework (default 5)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all samples there")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print everything; the exit status."""
    counts = [int(count) for count in arguments.threads.split(",")]
    collected: dict[str, Any] = {}
    for title, section in (("costs", lambda: _costs(counts)), ("imports", _imports), ("size", _sizes)):
        text, collected[title] = section()
        print(text, end="\n\n", flush=True)
    if arguments.folder is not None:
        if "torch" not in installed():
            print("PyTorch is not installed: no program has a peer to run beside")
            return 1
        text, collected["programs"] = _programs(arguments.folder, arguments.only, counts, arguments.rounds)
        print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(collected))
    return 0


# --- programs ---------------------------------------------------------------------------------------------------------


def _programs(folder: pathlib.Path, names: Any, counts: list[int], rounds: int) -> tuple[str, Any]:
    """Each program on both frameworks in turn; steps or epochs a second, and what was learnt."""
    speeds, learnt, collected = [], [], {}
    for name in names:
        for threads in counts:
            runs: dict[str, list[dict[str, Any]]] = {framework: [] for framework in _FRAMEWORKS}
            for seed in range(rounds):
                for framework in _FRAMEWORKS:
                    runs[framework].append(_run_program(folder, name, framework, threads, seed))
            collected[f"{name}, threads: {threads}"] = runs
            figure = next(key for key in runs["hominy"][0] if "_per_second" in key or "seconds_per_" in key)
            hominy, torch = ([float(found[figure]) for found in runs[framework]] for framework in _FRAMEWORKS)
            times_as_fast = ratios(torch, hominy) if figure.startswith("seconds") else ratios(hominy, torch)
            medians = [f"{statistics.median(samples):.4g}" for samples in (hominy, torch)]
            speeds.append([name, str(threads), figure, *medians, _spread(Quartiles.of(times_as_fast))])
            learnt += [
                [f"{name}, {key}", *(_mean([found[key] for found in runs[framework]]) for framework in _FRAMEWORKS)]
                for key in runs["hominy"][0]
                if key not in (figure, "program", "framework", "seconds") and threads == counts[-1]
            ]
    return (
        aligned(["program", "threads", "figure", "hominy", "PyTorch", "times as fast"], speeds)
        + "\n\n"
        + aligned([f"what was learnt, mean of {rounds} seeds", "hominy", "PyTorch"], learnt)
    ), collected


def _run_program(folder: pathlib.Path, name: str, framework: str, threads: int, seed: int) -> dict[str, Any]:
    program, *options = name.split()
    command = [sys.executable, str(folder / f"{program}.py"), "--framework", framework, "--threads", str(threads),
               "--seed", str(seed), *options]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _mean(values: list[Any]) -> str:
    """The mean of numbers, element by element of lists of them; of anything else the last."""
    if isinstance(values[0], list) and len({len(value) for value in values}) == 1:
        return " ".join(_mean(list(items)) for items in zip(*values, strict=True))
    if all(isinstance(value, (int, float)) for value in values):
        return f"{statistics.fmean(values):.5g}"
    return str(values[-1])


# --- costs ------------------------------------------------------------------------------------------------------------


def _perceptron(framework: Any, train: bool) -> Callable[[], Any]:
    """A two-layer perceptron of 32, 32 and 32 units at batch 1: forward, or forward and backward (gradients add up)."""
    nn = framework.nn
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
    x = framework.ones(1, 32)

    def forward() -> Any:
        with framework.no_grad():
            return model(x)

    def step() -> Any:
        model(x).sum().backward()

    return step if train else forward


def _addition(framework: Any) -> Callable[[], Any]:
    """a + b of 4 elements each."""
    a, b = framework.ones(4), framework.ones(4)
    return lambda: a + b


def _costs(counts: list[int]) -> tuple[str, Any]:
    import hominy

    frameworks: dict[str, Any] = {"tensors": hominy}
    if "torch" in installed():
        import torch

        frameworks["torch"] = torch
    works: dict[str, Callable[[Any], Callable[[], Any]]] = {
        "a + b, 4 elements": _addition,
        "perceptron 32-32-32, batch 1, forward": lambda framework: _perceptron(framework, train=False),
        "perceptron 32-32-32, batch 1, forward and backward": lambda framework: _perceptron(framework, train=True),
    }
    lines, collected = [], {}
    for threads in counts:
        with limit_threads(threads):
            for name, make in works.items():
                times = paired_times({key: make(framework) for key, framework in frameworks.items()})
                collected[f"{name}, threads: {threads}"] = times
                medians = [duration(statistics.median(samples)) for samples in times.values()]
                peer = [_spread(Quartiles.of(ratios(times["torch"], times["tensors"])))] if "torch" in times else []
                lines.append([name, str(threads), *medians, *peer])
    peers = ["PyTorch", "times as fast"] if "torch" in frameworks else []
    return aligned(["cost of a call", "threads", "hominy", *peers], lines), collected


_IMPORTS = {
    "numpy": "import numpy",
    "hominy": "import hominy, hominy.nn, hominy.optim",
    "onnxruntime": "import onnxruntime",
    "torch": "import torch",
}


def _imports(rounds: int = 11) -> tuple[str, Any]:
    """Seconds that the import statement takes in a fresh interpreter, in turn; files are in the page cache."""
    statements = {name: line for name, line in _IMPORTS.items() if importlib.util.find_spec(name)}
    times: dict[str, list[float]] = {name: [] for name in statements}
    for attempt in range(rounds + 1):
        for name, line in statements.items():
            program = f"import time; start = time.perf_counter(); {line}; print(time.perf_counter() - start)"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            if attempt:  # the first fills the page cache
                times[name].append(float(done.stdout))
    lines = [
        [line, duration(statistics.median(times[name])), _spread(Quartiles.of(ratios(times[name], times["numpy"])))]
        for name, line in statements.items()
    ]
    return aligned(["import", "time", "of NumPy's"], lines), times


def _sizes() -> tuple[str, Any]:
    """Bytes of each package's folder and of the libraries beside it, without bytecode caches."""
    sizes: dict[str, int] = {}
    for name in ("hominy", "numpy", "onnxruntime", "torch"):
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        folder = pathlib.Path(next(iter(spec.submodule_search_locations)))
        files = [path for root in (folder, folder.with_name(f"{name}.libs")) for path in root.rglob("*")]
        sizes[name] = sum(path.stat().st_size for path in files if path.is_file() and "__pycache__" not in path.parts)
    lines = [[NAMES.get(name, name), f"{size / 1e6:.1f} MB"] for name, size in sizes.items()]
    return aligned(["installed size", ""], lines), sizes
