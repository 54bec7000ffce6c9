"""MobileNetV2: narrow layers joined by wide depthwise ones.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018
(https://arxiv.org/abs/1801.04381). Structure and names of the weights are torchvision's, whose state dicts load.
"""

from __future__ import annotations

import copy
from typing import Any

from .. import nn
from ..tensor import Tensor
from .fused import FusedBlock, FusedConv
from .weights import load_weights

# Factor of expansion, channels, number of blocks, stride of the first: the paper's table 2.
SETTING = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """1x1 to `expand_ratio` times the channels, 3x3 depthwise, 1x1 to oup without activation; plus x where shapes are
    equal: (N, inp, H, W) -> (N, oup, H/stride, W/stride)."""

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int):
        super().__init__()
        hidden = inp * expand_ratio
        layers: list[nn.Module] = [_layer(inp, hidden, 1)] if expand_ratio != 1 else []
        layers += [_layer(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, oup, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(oup))
        self.use_res_connect = stride == 1 and inp == oup

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)

    def fused(self) -> FusedBlock:
        """The block for inference."""
        *layers, conv, norm = self.conv
        fused = [FusedConv(layer[0], layer[1], "relu6") for layer in layers]
        return FusedBlock([*fused, FusedConv(conv, norm)], nn.Identity() if self.use_res_connect else None)


class MobileNetV2(nn.Module):
    """Pictures (N, 3, H, W) -> scores (N, num_classes).

    At 224 x 224: stem (N, 32, 112, 112), 17 blocks down to (N, 320, 7, 7), 1x1 to (N, 1280, 7, 7), mean over places,
    dropout, linear.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.2):
        super().__init__()
        layers: list[nn.Module] = [_layer(3, 32, 3, 2)]
        channels = 32
        for factor, outputs, count, stride in SETTING:
            for i in range(count):
                layers.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, factor))
                channels = outputs
        self.features = nn.Sequential(*layers, _layer(channels, 1280, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))

    def fused(self) -> nn.Sequential:
        """The same function for inference, faster: of a model in evaluation mode, with weights of its own."""
        first, *blocks, last = self.features
        ends = [FusedConv(layer[0], layer[1], "relu6") for layer in (first, last)]
        middle = [block.fused() for block in blocks]
        return nn.Sequential(ends[0], *middle, ends[1], self.avgpool, nn.Flatten(), copy.deepcopy(self.classifier[1]))


def mobilenet_v2(num_classes: int = 1000, weights: Any = None, dropout: float = 0.2) -> MobileNetV2:
    """3,504,872 parameters, 0.3 G multiplications for a picture of 224 x 224.

    Args:
        weights: a path or a state dict, as torchvision names it; None draws them (Kaiming's normal).
    """
    return load_weights(MobileNetV2(num_classes, dropout), weights)
