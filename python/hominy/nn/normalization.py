"""Normalisation layers: (x - mean) / sqrt(variance + eps) * weight + bias, with statistics of various dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..creation import empty, ones, tensor, zeros
from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class _Affine(Module):
    """The learnt weight (1 at first) and bias (0 at first) of a normalisation; either may be absent."""

    weight: Parameter | None
    bias: Parameter | None

    def _add_affine(self, shape: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        choice(type(self).__name__, "device", device, (None, "cpu"))
        self.register_parameter("weight", Parameter(empty(shape, dtype=dtype)) if weight else None)
        self.register_parameter("bias", Parameter(empty(shape, dtype=dtype)) if bias else None)

    def reset_parameters(self) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


def _sizes(where: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = normalized_shape if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    return tuple(integer(where, "normalized_shape", size) for size in sizes)


class LayerNorm(_Affine):
    """Statistics over the last dimensions, `normalized_shape`, of each item: (*, normalized_shape), shape kept.

    weight, bias: normalized_shape. Ba, Kiros and Hinton, 2016.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape = _sizes("LayerNorm", normalized_shape)
        self.eps = number("LayerNorm", "eps", eps, low=0.0)
        self.elementwise_affine = elementwise_affine
        self._add_affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """x / sqrt(mean of x^2 + eps) * weight over the last dimensions: (*, normalized_shape), shape kept.

    eps=None is the dtype's machine epsilon. Zhang and Sennrich, 2019.
    """

    weight: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.normalized_shape = _sizes("RMSNorm", normalized_shape)
        self.eps = None if eps is None else number("RMSNorm", "eps", eps, low=0.0)
        self.elementwise_affine = elementwise_affine
        choice("RMSNorm", "device", device, (None, "cpu"))
        weight = Parameter(empty(self.normalized_shape, dtype=dtype)) if elementwise_affine else None
        self.register_parameter("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """Statistics over each of `num_groups` groups of channels of each item: (N, C, *), shape kept.

    weight, bias: (num_channels,). Wu and He, 2018.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        self.num_groups = integer("GroupNorm", "num_groups", num_groups)
        self.num_channels = integer("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(wrong("GroupNorm", "num_channels", f"a multiple of num_groups={num_groups}", num_channels))
        self.eps = number("GroupNorm", "eps", eps, low=0.0)
        self.affine = affine
        self._add_affine((self.num_channels,), affine, affine and bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class _Running(_Affine):
    """What batch and instance norm share: running statistics, (num_features,), that training moves by `momentum`."""

    dimensions: tuple[int, ...]  # of an input
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        where = type(self).__name__
        self.num_features = integer(where, "num_features", num_features)
        self.eps = number(where, "eps", eps, low=0.0)
        self.momentum = None if momentum is None else number(where, "momentum", momentum)
        self.affine, self.track_running_stats = affine, track_running_stats
        self._add_affine((self.num_features,), affine, affine and bias, device, dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(self.num_features, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", ones(self.num_features, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1, the count of batches to 0."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set weight, bias and running statistics to what they start from."""
        self.reset_running_stats()
        super().reset_parameters()

    def _check_input(self, input: Tensor) -> None:
        if input.dim() not in self.dimensions:
            expected = " or ".join(f"{count} dimensions" for count in self.dimensions)
            raise ValueError(wrong(type(self).__name__, "input", expected, tuple(input.shape)))

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Running):
    """What the batch norms of all numbers of dimensions share: the call."""

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            count = self.num_batches_tracked.item() + 1
            self.num_batches_tracked.fill_(count)  # a tenth of add_'s time, which is that of a small batch's statistics
            if self.momentum is None:
                momentum = 1.0 / count
        keeps = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if keeps else None,
            self.running_var if keeps else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None or self.running_var is None,
            momentum,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm of (N, C) or (N, C, L), shape kept: statistics of each channel over the batch and all places.

    While training, those of the batch, and running_mean and running_var (C,) move towards them by `momentum` (None:
    they are the plain mean of all batches); in evaluation mode, the running ones. Ioffe and Szegedy, 2015.
    """

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm of (N, C, H, W), as BatchNorm1d."""

    dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch norm of (N, C, D, H, W), as BatchNorm1d."""

    dimensions = (5,)


class _InstanceNorm(_Running):
    """What the instance norms of all numbers of dimensions share: other defaults, and the call."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        if input.dim() == self.dimensions[0]:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if self.affine and input.shape[1] != self.num_features:
            expected = f"{self.num_features} channels"
            raise ValueError(wrong(type(self).__name__, "input", expected, tuple(input.shape)))
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance norm of (N, C, L) or (C, L), shape kept: statistics of each channel of each item.

    With track_running_stats they are tracked as in BatchNorm1d, and used in evaluation mode. Ulyanov, Vedaldi and
    Lempitsky, 2016.
    """

    dimensions = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance norm of (N, C, H, W) or (C, H, W), as InstanceNorm1d."""

    dimensions = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance norm of (N, C, D, H, W) or (C, D, H, W), as InstanceNorm1d."""

    dimensions = (4, 5)
