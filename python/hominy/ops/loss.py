"""Losses, with PyTorch's names, reductions and defaults. Cross entropy is one kernel from logits to loss; those that no
kernel computes are made of operators, without branches on values, so that their gradients are too.

PyTorch's deprecated `size_average` and `reduce` are left out. Where PyTorch warns that input and target have different
shapes and broadcasts them, these raise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..autograd import TensorBase, wrap
from ..backends import run
from .activation import hardtanh, logsigmoid, softplus
from .define import functional, operator, require_array, require_floating, scalar
from .distance import cosine_similarity, pairwise_distance
from .elementwise import abs, clamp, exp, log, minimum, square, subtract, where
from .shape import broadcast_to, permute, reshape, unsqueeze
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
    if not (isinstance(input, TensorBase) and isinstance(target, TensorBase)):
        _require_tensors(name, input=input, target=target)
    if input._array.shape != target._array.shape:
        raise ValueError(f"[{name}] target: expected shape {input._array.shape}, got {target._array.shape}")


def _require_reduction(name: str, reduction: Any, allowed: tuple[str, ...] = _REDUCTIONS) -> None:
    if reduction not in allowed:
        raise ValueError(f"[{name}] reduction: expected one of {', '.join(allowed)}, got {reduction!r}")


def _require_tensors(name: str, **tensors: Any) -> None:
    for argument, value in tensors.items():
        if not isinstance(value, TensorBase):
            raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")


def _check_pair(name: str, input: Any, target: Any, reduction: str, weight: Any = None) -> None:
    """That input, target and, where there is one, weight are tensors of one shape."""
    _require_reduction(name, reduction)
    _require_same_shape(name, input, target)
    if weight is not None and np.shape(weight) != input._array.shape:
        raise ValueError(f"[{name}] weight: expected shape {input._array.shape}, got {np.shape(weight)}")


@functional
def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """weight (input - target)^2, averaged ("mean": divided by the sum of the weights), summed ("sum") or as it is
    ("none"). All of one shape.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    _check_pair("mse_loss", input, target, reduction, weight)
    return _weighted("mse_loss", square(subtract(input, target)), weight, reduction)


@functional
def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """weight |input - target|, averaged ("mean": divided by the sum of the weights), summed or as it is."""
    _check_pair("l1_loss", input, target, reduction, weight)
    return _weighted("l1_loss", abs(subtract(input, target)), weight, reduction)


def _weighted(name: str, losses: Any, weight: Any, reduction: str) -> Any:
    if weight is None:
        return _reduced(name, losses, reduction)
    losses = losses * weight
    return losses.sum() / weight.sum() if reduction == "mean" else _reduced(name, losses, reduction)


@functional
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = input - target
    (https://doi.org/10.1214/aoms/1177703732). `weight` multiplies each; "mean" divides by their number all the same.

    Raises:
        ValueError: the shapes differ, or delta is not above 0.
    """
    _check_pair("huber_loss", input, target, reduction, weight)
    delta = scalar("huber_loss", "delta", delta)
    if not delta > 0.0:
        raise ValueError(f"[huber_loss] delta: expected a number above 0, got {delta}")
    losses = _huber(subtract(input, target), delta)
    return _reduced("huber_loss", losses if weight is None else losses * weight, reduction)


def _huber(difference: Any, delta: float) -> Any:
    near = hardtanh(difference, -delta, delta)
    return near * (difference - near * 0.5)


@functional
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target: huber_loss / beta.

    Raises:
        ValueError: the shapes differ, or beta is negative.
    """
    _check_pair("smooth_l1_loss", input, target, reduction)
    beta = scalar("smooth_l1_loss", "beta", beta)
    if not beta >= 0.0:
        raise ValueError(f"[smooth_l1_loss] beta: expected a number of 0 or more, got {beta}")
    difference = subtract(input, target)
    losses = abs(difference) if beta == 0.0 else _huber(difference, beta) * (1.0 / beta)
    return _reduced("smooth_l1_loss", losses, reduction)


@functional
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """-(target log(input) + (1 - target) log(1 - input)), each logarithm at least -100, of probabilities in [0, 1].

    Raises:
        ValueError: the shapes differ, or an input lies outside [0, 1].
    """
    _require_reduction("binary_cross_entropy", reduction)
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
    _require_reduction("binary_cross_entropy_with_logits", reduction)
    _require_same_shape("binary_cross_entropy_with_logits", input, target)
    tail = softplus(input * -1.0, 1.0, math.inf)  # log(1 + e^-x)
    losses = (1.0 - target) * input + (tail if pos_weight is None else ((pos_weight - 1.0) * target + 1.0) * tail)
    if weight is not None:
        losses = losses * weight
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)


@operator(public=False, direct="cross_entropy")
def cross_entropy_rows(input, target, weight, ignore_index, label_smoothing):
    """(losses, logsumexp), both (N,), of logits (N, C) and class indices (N,)."""
    return run("cross_entropy", input, target, weight, ignore_index, label_smoothing)


@operator(public=False, direct="cross_entropy_backward")
def cross_entropy_backward(grad, input, target, weight, ignore_index, label_smoothing, logsumexp):
    """The gradient with respect to the logits: w (softmax - one_hot), row by row."""
    return run("cross_entropy_backward", grad, input, target, weight, ignore_index, label_smoothing, logsumexp)


cross_entropy_rows.gradient(
    input=lambda grad, output, input, target, weight, ignore_index, label_smoothing: cross_entropy_backward(
        grad[0], input, target, weight, ignore_index, label_smoothing, output[1]
    )
)


@operator(public=False, direct="cross_entropy_mean")
def cross_entropy_mean(input, target, ignore_index, label_smoothing):
    """(mean of the losses of the rows that count, logsumexp (N,)): what most training steps ask for, in one node."""
    losses, logsumexp = run("cross_entropy", input, target, None, ignore_index, label_smoothing)
    count = np.count_nonzero(target != ignore_index)
    if count == len(losses):
        return run("mean", losses, (0,), False), logsumexp
    total = run("sum", losses, (0,), False) * (1.0 / count if count else math.nan)
    return np.asarray(total, losses.dtype), logsumexp


def _cross_entropy_mean_gradient(grad, needs, output_1, input, target, ignore_index, label_smoothing):
    count = np.count_nonzero(target._array != ignore_index)
    rows = broadcast_to(grad[0] * (1.0 / count if count else math.nan), target._array.shape)
    return (cross_entropy_backward(rows, input, target, None, ignore_index, label_smoothing, output_1),)


cross_entropy_mean.joint_gradient("input", _cross_entropy_mean_gradient)


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
    if not (isinstance(input, TensorBase) and isinstance(target, TensorBase)):
        _require_tensors(name, input=input, target=target)
    require_floating(name, "input", input._array)
    smoothing = scalar(name, "label_smoothing", label_smoothing) if label_smoothing != 0.0 else 0.0
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"[{name}] label_smoothing: expected a number in [0, 1], got {smoothing}")
    _require_reduction(name, reduction)
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
    if weight is None and reduction == "mean":
        return cross_entropy_mean(rows, flat, int(ignore_index), smoothing)[0]
    losses, _ = cross_entropy_rows(rows, flat, weight, int(ignore_index), smoothing)
    if reduction == "none":
        return reshape(losses, losses_shape)
    if reduction == "sum":
        return losses.sum()
    total = float(weight._array[flat._array[flat._array != ignore_index]].sum(dtype=np.float64))
    return losses.sum() * (1.0 / total if total else math.nan)


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
    _require_tensors(name, input=input, target=target)
    _require_reduction(name, reduction)
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


@functional
def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Classes (*) as rows (*, num_classes) of zeros with a 1 in the class's place, int64; -1: as many as are there.

    Raises:
        IndexError: a class is negative, or num_classes or more.
        ValueError: there is nothing to count the classes of.
    """
    classes = require_array("one_hot", "tensor", tensor._array if isinstance(tensor, TensorBase) else tensor)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"[one_hot] tensor: expected class indices (int64), got dtype {classes.dtype}")
    if num_classes == -1:
        if not classes.size:
            raise ValueError("[one_hot] num_classes: expected a positive integer where there are no classes, got -1")
        num_classes = int(classes.max()) + 1
    if num_classes < 1:
        raise ValueError(f"[one_hot] num_classes: expected a positive integer or -1, got {num_classes}")
    _require_classes("one_hot", "tensor", classes, num_classes)
    rows = np.zeros((classes.size, num_classes), np.int64)
    rows[np.arange(classes.size), classes.reshape(-1)] = 1
    return wrap(rows.reshape((*classes.shape, num_classes)))


def _require_classes(name: str, argument: str, places: np.ndarray, classes: int) -> None:
    wrong = places[(places < 0) | (places >= classes)]
    if wrong.size:
        raise IndexError(f"[{name}] {argument}: expected classes in [0, {classes}), got {wrong[0]}")


@functional
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """target (log(target) - input), 0 where target is 0: the Kullback-Leibler divergence of target from input, which
    holds log-probabilities; with `log_target`, target does too.

    "batchmean" sums and divides by input's first size, which is the divergence per sample; "mean" divides by the number
    of elements.

    Raises:
        ValueError: the shapes differ, or the reduction is unknown.
    """
    _require_reduction("kl_div", reduction, (*_REDUCTIONS, "batchmean"))
    _require_same_shape("kl_div", input, target)
    if log_target:
        losses = exp(target) * (target - input)
    else:
        none = target == 0.0
        losses = target * (log(where(none, 1.0, target)) - input)
    if reduction == "batchmean":
        return losses.sum() * (1.0 / input.shape[0]) if input.ndim else losses
    return _reduced("kl_div", losses, reduction)


@functional
def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
) -> Any:
    """-log of the Poisson density of target: e^input - target input, input being the rate's logarithm; without
    `log_input` it is the rate: input - target log(input + eps).

    `full` adds Stirling's approximation of log(target!), t log(t) - t + log(2 pi t) / 2, where t = target > 1.
    """
    name = "poisson_nll_loss"
    _check_pair(name, input, target, reduction)
    losses = exp(input) - target * input if log_input else input - target * log(input + scalar(name, "eps", eps))
    if full:
        many = target > 1.0
        t = where(many, target, 1.0)
        losses = losses + where(many, t * log(t) - t + log(t * (2.0 * math.pi)) * 0.5, 0.0)
    return _reduced(name, losses, reduction)


@functional
def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """(log(v) + (input - target)^2 / v) / 2 with v = max(var, eps); `full` adds log(2 pi) / 2.

    target has input's shape, or one that broadcasts to it. var: a number, or a tensor of input's shape, of that with
    one size 1 instead, or of that without the last dimension. Its gradient ignores the limit eps.

    Raises:
        ValueError: a shape does not fit, an element of var is negative, or eps is not above 0.
    """
    name = "gaussian_nll_loss"
    _require_reduction(name, reduction)
    _require_tensors(name, input=input, target=target)
    shape = input.shape
    if target.shape != shape:
        target = broadcast_to(target, shape)
    eps = scalar(name, "eps", eps)
    if not eps > 0.0:
        raise ValueError(f"[{name}] eps: expected a number above 0, got {eps}")
    if not isinstance(var, TensorBase):
        var = wrap(np.full(shape, scalar(name, "var", var), input.dtype))
    elif shape and var._array.shape == shape[:-1]:
        var = unsqueeze(var, -1)
    elif [own for own, size in zip(var._array.shape, shape, strict=False) if own != size] not in ([], [1]) or (
        var._array.ndim != len(shape)
    ):
        got = var._array.shape
        raise ValueError(f"[{name}] var: expected shape {shape}, with one size 1 instead, or {shape[:-1]}, got {got}")
    if (var._array < 0).any():
        raise ValueError(f"[{name}] var: expected variances of 0 or more, got {var._array.min()}")
    variance = var + (clamp(var, min=eps) - var).detach()
    losses = (log(variance) + square(subtract(input, target)) / variance) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2.0 * math.pi)
    return _reduced(name, losses, reduction)


# Margins: target is 1 or -1, or classes.


@functional
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """input where target is 1, max(0, margin - input) where it is -1; input is a distance."""
    name = "hinge_embedding_loss"
    _check_pair(name, input, target, reduction)
    away = where(target != 1, clamp(scalar(name, "margin", margin) - input, min=0.0), 0.0)
    return _reduced(name, away + where(target != -1, input, 0.0), reduction)


@functional
def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """max(0, margin - target (input1 - input2)): target 1 wants input1 larger, -1 input2. All have as many dimensions.

    Raises:
        ValueError: the numbers of dimensions differ.
    """
    name = "margin_ranking_loss"
    _require_reduction(name, reduction)
    _require_tensors(name, input1=input1, input2=input2, target=target)
    if not input1.ndim == input2.ndim == target.ndim:
        raise ValueError(f"[{name}] target: expected {input1.ndim} dimensions as input1 and input2, "
                         f"got shapes {input1.shape}, {input2.shape} and {target.shape}")  # fmt: skip
    losses = clamp(scalar(name, "margin", margin) - target * (input1 - input2), min=0.0)
    return _reduced(name, losses, reduction)


@functional
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """1 - c where target is 1, max(0, c - margin) where it is -1, with c the cosine of input1 and input2.

    inputs (N, D) and target (N,), or (D,) and ().

    Raises:
        ValueError: a shape does not fit.
    """
    name = "cosine_embedding_loss"
    _require_reduction(name, reduction)
    _require_tensors(name, input1=input1, input2=input2, target=target)
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise ValueError(f"[{name}] target: expected shape (N,) with inputs (N, D), or () with (D,), "
                         f"got {target.shape} with {input1.shape} and {input2.shape}")  # fmt: skip
    cosine = cosine_similarity(input1, input2, target.ndim)
    near = where(target == 1, 1.0 - cosine, 0.0)
    away = where(target == -1, clamp(cosine - scalar(name, "margin", margin), min=0.0), 0.0)
    return _reduced(name, near + away, reduction)


@functional
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), with d = pairwise_distance(..., p, eps).

    (N, D) -> (N,), or (D,) -> (). `swap` takes d(positive, negative) for the last where it is smaller
    (https://doi.org/10.5244/C.30.119).

    Raises:
        ValueError: the margin is not above 0, or a number of dimensions differs.
    """
    name = "triplet_margin_loss"
    _require_tensors(name, anchor=anchor, positive=positive, negative=negative)
    return _triplet(
        name, anchor, positive, negative, lambda a, b: pairwise_distance(a, b, p, eps), margin, swap, reduction
    )


@functional
def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Any = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """triplet_margin_loss with a distance of one's own (a function of two tensors; None: pairwise_distance)."""
    name = "triplet_margin_with_distance_loss"
    _require_tensors(name, anchor=anchor, positive=positive, negative=negative)
    return _triplet(name, anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _triplet(
    name: str, anchor: Any, positive: Any, negative: Any, distance: Any, margin: Any, swap: bool, reduction: str
) -> Any:
    _require_reduction(name, reduction)
    margin = scalar(name, "margin", margin)
    if not margin > 0.0:
        raise ValueError(f"[{name}] margin: expected a number above 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise ValueError(f"[{name}] anchor, positive, negative: expected as many dimensions, "
                         f"got shapes {anchor.shape}, {positive.shape} and {negative.shape}")  # fmt: skip
    near, away = distance(anchor, positive), distance(anchor, negative)
    if swap:
        away = minimum(away, distance(positive, negative))
    return _reduced(name, clamp(near - away + margin, min=0.0), reduction)


@functional
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """log(1 + e^(-target input)), target being 1 or -1."""
    _check_pair("soft_margin_loss", input, target, reduction)
    return _reduced("soft_margin_loss", softplus(target * input * -1.0, 1.0, math.inf), reduction)


@functional
def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Any:
    """The mean over classes of binary cross entropy with logits: (N, C), targets 0 or 1 (N, C) -> (N,).

    `weight` (C,) multiplies each class's term.
    """
    name = "multilabel_soft_margin_loss"
    _require_reduction(name, reduction)
    _require_same_shape(name, input, target)
    losses = (target * logsigmoid(input) + (1.0 - target) * logsigmoid(input * -1.0)) * -1.0
    if weight is not None:
        losses = losses * weight
    return _reduced(name, losses.mean(-1), reduction)


@functional
def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    """The sum over classes i other than y = target of max(0, margin - input[y] + input[i])^p, times weight[y], over C.

    input (N, C) with target (N,) -> (N,), or (C,) with () -> (); one class may come without its dimension.

    Raises:
        IndexError: a target is no class.
        ValueError: a shape does not fit, or p is neither 1 nor 2.
    """
    name = "multi_margin_loss"
    _require_reduction(name, reduction)
    _require_tensors(name, input=input, target=target)
    if p not in (1, 2):
        raise ValueError(f"[{name}] p: expected 1 or 2, got {p!r}")
    input = input if input.ndim else reshape(input, (1,))
    if input.ndim not in (1, 2) or target._array.size != (input.shape[0] if input.ndim == 2 else 1):
        raise ValueError(f"[{name}] target: expected shape (N,) with input (N, C), or () with (C,), "
                         f"got {target.shape} with {input.shape}")  # fmt: skip
    if target._array.dtype.kind not in "iu":
        raise TypeError(f"[{name}] target: expected class indices (int64), got dtype {target._array.dtype}")
    rows, shape = _as_rows(name, input)
    classes = rows.shape[1]
    if weight is not None and np.shape(weight) != (classes,):
        raise ValueError(f"[{name}] weight: expected shape ({classes},), got {np.shape(weight)}")
    places = target._array.reshape(-1, 1)
    _require_classes(name, "target", places, classes)
    terms = clamp(rows - rows.gather(1, places) + scalar(name, "margin", margin), min=0.0)
    if p == 2:
        terms = square(terms)
    if weight is not None:
        terms = terms * weight[places]
    terms = where(wrap(np.arange(classes) == places), 0.0, terms)
    return _reduced(name, reshape(terms.sum(1) * (1.0 / classes), shape), reduction)


@functional
def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """The sum over a row's classes y and all other classes i of max(0, 1 - input[y] + input[i]), over C.

    input (N, C) -> (N,), or (C,) -> (); target, of the same shape, lists each row's classes, ended by the first -1.

    Raises:
        IndexError: a target is neither a class nor -1.
        ValueError: the shapes differ.
    """
    name = "multilabel_margin_loss"
    _check_pair(name, input, target, reduction)
    if target._array.dtype.kind not in "iu":
        raise TypeError(f"[{name}] target: expected class indices (int64), got dtype {target._array.dtype}")
    if input.ndim > 2:
        raise ValueError(f"[{name}] input: expected shape (N, C) or (C,), got {input.shape}")
    input = input if input.ndim else reshape(input, (1,))
    rows, shape = _as_rows(name, input)
    count, classes = rows.shape
    places = target._array.reshape(count, classes)
    listed = np.logical_and.accumulate(places != -1, axis=1)
    _require_classes(name, "target", places[listed], classes)
    safe = np.where(listed, places, 0)
    own = np.zeros((count, classes), bool)  # whether the class is one of the row's
    own[np.nonzero(listed)[0], places[listed]] = True
    terms = clamp(unsqueeze(rows, 1) - unsqueeze(rows.gather(1, safe), 2) + 1.0, min=0.0)  # (N, listed, class)
    losses = where(wrap(listed[:, :, None] & ~own[:, None, :]), terms, 0.0).sum((1, 2))
    return _reduced(name, reshape(losses * (1.0 / max(classes, 1)), shape), reduction)
