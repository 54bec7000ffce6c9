"""Pooling and interpolation, forward and with gradients, in both memory layouts, beside PyTorch in the same one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

from . import layers
from .layers import Work

add_arguments = layers.add_arguments

_CALLS = {
    "max_pool 3/2": lambda fw, F, x: F.max_pool2d(x, 3, 2, 1),
    "max_pool 2": lambda fw, F, x: F.max_pool2d(x, 2),
    "avg_pool 2": lambda fw, F, x: F.avg_pool2d(x, 2),
    "avg_pool 3": lambda fw, F, x: F.avg_pool2d(x, 3, 1, 1),
    "adaptive_avg_pool 7": lambda fw, F, x: F.adaptive_avg_pool2d(x, 7),
    "adaptive_avg_pool 1": lambda fw, F, x: F.adaptive_avg_pool2d(x, 1),
    "adaptive_max_pool 7": lambda fw, F, x: F.adaptive_max_pool2d(x, 7),
    "nearest 2": lambda fw, F, x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "bilinear 2": lambda fw, F, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
    "bicubic 2": lambda fw, F, x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
    "pixel_shuffle 2": lambda fw, F, x: F.pixel_shuffle(x, 2),
}


def works() -> Iterator[Work]:
    """All of them, the small ones first."""
    rng = np.random.default_rng(0)
    for shape in ((1, 64, 14, 14), (8, 64, 56, 56)):
        x: Any = rng.standard_normal(shape).astype(np.float32)
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        size = "x".join(map(str, shape))
        for name, call in _CALLS.items():
            yield Work(name, size, call, (x,))
            yield Work(f"{name}, channels last", size, call, (last,))


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit status."""
    return layers.run_works(arguments, works)
