"""Pooling layers: (N, C, *space) or (C, *space) to the same with space made smaller, or larger by unpooling."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor
from ..utils.arguments import integer, wrong
from . import functional as F
from .module import Module


def _size(where: str, argument: str, value: Any, lowest: int = 1) -> Any:
    """`value`, an integer or several, as given but checked."""
    if isinstance(value, (tuple, list)):
        return type(value)(integer(where, argument, each, lowest) for each in value)
    return integer(where, argument, value, lowest)


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims


class _MaxPool(Module):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        where = type(self).__name__
        self.kernel_size = _size(where, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else _size(where, "stride", stride)
        self.padding = _size(where, "padding", padding, 0)
        self.dilation = _size(where, "dilation", dilation)
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )

    def _arguments(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices


class MaxPool1d(_MaxPool):
    """The largest element of each window: (N, C, L) or (C, L); with return_indices (out, indices)."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool1d(input, *self._arguments())


class MaxPool2d(_MaxPool):
    """The largest element of each window: (N, C, H, W) or (C, H, W); with return_indices (out, indices)."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool2d(input, *self._arguments())


class MaxPool3d(_MaxPool):
    """The largest element of each window: (N, C, D, H, W) or (C, D, H, W); with return_indices (out, indices)."""

    def forward(self, input: Tensor) -> Any:
        return F.max_pool3d(input, *self._arguments())


class _MaxUnpool(Module):
    dims = 0

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0):
        super().__init__()
        where = type(self).__name__
        self.kernel_size = _tuple(_size(where, "kernel_size", kernel_size), self.dims)
        self.stride = self.kernel_size if stride is None else _tuple(_size(where, "stride", stride), self.dims)
        self.padding = _tuple(_size(where, "padding", padding, 0), self.dims)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Puts what MaxPool1d gave back where its indices say, among zeros: (N, C, L) or (C, L)."""

    dims = 1

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(_MaxUnpool):
    """Puts what MaxPool2d gave back where its indices say, among zeros: (N, C, H, W) or (C, H, W)."""

    dims = 2

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(_MaxUnpool):
    """Puts what MaxPool3d gave back where its indices say, among zeros: (N, C, D, H, W) or (C, D, H, W)."""

    dims = 3

    def forward(self, input: Tensor, indices: Tensor, output_size: Any = None) -> Tensor:
        return F.max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class AvgPool1d(Module):
    """The mean of each window: (N, C, L) or (C, L)."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self.kernel_size = _tuple(_size("AvgPool1d", "kernel_size", kernel_size), 1)
        self.stride = self.kernel_size if stride is None else _tuple(_size("AvgPool1d", "stride", stride), 1)
        self.padding = _tuple(_size("AvgPool1d", "padding", padding, 0), 1)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(Module):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        where = type(self).__name__
        self.kernel_size = _size(where, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else _size(where, "stride", stride)
        self.padding = _size(where, "padding", padding, 0)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"

    def _arguments(self) -> tuple[Any, ...]:
        return (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        )  # fmt: skip


class AvgPool2d(_AvgPool):
    """The mean of each window: (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(input, *self._arguments())


class AvgPool3d(_AvgPool):
    """The mean of each window: (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool3d(input, *self._arguments())


class _LPPool(Module):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False):
        super().__init__()
        where = type(self).__name__
        self.norm_type = norm_type
        self.kernel_size = _size(where, "kernel_size", kernel_size)
        self.stride = stride if stride is None else _size(where, "stride", stride)
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPool):
    """(sum of x^p)^(1/p), p = norm_type, over each window: (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.lp_pool1d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool2d(_LPPool):
    """(sum of x^p)^(1/p), p = norm_type, over each window: (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.lp_pool2d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool3d(_LPPool):
    """(sum of x^p)^(1/p), p = norm_type, over each window: (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.lp_pool3d(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


def _adaptive_size(where: str, value: Any) -> Any:
    """As `_size`; None keeps a dimension's size, 0 makes an empty output."""
    if isinstance(value, (tuple, list)):
        if not value:
            raise ValueError(wrong(where, "output_size", "an integer, None or several", value))
        return type(value)(each if each is None else integer(where, "output_size", each, 0) for each in value)
    return value if value is None else integer(where, "output_size", value, 0)


class _AdaptiveAvgPool(Module):
    def __init__(self, output_size: Any):
        super().__init__()
        self.output_size = _adaptive_size(type(self).__name__, output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of output_size windows that cover the input: (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of output_size windows that cover the input: (N, C, H, W) or (C, H, W); None keeps a size."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of output_size windows that cover the input: (N, C, D, H, W) or (C, D, H, W); None keeps a size."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool3d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptiveAvgPool):
    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of output_size windows that cover the input: (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of output_size windows that cover the input: (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of output_size windows that cover the input: (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Any:
        return F.adaptive_max_pool3d(input, self.output_size, self.return_indices)
