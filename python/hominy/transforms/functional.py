"""The arithmetic of the transforms, for given parameters: torchvision's functions of these names, for whole batches.

Each takes pictures as (C, H, W) or (N, C, H, W) tensors or arrays, and gives the same back in new memory; where a
parameter is one number, a row of N gives each picture its own. Bytes are computed in float32 and rounded to nearest
(torchvision rounds some results down); float16 is computed in float32, too. Nothing here records gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..utils.arguments import choice, wrong
from .pictures import as_before, computing, each, on_pictures, white

LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as in torchvision
PADDING_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}


# ---- where pixels are ------------------------------------------------------------------------------------------------


@on_pictures
def hflip(pictures: Any) -> Any:
    """Left and right exchanged."""
    return pictures[..., ::-1].copy()


@on_pictures
def vflip(pictures: Any) -> Any:
    """Top and bottom exchanged."""
    return pictures[..., ::-1, :].copy()


def sides(where: str, padding: Any) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a padding given as one integer, (left and right, top and bottom) or all four."""
    numbers = [padding] if isinstance(padding, int) and not isinstance(padding, bool) else padding
    if (
        not isinstance(numbers, Sequence)
        or len(numbers) not in (1, 2, 4)
        or any(not isinstance(side, int) or isinstance(side, bool) or side < 0 for side in numbers)
    ):
        raise ValueError(wrong(where, "padding", "1, 2 or 4 integers of 0 or more", padding))
    left, top, right, bottom = (list(numbers) * 4)[:4]
    return left, top, right, bottom


@on_pictures
def pad(pictures: Any, padding: Any, fill: float = 0, padding_mode: str = "constant") -> Any:
    """Borders added: `padding` is one integer, (left and right, top and bottom), or (left, top, right, bottom)."""
    left, top, right, bottom = sides("pad", padding)
    mode: Any = PADDING_MODES[choice("pad", "padding_mode", padding_mode, PADDING_MODES)]
    if mode == "reflect" and (max(left, right) >= pictures.shape[3] or max(top, bottom) >= pictures.shape[2]):
        raise ValueError(wrong("pad", "padding", f"less than the picture's {pictures.shape[2:]}", padding))
    if mode in ("edge", "symmetric") and not pictures.size:
        raise ValueError(wrong("pad", "pictures", "pixels to repeat", pictures.shape))
    values = {"constant_values": fill} if mode == "constant" else {}
    return np.pad(pictures, ((0, 0), (0, 0), (top, bottom), (left, right)), mode, **values)


def _corners(
    where: str, pictures: np.ndarray, top: Any, left: Any, height: Any, width: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The boxes as int64 rows, checked against the pictures."""
    count, _, rows, columns = pictures.shape
    boxes = [
        each(where, name, value, count).astype(np.int64)
        for name, value in (("top", top), ("left", left), ("height", height), ("width", width))
    ]
    tops, lefts, heights, widths = boxes
    inside = (tops >= 0) & (lefts >= 0) & (heights > 0) & (widths > 0)
    if not (inside & (tops + heights <= rows) & (lefts + widths <= columns)).all():
        raise ValueError(wrong(where, "top", f"boxes within {rows} x {columns} pixels", (top, left, height, width)))
    return tops, lefts, heights, widths


@on_pictures
def crop(pictures: Any, top: Any, left: Any, height: int, width: int) -> Any:
    """The height x width pixels below and right of (top, left); each picture may have its own corner."""
    tops, lefts, _, _ = _corners("crop", pictures, top, left, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (height, width), (2, 3))
    return windows[np.arange(len(pictures)), :, tops, lefts]


@on_pictures
def center_crop(pictures: Any, size: Any) -> Any:
    """The middle pixels; pictures smaller than `size` (an integer, or height and width) are padded with zeros first."""
    height, width = both("center_crop", "size", size)
    rows, columns = pictures.shape[2:]
    if height > rows or width > columns:
        wide, high = max(width - columns, 0), max(height - rows, 0)
        pictures = pad(pictures, (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2))
        rows, columns = pictures.shape[2:]
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    return pictures[:, :, top : top + height, left : left + width].copy()


def both(where: str, argument: str, size: Any) -> tuple[int, int]:
    """A size given as one integer or as (height, width).

    Raises:
        ValueError: not that, or not positive.
    """
    sizes = [size, size] if isinstance(size, int) else size
    if (
        not isinstance(sizes, Sequence)
        or len(sizes) not in (1, 2)
        or any(not isinstance(length, int) or isinstance(length, bool) or length < 1 for length in sizes)
    ):
        raise ValueError(wrong(where, argument, "a positive integer or two, (height, width)", size))
    return sizes[0], sizes[-1]


def interpolation_weights(
    starts: np.ndarray, lengths: np.ndarray, size: int, total: int, antialias: bool, dtype: Any
) -> np.ndarray:
    """(N, size, total): row i of matrix n holds the weights of `total` pixels in pixel i of the result.

    Pixels start[n] to start[n] + lengths[n] are spread over `size`. Pixel i lies at (i + 1/2) lengths/size - 1/2. Each
    pixel's weight is a triangle around there: one pixel to each side, or, with `antialias` where the picture shrinks,
    as far as one pixel of the result reaches. Weights sum to 1, and beyond the box there is nothing (torch's
    `interpolate(mode="bilinear", align_corners=False)`).
    """
    scale = (lengths / size)[:, None, None]
    reach = np.maximum(scale, 1.0) if antialias else np.ones_like(scale)
    centre = (np.arange(size) + 0.5)[None, :, None] * scale - 0.5
    if not antialias:
        centre = np.clip(centre, 0, lengths[:, None, None] - 1)
    pixel = np.arange(total)[None, None, :] - starts[:, None, None]
    weights = np.maximum(1 - np.abs(pixel - centre) / reach, 0)
    weights *= (pixel >= 0) & (pixel < lengths[:, None, None])
    weights /= weights.sum(2, keepdims=True)
    return weights.astype(dtype)


@on_pictures
def resized_crop(pictures: Any, top: Any, left: Any, height: Any, width: Any, size: Any, antialias: bool = True) -> Any:
    """A box of each picture, scaled to `size` by bilinear interpolation: two matrix products a picture."""
    tops, lefts, heights, widths = _corners("resized_crop", pictures, top, left, height, width)
    out_height, out_width = both("resized_crop", "size", size)
    rows, columns = pictures.shape[2:]
    values = computing(pictures)
    down = interpolation_weights(tops, heights, out_height, rows, antialias, values.dtype)
    across = interpolation_weights(lefts, widths, out_width, columns, antialias, values.dtype)
    return as_before(down[:, None] @ (values @ across[:, None].swapaxes(2, 3)), pictures)


@on_pictures
def resize(pictures: Any, size: Any, antialias: bool = True) -> Any:
    """The whole picture scaled to (height, width), or so that its shorter side is `size` if that is one integer."""
    rows, columns = pictures.shape[-2:]
    if isinstance(size, int) and not isinstance(size, bool) and min(rows, columns) > 0:
        short = both("resize", "size", size)[0]
        size = (short, int(short * columns / rows)) if rows <= columns else (int(short * rows / columns), short)
    return resized_crop(pictures, 0, 0, rows, columns, size, antialias)


def _resampled(pictures: np.ndarray, x: np.ndarray, y: np.ndarray, fill: np.ndarray, interpolation: str) -> np.ndarray:
    """The pictures at the points (x, y), in pixels; what lies outside is `fill`, (C,)."""
    count, channels, rows, columns = pictures.shape
    values = computing(pictures)
    flat = values.reshape(count, channels, rows * columns)
    if interpolation == "nearest":
        corners = [(np.rint(x), np.rint(y), np.ones_like(x))]
    else:
        x0, y0 = np.floor(x), np.floor(y)
        right, lower = x - x0, y - y0
        corners = [
            (x0, y0, (1 - right) * (1 - lower)),
            (x0 + 1, y0, right * (1 - lower)),
            (x0, y0 + 1, (1 - right) * lower),
            (x0 + 1, y0 + 1, right * lower),
        ]
    result = np.zeros(flat.shape, values.dtype)
    outside = np.zeros((count, rows * columns))
    for at_x, at_y, weight in corners:
        inside = (at_x >= 0) & (at_x < columns) & (at_y >= 0) & (at_y < rows)
        index = np.where(inside, at_y * columns + at_x, 0).astype(np.int64)
        result += np.take_along_axis(flat, index[:, None], 2) * (weight * inside)[:, None].astype(values.dtype)
        outside += weight * ~inside
    result += outside[:, None].astype(values.dtype) * fill.astype(values.dtype)[:, None]
    return as_before(result.reshape(pictures.shape), pictures)


@on_pictures
def affine(
    pictures: Any,
    angle: Any = 0.0,
    translate: Any = (0.0, 0.0),
    scale: Any = 1.0,
    shear: Any = (0.0, 0.0),
    interpolation: str = "bilinear",
    fill: Any = 0,
    center: Any = None,
) -> Any:
    """Turned, scaled, sheared and moved about a centre, the size kept.

    Args:
        angle: degrees, clockwise.
        translate: pixels right and down.
        shear: degrees along x and along y.
        interpolation: "bilinear" or "nearest".
        fill: what comes in from outside, one number or one a channel.
        center: (x, y) in pixels from the upper left corner; the picture's middle if None.

    `translate` and `shear` are pairs of numbers, or of rows with one number a picture.
    """
    choice("affine", "interpolation", interpolation, ("bilinear", "nearest"))
    count, channels, rows, columns = pictures.shape
    turn = np.radians(each("affine", "angle", angle, count))
    factor = each("affine", "scale", scale, count)
    if not (factor > 0).all():
        raise ValueError(wrong("affine", "scale", "positive numbers", scale))
    move_x, move_y = (each("affine", "translate", part, count) for part in translate)
    shear_x, shear_y = (np.radians(each("affine", "shear", part, count)) for part in shear)
    filling = np.broadcast_to(np.asarray(fill, np.float64), (channels,))
    # The matrix rotation x shear_y x shear_x, and its inverse: from a pixel of the result to its place in the picture.
    a = np.cos(turn - shear_y) / np.cos(shear_y)
    b = -np.cos(turn - shear_y) * np.tan(shear_x) / np.cos(shear_y) - np.sin(turn)
    c = np.sin(turn - shear_y) / np.cos(shear_y)
    d = -np.sin(turn - shear_y) * np.tan(shear_x) / np.cos(shear_y) + np.cos(turn)
    middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2
    if center is not None:
        middle_x, middle_y = center[0] - 0.5, center[1] - 0.5
    from_x = np.tile(np.arange(columns) - middle_x, rows)[None] - move_x[:, None]
    from_y = np.repeat(np.arange(rows) - middle_y, columns)[None] - move_y[:, None]
    x = (d[:, None] * from_x - b[:, None] * from_y) / factor[:, None] + middle_x
    y = (a[:, None] * from_y - c[:, None] * from_x) / factor[:, None] + middle_y
    return _resampled(pictures, x, y, filling, interpolation)


def rotate(pictures: Any, angle: Any, interpolation: str = "bilinear", fill: Any = 0, center: Any = None) -> Any:
    """Turned by `angle` degrees, counter-clockwise, the size kept."""
    return affine(pictures, -np.asarray(angle, np.float64), interpolation=interpolation, fill=fill, center=center)


# ---- what colours they have ------------------------------------------------------------------------------------------


def _blended(pictures: np.ndarray, other: Any, ratio: np.ndarray) -> np.ndarray:
    values = computing(pictures)
    share = ratio.astype(values.dtype).reshape(-1, 1, 1, 1)
    return as_before(np.clip(share * values + (1 - share) * other, 0, white(pictures)), pictures)


def _gray(values: np.ndarray) -> np.ndarray:
    return np.einsum("nchw,c->nhw", values, np.asarray(LUMA, values.dtype))[:, None]


def _factors(where: str, argument: str, factor: Any, count: int) -> np.ndarray:
    factors = each(where, argument, factor, count)
    if not (factors >= 0).all():
        raise ValueError(wrong(where, argument, "numbers of 0 or more", factor))
    return factors


def _check_channels(where: str, pictures: np.ndarray) -> bool:
    """Whether the pictures have colours."""
    if pictures.shape[1] not in (1, 3):
        raise ValueError(wrong(where, "pictures", "1 or 3 channels", pictures.shape))
    return bool(pictures.shape[1] == 3)


@on_pictures
def grayscale(pictures: Any, num_output_channels: int = 1) -> Any:
    """0.2989 red + 0.587 green + 0.114 blue, in one channel or the same in three."""
    if num_output_channels not in (1, 3):
        raise ValueError(wrong("grayscale", "num_output_channels", "1 or 3", num_output_channels))
    if _check_channels("grayscale", pictures):
        pictures = as_before(_gray(computing(pictures)), pictures)
    return np.repeat(pictures, num_output_channels, 1)


@on_pictures
def adjust_brightness(pictures: Any, brightness_factor: Any) -> Any:
    """factor * picture, within 0 and white."""
    factor = _factors("adjust_brightness", "brightness_factor", brightness_factor, len(pictures))
    return _blended(pictures, 0, factor)


@on_pictures
def adjust_contrast(pictures: Any, contrast_factor: Any) -> Any:
    """factor * picture + (1 - factor) * mean of its gray levels, within 0 and white."""
    factor = _factors("adjust_contrast", "contrast_factor", contrast_factor, len(pictures))
    values = computing(pictures)
    gray = _gray(values) if _check_channels("adjust_contrast", pictures) else values
    return _blended(pictures, gray.mean((1, 2, 3), keepdims=True), factor)


@on_pictures
def adjust_saturation(pictures: Any, saturation_factor: Any) -> Any:
    """factor * picture + (1 - factor) * its gray levels, within 0 and white; gray pictures stay as they are."""
    factor = _factors("adjust_saturation", "saturation_factor", saturation_factor, len(pictures))
    if not _check_channels("adjust_saturation", pictures):
        return pictures.copy()
    return _blended(pictures, _gray(computing(pictures)), factor)


@on_pictures
def adjust_hue(pictures: Any, hue_factor: Any) -> Any:
    """Colours turned on the circle of hues by `hue_factor` of a full turn, -0.5 to 0.5; gray pictures stay."""
    turn = each("adjust_hue", "hue_factor", hue_factor, len(pictures))
    if not (np.abs(turn) <= 0.5).all():
        raise ValueError(wrong("adjust_hue", "hue_factor", "numbers from -0.5 to 0.5", hue_factor))
    if not _check_channels("adjust_hue", pictures):
        return pictures.copy()
    values = computing(pictures)
    red, green, blue = (values[:, channel] / white(pictures) for channel in range(3))
    high, low = values.max(1) / white(pictures), values.min(1) / white(pictures)
    spread = high - low
    safe = np.where(spread == 0, 1, spread)
    sixths = np.where(
        high == red,
        (green - blue) / safe,
        np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = (sixths + 6 * turn.astype(values.dtype)[:, None, None]) % 6
    # From hue, value (high) and chroma (spread): https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    channels = []
    for offset in (5, 3, 1):
        k = (offset + sixths) % 6
        channels.append(high - spread * np.clip(np.minimum(k, 4 - k), 0, 1))
    return as_before(np.stack(channels, 1) * white(pictures), pictures)


@on_pictures
def normalize(pictures: Any, mean: Any, std: Any) -> Any:
    """(picture - mean) / std, each one number or one a channel; the pictures must be floats."""
    if pictures.dtype == np.uint8:
        raise TypeError("[normalize] pictures: expected floats (ToDtype makes them), got uint8")
    channels = pictures.shape[1]
    shift, width = (np.asarray(value, pictures.dtype).reshape(-1, 1, 1) for value in (mean, std))
    for name, value in (("mean", shift), ("std", width)):
        if len(value) not in (1, channels):
            raise ValueError(wrong("normalize", name, f"1 or {channels} numbers", len(value)))
    if (width == 0).any():
        raise ValueError(wrong("normalize", "std", "numbers other than 0", std))
    return (pictures - shift) / width


@on_pictures
def erase(pictures: Any, top: Any, left: Any, height: Any, width: Any, value: Any = 0) -> Any:
    """A box of each picture replaced by `value`: a number, one a channel, or pixels (N, C, H, W) to copy from."""
    tops, lefts, heights, widths = _corners("erase", pictures, top, left, height, width)
    row, column = np.arange(pictures.shape[2]), np.arange(pictures.shape[3])
    rows = (row >= tops[:, None]) & (row < (tops + heights)[:, None])
    columns = (column >= lefts[:, None]) & (column < (lefts + widths)[:, None])
    values = np.asarray(value)
    values = values.reshape(-1, 1, 1) if values.ndim == 1 else values
    return np.where((rows[:, :, None] & columns[:, None, :])[:, None], values, pictures).astype(pictures.dtype)
