"""Gradients against finite differences, with PyTorch's two functions: `gradcheck` and `gradgradcheck`.

The derivative of a function along every element of its inputs is measured by central differences,
(f(x + eps) - f(x - eps)) / (2 eps), and compared with what the tape computes, element by element of the Jacobian. The
difference carries an error of some eps^2 f''' / 6 + u f / eps; with the default eps of 1e-6 only float64 inputs leave
digits to compare, so others are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import autograd
from .autograd import TensorBase, enable_grad, no_grad, wrap
from .creation import zeros_like

if TYPE_CHECKING:
    from collections.abc import Callable


class GradcheckError(RuntimeError):
    """A gradient differs from the finite difference; the message shows both."""


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _checked_inputs(name: str, inputs: Any) -> tuple[Any, ...]:
    inputs = _as_tuple(inputs)
    wanted = [x for x in inputs if isinstance(x, TensorBase) and x._requires_grad]
    if not wanted:
        raise ValueError(f"[{name}] inputs: expected at least one tensor that requires grad, got none")
    for number, x in enumerate(inputs):
        if isinstance(x, TensorBase) and x._requires_grad:
            if x._array.dtype != np.float64:
                raise TypeError(
                    f"[{name}] inputs[{number}]: expected dtype float64, got {x._array.dtype}: "
                    "finite differences leave no digits to compare in it"
                )
            if x._grad_fn is not None:
                raise ValueError(f"[{name}] inputs[{number}]: expected a leaf, got a tensor made by {x._grad_fn!r}")
            if x._array.size and ((0 in x._array.strides and x._array.size > 1) or not x._array.flags.writeable):
                raise ValueError(
                    f"[{name}] inputs[{number}]: expected memory of its own for every element, got strides "
                    f"{x._array.strides} (writeable: {x._array.flags.writeable})"
                )
    return inputs


def _differentiable(outputs: tuple[Any, ...]) -> list[tuple[int, Any]]:
    return [(i, y) for i, y in enumerate(outputs) if isinstance(y, TensorBase) and y._requires_grad]


def _numerical(
    function: Callable[..., Any], inputs: tuple[Any, ...], x: Any, numbers: list[int], eps: float
) -> list[Any]:
    """The Jacobians (elements of x, elements of output i) of the outputs `numbers`, by central differences."""
    array = x._array
    results = _as_tuple(function(*inputs))
    jacobians = [np.empty((array.size, results[i]._array.size)) for i in numbers]
    for row, place in enumerate(np.ndindex(array.shape)):
        held = array[place]
        ends = []
        for step in (eps, -eps):
            array[place] = held + step
            x._bump()
            results = _as_tuple(function(*inputs))
            ends.append([np.array(results[i]._array, np.float64).reshape(-1) for i in numbers])
        array[place] = held
        x._bump()
        for jacobian, above, below in zip(jacobians, *ends, strict=True):
            jacobian[row] = (above - below) / (2 * eps)
    return jacobians


def _analytical(outputs: list[Any], inputs: list[Any]) -> list[list[Any]]:
    """jacobians[output][input], (elements of the input, elements of the output), from one walk an output element."""
    jacobians = []
    for output in outputs:
        array = output._array
        columns = [np.zeros((x._array.size, array.size)) for x in inputs]
        for column in range(array.size):
            weight = np.zeros(array.size, array.dtype)
            weight[column] = 1
            gradients = autograd.grad(
                output, inputs, wrap(weight.reshape(array.shape)), retain_graph=True, allow_unused=True
            )
            for jacobian, x, gradient in zip(columns, inputs, gradients, strict=True):
                if gradient is None:
                    continue
                if gradient._array.shape != x._array.shape or gradient._array.dtype != x._array.dtype:
                    raise GradcheckError(
                        f"[gradcheck] a gradient of shape {gradient._array.shape}, dtype {gradient._array.dtype} "
                        f"came back for an input of shape {x._array.shape}, dtype {x._array.dtype}"
                    )
                jacobian[:, column] = gradient._array.reshape(-1)
        jacobians.append(columns)
    return jacobians


def _compare(name: str, analytical: Any, numerical: Any, where: str, atol: float, rtol: float, x: Any, y: Any) -> None:
    wrong = ~(np.abs(analytical - numerical) <= atol + rtol * np.abs(numerical))
    wrong &= ~(analytical == numerical)  # infinities
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        element = tuple(int(i) for i in np.unravel_index(row, x._array.shape)) if x._array.ndim else ()
        place = tuple(int(i) for i in np.unravel_index(column, y._array.shape)) if y._array.ndim else ()
        raise GradcheckError(
            f"[{name}] Jacobian mismatch for {where}: {int(wrong.sum())} of {wrong.size} entries differ; the first is "
            f"the derivative of output element {place} by input element {element}: "
            f"analytical {analytical[row, column]:.10g}, numerical {numerical[row, column]:.10g} "
            f"(atol {atol}, rtol {rtol})\nnumerical:\n{numerical}\nanalytical:\n{analytical}"
        )


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether `func(*inputs)` has the gradients that finite differences show, as `torch.autograd.gradcheck`.

    `inputs` is a tensor or a tuple; those that require grad are checked, and must be float64 leaves. `func` returns a
    tensor or a tuple of them, and must give the same result for the same inputs: two gradients that differ by more than
    `nondet_tol` fail. With `check_undefined_grad` each output's gradient is left out in turn, which must count as
    zeros. `check_grad_dtypes` and `masked` are accepted for PyTorch's sake: dtypes are always checked, tensors always
    dense.

    Raises:
        GradcheckError: a gradient is wrong, unless `raise_exception` is False, when False is returned.
        TypeError, ValueError: the inputs cannot be checked.
        NotImplementedError: forward mode, batched gradients or `fast_mode` are asked for.
    """
    for option, given in (
        ("check_forward_ad", check_forward_ad), ("check_batched_grad", check_batched_grad),
        ("check_batched_forward_grad", check_batched_forward_grad), ("fast_mode", fast_mode),
    ):  # fmt: skip
        if given:
            raise NotImplementedError(f"[gradcheck] {option}: only full Jacobians in backward mode are checked")
    inputs = _checked_inputs("gradcheck", inputs)
    if not check_backward_ad:
        return True
    try:
        with enable_grad():
            _check(func, inputs, eps, atol, rtol, nondet_tol, check_undefined_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(
    func: Callable[..., Any], inputs: tuple[Any, ...], eps: float, atol: float, rtol: float, nondet_tol: float,
    check_undefined_grad: bool,
) -> None:  # fmt: skip
    wanted = [(number, x) for number, x in enumerate(inputs) if isinstance(x, TensorBase) and x._requires_grad]
    tensors = [x for _, x in wanted]
    with no_grad():
        probe = _as_tuple(func(*inputs))
        numbers = [i for i, y in enumerate(probe) if isinstance(y, TensorBase) and y.is_floating_point()]  # type: ignore[attr-defined]
        numerical = [_numerical(func, inputs, x, numbers, eps) for x in tensors]
    outputs = _as_tuple(func(*inputs))  # after the inputs were moved to and fro: what it keeps must not change any more
    tracked = _differentiable(outputs)
    for place, i in enumerate(numbers):
        if not outputs[i]._requires_grad:
            for (number, x), measured in zip(wanted, numerical, strict=True):
                zero = np.zeros_like(measured[place])
                _compare(
                    "gradcheck",
                    zero,
                    measured[place],
                    f"output {i}, which has no history, and input {number}",
                    atol,
                    rtol,
                    x,
                    outputs[i],
                )
    analytical = _analytical([y for _, y in tracked], tensors)
    again = _analytical([y for _, y in tracked], tensors)
    for (i, y), columns, repeated in zip(tracked, analytical, again, strict=True):
        for k, (number, x) in enumerate(wanted):
            where = f"output {i} and input {number}"
            _compare("gradcheck", columns[k], numerical[k][numbers.index(i)], where, atol, rtol, x, y)
            if not np.all(
                (np.abs(columns[k] - repeated[k]) <= nondet_tol) | (columns[k] == repeated[k]) | np.isnan(columns[k])
            ):
                raise GradcheckError(f"[gradcheck] two walks gave two gradients for {where} (nondet_tol {nondet_tol})")
    if check_undefined_grad and len(tracked) > 1:
        _check_undefined(tracked, tensors)


def _check_undefined(tracked: list[tuple[int, Any]], tensors: list[Any]) -> None:
    """A walk from some of the outputs equals one from all of them with zeros for the others."""
    for i, y in tracked:
        weights = [wrap(np.ones(z._array.shape, z._array.dtype)) if i == k else zeros_like(z) for k, z in tracked]
        alone = autograd.grad(
            y, tensors, wrap(np.ones(y._array.shape, y._array.dtype)), retain_graph=True, allow_unused=True
        )
        together = autograd.grad([z for _, z in tracked], tensors, weights, retain_graph=True, allow_unused=True)
        for number, (one, all_) in enumerate(zip(alone, together, strict=True)):
            first, second = (0.0 if g is None else g._array for g in (one, all_))
            if not np.array_equal(np.broadcast_to(first, np.shape(second)), second, equal_nan=True):
                raise GradcheckError(
                    f"[gradcheck] the gradient of output {i} alone by input {number} differs from that with zeros "
                    "for the others"
                )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether the gradients of `func(*inputs)` have right gradients themselves, as `torch.autograd.gradgradcheck`.

    The function that is checked is (inputs, grad_outputs) -> gradients; `grad_outputs` are random (from a fixed seed)
    unless given, and strided with `gen_non_contig_grad_outputs`. See `gradcheck` for the rest.
    """
    if check_fwd_over_rev:
        raise NotImplementedError("[gradgradcheck] check_fwd_over_rev: only backward mode is checked")
    inputs = _checked_inputs("gradgradcheck", inputs)
    if not check_rev_over_rev:
        return True
    with enable_grad():
        outputs = [y for _, y in _differentiable(_as_tuple(func(*inputs)))]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        grad_outputs = [wrap(_random_like(rng, y._array, gen_non_contig_grad_outputs)) for y in outputs]
        for weight in grad_outputs:
            weight.requires_grad_()
    grad_outputs = _as_tuple(grad_outputs)
    if len(grad_outputs) != len(outputs):
        raise ValueError(f"[gradgradcheck] grad_outputs: expected {len(outputs)} tensors, got {len(grad_outputs)}")
    count = len(inputs)
    wanted = [number for number, x in enumerate(inputs) if isinstance(x, TensorBase) and x._requires_grad]

    def gradients(*arguments: Any) -> tuple[Any, ...]:
        with enable_grad():
            results = [y for _, y in _differentiable(_as_tuple(func(*arguments[:count])))]
            chosen = [arguments[number] for number in wanted]
            found = autograd.grad(results, chosen, arguments[count:], create_graph=True, allow_unused=True)
        return tuple(gradient for gradient in found if gradient is not None)

    return gradcheck(
        gradients, (*inputs, *grad_outputs), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad, fast_mode=fast_mode, masked=masked,
    )  # fmt: skip


def _random_like(rng: Any, array: Any, strided: bool) -> Any:
    drawn = rng.standard_normal(array.shape)
    if not strided or array.ndim == 0:
        return drawn
    room = np.zeros((*array.shape, 2))
    room[..., 0] = drawn
    return room[..., 0]
