"""A short way to train: `fit`, and `cross_validate` on top of it. All that they do can be done by hand."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .autograd import no_grad
from .nn.diagnosis import all_finite, first_not_finite
from .nn.module import Module
from .nn.utils import clip_grad_norm_
from .optim import Optimizer, lr_scheduler
from .random import Generator
from .tensor import Tensor
from .utils.arguments import integer, number, wrong
from .utils.data import DataLoader, Subset

Function = Callable[..., Any]
Functions = Mapping[str, Function]


class NotFinite(FloatingPointError):
    """A loss or a gradient became NaN or infinite. The message names the layer; the weights are as before the step."""


@dataclass
class History:
    """A run's numbers, an epoch a row: history["loss"] is the list of losses, `print(history)` the table.

    Columns: loss, the metrics, then with validation val_loss and val_ of each metric, lr (the first group's, at the
    epoch's end), seconds. `stopped`: why the run ended before its last epoch, or "".
    """

    columns: dict[str, list[float]] = field(default_factory=dict)
    stopped: str = ""

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)

    def last(self, where: str, monitor: str | None) -> float:
        """The last value of a column; None is "val_loss" where there is one, else "loss"."""
        name = monitor or ("val_loss" if "val_loss" in self.columns else "loss")
        if name not in self.columns:
            raise KeyError(wrong(where, "monitor", "one of " + ", ".join(map(repr, self.columns)), name))
        return self.columns[name][-1]

    def __getitem__(self, name: str) -> list[float]:
        return self.columns[name]

    def __len__(self) -> int:
        """Number of epochs."""
        return len(self.columns.get("loss", ()))

    def __str__(self) -> str:
        cells = [["epoch", *(str(epoch + 1) for epoch in range(len(self)))]]
        cells += [[name, *(f"{value:.4g}" for value in column)] for name, column in self.columns.items()]
        widths = [max(map(len, column)) for column in cells]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in zip(*cells, strict=True)]
        return "\n".join(lines + [f"stopped: {self.stopped}"] * bool(self.stopped))

    def plot(self, axes: Any = None) -> Any:
        """Draw the losses, and beside them any metrics, on matplotlib's axes (made if None); returns the axes."""
        losses = [name for name in ("loss", "val_loss") if name in self.columns]
        metrics = [name for name in self.columns if name not in ("loss", "val_loss", "lr", "seconds")]
        groups: list[Any] = [losses, metrics] if metrics else [losses]
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(1, len(groups), figsize=(5 * len(groups), 3.5))
        for at, names in zip(np.ravel(axes).tolist(), groups, strict=False):
            for name in names:
                at.plot(range(1, len(self) + 1), self.columns[name], label=name)
            at.set_xlabel("epoch")
            at.legend()
        return list(np.ravel(axes))


class Run:
    """What a callback sees of a run: model, optimizer, history, and epoch, the present one, from 0."""

    def __init__(self, model: Module, optimizer: Optimizer):
        self.model, self.optimizer, self.history, self.epoch = model, optimizer, History(), 0

    def stop(self, reason: str) -> None:
        """Make this epoch the last."""
        self.history.stopped = reason


def fit(model: Module, loader: Iterable[Any], loss: Function, optimizer: Optimizer, epochs: int, *,
        validation: Iterable[Any] | None = None, callbacks: Sequence[Any] = (), metrics: Functions | None = None,
        scheduler: Any = None, clip_norm: float | None = None, verbose: bool = True) -> History:  # fmt: skip
    """Train `model` for `epochs` passes over `loader`.

    The history's numbers are means over samples; those of training are taken while the weights change. The model is
    left in training mode. Raises NotFinite when the loss or a gradient becomes NaN or infinite.

    Args:
        loader: batches (input, ..., target): loss(model(input, ...), target). A batch of one tensor is its own target.
        loss: (output, target) -> a tensor of one element, the batch's mean. metrics: {name: function}, likewise.
        validation: batches to evaluate on after each epoch. callbacks: called then (`hominy.callbacks`).
        scheduler: stepped after each epoch, ReduceLROnPlateau with val_loss (loss without validation); OneCycleLR and
            CyclicLR after each batch.
        clip_norm: scale gradients down to this norm before each step.
        verbose: show progress: a bar (with tqdm, on a terminal) and a line an epoch.
    """
    for name, value, kind, expected in (
        ("model", model, Module, "a hominy.nn.Module"),
        ("optimizer", optimizer, Optimizer, "a hominy.optim.Optimizer"),
        ("scheduler", scheduler, (lr_scheduler.LRScheduler, type(None)), "one of hominy.optim.lr_scheduler"),
    ):
        if not isinstance(value, kind):
            raise TypeError(wrong("fit", name, expected, type(value).__name__))
    if not callable(loss):
        raise TypeError(wrong("fit", "loss", "a function of output and target", loss))
    epochs = integer("fit", "epochs", epochs, lowest=0)
    if clip_norm is not None:
        clip_norm = number("fit", "clip_norm", clip_norm, low=0.0)
    every = getattr(scheduler, "every", None)
    run = Run(model, optimizer)

    def step(inputs: Sequence[Any], target: Any) -> tuple[Any, Any]:
        optimizer.zero_grad()
        output = model(*inputs)
        value = loss(output, target)
        place = f"in epoch {run.epoch + 1};"
        if not math.isfinite(value.item()):
            where = first_not_finite(model, loss, inputs, target)
            raise NotFinite(f"{wrong('fit', 'loss', 'a finite number', value.item())} {place} {where}")
        value.backward()
        if not all_finite([parameter.grad for parameter in model.parameters()]):
            where = first_not_finite(model, loss, inputs, target)
            raise NotFinite(f"[fit] gradient: expected finite numbers, got NaN or infinity {place} {where}")
        if clip_norm is not None:
            clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if every == "batch":
            scheduler.step()
        return output, value

    _call(callbacks, "begin", run)
    for run.epoch in range(epochs):
        title, began = f"epoch {run.epoch + 1} of {epochs}", time.perf_counter()
        model.train()
        with _progress(loader, title, verbose) as batches:
            row, samples = _means("fit", batches, step, metrics)
        seconds = time.perf_counter() - began
        if validation is not None:
            row |= {f"val_{name}": mean for name, mean in evaluate(model, validation, loss, metrics).items()}
        row["lr"] = optimizer.param_groups[0]["lr"]
        if verbose:
            shown = ", ".join(f"{name} {mean:.4g}" for name, mean in row.items())
            print(f"{title}: {shown}, {samples / seconds:,.0f} samples/s", flush=True)
        run.history.append({**row, "seconds": seconds})
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(run.history.last("fit", None))
        elif every == "epoch":
            scheduler.step()
        _call(callbacks, "after_epoch", run)
        if run.history.stopped:
            break
    _call(callbacks, "end", run)
    if verbose and run.history.stopped:
        print(f"stopped: {run.history.stopped}", flush=True)
    return run.history


def evaluate(model: Module, loader: Any, loss: Function, metrics: Functions | None = None) -> dict[str, float]:
    """{"loss": mean, metric: mean, ...} over the samples of `loader`, in evaluation mode and without gradients.

    Arguments as `fit`. The model is in its former mode afterwards.
    """

    def step(inputs: Sequence[Any], target: Any) -> tuple[Any, Any]:
        output = model(*inputs)
        return output, loss(output, target)

    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            return _means("evaluate", loader, step, metrics)[0]
    finally:
        for module, mode in modes:
            module.training = mode


def accuracy(output: Tensor, target: Tensor) -> float:
    """The share of rows of scores (N, C) whose largest is at the target's index (N)."""
    return float((output.detach().numpy().argmax(1) == target.numpy()).mean())


@dataclass
class Scores:
    """What `cross_validate` found: scores["loss"] has a value a fold; `histories` of the folds; `print(scores)`."""

    values: dict[str, list[float]] = field(default_factory=dict)
    histories: list[History] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        return self.values[name]

    @property
    def mean(self) -> dict[str, float]:
        """The mean over the folds."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}

    @property
    def std(self) -> dict[str, float]:
        """The standard deviation over the folds (of a sample: divided by folds - 1)."""
        return {name: float(np.std(values, ddof=1)) for name, values in self.values.items()}

    def __str__(self) -> str:
        scores = (f"{name} {mean:.4g} ± {self.std[name]:.2g}" for name, mean in self.mean.items())
        return f"{', '.join(scores)} ({len(self.histories)} folds)"


def cross_validate(make_model: Function, dataset: Any, loss: Function, make_optimizer: Function, epochs: int, *,
                   folds: int = 5, seed: int = 0, stratify: Any = None, batch_size: int = 32,
                   metrics: Functions | None = None, make_scheduler: Function | None = None,
                   **settings: Any) -> Scores:  # fmt: skip
    """Train a new model `folds` times, each time without another of the dataset's equal parts, and evaluate it there.

    Early stopping on the part that is left out makes that part's score a little too good.

    Args:
        make_model, make_optimizer, make_scheduler: () -> model, parameters -> optimizer, optimizer -> scheduler.
        dataset: with a length, at least `folds` (2 or more), read by index.
        seed: of the split into folds and of the order of batches (weights are drawn by hominy's generator).
        stratify: (N,) labels; each fold then has its share of each.
        settings: more of `fit`'s: callbacks, clip_norm, verbose (False here if not given).
    """
    size, scores = len(dataset), Scores()
    folds = integer("cross_validate", "folds", folds, lowest=2)
    if folds > size:
        raise ValueError(wrong("cross_validate", "folds", f"at most {size}, the number of samples", folds))
    order = np.random.default_rng(seed).permutation(size)
    if stratify is not None:
        labels = np.asarray(stratify)
        if labels.shape != (size,):
            raise ValueError(wrong("cross_validate", "stratify", f"labels of shape ({size},)", labels.shape))
        order = order[np.argsort(labels[order], kind="stable")]  # like labels side by side: dealt out evenly
    for fold in range(folds):
        held_out = np.arange(size) % folds == fold
        kept, left_out = (Subset(dataset, np.sort(order[part]).tolist()) for part in (~held_out, held_out))
        batches: Any = DataLoader(kept, batch_size, shuffle=True, generator=Generator().manual_seed(seed + fold))
        rest: Any = DataLoader(left_out, batch_size)
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        scheduler = make_scheduler(optimizer) if make_scheduler else None
        given = {"verbose": False, "validation": rest, "metrics": metrics, "scheduler": scheduler, **settings}
        scores.histories.append(fit(model, batches, loss, optimizer, epochs, **given))
        for name, value in evaluate(model, rest, loss, metrics).items():
            scores.values.setdefault(name, []).append(value)
    return scores


def _call(callbacks: Sequence[Any], moment: str, run: Run) -> None:
    for callback in callbacks:
        if method := getattr(callback, moment, callback if moment == "after_epoch" else None):
            method(run)


def _means(where: str, batches: Any, step: Function, metrics: Functions | None) -> tuple[dict[str, float], int]:
    """Call step(inputs, target) -> (output, loss) on each batch: the means of the loss and of the metrics over the
    samples, and the number of these."""
    sums, samples = {"loss": 0.0}, 0
    for batch in batches:
        if isinstance(batch, Tensor):
            batch = [batch]
        if not isinstance(batch, (tuple, list)) or not batch:
            raise TypeError(wrong(where, "loader", "batches (input, ..., target)", type(batch).__name__))
        target = batch[-1]
        output, loss = step(batch[:-1] or batch, target)
        with no_grad():
            found = {name: metric(output, target) for name, metric in (metrics or {}).items()}
        for name, mean in {"loss": loss, **found}.items():
            sums[name] = sums.get(name, 0.0) + float(mean) * len(target)
        samples += len(target)
        if hasattr(batches, "set_postfix"):
            batches.set_postfix({name: f"{total / samples:.4g}" for name, total in sums.items()}, refresh=False)
    if not samples:
        raise ValueError(wrong(where, "loader", "at least one sample", "none"))
    return {name: total / samples for name, total in sums.items()}, samples


def _progress(loader: Iterable[Any], title: str, verbose: bool) -> Any:
    """A context of the batches; with a bar over them where there are tqdm and a terminal."""
    with contextlib.suppress(ImportError):
        if verbose and sys.stderr.isatty():
            from tqdm import tqdm

            return tqdm(loader, title, leave=False, unit="batch", dynamic_ncols=True)
    return contextlib.nullcontext(loader)
