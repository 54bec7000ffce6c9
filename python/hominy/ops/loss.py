"""Losses, with PyTorch's names, reductions and defaults. Cross entropy is one kernel from logits to loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import TensorBase, wrap
from ..backends import run
from .activation import softplus
from .define import functional, operator, require_floating, scalar
from .elementwise import abs, clamp, log, square, subtract, where
from .shape import permute, reshape
from .softmax import log_softmax, softmax

_REDUCTIONS = ("none", "mean", "sum")


def _reduced(name: str, losses: Any, reduction: str) -> Any:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"[{name}] reduction: expected one of {', '.join(_REDUCTIONS)}, got {reduction!r}")


def _require_same_shape(name: str, input: Any, target: Any) -> None:
    for argument, value in (("input", input), ("target", target)):
        if not isinstance(value, TensorBase):
            raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
    if input._array.shape != target._array.shape:
        raise ValueError(f"[{name}] target: expected shape {input._array.shape}, got {target._array.shape}")


@functional
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target)^2, averaged ("mean"), summed ("sum") or as it is ("none").

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    _require_same_shape("mse_loss", input, target)
    return _reduced("mse_loss", square(subtract(input, target)), reduction)


@functional
def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """|input - target|, averaged, summed or as it is."""
    _require_same_shape("l1_loss", input, target)
    return _reduced("l1_loss", abs(subtract(input, target)), reduction)


@functional
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-(target log(input) + (1 - target) log(1 - input)), each logarithm at least -100, of probabilities in [0, 1].

    Raises:
        ValueError: the shapes differ, or an input lies outside [0, 1].
    """
    _require_same_shape("binary_cross_entropy", input, target)
    losses = _binary_cross_entropy(input, target)
    if weight is not None:
        losses = losses * weight
    return _reduced("binary_cross_entropy", losses, reduction)


@operator(public=False)
def _binary_cross_entropy(input, target):
    x = require_floating("binary_cross_entropy", "input", input)
    losses = run("binary_cross_entropy", x, target.astype(x.dtype, copy=False))
    # One pass instead of two: a loss is NaN where x is no probability, or where target is NaN.
    if x.size and np.isnan(run("amax", losses, tuple(range(x.ndim)), False)):
        wrong = x[~((x >= 0) & (x <= 1))]
        if wrong.size:
            raise ValueError(f"[binary_cross_entropy] input: expected probabilities in [0, 1], got {wrong[0]}")
    return losses


@operator(public=False, direct="binary_cross_entropy_backward")
def binary_cross_entropy_slope(input, target):
    """The derivative of the loss in input, (input - target) / max(input (1 - input), 1e-12)."""
    return run(
        "binary_cross_entropy_backward",
        require_floating("binary_cross_entropy", "input", input),
        target.astype(input.dtype, copy=False),
    )


binary_cross_entropy_slope.gradient(
    input=lambda grad, input, target: _slope_of_slope(grad, input, target),
    target=lambda grad, input: -grad / clamp((1.0 - input) * input, min=1e-12),
)


def _slope_of_slope(grad, input, target):
    spread = clamp((1.0 - input) * input, min=1e-12)
    return grad * (1.0 / spread - (input - target) * (1.0 - 2.0 * input) / square(spread))


_binary_cross_entropy.gradient(
    input=lambda grad, input, target: grad * binary_cross_entropy_slope(input, target),
    target=lambda grad, input: grad * (clamp(log(1.0 - input), min=-100.0) - clamp(log(input), min=-100.0)),
)


@functional
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """binary_cross_entropy(sigmoid(input), target), computed from the logits so that nothing overflows:
    (1 - y) x + (1 + (p - 1) y) (log(1 + e^-|x|) + max(-x, 0)), with p = pos_weight."""
    _require_same_shape("binary_cross_entropy_with_logits", input, target)
    tail = softplus(input * -1.0)  # log(1 + e^-x)
    losses = (1.0 - target) * input + (tail if pos_weight is None else ((pos_weight - 1.0) * target + 1.0) * tail)
    if weight is not None:
        losses = losses * weight
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)


@operator(public=False)
def cross_entropy_rows(input, target, weight, ignore_index, label_smoothing):
    """(losses, logsumexp), both (N,), of logits (N, C) and class indices (N,)."""
    return run("cross_entropy", input, target, weight, ignore_index, label_smoothing)


@operator(public=False)
def cross_entropy_backward(grad, input, target, weight, ignore_index, label_smoothing, logsumexp):
    """The gradient with respect to the logits: w (softmax - one_hot), row by row."""
    return run("cross_entropy_backward", grad, input, target, weight, ignore_index, label_smoothing, logsumexp)


cross_entropy_rows.gradient(
    input=lambda grad, output, input, target, weight, ignore_index, label_smoothing: cross_entropy_backward(
        grad[0], input, target, weight, ignore_index, label_smoothing, output[1]
    )
)


def _cross_entropy_second(outer, grad, input, target, weight, ignore_index, label_smoothing):
    # d/dx of sum_n g_n w_n (softmax(x_n) . o_n): the softmax Jacobian, scaled by each row's total weight.
    probabilities = softmax(input, 1)
    scale = _row_weights(input, target, weight, ignore_index, label_smoothing) * grad
    inner = (outer * probabilities).sum(1, True)
    return scale.reshape((-1, 1)) * probabilities * (outer - inner)


def _row_weights(input, target, weight, ignore_index, label_smoothing):
    """For each row the factor of logsumexp in its loss."""
    t, x = target._array, input._array
    w = np.ones(x.shape[1], x.dtype) if weight is None else weight._array
    kept = t != ignore_index
    rows = (1.0 - label_smoothing) * w[np.where(kept, t, 0)] + label_smoothing * w.mean()
    return wrap((rows * kept).astype(x.dtype))


def _cross_entropy_grad_gradient(outer, input, target, weight, ignore_index, label_smoothing, logsumexp):
    one = wrap(np.ones(input.shape[:1], input.dtype))
    return (outer * cross_entropy_backward(one, input, target, weight, ignore_index, label_smoothing, logsumexp)).sum(1)


cross_entropy_backward.gradient(grad=_cross_entropy_grad_gradient, input=_cross_entropy_second)


def _as_rows(name: str, input: Any) -> tuple[Any, tuple[int, ...]]:
    """(C,), (N, C) or (N, C, d1, ...) as rows (N*d1*..., C), and the shape of the losses."""
    shape = input._array.shape
    if not shape:
        raise ValueError(f"[{name}] input: expected shape (C,), (N, C) or (N, C, d1, ...), got ()")
    if len(shape) == 1:
        return reshape(input, (1,) + shape), ()
    if len(shape) == 2:
        return input, shape[:1]
    order = (0, *range(2, len(shape)), 1)
    return reshape(permute(input, order), (-1, shape[1])), shape[:1] + shape[2:]


@functional
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """The cross entropy between softmax(input) and target, from logits in one pass.

    input (C,), (N, C) or (N, C, d1, ...); target class indices (int64) of the same shape without C, or probabilities of
    input's shape. `weight` (C,) weighs the classes; "mean" divides by the weights of the targets. Rows whose target is
    `ignore_index` count for nothing. `label_smoothing` in [0, 1] mixes the target with the uniform distribution
    (https://arxiv.org/abs/1512.00567).

    Raises:
        IndexError: a target is neither ignored nor a class.
        ValueError: a shape, the reduction or the smoothing does not fit.
    """
    name = "cross_entropy"
    for argument, value in (("input", input), ("target", target)):
        if not isinstance(value, TensorBase):
            raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
    require_floating(name, "input", input._array)
    smoothing = scalar(name, "label_smoothing", label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"[{name}] label_smoothing: expected a number in [0, 1], got {smoothing}")
    if reduction not in _REDUCTIONS:
        raise ValueError(f"[{name}] reduction: expected one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
    rows, losses_shape = _as_rows(name, input)
    classes = rows._array.shape[1]
    if weight is not None and weight._array.shape != (classes,):
        raise ValueError(f"[{name}] weight: expected shape ({classes},), got {weight._array.shape}")
    if target._array.dtype.kind == "f":
        return _cross_entropy_of_probabilities(input, target, weight, reduction, smoothing)
    if target._array.shape != losses_shape:
        raise ValueError(f"[{name}] target: expected shape {losses_shape}, got {target._array.shape}")
    if target._array.dtype.kind not in "iu":
        raise TypeError(f"[{name}] target: expected class indices (int64) or probabilities, got {target._array.dtype}")
    flat = target if len(losses_shape) == 1 else reshape(target, (-1,))
    if flat._array.dtype != np.int64:
        flat = flat.to("int64")
    losses, _ = cross_entropy_rows(rows, flat, weight, int(ignore_index), smoothing)
    if reduction == "none":
        return reshape(losses, losses_shape)
    total = losses.sum()
    if reduction == "sum":
        return total
    kept = flat._array != ignore_index
    kept_weight = kept if weight is None else weight._array[flat._array[kept]]
    count = float(kept_weight.sum(dtype=np.float64))
    return total * (1.0 / count) if count else total * float("nan")


def _cross_entropy_of_probabilities(input: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    if target._array.shape != input._array.shape:
        raise ValueError(f"[cross_entropy] target: expected shape {input._array.shape}, got {target._array.shape}")
    axis = 1 if input.ndim > 1 else 0
    classes = input._array.shape[axis]
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / classes
    scores = log_softmax(input, axis)
    if weight is not None:
        scores = scores * reshape(weight, (classes,) + (1,) * (input.ndim - axis - 1))
    losses = (target * scores).sum(axis) * -1.0
    if reduction == "mean":
        rows = max(1, input._array.size // classes) if classes else 1
        return losses.sum() * (1.0 / rows)
    return _reduced("cross_entropy", losses, reduction)


@functional
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """-input[target] row by row, of log-probabilities (C,), (N, C) or (N, C, d1, ...) and class indices.

    Raises:
        IndexError: a target is neither ignored nor a class.
        ValueError: a shape or the reduction does not fit.
    """
    name = "nll_loss"
    for argument, value in (("input", input), ("target", target)):
        if not isinstance(value, TensorBase):
            raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
    rows, losses_shape = _as_rows(name, input)
    if target._array.shape != losses_shape:
        raise ValueError(f"[{name}] target: expected shape {losses_shape}, got {target._array.shape}")
    places = target._array.reshape(-1)
    if places.dtype.kind not in "iu":
        raise TypeError(f"[{name}] target: expected class indices (int64), got dtype {places.dtype}")
    kept = places != ignore_index
    classes = rows._array.shape[1]
    wrong = places[kept & ((places < 0) | (places >= classes))]
    if wrong.size:
        raise IndexError(f"[{name}] target: expected classes in [0, {classes}), got {wrong[0]}")
    safe = np.where(kept, places, 0)
    factors = -kept.astype(rows._array.dtype)
    if weight is not None:
        factors = factors * weight._array[safe]
    picked = rows[np.arange(len(safe)), safe]
    losses = where(wrap(kept), picked * wrap(factors), 0.0)
    if reduction == "mean":
        count = float(-factors.sum(dtype=np.float64))
        return losses.sum() * (1.0 / count) if count else losses.sum() * float("nan")
    return _reduced(name, reshape(losses, losses_shape), reduction)
