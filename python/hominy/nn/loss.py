"""Losses as layers: each is the function of `nn.functional` with its settings kept.

Of n losses, reduction="mean" returns the mean (a 0-d tensor), "sum" the sum, "none" all of them.
"""

from __future__ import annotations

from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import functional as F
from .module import Module


class _Loss(Module):
    """What every loss has: its reduction."""

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = choice(type(self).__name__, "reduction", reduction, ("mean", "sum", "none"))


class _WeightedLoss(_Loss):
    """A loss with a rescaling weight, kept as a buffer so that it moves and is saved with the module."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("weight", weight)


class L1Loss(_Loss):
    """|input - target|, both (*) of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """(input - target)^2, both (*) of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


class BCELoss(_WeightedLoss):
    """-weight * (t * log(x) + (1 - t) * log(1 - x)) of probabilities x, both (*); logs are clamped at -100."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """BCELoss of sigmoid(input), in one stable formula; `pos_weight` multiplies the positive term, class by class."""

    pos_weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None):
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            input, target, weight=self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


class NLLLoss(_WeightedLoss):
    """-weight[t] * x[t] of log-probabilities x: (N, C), targets t: (N,) int64; the mean is over the weights.

    Targets equal to `ignore_index` count nothing.
    """

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(weight, reduction)
        self.ignore_index = integer("NLLLoss", "ignore_index", ignore_index, lowest=-(2**63))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class CrossEntropyLoss(_WeightedLoss):
    """NLLLoss of log_softmax(input), in one pass: logits (N, C), targets (N,) int64 classes.

    With label_smoothing s in [0, 1], a row's loss is (1-s) * w[t] * (lse - x[t]) + s/C * sum over c of
    w[c] * (lse - x[c]), where lse = log(sum of exp(x)). Szegedy et al., 2015.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(weight, reduction)
        self.ignore_index = integer("CrossEntropyLoss", "ignore_index", ignore_index, lowest=-(2**63))
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, low=0.0)
        if self.label_smoothing > 1.0:
            raise ValueError(wrong("CrossEntropyLoss", "label_smoothing", "a number in [0, 1]", label_smoothing))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
