"""A small U-Net: what is where in a picture, by a way down that sees more and a way up that sees finer.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015
(https://arxiv.org/abs/1505.04597); with padding, so that sizes are kept, and batch norm.
"""

from __future__ import annotations

from typing import Any

from .. import nn
from ..ops.shape import cat
from ..tensor import Tensor
from ..utils.arguments import integer
from .weights import load_weights


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Pictures (N, in_channels, H, W) -> scores of each pixel (N, num_classes, H, W).

    H and W are multiples of 2^depth. Level i of 0 to depth has width 2^i channels at 1/2^i of the size; on the way up
    each level reads the one below, doubled in size, beside what it was on the way down.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 1, width: int = 16, depth: int = 3):
        super().__init__()
        self.depth = integer("UNet", "depth", depth, lowest=1)
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(map(_two_convolutions, [in_channels, *widths[:-1]], widths))
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1])
        self.up = nn.ModuleList(_two_convolutions(2 * w, w) for w in widths[-2::-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        step = 1 << self.depth
        if x.dim() != 4 or x.shape[2] % step or x.shape[3] % step:
            raise ValueError(f"[UNet] x: expected (N, C, H, W), H and W multiples of {step}, got {tuple(x.shape)}")
        kept = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            kept.append(x)
        kept.pop()
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            x = block(cat([kept.pop(), enlarge(x)], 1))
        return self.head(x)


def unet(in_channels: int = 1, num_classes: int = 1, width: int = 16, depth: int = 3, weights: Any = None) -> UNet:
    """482,449 parameters as it stands, more with `width` squared.

    Args:
        weights: a path or a state dict; None draws them.
    """
    return load_weights(UNet(in_channels, num_classes, width, depth), weights)
