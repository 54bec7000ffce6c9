"""Dropout: elements, or whole channels, become 0 at random while training. A mask is drawn again from its seed in the
backward pass, never kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import TensorBase, wrap
from ..backends import run
from ..memory_format import channels_last_order
from .define import functional, operator, require_array, scalar


@operator(public=False)
def dropout_of_seed(input, p, seed, order=None):
    """input / (1 - p) where the element's draw says so, else 0: a function of the seed and of its number in C order, or
    with the axes in another order."""
    array = require_array("dropout", "input", input)
    if order is not None:
        array = array.transpose(order)
    if array.dtype.char in "fd":
        result = run("dropout", array, p, seed)
    elif array.dtype.kind in "fV":
        result = run("dropout", array.astype(np.float32), p, seed).astype(array.dtype)
    else:
        raise TypeError(f"[dropout] input: expected a float dtype, got {array.dtype}")
    return result if order is None else result.transpose(sorted(range(len(order)), key=order.__getitem__))


dropout_of_seed.gradient(input=lambda grad, p, seed, order: dropout_of_seed(grad, p, seed, order))


def _seed() -> int:
    global _words
    if _words is None:  # hominy.random needs the operators first
        from ..random import default_generator

        _words = default_generator.words
    return int(_words(1)[0])


_words: Any = None


def _probability(name: str, p: Any) -> float:
    value = scalar(name, "p", p)
    if not 0 <= value <= 1:
        raise ValueError(f"[{name}] p: expected a probability in [0, 1], got {value}")
    return value


def _checked(name: str, input: Any, p: Any) -> float:
    if not isinstance(input, TensorBase):
        raise TypeError(f"[{name}] input: expected a tensor, got {type(input).__name__}")
    return _probability(name, p)


@functional
def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """While training: each element is 0 with probability p, else divided by 1 - p (https://jmlr.org/papers/v15/
    srivastava14a.html). In evaluation: input itself.

    inplace is accepted; the result is a new tensor.
    """
    p = _checked("dropout", input, p)
    if not training or p == 0:
        return input
    array = input._array
    return dropout_of_seed(input, p, _seed(), None if array.flags.c_contiguous else channels_last_order(array))


def _whole_channels(name: str, input: Any, p: Any, training: bool, unbatched: int) -> Any:
    p = _checked(name, input, p)
    shape = input.shape
    if len(shape) < 2:
        raise ValueError(f"[{name}] input: expected at least 2 dimensions, got shape {shape}")
    if not training or p == 0:
        return input
    kept = shape[:1] if len(shape) == unbatched else shape[:2]
    ones = wrap(np.ones((*kept, *(1,) * (len(shape) - len(kept))), input.dtype))
    return input * dropout_of_seed(ones, p, _seed())


@functional
def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, L) or (C, L)."""
    return _whole_channels("dropout1d", input, p, training, 2)


@functional
def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, H, W); three dimensions are (N, C, L), as in PyTorch."""
    return _whole_channels("dropout2d", input, p, training, 0)


@functional
def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""
    return _whole_channels("dropout3d", input, p, training, 4)


_ALPHA = -1.7580993408473766  # what SELU tends to at -infinity


def _alpha(input: Any, kept: Any, p: float) -> Any:
    """kept: 1 or 0, broadcast; mean and variance of a unit normal input are preserved."""
    scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2)) if p < 1 else 0.0
    return input * (kept * scale) + ((1 - kept) * (_ALPHA * scale) - scale * _ALPHA * p)


def _kept(shape: tuple[int, ...], dtype: Any, p: float) -> Any:
    """1 with probability 1 - p, else 0."""
    return wrap((run("dropout", np.ones(shape, np.float32), p, _seed()) > 0).astype(dtype))


@functional
def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout for SELU networks: dropped elements take SELU's limit, and an affine map restores mean 0 and variance 1
    (https://arxiv.org/abs/1706.02515)."""
    p = _checked("alpha_dropout", input, p)
    return _alpha(input, _kept(input.shape, input.dtype, p), p) if training and p > 0 else input


@functional
def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """alpha_dropout of whole channels of (N, C, *)."""
    p = _checked("feature_alpha_dropout", input, p)
    if not training or p == 0:
        return input
    if input.ndim < 2:
        raise ValueError(f"[feature_alpha_dropout] input: expected at least 2 dimensions, got shape {input.shape}")
    return _alpha(input, _kept((*input.shape[:2], *(1,) * (input.ndim - 2)), input.dtype, p), p)
