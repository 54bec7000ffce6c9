"""What one does to the parameters of a model as a whole: clip their gradients, join them into one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..autograd import no_grad
from ..creation import tensor
from ..ops.shape import cat
from ..tensor import Tensor
from ..utils.arguments import number, wrong


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
