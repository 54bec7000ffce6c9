"""What a network becomes that only predicts: convolutions with all that follows them in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from .. import nn
from ..autograd import no_grad
from ..backends.conv_choice import choice
from ..ops import conv as ops
from ..prepared import prepare
from ..tensor import Tensor


class FusedConv(nn.Module):
    """activation(convolution + bias + residual), of arguments (N, C, H, W) and the residual of the output's shape.

    Batch norm is folded into weight and bias; bias, residual and activation are applied where the convolution stores
    its results; the weight is packed by the first call of each shape. Nothing is recorded for gradients.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, activation: Literal["none", "relu", "relu6"] = "none"):
        super().__init__()
        self.conv = nn.utils.fuse_conv_bn_eval(conv, norm)
        self.activation = activation
        self._prepared = prepare(self.conv.weight)
        self._geometry: Any = (None, None, None)  # an input's shape and dtype, and what follows from them

    def _geometry_for(self, x: Tensor) -> Any:
        shape, dtype, geometry = self._geometry
        if shape != x.shape or dtype != x.dtype:
            conv: Any = self.conv
            ops._floating("conv2d", x, conv.weight, conv.bias)
            padding = conv.padding_for(x) if hasattr(conv, "padding_for") else conv.padding
            arrays = x._array, conv.weight._array, conv.bias._array
            geometry = ops._geometry("conv2d", *arrays, conv.stride, padding, conv.dilation, conv.groups)
            self._geometry = (x.shape, x.dtype, geometry)
        return geometry

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        in_store = self.activation in ops._ACTIVATIONS
        rest = (*self._geometry_for(x), self.activation if in_store else "none", choice.forward, choice.exact)
        with no_grad():
            weight = self._prepared.checked("conv2d")
            out = self._prepared.conv((x, weight, self.conv.bias, residual, *rest))
            return out if in_store else out.clamp_(0.0, 6.0)  # relu6


class FusedBlock(nn.Module):
    """Layers one after another; the last adds `shortcut(x)` before its activation, where there is a shortcut."""

    def __init__(self, layers: Sequence[FusedConv], shortcut: nn.Module | None):
        super().__init__()
        self.layers, self.shortcut = nn.ModuleList(layers), shortcut

    def forward(self, x: Tensor) -> Tensor:
        *layers, last = self.layers
        out = x
        for layer in layers:
            out = layer(out)
        return last(out, None if self.shortcut is None else self.shortcut(x))
