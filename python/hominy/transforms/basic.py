"""Transforms without chance: conversion, size, normalisation, and one after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..creation import from_numpy
from ..dtypes import normalize_dtype
from ..tensor import Tensor
from ..utils.arguments import wrong
from . import functional as F
from .pictures import opened


class Transform:
    """Base class: a call on pictures gives pictures; what else is passed (labels) comes back beside them unchanged."""

    def __call__(self, pictures: Any, *others: Any) -> Any:
        result = self.transform(pictures)
        return (result, *others) if others else result

    def transform(self, pictures: Any) -> Any:
        """The pictures changed."""
        raise NotImplementedError(f"[{type(self).__name__}] transform: expected a method of the subclass, got none")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items() if name != "generator")
        return f"{type(self).__name__}({shown})"


class Compose(Transform):
    """The transforms, any functions, one after another.

    augment = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip(), Normalize(mean, std)])
    x = augment(x)
    """

    def __init__(self, transforms: Any):
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(wrong("Compose", "transforms", "functions", transform))

    def __call__(self, pictures: Any, *others: Any) -> Any:
        result: Any = (pictures, *others)
        for transform in self.transforms:
            result = transform(*result)
            if not isinstance(result, tuple):
                result = (result,)
        return result if len(result) > 1 else result[0]


class ToTensor(Transform):
    """Pictures as cameras and PIL give them, channels last, as a float32 tensor, channels first; bytes become 0 to 1.

    (H, W), (H, W, C) or (N, H, W, C), anything that NumPy makes an array of; floats keep their values and dtype.
    """

    def transform(self, pictures: Any) -> Any:
        array = np.asarray(pictures._array if isinstance(pictures, Tensor) else pictures)
        if array.ndim not in (2, 3, 4) or array.dtype.kind not in "uifb":
            raise ValueError(wrong("ToTensor", "pictures", "numbers (H, W), (H, W, C) or (N, H, W, C)", array.shape))
        array = array[..., None] if array.ndim == 2 else array
        result = np.ascontiguousarray(np.moveaxis(array, -1, -3))
        if array.dtype == np.uint8:
            return from_numpy(result.astype(np.float32) / np.float32(255))
        return from_numpy(result if result is not pictures else result.copy())


class ToDtype(Transform):
    """A cast; with `scale`, bytes 0 to 255 and floats 0 to 1 mean the same."""

    def __init__(self, dtype: Any, scale: bool = False):
        self.dtype, self.scale = normalize_dtype(dtype), scale

    def transform(self, pictures: Any) -> Any:
        array, restored = opened("ToDtype", pictures)
        if not self.scale or array.dtype == self.dtype or (array.dtype.kind == "f" and self.dtype.kind == "f"):
            return restored(array.astype(self.dtype))
        if array.dtype == np.uint8 and self.dtype.kind == "f":
            return restored((array / np.float32(255)).astype(self.dtype))
        if self.dtype == np.uint8:
            return restored(np.clip(np.rint(array.astype(np.float32) * 255), 0, 255).astype(np.uint8))
        raise TypeError(wrong("ToDtype", "dtype", "uint8 or a float beside scale=True", str(self.dtype)))


class Normalize(Transform):
    """(picture - mean) / std, one number a channel."""

    def __init__(self, mean: Any, std: Any):
        self.mean, self.std = mean, std

    def transform(self, pictures: Any) -> Any:
        return F.normalize(pictures, self.mean, self.std)


class CenterCrop(Transform):
    """The middle `size` pixels, (height, width) or one integer for both; smaller pictures are padded with zeros."""

    def __init__(self, size: Any):
        self.size = F.both("CenterCrop", "size", size)

    def transform(self, pictures: Any) -> Any:
        return F.center_crop(pictures, self.size)


class Resize(Transform):
    """Scaled to (height, width), or so that the shorter side is `size`; bilinear, antialiased where it shrinks."""

    def __init__(self, size: Any, antialias: bool = True):
        F.both("Resize", "size", size)
        self.size, self.antialias = size, antialias

    def transform(self, pictures: Any) -> Any:
        return F.resize(pictures, self.size, self.antialias)


class Pad(Transform):
    """Borders added; see `functional.pad`."""

    def __init__(self, padding: Any, fill: float = 0, padding_mode: str = "constant"):
        self.padding, self.fill, self.padding_mode = F.sides("Pad", padding), fill, padding_mode

    def transform(self, pictures: Any) -> Any:
        return F.pad(pictures, self.padding, self.fill, self.padding_mode)


class Grayscale(Transform):
    """Gray levels, in 1 or 3 channels."""

    def __init__(self, num_output_channels: int = 1):
        self.num_output_channels = num_output_channels

    def transform(self, pictures: Any) -> Any:
        return F.grayscale(pictures, self.num_output_channels)
