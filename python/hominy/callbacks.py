"""What `hominy.fit` can be asked to do after each epoch.

A callback is an object with any of the methods of `Callback`, or a plain function, called as `after_epoch`. Each gets
the run (`hominy.training.Run`): its model, optimizer, history and `stop(reason)`.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from .utils.arguments import choice, integer, number, wrong

if TYPE_CHECKING:
    from .training import Run


class Callback:
    """Base class: does nothing."""

    def begin(self, run: Run) -> None:
        """Before the first epoch; what was kept of an earlier run is forgotten."""

    def after_epoch(self, run: Run) -> None:
        """After each epoch, when `run.history` has its row."""

    def end(self, run: Run) -> None:
        """After the last epoch, also when the run was stopped; not after an exception."""


class BestWeights(Callback):
    """Keep a copy of the weights (and buffers) of the best epoch, and put them back at the end.

    Args:
        monitor: the column of the history that decides; None is "val_loss" where there is validation, else "loss".
        mode: "min" or "max": which values are better. min_delta: by how much at least.
        restore: put the weights back at the end.

    Attributes:
        best: the best value. best_epoch: its epoch, from 0. weights: {path: array}.
    """

    def __init__(self, monitor: str | None = None, mode: str = "min", min_delta: float = 0.0, restore: bool = True):
        where = type(self).__name__
        self.monitor, self.mode, self.restore = monitor, choice(where, "mode", mode, ("min", "max")), restore
        self.min_delta = number(where, "min_delta", min_delta, low=0.0)
        self.begin(None)

    def begin(self, run: Run | None) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch = -1
        self.weights: dict[str, Any] = {}

    def after_epoch(self, run: Run) -> None:
        value = run.history.last(type(self).__name__, self.monitor)
        better = self.best - value if self.mode == "min" else value - self.best
        if better > self.min_delta or not self.weights:
            self.best, self.best_epoch = value, run.epoch
            self.keep(run)

    def keep(self, run: Run) -> None:
        """Called in each epoch that is the best so far."""
        self.weights = {path: value.numpy().copy() for path, value in run.model.state_dict().items()}

    def end(self, run: Run) -> None:
        if self.restore and self.weights:
            run.model.load_state_dict(self.weights)


class EarlyStopping(BestWeights):
    """Stop when `patience` epochs in a row were no better than the best; then the best epoch's weights are put back,
    unless restore_best is False.

    Args:
        patience: epochs without improvement, at least 1. The others: see `BestWeights`.
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str | None = None,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = True,
    ):
        self.patience = integer("EarlyStopping", "patience", patience)
        super().__init__(monitor, mode, min_delta, restore_best)

    def after_epoch(self, run: Run) -> None:
        super().after_epoch(run)
        if run.epoch - self.best_epoch >= self.patience:
            run.stop(f"no better for {self.patience} epochs than {self.best:.4g} in epoch {self.best_epoch + 1}")


class Checkpoint(BestWeights):
    """Write the weights to `path` in each epoch that is the best so far, or, with best_only=False, in every epoch.

    Args:
        path: a file that `hominy.save` can write (.safetensors, .npz, .pt); "{epoch}" in it becomes the epoch, from 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        mode: str = "min",
        best_only: bool = True,
    ):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(wrong("Checkpoint", "path", "a path", path))
        self.path, self.best_only = os.fspath(path), best_only
        super().__init__(monitor, mode, restore=False)

    def after_epoch(self, run: Run) -> None:
        super().after_epoch(run)
        if not self.best_only and self.best_epoch != run.epoch:
            self.keep(run)

    def keep(self, run: Run) -> None:
        from .serialization import save

        self.weights = run.model.state_dict()
        save(self.weights, self.path.replace("{epoch}", str(run.epoch + 1)))
