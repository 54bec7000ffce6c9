"""What `Module.register_full_backward_hook` needs: a node on the tape in front of a module's inputs and one behind its
outputs, which hand gradients through and show them to the hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import is_grad_enabled
from ..function import Function
from ..tensor import Tensor


class _Gate(Function):
    """Its tensors, unchanged; on the way back, `seen` gets their gradients and returns what replaces them."""

    @staticmethod
    def forward(ctx: Any, seen: Callable[[tuple[Any, ...]], tuple[Any, ...]], *tensors: Tensor) -> Any:
        ctx.seen = seen
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, *ctx.seen(grads))


def _through(values: tuple[Any, ...], seen: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> tuple[Any, ...] | None:
    """`values` with the tensors that require grad passed through one gate; None where there is no such tensor. `seen`
    gets and returns one gradient for each value, None for the others."""
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor) and value.requires_grad]
    if not places or not is_grad_enabled():
        return None

    def spread(grads: tuple[Any, ...]) -> tuple[Any, ...]:
        every: list[Any] = [None] * len(values)
        for place, grad in zip(places, grads, strict=True):
            every[place] = grad
        returned = seen(tuple(every))
        return tuple(returned[place] for place in places)

    result = list(values)
    for place, tensor in zip(places, _Gate.apply(spread, *(values[place] for place in places)), strict=True):
        result[place] = tensor
    return tuple(result)


class BackwardWatch:
    """One call of a module whose gradients its hooks want to see."""

    def __init__(self, module: Any, hooks: Any) -> None:
        self.module, self.hooks = module, hooks
        self.grad_output: tuple[Any, ...] = ()
        self.without_inputs: int | None = None  # how many inputs there are, none of which requires grad

    def inputs(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, through the gate where their gradients are shown."""
        result = _through(values, self._input_gradients)
        if result is None:
            self.without_inputs = len(values)
            return values
        return result

    def outputs(self, output: Any) -> Any:
        """The output (a tensor, or a tuple or list of values), through the gate where its gradients are shown."""
        several = isinstance(output, (tuple, list))
        result = _through(tuple(output) if several else (output,), self._output_gradients)
        if result is None:
            return output
        return type(output)(result) if several and type(output) in (tuple, list) else result if several else result[0]

    def _replaced(self, name: str, grads: tuple[Any, ...], returned: Any) -> tuple[Any, ...]:
        if returned is None:
            return grads
        replaced = returned if isinstance(returned, tuple) else (returned,)
        if len(replaced) != len(grads):
            raise RuntimeError(f"[{name}] result: expected None or {len(grads)} gradients, got {len(replaced)}")
        return replaced

    def _output_gradients(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook, _ in list(self.hooks.before_backward.values()):
            grads = self._replaced("backward pre-hook", grads, hook(self.module, grads))
        self.grad_output = grads
        if self.without_inputs is not None:
            for hook, _ in list(self.hooks.after_backward.values()):
                hook(self.module, (None,) * self.without_inputs, grads)
        return grads

    def _input_gradients(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook, _ in list(self.hooks.after_backward.values()):
            grads = self._replaced("backward hook", grads, hook(self.module, grads, self.grad_output))
        return grads
