"""Dropout layers: while training, parts of the input are zeroed at random and the rest is scaled up; in evaluation mode
the input passes unchanged.

`inplace` is accepted for the sake of ported code and printed, but the result is always a new tensor.
"""

from __future__ import annotations

from ..tensor import Tensor
from ..utils.arguments import number, wrong
from . import functional as F
from .module import Module


class _Dropout(Module):
    """What every dropout has: the probability p of zeroing."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = number(type(self).__name__, "p", p, low=0.0)
        if self.p > 1.0:
            raise ValueError(wrong(type(self).__name__, "p", "a number in [0, 1]", p))
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Each element is 0 with probability p, else x / (1 - p). Hinton et al., 2012."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)


class Dropout1d(_Dropout):
    """Whole channels are 0 with probability p, else x / (1 - p): (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, self.training)


class Dropout2d(_Dropout):
    """Whole channels are 0 with probability p, else x / (1 - p): (N, C, H, W). Tompson et al., 2014."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training)


class Dropout3d(_Dropout):
    """Whole channels are 0 with probability p, else x / (1 - p): (N, C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout3d(input, self.p, self.training)


class AlphaDropout(_Dropout):
    """Each element becomes SELU's negative limit with probability p; then mean and variance are restored.

    Klambauer et al., 2017.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels: (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.feature_alpha_dropout(input, self.p, self.training)
