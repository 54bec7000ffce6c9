"""Augmentation: torchvision's classes of these names, on whole batches, with a draw for each picture.

Every class with a `generator` draws from it, or else from hominy's own, which `hominy.manual_seed` seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..creation import from_numpy
from ..random import randn
from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import functional as F
from .basic import Transform
from .pictures import below, opened, uniform


class RandomTransform(Transform):
    """A transform that draws: `apply` gets an (N, C, H, W) array."""

    generator: Any = None

    def draw(self, count: int, low: Any = 0.0, high: Any = 1.0) -> np.ndarray:
        """`count` float64 numbers in [low, high)."""
        return uniform(count, low, high, self.generator)

    def transform(self, pictures: Any) -> Any:
        array, restored = opened(type(self).__name__, pictures)
        return restored(self.apply(array))

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"[{type(self).__name__}] apply: expected a method of the subclass, got none")


def span(where: str, argument: str, value: Any, low: float = -math.inf) -> tuple[float, float]:
    """A range given as (lowest, highest)."""
    if not isinstance(value, Sequence) or len(value) != 2 or value[0] > value[1]:
        raise ValueError(wrong(where, argument, "a pair, the lower number first", value))
    return number(where, argument, value[0], low), number(where, argument, value[1], low)


def probability(where: str, p: Any) -> float:
    """`p`, a number from 0 to 1."""
    value = number(where, "p", p, low=0.0)
    if value > 1:
        raise ValueError(wrong(where, "p", "a number from 0 to 1", p))
    return value


class RandomHorizontalFlip(RandomTransform):
    """Each picture's left and right exchanged with probability p."""

    def __init__(self, p: float = 0.5, generator: Any = None):
        self.p, self.generator = probability(type(self).__name__, p), generator

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        chosen = self.draw(len(pictures)) < self.p
        return np.where(chosen[:, None, None, None], pictures[..., ::-1], pictures)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Each picture's top and bottom exchanged with probability p."""

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        chosen = self.draw(len(pictures)) < self.p
        return np.where(chosen[:, None, None, None], pictures[..., ::-1, :], pictures)


class RandomCrop(RandomTransform):
    """A box of `size` pixels at a random place of each picture, after padding.

    Args:
        size: one integer or (height, width).
        padding: see `functional.pad`; None pads nothing.
        pad_if_needed: pad both sides, if the picture is smaller than `size`, by what is missing.
        padding_mode: "constant" (with `fill`), "edge", "reflect" or "symmetric".
    """

    def __init__(
        self,
        size: Any,
        padding: Any = None,
        pad_if_needed: bool = False,
        fill: float = 0,
        padding_mode: str = "constant",
        generator: Any = None,
    ):
        where = "RandomCrop"
        self.size, self.pad_if_needed, self.fill = F.both(where, "size", size), pad_if_needed, fill
        self.padding = None if padding is None else F.sides(where, padding)
        self.padding_mode = choice(where, "padding_mode", padding_mode, F.PADDING_MODES)
        self.generator = generator

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        height, width = self.size
        if self.padding is not None:
            pictures = F.pad(pictures, self.padding, self.fill, self.padding_mode)
        if self.pad_if_needed:
            missing = max(width - pictures.shape[3], 0), max(height - pictures.shape[2], 0)
            pictures = F.pad(pictures, missing, self.fill, self.padding_mode)
        count, _, rows, columns = pictures.shape
        if rows < height or columns < width:
            raise ValueError(wrong("RandomCrop", "pictures", f"at least {height} x {width} pixels", (rows, columns)))
        top = below(count, rows - height + 1, self.generator)
        left = below(count, columns - width + 1, self.generator)
        return F.crop(pictures, top, left, height, width)


class RandomResizedCrop(RandomTransform):
    """A box of random area and shape of each picture, scaled to `size` (bilinear).

    The area is uniform in `scale` times the picture's, the logarithm of width / height uniform in that of `ratio`. A
    box that does not fit is drawn anew, ten times; then the largest central box within `ratio` is taken.
    """

    def __init__(
        self,
        size: Any,
        scale: Any = (0.08, 1.0),
        ratio: Any = (3 / 4, 4 / 3),
        antialias: bool = True,
        generator: Any = None,
    ):
        where = "RandomResizedCrop"
        self.size, self.antialias, self.generator = F.both(where, "size", size), antialias, generator
        self.scale, self.ratio = span(where, "scale", scale, 0.0), span(where, "ratio", ratio, 0.0)
        if self.ratio[0] <= 0:
            raise ValueError(wrong(where, "ratio", "positive numbers", ratio))

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        count, _, rows, columns = pictures.shape
        low, high = self.ratio
        whole_height, whole_width = rows, columns
        if columns < low * rows:
            whole_height = round(columns / low)
        elif columns > high * rows:
            whole_width = round(rows * high)
        otherwise = whole_height, whole_width, (rows - whole_height) // 2, (columns - whole_width) // 2
        height, width = _boxes(self, count, rows, columns, self.scale, self.ratio)
        within = (height > 0) & (height <= rows) & (width > 0) & (width <= columns)
        height, width, top, left = _first(within, (height, width), otherwise, rows, columns, self)
        return F.resized_crop(pictures, top, left, height, width, self.size, self.antialias)


def _boxes(
    transform: RandomTransform, count: int, rows: int, columns: int, scale: Any, ratio: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Ten candidates a picture, (10, N): heights and widths of boxes of random area and shape."""
    area = transform.draw(10 * count, *scale).reshape(10, count) * rows * columns
    shape = np.exp(transform.draw(10 * count, *map(math.log, ratio))).reshape(10, count)  # width / height
    return np.rint(np.sqrt(area / shape)), np.rint(np.sqrt(area * shape))


def _first(
    within: np.ndarray, boxes: Any, otherwise: Any, rows: int, columns: int, transform: RandomTransform
) -> list[np.ndarray]:
    """Height, width, top and left of the first candidate that is `within`, at a random place; else `otherwise`."""
    count = within.shape[1]
    which, every = within.argmax(0), np.arange(count)
    height, width = (box[which, every] for box in boxes)
    found = within.any(0)
    top = np.floor(transform.draw(count) * (rows - height + 1))
    left = np.floor(transform.draw(count) * (columns - width + 1))
    return [np.where(found, new, old) for new, old in zip((height, width, top, left), otherwise, strict=True)]


class RandomAffine(RandomTransform):
    """Each picture turned, moved, scaled and sheared at random.

    Args:
        degrees: the angle's range; one number d stands for (-d, d).
        translate: (a, b): moved by at most a widths and b heights, in whole pixels.
        scale: the range of the scale.
        shear: the range along x in degrees, one number s for (-s, s); four numbers give that along y, too.
        interpolation: "bilinear" (torchvision's default is "nearest").
        fill: what comes in from outside.
        center: (x, y) in pixels; the middle if None.
    """

    def __init__(
        self,
        degrees: Any,
        translate: Any = None,
        scale: Any = None,
        shear: Any = None,
        interpolation: str = "bilinear",
        fill: Any = 0,
        center: Any = None,
        generator: Any = None,
    ):
        where = type(self).__name__
        self.degrees = _around_zero(where, "degrees", degrees)
        self.translate = None
        if translate is not None:
            if not isinstance(translate, Sequence) or len(translate) != 2 or not all(0 <= t <= 1 for t in translate):
                raise ValueError(wrong(where, "translate", "two numbers from 0 to 1", translate))
            self.translate = tuple(map(float, translate))
        self.scale = None if scale is None else span(where, "scale", scale, 0.0)
        if self.scale is not None and self.scale[0] <= 0:
            raise ValueError(wrong(where, "scale", "positive numbers", scale))
        self.shear: Any = None
        if shear is not None:
            four = isinstance(shear, Sequence) and len(shear) == 4
            self.shear = (
                (span(where, "shear", shear[:2]), span(where, "shear", shear[2:]))
                if four
                else (_around_zero(where, "shear", shear), (0.0, 0.0))
            )
        self.interpolation = choice(where, "interpolation", interpolation, ("bilinear", "nearest"))
        self.fill, self.center, self.generator = fill, center, generator

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        count, _, rows, columns = pictures.shape
        angle = self.draw(count, *self.degrees)
        move: Any = (0.0, 0.0)
        if self.translate is not None:
            reach = self.translate[0] * columns, self.translate[1] * rows
            move = tuple(np.rint(self.draw(count, -most, most)) for most in reach)
        scale = 1.0 if self.scale is None else self.draw(count, *self.scale)
        shear = (0.0, 0.0) if self.shear is None else tuple(self.draw(count, *bounds) for bounds in self.shear)
        return F.affine(pictures, angle, move, scale, shear, self.interpolation, self.fill, self.center)


def _around_zero(where: str, argument: str, value: Any) -> tuple[float, float]:
    if isinstance(value, Sequence):
        return span(where, argument, value)
    size = number(where, argument, value, low=0.0)
    return -size, size


class RandomRotation(RandomAffine):
    """Each picture turned by an angle from `degrees` (one number d stands for (-d, d)), counter-clockwise.

    The size is kept (torchvision's `expand` would give the pictures of a batch different sizes); bilinear by default.
    """

    def __init__(
        self,
        degrees: Any,
        interpolation: str = "bilinear",
        center: Any = None,
        fill: Any = 0,
        generator: Any = None,
    ):
        super().__init__(degrees, interpolation=interpolation, fill=fill, center=center, generator=generator)

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        angle = self.draw(len(pictures), *self.degrees)
        return F.rotate(pictures, angle, self.interpolation, self.fill, self.center)


class ColorJitter(RandomTransform):
    """Brightness, contrast, saturation and hue of each picture changed at random, in random order.

    Args:
        brightness, contrast, saturation: the range of the factor; one number b stands for (max(0, 1 - b), 1 + b).
        hue: the range of the turn, within -0.5 and 0.5; one number h stands for (-h, h).
    """

    def __init__(
        self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0, generator: Any = None
    ):
        where = "ColorJitter"
        self.brightness, self.contrast, self.saturation = (
            self._range(where, name, value)
            for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation))
        )
        self.hue: Any = _around_zero(where, "hue", hue)
        if max(abs(bound) for bound in self.hue) > 0.5:
            raise ValueError(wrong(where, "hue", "numbers from -0.5 to 0.5", hue))
        if self.hue == (0.0, 0.0):
            self.hue = None
        self.generator = generator

    @staticmethod
    def _range(where: str, name: str, value: Any) -> tuple[float, float] | None:
        if isinstance(value, Sequence):
            bounds = span(where, name, value, 0.0)
        else:
            size = number(where, name, value, low=0.0)
            bounds = max(0.0, 1 - size), 1 + size
        return None if bounds == (1.0, 1.0) else bounds

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        steps: list[tuple[Callable[..., Any], np.ndarray]] = []
        count = len(pictures)
        for name in ("brightness", "contrast", "saturation", "hue"):
            if (bounds := getattr(self, name)) is not None:
                steps.append((getattr(F, "adjust_" + name), self.draw(count, *bounds)))
        result = pictures.copy()
        # order[n]: the steps of picture n, one after another.
        order = np.argsort(self.draw(count * len(steps)).reshape(count, len(steps)), 1)
        for turn in range(len(steps)):
            for which, (adjust, factors) in enumerate(steps):
                (chosen,) = np.nonzero(order[:, turn] == which)
                if len(chosen):
                    result[chosen] = adjust(result[chosen], factors[chosen])
        return result


class RandomErasing(RandomTransform):
    """A box of each picture replaced, with probability p (https://arxiv.org/abs/1708.04896).

    Args:
        scale: the range of the box's share of the picture.
        ratio: the range of the box's height / width.
        value: what it is replaced by: a number, one a channel, or "random" for normal numbers (of floats only).
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Any = (0.02, 0.33),
        ratio: Any = (0.3, 3.3),
        value: Any = 0,
        generator: Any = None,
    ):
        where = "RandomErasing"
        self.p, self.value, self.generator = probability(where, p), value, generator
        self.scale, self.ratio = span(where, "scale", scale, 0.0), span(where, "ratio", ratio, 0.0)
        if self.ratio[0] <= 0:
            raise ValueError(wrong(where, "ratio", "positive numbers", ratio))
        if isinstance(value, str) and value != "random":
            raise ValueError(wrong(where, "value", 'a number, one a channel or "random"', value))

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        count, channels, rows, columns = pictures.shape
        drawn = self.draw(count) < self.p
        width, height = _boxes(self, count, rows, columns, self.scale, self.ratio)  # `ratio` is height / width here
        within = (height > 0) & (width > 0) & (height < rows) & (width < columns)
        nowhere = (0, 0, 0, 0)
        height, width, top, left = _first(within, (height, width), nowhere, rows, columns, self)
        chosen = np.flatnonzero(drawn & (height > 0))
        result = pictures.copy()
        if len(chosen):
            value = self.value
            if isinstance(value, str):
                if pictures.dtype == np.uint8:
                    raise TypeError("[RandomErasing] pictures: expected floats for value='random', got uint8")
                value = randn(len(chosen), channels, rows, columns, generator=self.generator).numpy()
            result[chosen] = F.erase(pictures[chosen], top[chosen], left[chosen], height[chosen], width[chosen], value)
        return result


class RandomApply(RandomTransform):
    """The transforms, one after another, on each picture with probability p; they must keep its shape."""

    def __init__(self, transforms: Any, p: float = 0.5, generator: Any = None):
        self.transforms = [transforms] if callable(transforms) else list(transforms)
        self.p, self.generator = probability("RandomApply", p), generator

    def apply(self, pictures: np.ndarray) -> np.ndarray:
        (chosen,) = np.nonzero(self.draw(len(pictures)) < self.p)
        result = pictures.copy()
        if len(chosen):
            part = pictures[chosen]
            for transform in self.transforms:
                part = transform(part)
            if part.shape[1:] != pictures.shape[1:] or part.dtype != pictures.dtype:
                raise ValueError(wrong("RandomApply", "transforms", "ones that keep shape and dtype", part.shape[1:]))
            result[chosen] = part
        return result


class Mixing(RandomTransform):
    """What MixUp and CutMix share: called on pictures and labels, they pair each picture with the one before it, the
    first with the last (a shuffled batch makes that random), in shares (lam, 1 - lam), lam from Beta(alpha, alpha), one
    a picture (torchvision draws one a batch).

    Args:
        num_classes: needed where labels are class indices; labels (N, classes) are mixed as they are.

    Returns:
        The pictures, and labels of shape (N, classes), float32.
    """

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None, generator: Any = None):
        where = type(self).__name__
        self.alpha, self.generator = number(where, "alpha", alpha, low=0.0), generator
        if self.alpha == 0:
            raise ValueError(wrong(where, "alpha", "a positive number", alpha))
        self.num_classes = None if num_classes is None else integer(where, "num_classes", num_classes)

    def __call__(self, pictures: Any, labels: Any = None) -> Any:
        where = type(self).__name__
        if labels is None:
            raise TypeError(f"[{where}] labels: expected the labels beside the pictures, got none")
        array, restored = opened(where, pictures)
        if array.dtype == np.uint8:
            raise TypeError(f"[{where}] pictures: expected floats (ToDtype makes them), got uint8")
        targets = np.asarray(labels._array if isinstance(labels, Tensor) else labels)
        if targets.ndim not in (1, 2) or len(targets) != len(array):
            raise ValueError(wrong(where, "labels", f"{len(array)} class indices or rows", targets.shape))
        if targets.ndim == 1:
            targets = self._one_hot(where, targets)
        targets = targets.astype(np.float32)
        mixed, share = self.mix(array, self._beta(len(array)))
        share = share.astype(np.float32)[:, None]
        targets = share * targets + (1 - share) * np.roll(targets, 1, 0)
        return restored(mixed), (from_numpy(targets) if isinstance(labels, Tensor) else targets)

    def _one_hot(self, where: str, labels: np.ndarray) -> np.ndarray:
        if self.num_classes is None:
            raise ValueError(wrong(where, "num_classes", "the number of classes, since labels are indices", None))
        if labels.dtype.kind not in "iu":
            raise TypeError(wrong(where, "labels", "integers", str(labels.dtype)))
        wrong_ones = labels[(labels < 0) | (labels >= self.num_classes)]
        if len(wrong_ones):
            raise IndexError(wrong(where, "labels", f"classes from 0 to {self.num_classes - 1}", wrong_ones[0].item()))
        return np.eye(self.num_classes, dtype=np.float32)[labels]

    def _beta(self, count: int) -> np.ndarray:
        """`count` numbers from Beta(alpha, alpha).

        1/2 +- 1/(2 sqrt(1 + 1/((u^(-1/alpha) - 1) cos(2 pi v)^2))): Devroye, "Random variate generation in one line of
        code", WSC 1996, https://doi.org/10.1145/256562.256623.
        """
        u, v, sign = 1 - self.draw(count), self.draw(count), np.where(self.draw(count) < 0.5, -1, 1)
        with np.errstate(over="ignore", divide="ignore"):
            spread = 1 / np.sqrt(1 + 1 / (np.expm1(-np.log(u) / self.alpha) * np.cos(2 * np.pi * v) ** 2))
        return 0.5 + 0.5 * sign * spread

    def mix(self, pictures: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mixed pictures, and the share that each kept."""
        raise NotImplementedError(f"[{type(self).__name__}] mix: expected a method of the subclass, got none")


class MixUp(Mixing):
    """lam * picture + (1 - lam) * another, and the labels likewise (https://arxiv.org/abs/1710.09412)."""

    def mix(self, pictures: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kept = share.astype(pictures.dtype)[:, None, None, None]
        return kept * pictures + (1 - kept) * np.roll(pictures, 1, 0), share


class CutMix(Mixing):
    """A box of each picture taken from another, and the labels mixed by area (https://arxiv.org/abs/1905.04899).

    The box has sqrt(1 - lam) of height and width around a point anywhere in the picture, cut off at its border.
    """

    def mix(self, pictures: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count, _, rows, columns = pictures.shape
        half = 0.5 * np.sqrt(1 - share)
        y, x = below(count, rows, self.generator), below(count, columns, self.generator)
        top, bottom = (np.clip(y + sign * (half * rows).astype(np.int64), 0, rows) for sign in (-1, 1))
        left, right = (np.clip(x + sign * (half * columns).astype(np.int64), 0, columns) for sign in (-1, 1))
        row, column = np.arange(rows), np.arange(columns)
        inside_rows = (row >= top[:, None]) & (row < bottom[:, None])
        inside_columns = (column >= left[:, None]) & (column < right[:, None])
        box = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        kept = 1 - (bottom - top) * (right - left) / (rows * columns)
        return np.where(box, np.roll(pictures, 1, 0), pictures), kept
