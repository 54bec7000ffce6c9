"""What `hominy.fit` can be asked to do after each epoch.

A callback is an object with any of the methods of `Callback`, or a plain function, called as `after_epoch`. Each gets
the run (`hominy.training.Run`): its model, optimizer, history and `stop(reason)`.
"""

from __future__ import annotations

import math
import os
from typing import Any

from .utils.arguments import choice, integer, number, wrong


class Callback:
    """Base class: does nothing."""

    def begin(self, run: Any) -> None:
        """Before the first epoch; what was kept of an earlier run is forgotten."""

    def after_epoch(self, run: Any) -> None:
        """After each epoch, when `run.history` has its row."""

    def end(self, run: Any) -> None:
        """After the last epoch, also when the run was stopped; not after an exception."""


class BestWeights(Callback):
    """Keep a copy of the weights (and buffers) of the best epoch, and put them back at the end if `restore`.

    Best is, by `mode`, the smallest ("min") or largest ("max") value in the column `monitor` of the history (None:
    "val_loss" where there is validation, else "loss"); it must pass the one before it by more than `min_delta`. It can
    be read as `best`, its epoch, from 0, as `best_epoch`, and the `weights` then as {path: array}.
    """

    best_only = True

    def __init__(self, monitor: str | None = None, mode: str = "min", min_delta: float = 0.0, restore: bool = True):
        where, self.monitor, self.restore = type(self).__name__, monitor, restore
        self.mode = choice(where, "mode", mode, ("min", "max"))
        self.min_delta = number(where, "min_delta", min_delta, low=0.0)
        self.begin(None)

    def begin(self, run: Any) -> None:
        self.best, self.best_epoch = (math.inf if self.mode == "min" else -math.inf), -1
        self.weights: dict[str, Any] = {}

    def after_epoch(self, run: Any) -> None:
        value = run.history.last(type(self).__name__, self.monitor)
        better = self.best - value if self.mode == "min" else value - self.best
        if better > self.min_delta or not self.weights:
            self.best, self.best_epoch = value, run.epoch
        if self.best_epoch == run.epoch or not self.best_only:
            self.keep(run)

    def keep(self, run: Any) -> None:
        """Called in each epoch that is the best so far."""
        self.weights = {path: value.numpy().copy() for path, value in run.model.state_dict().items()}

    def end(self, run: Any) -> None:
        if self.restore and self.weights:
            run.model.load_state_dict(self.weights)


class EarlyStopping(BestWeights):
    """Stop when `patience` epochs in a row (1 or more) were no better than the best; then the best epoch's weights are
    put back, unless restore_best is False. The other arguments: see `BestWeights`."""

    def __init__(self, patience: int = 5, monitor: str | None = None, mode: str = "min", min_delta: float = 0.0,
                 restore_best: bool = True):  # fmt: skip
        self.patience = integer("EarlyStopping", "patience", patience)
        super().__init__(monitor, mode, min_delta, restore_best)

    def after_epoch(self, run: Any) -> None:
        super().after_epoch(run)
        if run.epoch - self.best_epoch >= self.patience:
            run.stop(f"no better for {self.patience} epochs than {self.best:.4g} in epoch {self.best_epoch + 1}")


class Checkpoint(BestWeights):
    """Write the weights to `path` in each epoch that is the best so far, or, with best_only=False, in every epoch.

    `path` is a file that `hominy.save` can write (.safetensors, .npz, .pt); "{epoch}" in it becomes the epoch, from 1.
    """

    def __init__(self, path: Any, monitor: str | None = None, mode: str = "min", best_only: bool = True):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(wrong("Checkpoint", "path", "a path", path))
        self.path, self.best_only = os.fspath(path), best_only
        super().__init__(monitor, mode, restore=False)

    def keep(self, run: Any) -> None:
        from .serialization import save

        self.weights = run.model.state_dict()
        save(self.weights, self.path.replace("{epoch}", str(run.epoch + 1)))
