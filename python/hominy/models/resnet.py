"""ResNet: blocks of convolutions that learn what to add to their input.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015 (https://arxiv.org/abs/1512.03385). The
structure and the names of the weights are torchvision's, whose state dicts load; as there, a bottleneck's stride is in
its 3x3 convolution.
"""

from __future__ import annotations

import copy
from typing import Any

from .. import nn
from ..tensor import Tensor
from .fused import FusedBlock, FusedConv
from .weights import load_weights


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def _fused_shortcut(downsample: Any) -> nn.Module:
    return nn.Identity() if downsample is None else FusedConv(*downsample)


class BasicBlock(nn.Module):
    """relu(x + bn(conv3x3(relu(bn(conv3x3(x)))))): (N, inplanes, H, W) -> (N, planes, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inplanes, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)

    def fused(self) -> FusedBlock:
        """The block for inference."""
        layers = [FusedConv(self.conv1, self.bn1, "relu"), FusedConv(self.conv2, self.bn2, "relu")]
        return FusedBlock(layers, _fused_shortcut(self.downsample))


class Bottleneck(nn.Module):
    """The same with 1x1, 3x3 and 1x1: (N, inplanes, H, W) -> (N, 4 planes, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = _convolution(inplanes, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _convolution(planes, planes, 3, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = _convolution(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)

    def fused(self) -> FusedBlock:
        """The block for inference."""
        layers = ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3))
        return FusedBlock([FusedConv(*layer, "relu") for layer in layers], _fused_shortcut(self.downsample))


class ResNet(nn.Module):
    """Pictures (N, 3, H, W) -> scores (N, num_classes).

    At 224 x 224: stem (N, 64, 112, 112), pool (N, 64, 56, 56), then four layers of blocks, (N, 64 e, 56, 56),
    (N, 128 e, 28, 28), (N, 256 e, 14, 14), (N, 512 e, 7, 7) with e = block.expansion, mean over places, linear.

    Args:
        layers: blocks of each layer.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: tuple[int, ...], num_classes: int = 1000):
        super().__init__()
        self.conv1 = _convolution(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        planes = 64
        for i, count in enumerate(layers):
            blocks: list[nn.Module] = []
            for j in range(count):
                width, stride = 64 << i, 2 if i and not j else 1
                outputs = block.expansion * width
                downsample = None
                if stride != 1 or planes != outputs:
                    downsample = nn.Sequential(_convolution(planes, outputs, 1, stride), nn.BatchNorm2d(outputs))
                blocks.append(block(planes, width, stride, downsample))
                planes = outputs
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(planes, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def features(self, x: Tensor) -> Tensor:
        """What the last linear layer reads: (N, 3, H, W) -> (N, 512 e)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.avgpool(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))

    def fused(self) -> nn.Sequential:
        """The same function for inference, faster: of a model in evaluation mode, with weights of its own."""
        blocks = (block.fused() for layer in (self.layer1, self.layer2, self.layer3, self.layer4) for block in layer)
        stem = FusedConv(self.conv1, self.bn1, "relu")
        return nn.Sequential(stem, self.maxpool, *blocks, self.avgpool, nn.Flatten(), copy.deepcopy(self.fc))


def resnet18(num_classes: int = 1000, weights: Any = None) -> ResNet:
    """18 layers, 11,689,512 parameters, 1.8 G multiplications for a picture of 224 x 224.

    Args:
        weights: a path or a state dict, as torchvision names it; None draws them (Kaiming's normal).
    """
    return load_weights(ResNet(BasicBlock, (2, 2, 2, 2), num_classes), weights)


def resnet34(num_classes: int = 1000, weights: Any = None) -> ResNet:
    """34 layers, 21,797,672 parameters, 3.7 G multiplications; arguments as `resnet18`."""
    return load_weights(ResNet(BasicBlock, (3, 4, 6, 3), num_classes), weights)


def resnet50(num_classes: int = 1000, weights: Any = None) -> ResNet:
    """50 layers in bottlenecks, 25,557,032 parameters, 4.1 G multiplications; arguments as `resnet18`."""
    return load_weights(ResNet(Bottleneck, (3, 4, 6, 3), num_classes), weights)
