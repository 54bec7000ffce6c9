"""Losses as layers: each is the function of `nn.functional` with its settings kept.

Of n losses, reduction="mean" returns the mean (a 0-d tensor), "sum" the sum, "none" all of them. PyTorch's deprecated
`size_average` and `reduce` are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import functional as F
from .distance import PairwiseDistance
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


def _positive(where: str, argument: str, value: float) -> float:
    result = number(where, argument, value, low=0.0)
    if result == 0.0:
        raise ValueError(wrong(where, argument, "a finite number above 0", value))
    return result


class L1Loss(_Loss):
    """|input - target|, both (*) of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """(input - target)^2, both (*) of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target, both (*) of one shape."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = number("SmoothL1Loss", "beta", beta, low=0.0)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """d^2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = input - target, both (*) of one shape."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = _positive("HuberLoss", "delta", delta)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


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


class KLDivLoss(Module):
    """target * (log(target) - input) of log-probabilities `input`; `log_target`: target holds logarithms too.

    reduction="batchmean" divides the sum by the batch size, which is the divergence as it is defined; "mean" divides by
    the number of elements.
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__()
        self.reduction = choice("KLDivLoss", "reduction", reduction, ("mean", "batchmean", "sum", "none"))
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(_Loss):
    """exp(x) - t * x of the rate's logarithm x; of the rate itself, x - t * log(x + eps), with log_input=False.

    `full` adds Stirling's approximation of log(t!) for t > 1.
    """

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"):
        super().__init__(reduction)
        self.log_input, self.full = log_input, full
        self.eps = number("PoissonNLLLoss", "eps", eps, low=0.0)

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(
            log_input, target, log_input=self.log_input, full=self.full, eps=self.eps, reduction=self.reduction
        )


class GaussianNLLLoss(_Loss):
    """(log(v) + (input - target)^2 / v) / 2 with v = max(var, eps); `full` adds log(2 pi) / 2.

    var: a number, or of input's shape (*, D), of that with one size 1 instead, or (*).
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction)
        self.full = full
        self.eps = _positive("GaussianNLLLoss", "eps", eps)

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)


class HingeEmbeddingLoss(_Loss):
    """x where the target is 1, max(0, margin - x) where it is -1; both (*) of one shape, x a distance."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = number("HingeEmbeddingLoss", "margin", margin)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class MarginRankingLoss(_Loss):
    """max(0, margin - t * (x1 - x2)): target 1 wants x1 the larger, -1 x2."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = number("MarginRankingLoss", "margin", margin)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.margin_ranking_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos(x1, x2) where the target is 1, max(0, cos(x1, x2) - margin) where it is -1: (N, D), (N, D), (N,)."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = number("CosineEmbeddingLoss", "margin", margin)

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.cosine_embedding_loss(input1, input2, target, margin=self.margin, reduction=self.reduction)


class TripletMarginLoss(_Loss):
    """max(0, margin + d(anchor, positive) - d(anchor, negative)), d the p-norm of the difference: three (N, D).

    `swap`: d(positive, negative) in the last's place where it is smaller. Balntas et al., 2016.
    """

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ):
        super().__init__(reduction)
        self.margin = _positive("TripletMarginLoss", "margin", margin)
        self.p, self.eps, self.swap = p, number("TripletMarginLoss", "eps", eps), swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, reduction=self.reduction
        )


class TripletMarginWithDistanceLoss(_Loss):
    """TripletMarginLoss with a distance of one's own, a function of two tensors (None: PairwiseDistance())."""

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = _positive("TripletMarginWithDistanceLoss", "margin", margin), swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


class SoftMarginLoss(_Loss):
    """log(1 + exp(-t * x)), targets 1 or -1, both (*) of one shape."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """The mean over classes of BCEWithLogitsLoss: (N, C), targets 0 or 1 (N, C); `weight` (C,) weighs the classes."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_soft_margin_loss(input, target, weight=self.weight, reduction=self.reduction)


class MultiMarginLoss(_WeightedLoss):
    """sum over i != t of weight[t] * max(0, margin - x[t] + x[i])^p, over C: (N, C), targets (N,) int64 classes."""

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean"):
        super().__init__(weight, reduction)
        if p not in (1, 2):
            raise ValueError(wrong("MultiMarginLoss", "p", "1 or 2", p))
        self.p, self.margin = p, number("MultiMarginLoss", "margin", margin)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multi_margin_loss(
            input, target, p=self.p, margin=self.margin, weight=self.weight, reduction=self.reduction
        )


class MultiLabelMarginLoss(_Loss):
    """sum over a row's classes y and all other classes i of max(0, 1 - x[y] + x[i]), over C.

    (N, C), targets (N, C) int64: each row's classes, ended by the first -1.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)
