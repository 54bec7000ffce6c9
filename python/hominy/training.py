"""A short way to train: `fit`, and `cross_validate` on top of it. All that they do can be done by hand:

for epoch in range(epochs):
    for x, y in loader:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .autograd import grad, no_grad
from .nn.module import Module
from .nn.utils import clip_grad_norm_
from .optim import Optimizer, lr_scheduler
from .random import Generator
from .tensor import Tensor
from .utils.arguments import integer, number, wrong
from .utils.data import DataLoader, Subset

Function = Callable[..., Any]


class NotFinite(FloatingPointError):
    """A loss or a gradient became NaN or infinite. The message names the layer; the weights are as before the step."""


class History:
    """A run's numbers, an epoch a row: history["loss"] is the list of losses, `print(history)` the table.

    Columns: loss, the metrics, then with validation val_loss and val_ of each metric, lr (the first group's, at the
    epoch's end), seconds.

    Attributes:
        stopped: why the run ended before its last epoch, or "".
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[float]] = {}
        self.stopped = ""

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
        rows = [["epoch", *self.columns]]
        for epoch in range(len(self)):
            rows.append([str(epoch + 1), *(f"{column[epoch]:.4g}" for column in self.columns.values())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(lines + ([f"stopped: {self.stopped}"] if self.stopped else []))

    def plot(self, axes: Any = None) -> Any:
        """Losses, and metrics beside them, over the epochs, by matplotlib; returns the list of axes.

        Args:
            axes: matplotlib's, one for the losses and one for the metrics if there are any; made if None.
        """
        metrics = [name for name in self.columns if name not in ("loss", "val_loss", "lr", "seconds")]
        groups = [[name for name in ("loss", "val_loss") if name in self.columns]] + [metrics] * bool(metrics)
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(1, len(groups), figsize=(5 * len(groups), 3.5), squeeze=False)
        drawn = list(np.ravel(axes))
        for at, names in zip(drawn, groups, strict=False):
            for name in names:
                at.plot(range(1, len(self) + 1), self.columns[name], label=name)
            at.set_xlabel("epoch")
            at.legend()
        return drawn


class Run:
    """What a callback sees of a run.

    Attributes:
        model, optimizer, history. epoch: the present epoch, from 0.
    """

    def __init__(self, model: Module, optimizer: Optimizer):
        self.model, self.optimizer = model, optimizer
        self.history, self.epoch = History(), 0

    def stop(self, reason: str) -> None:
        """Make this epoch the last."""
        self.history.stopped = reason


def fit(
    model: Module,
    loader: Iterable[Any],
    loss: Function,
    optimizer: Optimizer,
    epochs: int,
    *,
    validation: Iterable[Any] | None = None,
    callbacks: Sequence[Any] = (),
    metrics: Mapping[str, Function] | None = None,
    scheduler: Any = None,
    clip_norm: float | None = None,
    verbose: bool = True,
) -> History:
    """Train `model` for `epochs` passes over `loader`.

    Args:
        loader: batches (input, ..., target): loss(model(input, ...), target). A batch of one tensor is its own target.
        loss: (output, target) -> a tensor of one element, the batch's mean.
        validation: batches to evaluate on after each epoch.
        callbacks: called after each epoch (`hominy.callbacks`).
        metrics: {name: (output, target) -> number, the batch's mean}.
        scheduler: stepped after each epoch, ReduceLROnPlateau with val_loss (loss without validation); OneCycleLR and
            CyclicLR after each batch.
        clip_norm: scale gradients down to this norm before each step.
        verbose: show progress: a bar (with tqdm, on a terminal) and a line an epoch.

    Returns:
        The history. Its numbers are means over samples; those of training are taken while the weights change. The model
        is left in training mode.

    Raises:
        NotFinite: a loss or gradient became NaN or infinite.
    """
    if not isinstance(model, Module):
        raise TypeError(wrong("fit", "model", "a hominy.nn.Module", type(model).__name__))
    if not isinstance(optimizer, Optimizer):
        raise TypeError(wrong("fit", "optimizer", "a hominy.optim.Optimizer", type(optimizer).__name__))
    if not callable(loss):
        raise TypeError(wrong("fit", "loss", "a function of output and target", loss))
    if scheduler is not None and not isinstance(scheduler, lr_scheduler.LRScheduler):
        raise TypeError(wrong("fit", "scheduler", "one of hominy.optim.lr_scheduler", type(scheduler).__name__))
    epochs = integer("fit", "epochs", epochs, lowest=0)
    if clip_norm is not None:
        clip_norm = number("fit", "clip_norm", clip_norm, low=0.0)
    every = getattr(scheduler, "every", None)
    run = Run(model, optimizer)
    _call(callbacks, "begin", run)
    for epoch in range(epochs):
        run.epoch, began = epoch, time.perf_counter()
        model.train()
        means = _Means()
        with _Bar(loader, f"epoch {epoch + 1} of {epochs}", verbose) as bar:
            for batch in bar:
                inputs, target = _split("fit", batch)
                optimizer.zero_grad()
                output = model(*inputs)
                value = loss(output, target)
                number_of_loss = value.item()
                if not math.isfinite(number_of_loss):
                    raise NotFinite(_culprit_of_loss(model, inputs, target, number_of_loss, epoch))
                value.backward()
                _check_gradients(model, loss, inputs, target, epoch)
                if clip_norm is not None:
                    clip_grad_norm_(model.parameters(), clip_norm)
                optimizer.step()
                if scheduler is not None and every == "batch":
                    scheduler.step()
                means.add(len(target), number_of_loss, output, target, metrics)
                bar.show(means)
        row = means.row()
        seconds = time.perf_counter() - began
        if validation is not None:
            row |= {f"val_{name}": value for name, value in evaluate(model, validation, loss, metrics).items()}
        row |= {"lr": optimizer.param_groups[0]["lr"], "seconds": seconds}
        run.history.append(row)
        if verbose:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "seconds")
            print(f"epoch {epoch + 1} of {epochs}: {shown}, {means.samples / seconds:,.0f} samples/s", flush=True)
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(run.history.last("fit", None))
        elif scheduler is not None and every == "epoch":
            scheduler.step()
        _call(callbacks, "after_epoch", run)
        if run.history.stopped:
            break
    _call(callbacks, "end", run)
    if verbose and run.history.stopped:
        print(f"stopped: {run.history.stopped}", flush=True)
    return run.history


def evaluate(
    model: Module, loader: Iterable[Any], loss: Function, metrics: Mapping[str, Function] | None = None
) -> dict[str, float]:
    """{"loss": mean, metric: mean, ...} over the samples of `loader`, in evaluation mode and without gradients.

    Arguments as `fit`. The model is in its former mode afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    means = _Means()
    model.eval()
    try:
        with no_grad():
            for batch in loader:
                inputs, target = _split("evaluate", batch)
                output = model(*inputs)
                means.add(len(target), float(loss(output, target)), output, target, metrics)
    finally:
        for module, mode in modes:
            module.training = mode
    return means.row()


def accuracy(output: Tensor, target: Tensor) -> float:
    """The share of rows of scores (N, C) whose largest is at the target's index (N)."""
    return float((output.detach().numpy().argmax(1) == target.numpy()).mean())


def cross_validate(
    make_model: Callable[[], Module],
    dataset: Any,
    loss: Function,
    make_optimizer: Callable[[Any], Optimizer],
    epochs: int,
    *,
    folds: int = 5,
    seed: int = 0,
    stratify: Any = None,
    batch_size: int = 32,
    metrics: Mapping[str, Function] | None = None,
    make_scheduler: Callable[[Optimizer], Any] | None = None,
    **settings: Any,
) -> Scores:
    """Train a new model `folds` times, each time without another of the dataset's equal parts, and evaluate it there.

    Early stopping on the part that is left out makes that part's score a little too good.

    Args:
        make_model, make_optimizer, make_scheduler: () -> model, parameters -> optimizer, optimizer -> scheduler.
        dataset: with a length, read by index.
        folds: 2 or more, at most the dataset's length.
        seed: of the split into folds and of the order of batches (weights are drawn by hominy's generator).
        stratify: (N,) labels; each fold then has its share of each.
        settings: more of `fit`'s: callbacks, clip_norm, verbose (False here if not given).
    """
    size = len(dataset)
    folds = integer("cross_validate", "folds", folds, lowest=2)
    if folds > size:
        raise ValueError(wrong("cross_validate", "folds", f"at most {size}, the number of samples", folds))
    order = np.random.default_rng(seed).permutation(size)
    if stratify is not None:
        labels = np.asarray(stratify)
        if labels.shape != (size,):
            raise ValueError(wrong("cross_validate", "stratify", f"labels of shape ({size},)", labels.shape))
        order = order[np.argsort(labels[order], kind="stable")]  # like labels side by side: dealt out evenly
    scores = Scores()
    for fold in range(folds):
        held_out = np.arange(size) % folds == fold
        batches: DataLoader[Any] = DataLoader(
            Subset(dataset, np.sort(order[~held_out])),  # type: ignore[arg-type]
            batch_size,
            shuffle=True,
            generator=Generator().manual_seed(seed + fold),
        )
        rest: DataLoader[Any] = DataLoader(Subset(dataset, np.sort(order[held_out])), batch_size)  # type: ignore[arg-type]
        model = make_model()
        optimizer = make_optimizer(model.parameters())
        scheduler = None if make_scheduler is None else make_scheduler(optimizer)
        settings = {"verbose": False, **settings}
        scores.histories.append(
            fit(model, batches, loss, optimizer, epochs, validation=rest, metrics=metrics, scheduler=scheduler,
                **settings)
        )  # fmt: skip
        for name, value in evaluate(model, rest, loss, metrics).items():
            scores.values.setdefault(name, []).append(value)
    return scores


class Scores:
    """What `cross_validate` found: scores["loss"] has a value a fold; mean and std of each; `print(scores)`.

    Attributes:
        values: {name: [value, ...]}. histories: of the folds.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.histories: list[History] = []

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
        spread = self.std
        lines = [f"{name} {mean:.4g} ± {spread[name]:.2g}" for name, mean in self.mean.items()]
        return f"{', '.join(lines)} ({len(self.histories)} folds)"


def _call(callbacks: Sequence[Any], moment: str, run: Run) -> None:
    for callback in callbacks:
        method = getattr(callback, moment, callback if moment == "after_epoch" else None)
        if method is not None:
            method(run)


def _split(where: str, batch: Any) -> tuple[list[Any], Any]:
    """(inputs, target) of a batch."""
    if isinstance(batch, Tensor):
        return [batch], batch
    if not isinstance(batch, (tuple, list)) or not batch:
        raise TypeError(wrong(where, "loader", "batches (input, ..., target)", type(batch).__name__))
    return list(batch[:-1] or batch), batch[-1]


class _Means:
    """Means over the samples seen."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {"loss": 0.0}
        self.samples = 0

    def add(self, size: int, loss: float, output: Any, target: Any, metrics: Mapping[str, Function] | None) -> None:
        self.samples += size
        self.sums["loss"] += loss * size
        if metrics:
            with no_grad():
                for name, metric in metrics.items():
                    self.sums[name] = self.sums.get(name, 0.0) + float(metric(output, target)) * size

    def row(self) -> dict[str, float]:
        if not self.samples:
            raise ValueError(wrong("fit", "loader", "at least one sample", "none"))
        return {name: total / self.samples for name, total in self.sums.items()}


class _Bar:
    """The batches of a loader, and a bar over them where there is tqdm and a terminal."""

    def __init__(self, loader: Iterable[Any], title: str, verbose: bool):
        self.batches, self.bar = loader, None
        if verbose and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.batches = self.bar = tqdm(loader, title, leave=False, unit="batch", dynamic_ncols=True)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def show(self, means: _Means) -> None:
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.4g}" for name, value in means.row().items()}, refresh=False)


def _finite(tensor: Any) -> bool:
    """Whether all elements are finite; the sum of squares says so in one pass, unless it overflows."""
    if isinstance(tensor, (tuple, list)):
        return all(map(_finite, tensor))
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return True
    values = tensor.detach().numpy()
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.vdot(values, values)) or np.isfinite(values).all())


def _watched(model: Module, inputs: Sequence[Any]) -> tuple[Any, list[tuple[str, Module, Any, Any]]]:
    """The output of one more forward pass, and (path, layer, inputs, output) of the layers without others inside, in
    their order."""
    seen: list[tuple[str, Module, Any, Any]] = []
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    handles = [
        module.register_forward_hook(lambda m, given, output, path=path: seen.append((path, m, given, output)))
        for path, module in model.named_modules()
        if next(iter(module.children()), None) is None
    ]
    try:
        with np.errstate(all="ignore"):
            return model(*inputs), seen
    finally:
        for handle in handles:
            handle.remove()
        with no_grad():
            for buffer, before in buffers:  # running statistics as they were
                buffer.copy_(before)


def _culprit_of_loss(model: Module, inputs: Sequence[Any], target: Any, value: float, epoch: int) -> str:
    """Say where a loss that is not finite comes from: the data, a weight, a layer, or the loss itself."""
    text = f"[fit] loss: expected a finite number, got {value} in epoch {epoch + 1}; "
    if not _finite([*inputs, target]):
        return text + "the batch itself holds NaN or infinity"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return text + f"the weight {name!r} holds NaN or infinity"
    with no_grad():
        output, seen = _watched(model, inputs)
    for path, module, given, result in seen:
        if not _finite(given):
            return text + f"what reaches layer {path!r} ({type(module).__name__}) is the first that is not finite"
        if not _finite(result):
            return text + f"layer {path!r} ({type(module).__name__}) is the first whose output is not finite"
    return text + (
        "the model's output is finite: it is the loss that is not" if _finite(output) else "the model's output is not"
    )


def _check_gradients(model: Module, loss: Function, inputs: Sequence[Any], target: Any, epoch: int) -> None:
    """Raise, and say where it began on the way back, if a gradient is not finite."""
    if all(p.grad is None or _finite(p.grad) for p in model.parameters()):
        return
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    output, seen = _watched(model, inputs)
    layers = [entry for entry in seen if isinstance(entry[3], Tensor) and entry[3].requires_grad]
    gradients = grad(loss(output, target), [entry[3] for entry in layers], allow_unused=True)
    culprit = "the loss"
    for (path, module, _, _), gradient in zip(reversed(layers), reversed(gradients), strict=True):
        if gradient is not None and not _finite(gradient):
            break  # it came here broken: the layer after this one, or the loss, has done it
        culprit = f"layer {path!r} ({type(module).__name__})"
        if any(f"{path}.{name}".lstrip(".") in bad for name, _ in module.named_parameters(recurse=False)):
            break
    raise NotFinite(
        f"[fit] gradient: expected finite numbers, got NaN or infinity in epoch {epoch + 1}; on the way "
        f"back they begin in {culprit}, and reach {', '.join(map(repr, bad[:3]))}{', ...' if len(bad) > 3 else ''}"
    )
