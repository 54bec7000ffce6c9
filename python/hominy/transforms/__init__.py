"""Augmentation of pictures, under torchvision's names: on one picture (C, H, W) or a whole batch (N, C, H, W), tensors
or NumPy arrays, bytes or floats, each picture with a draw of its own.

    from hominy import transforms as T

    augment = T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), T.Normalize(0.5, 0.25)])
    for x, y in loader:
        loss = criterion(model(augment(x)), y)

NumPy alone, in one pass over the batch. `transforms.functional` has the same with given parameters.
"""

from . import functional
from .basic import CenterCrop, Compose, Grayscale, Normalize, Pad, Resize, ToDtype, ToTensor, Transform
from .random_transforms import (
    ColorJitter,
    CutMix,
    MixUp,
    RandomAffine,
    RandomApply,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
)

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Grayscale",
    "MixUp",
    "Normalize",
    "Pad",
    "RandomAffine",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "ToTensor",
    "Transform",
    "functional",
]
