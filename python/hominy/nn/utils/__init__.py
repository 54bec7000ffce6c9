"""What one does to the parameters of a model as a whole: clip their gradients, join them into one vector; and to a
model that only predicts: fold batch norm into convolutions, pack weights ahead.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ...autograd import no_grad
from ...creation import tensor
from ...ops.shape import cat
from ...prepared import prepare as prepare_weight
from ...tensor import Tensor
from ...utils.arguments import number, wrong
from ..parameter import Parameter
from . import recurrent_weights as recurrent_weights
from . import rnn as rnn

if TYPE_CHECKING:
    from ..module import Module

M = TypeVar("M")


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    parameters = (parameters,) if isinstance(parameters, Tensor) else parameters
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors together, as if they were one vector.

    Args:
        norm_type: p of the p-norm, above 0; math.inf for the largest magnitude.
        error_if_nonfinite: raise where the norm is NaN or infinite.
        foreach: accepted for the sake of ported code.

    Returns:
        A 0-d tensor of the first tensor's dtype; the sum over tensors is in float64.
    """
    return _total_norm("get_total_norm", "tensors", tensors, norm_type, error_if_nonfinite)


def _total_norm(
    where: str, argument: str, tensors: Tensor | Iterable[Tensor], norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    norm_type = math.inf if norm_type == math.inf else number(where, "norm_type", norm_type, low=0.0)
    if norm_type == 0.0:
        raise ValueError(wrong(where, "norm_type", "a number above 0", norm_type))
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return tensor(0.0)
    with no_grad():
        if norm_type == math.inf:
            largest = [value.abs().amax().item() for value in tensors if value.numel()]
            total = math.nan if any(map(math.isnan, largest)) else max(largest, default=0.0)
        elif norm_type == 2.0:
            total = math.sqrt(sum(value.square().sum().item() for value in tensors))
        else:
            total = sum((value.abs() ** norm_type).sum().item() for value in tensors) ** (1.0 / norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(wrong(where, argument, "values of a finite norm", total))
    return tensor(total, dtype=tensors[0].dtype)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients by max_norm / (total_norm + 1e-6), where that is below 1."""
    factor = number("clip_grads_with_norm_", "max_norm", max_norm, low=0.0) / (float(total_norm) + 1e-6)
    if not factor >= 1.0:  # a NaN passes here, and reaches the gradients, as in PyTorch
        with no_grad():
            for gradient in _gradients(parameters):
                gradient.mul_(factor)


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients by one factor so that the norm of all of them together is at most `max_norm`.

    The factor is max_norm / (norm + 1e-6), applied where it is below 1.

    Args:
        norm_type: p of the p-norm, above 0; math.inf for the largest magnitude.
        error_if_nonfinite: raise instead of scaling by the factor that a NaN or infinite norm gives.
        foreach: accepted for the sake of ported code.

    Returns:
        The norm before clipping, a 0-d tensor of the first gradient's dtype. The sum over tensors is in float64.
    """
    where = "clip_grad_norm_"
    max_norm = number(where, "max_norm", max_norm, low=0.0)
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    total = _total_norm(where, "parameters", _gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clamp every element of every gradient to [-clip_value, clip_value]."""
    clip_value = number("clip_grad_value_", "clip_value", clip_value, low=0.0)
    with no_grad():
        for gradient in _gradients(parameters):
            gradient.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and joined: (total number of elements,)."""
    return cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the elements of `vec`, in order, into the parameters: the inverse of `parameters_to_vector`."""
    if not isinstance(vec, Tensor):
        raise TypeError(wrong("vector_to_parameters", "vec", "a hominy.Tensor", type(vec).__name__))
    parameters = list(parameters)
    total = sum(parameter.numel() for parameter in parameters)
    if tuple(vec.shape) != (total,):
        raise ValueError(wrong("vector_to_parameters", "vec", f"shape ({total},)", tuple(vec.shape)))
    start = 0
    with no_grad():
        for parameter in parameters:
            parameter.copy_(vec[start : start + parameter.numel()].reshape(parameter.shape))
            start += parameter.numel()


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of the one convolution that does what a convolution and the batch norm after it do in evaluation.

        weight = conv_w * bn_w / sqrt(bn_rv + bn_eps),  bias = (conv_b - bn_rm) * bn_w / sqrt(bn_rv + bn_eps) + bn_b

    Args:
        conv_w, conv_b: of the convolution, (out_channels, ...) and (out_channels,) or None.
        bn_rm, bn_rv: the running mean and variance, (out_channels,).
        bn_w, bn_b: the learnt weight and bias, (out_channels,) or None.
        transpose: the convolution is a transposed one: the second dimension of conv_w holds the output channels.
    """
    with no_grad():
        scale = (bn_rv + bn_eps).rsqrt()
        scale = scale if bn_w is None else scale * bn_w
        bias = (0.0 if conv_b is None else conv_b) - bn_rm
        bias = bias * scale if bn_b is None else bias * scale + bn_b
        shape = (1, -1, *(1,) * (conv_w.ndim - 2)) if transpose else (-1, *(1,) * (conv_w.ndim - 1))
        weight = (conv_w * scale.reshape(shape)).to(conv_w.dtype)
        bias = bias.to(conv_w.dtype if conv_b is None else conv_b.dtype)
    return Parameter(weight, conv_w.requires_grad), Parameter(bias, conv_b is not None and conv_b.requires_grad)


def fuse_conv_bn_eval(conv: M, bn: Any, transpose: bool = False) -> M:
    """A copy of the convolution `conv` that also does the work of the batch norm `bn` behind it, both in evaluation.

    Raises:
        ValueError: one of them is in training mode, bn has no running statistics, or not as many as conv has outputs.
    """
    where = "fuse_conv_bn_eval"
    given: Any = conv
    for argument, module in (("conv", given), ("bn", bn)):
        if module.training:
            raise ValueError(wrong(where, argument, "a module in evaluation mode", "one in training"))
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(wrong(where, "bn", "running statistics", None))
    if bn.num_features != given.out_channels:
        raise ValueError(wrong(where, "bn", f"num_features of out_channels={given.out_channels}", bn.num_features))
    fused: Any = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


class PreparedModel:
    """What `prepare` returns: ends it by `remove()`, or at the end of a `with` block."""

    def __init__(self, modules: list[Any]) -> None:
        self._modules = [(module, vars(module)["_prepared"]) for module in modules]

    def __len__(self) -> int:
        """How many layers stand prepared."""
        return len(self._modules)

    def remove(self) -> None:
        """Let the modules compute with their weights themselves again, and free the packed forms."""
        for module, prepared in self._modules:
            if vars(module).get("_prepared") is prepared:  # and not that of a later call
                del vars(module)["_prepared"]
        self._modules = []

    def __enter__(self) -> PreparedModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def prepare(module: Module) -> PreparedModel:
    """Pack the weights of all convolutions and recurrent layers in `module` ahead, for inference: see `hominy.prepare`.

        model.eval()
        hominy.nn.utils.prepare(model)
        with hominy.no_grad():
            model(x)  # the first call packs; for convolutions, the first of a shape

    Parameters and the state dict stay what they are. A weight must not be written to meanwhile (that raises; a new
    Parameter in its place is used as it is), and no gradients can be recorded, until the handle's `remove()`.
    Transposed convolutions and linear layers are left alone: their kernels have no packed form.
    """
    from ..conv import Conv1d, Conv2d, Conv3d
    from ..recurrent import GRU, LSTM, RNN

    found: list[Any] = [each for each in module.modules() if isinstance(each, (Conv1d, Conv2d, Conv3d, RNN, LSTM, GRU))]
    for each in found:
        recurrent = isinstance(each, (RNN, LSTM, GRU))
        vars(each)["_prepared"] = each._prepare() if recurrent else prepare_weight(each.weight)
    return PreparedModel(found)
