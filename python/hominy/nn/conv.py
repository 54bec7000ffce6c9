"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..creation import empty
from ..prepared import PreparedWeight
from ..tensor import Tensor
from ..utils.arguments import choice, integer, wrong
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

Size = int | Sequence[int]


def _each(where: str, argument: str, value: Size, count: int, lowest: int) -> tuple[int, ...]:
    """An integer, or one for each of `count` dimensions, as a tuple."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * count
    if len(values) != count:
        raise ValueError(wrong(where, argument, f"an integer or {count} integers", value))
    return tuple(integer(where, argument, each, lowest) for each in values)


class _Conv(Module):
    """What every convolution has: its sizes, weight and bias, and how they start."""

    dimensions: int  # of space
    transposed = False
    bias: Parameter | None
    padding: tuple[int, ...] | str
    _prepared: PreparedWeight | None = None  # set by nn.utils.prepare

    def _build(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size | str,
        dilation: Size,
        output_padding: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        where, n = type(self).__name__, self.dimensions
        choice(where, "device", device, (None, "cpu"))
        self.in_channels = integer(where, "in_channels", in_channels)
        self.out_channels = integer(where, "out_channels", out_channels)
        self.groups = integer(where, "groups", groups)
        for argument, count in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if count % self.groups:
                raise ValueError(wrong(where, argument, f"a multiple of groups={groups}", count))
        self.kernel_size = _each(where, "kernel_size", kernel_size, n, 1)
        self.stride = _each(where, "stride", stride, n, 1)
        self.dilation = _each(where, "dilation", dilation, n, 1)
        self.output_padding = _each(where, "output_padding", output_padding, n, 0)
        if isinstance(padding, str):
            self.padding = choice(where, "padding", padding, ("same", "valid"))
            if padding == "same" and max(self.stride) > 1:
                raise ValueError(wrong(where, "stride", "1 with padding='same'", stride))
        else:
            self.padding = _each(where, "padding", padding, n, 0)
        self.padding_mode = choice(where, "padding_mode", padding_mode, ("zeros", "reflect", "replicate", "circular"))
        self._margins = self._margins_of_space()
        channels = (
            (self.in_channels, self.out_channels // self.groups)
            if self.transposed
            else (self.out_channels, self.in_channels // self.groups)
        )
        self.weight = Parameter(empty(*channels, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(self.out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _margins_of_space(self) -> tuple[int, ...]:
        """The padding as `F.pad` takes it: (before, after) of each dimension, the last one first."""
        pairs = []
        for i, (k, d) in enumerate(zip(self.kernel_size, self.dilation, strict=True)):
            if isinstance(self.padding, str):
                total = d * (k - 1) if self.padding == "same" else 0
                pairs.append((total // 2, total - total // 2))
            else:
                pairs.append((self.padding[i], self.padding[i]))
        return tuple(margin for pair in reversed(pairs) for margin in pair)

    def reset_parameters(self) -> None:
        """Draw the weight and the bias anew: uniform in +-1/sqrt(weights an output channel has)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _weight(self) -> Any:
        """The weight, or the handle that stands for it."""
        weight, prepared = self.weight, self._prepared
        return weight if prepared is None or prepared.weight is not weight else prepared

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        n = self.dimensions
        if self.padding != (0,) * n:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * n:
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * n:
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class _Forward(_Conv):
    function: Any  # of nn.functional

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device,
            dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._margins, self.padding_mode), 0
        return self.function(input, self._weight(), self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Forward):
    """As `Conv2d`, of (N, in_channels, L) or (in_channels, L); weight (out_channels, in_channels/groups, k)."""

    dimensions = 1
    function: Any = staticmethod(F.conv1d)


class Conv2d(_Forward):
    """out[n, o, p] = bias[o] + sum over c, t of weight[o, c, t] * input[n, c, p * stride + t * dilation - padding].

    (N, in_channels, H, W) or (in_channels, H, W) -> (N, out_channels, oh, ow) or (out_channels, oh, ow), where
    oh = (H + 2 padding - dilation (kernel - 1) - 1) // stride + 1; the result lies in its input's memory order.
    weight: (out_channels, in_channels/groups, kh, kw); bias: (out_channels,). Both start uniform in
    +-1/sqrt(in_channels/groups * kh * kw).

    padding: zeros on each side, an integer or one a dimension, "valid" (none) or "same" (the space is kept, the odd one
    behind). padding_mode "reflect", "replicate" or "circular" takes the input's own elements instead (`F.pad`).
    """

    dimensions = 2
    function: Any = staticmethod(F.conv2d)


class Conv3d(_Forward):
    """As `Conv2d`, of (N, in_channels, D, H, W) or (in_channels, D, H, W); weight (out_channels, in_channels/groups,
    kd, kh, kw)."""

    dimensions = 3
    function: Any = staticmethod(F.conv3d)


class _Transposed(_Conv):
    transposed = True
    function: Any  # of nn.functional

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        choice(type(self).__name__, "padding_mode", padding_mode, ("zeros",))
        if isinstance(padding, str):
            raise TypeError(wrong(type(self).__name__, "padding", "integers", padding))
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def _output_padding_for(self, input: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """The output padding that gives an output of `output_size`, space alone or the whole shape."""
        if output_size is None:
            return self.output_padding
        where, n = type(self).__name__, self.dimensions
        space = tuple(output_size)[-n:] if len(output_size) in (n + 1, n + 2) else tuple(output_size)
        if len(space) != n:
            raise ValueError(wrong(where, "output_size", f"{n} sizes, or a shape of {input.ndim}", tuple(output_size)))
        found = []
        for i, size in enumerate(space):
            least = (input.shape[input.ndim - n + i] - 1) * self.stride[i] - 2 * int(self.padding[i])
            least += self.dilation[i] * (self.kernel_size[i] - 1) + 1
            if not least <= size < least + self.stride[i]:
                between = f"from {least} to {least + self.stride[i] - 1} in dimension {i} of space"
                raise ValueError(wrong(where, "output_size", f"sizes {between}", tuple(output_size)))
            found.append(size - least)
        return tuple(found)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        more = self._output_padding_for(input, output_size)
        return self.function(
            input, self._weight(), self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )


class ConvTranspose1d(_Transposed):
    """As `ConvTranspose2d`, of (N, in_channels, L) or (in_channels, L); weight (in_channels, out_channels/groups,
    k)."""

    dimensions = 1
    function: Any = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_Transposed):
    """The gradient of a `Conv2d` in its input, as a layer: an upsampling that learns.

    (N, in_channels, H, W) or (in_channels, H, W) -> (N, out_channels, oh, ow) or (out_channels, oh, ow), where
    oh = (H - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1; the result lies in its input's memory
    order. weight: (in_channels, out_channels/groups, kh, kw); bias: (out_channels,). Both start uniform in
    +-1/sqrt(out_channels/groups * kh * kw).

    `output_size`, given to a call, chooses among the sizes that strides leave open, in place of output_padding.
    """

    dimensions = 2
    function: Any = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_Transposed):
    """As `ConvTranspose2d`, of (N, in_channels, D, H, W) or (in_channels, D, H, W); weight (in_channels,
    out_channels/groups, kd, kh, kw)."""

    dimensions = 3
    function: Any = staticmethod(F.conv_transpose3d)
