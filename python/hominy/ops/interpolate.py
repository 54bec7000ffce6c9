"""Interpolation: images made larger or smaller, and the rearrangement of channels into space.

Every mode is a linear map along each dimension of space (`ops/windows.py`), one kernel in both directions. Weights are
computed in float64; PyTorch's for float32 tensors are computed in float32 and differ in the last digits.
"""

from __future__ import annotations

import math
from typing import Any

from ..utils.arguments import choice, integer, wrong
from . import windows
from .define import as_tensor, functional
from .pool import adaptive_avg_pool, images, resample
from .windows import require_countable, sizes

MODES = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "linear": (1,), "bilinear": (2,), "bicubic": (2,),
    "trilinear": (3,), "area": (1, 2, 3),
}  # fmt: skip


def _factors(name: str, scale_factor: Any, dims: int) -> tuple[float, ...]:
    given = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * dims
    if len(given) != dims:
        raise ValueError(wrong(name, "scale_factor", f"a number or {dims} of them", scale_factor))
    factors = []
    for each in given:
        try:
            factor = math.nan if isinstance(each, str) else float(each)
        except (TypeError, ValueError):
            raise TypeError(wrong(name, "scale_factor", "positive numbers", scale_factor)) from None
        if not 0 < factor < math.inf:
            raise ValueError(wrong(name, "scale_factor", "positive finite numbers", scale_factor))
        factors.append(factor)
    return tuple(factors)


@functional
def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """input (N, C, *space), space of 1 to 3 dimensions, at the size `size` or scale_factor times its own, rounded down.

    mode: "nearest" (as PyTorch, which rounds positions down), "nearest-exact", "linear" (1 dimension), "bilinear" and
    "bicubic" (2; Keys' kernel with a = -3/4), "trilinear" (3), "area" (adaptive average). align_corners: centres of
    corner elements lie on each other, else their outer edges. recompute_scale_factor: positions follow from the sizes
    alone, and not from scale_factor. antialias is not offered.

    Raises:
        ValueError: mode does not suit the dimensions, not exactly one of size and scale_factor is given, align_corners
            is given for a mode without, antialias is asked for, a size is not positive.
    """
    name = "interpolate"
    choice(name, "mode", mode, MODES)
    tensor = as_tensor(name, "input", input)
    dims = tensor._array.ndim - 2
    if dims not in MODES[mode]:
        expected = " or ".join(str(d + 2) for d in MODES[mode])
        raise ValueError(
            f"[{name}] input: expected {expected} dimensions for mode {mode!r}, got shape {tensor._array.shape}"
        )
    x, _ = images(name, tensor, dims)
    space = x._array.shape[2:]
    if antialias:
        raise ValueError(wrong(name, "antialias", "False", antialias))
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    if align_corners is not None and not smooth:
        raise ValueError(wrong(name, "align_corners", f"None for mode {mode!r}", align_corners))
    if (size is None) == (scale_factor is None):
        raise ValueError(f"[{name}] size, scale_factor: expected one of them, got {size!r} and {scale_factor!r}")
    scales: tuple[float | None, ...] = (None,) * dims
    if scale_factor is None:
        if recompute_scale_factor:
            raise ValueError(wrong(name, "recompute_scale_factor", "False where size is given", True))
        wanted = sizes(name, "size", size, dims)
    else:
        factors = _factors(name, scale_factor, dims)
        lengths = [n * factor for n, factor in zip(space, factors, strict=True)]
        if max(lengths) > windows.LARGEST:
            raise OverflowError(f"[{name}] scale_factor: expected sizes of at most {windows.LARGEST}, got {lengths}")
        wanted = tuple(math.floor(length) for length in lengths)
        if min(wanted) < 1:
            raise ValueError(f"[{name}] scale_factor: expected sizes of at least 1, got {wanted} from {space}")
        if not recompute_scale_factor:
            scales = factors
    require_countable(name, (*x._array.shape[:2], *wanted), 8)
    if mode == "area":
        return adaptive_avg_pool(name, dims, x, wanted)
    return resample(x, windows.interpolating(space, wanted, mode, scales, bool(align_corners)))


@functional
def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Any:
    """`interpolate` under its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@functional
def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """`interpolate` with mode "nearest"."""
    return interpolate(input, size, scale_factor, "nearest")


@functional
def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """`interpolate` with mode "bilinear" and align_corners=True."""
    return interpolate(input, size, scale_factor, "bilinear", True)


def _by_channels(array: Any) -> bool:
    """Whether the channels (dimension -3) of an image are neighbours in memory."""
    return array.ndim == 4 and array.shape[1] > 1 and array.strides[1] == array.itemsize


@functional
def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(*, C r^2, H, W) -> (*, C, H r, W r) for r = upscale_factor: channel c r^2 + i r + j goes to the places (i, j) of
    each r x r square of channel c (https://arxiv.org/abs/1609.05158). The result lies in memory as the input.

    Raises:
        ValueError: the channels are not a multiple of r^2.
    """
    name = "pixel_shuffle"
    x = as_tensor(name, "input", input)
    r = integer(name, "upscale_factor", upscale_factor)
    shape = x._array.shape
    if len(shape) < 3 or shape[-3] % (r * r):
        raise ValueError(f"[{name}] input: expected shape (*, C * {r * r}, H, W), got {shape}")
    *batch, channels, h, w = shape
    c = channels // (r * r)
    if _by_channels(x._array):
        squares = x.permute((0, 2, 3, 1)).reshape((*batch, h, w, c, r, r)).permute((0, 1, 4, 2, 5, 3))
        return squares.reshape((*batch, h * r, w * r, c)).permute((0, 3, 1, 2))
    b = len(batch)
    squares = x.reshape((*batch, c, r, r, h, w)).permute((*range(b), b, b + 3, b + 1, b + 4, b + 2))
    return squares.reshape((*batch, c, h * r, w * r))


@functional
def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(*, C, H r, W r) -> (*, C r^2, H, W) for r = downscale_factor: what pixel_shuffle does, undone.

    Raises:
        ValueError: height or width is not a multiple of r.
    """
    name = "pixel_unshuffle"
    x = as_tensor(name, "input", input)
    r = integer(name, "downscale_factor", downscale_factor)
    shape = x._array.shape
    if len(shape) < 3 or shape[-2] % r or shape[-1] % r:
        raise ValueError(f"[{name}] input: expected shape (*, C, H * {r}, W * {r}), got {shape}")
    *batch, c, height, width = shape
    h, w = height // r, width // r
    if _by_channels(x._array):
        squares = x.permute((0, 2, 3, 1)).reshape((*batch, h, r, w, r, c)).permute((0, 1, 3, 5, 2, 4))
        return squares.reshape((*batch, h, w, c * r * r)).permute((0, 3, 1, 2))
    b = len(batch)
    squares = x.reshape((*batch, c, h, r, w, r)).permute((*range(b), b, b + 2, b + 4, b + 1, b + 3))
    return squares.reshape((*batch, c * r * r, h, w))
