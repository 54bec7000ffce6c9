"""Optimizers, under PyTorch's names, arguments and defaults: one kernel call a step for all parameters of a group."""

from .adam import Adam, AdamW
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
