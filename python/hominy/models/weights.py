"""Where a model's weights come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from ..nn import Module
from ..serialization import load
from ..utils.arguments import wrong

M = TypeVar("M", bound=Module)


def load_weights(model: M, weights: Any) -> M:
    """`model` with the weights of a file (`hominy.load` says of which formats) or a state dict; None leaves its own.

    Raises:
        TypeError: something else. RuntimeError: names or shapes are not the model's.
    """
    if weights is None:
        return model
    if isinstance(weights, (str, os.PathLike)):
        weights = load(weights)
    if not isinstance(weights, Mapping):
        raise TypeError(wrong(type(model).__name__, "weights", "a path, a state dict or None", type(weights).__name__))
    model.load_state_dict(weights)
    return model
