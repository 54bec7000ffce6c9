"""Operators of one's own, as `torch.autograd.Function` spells them."""

from __future__ import annotations

from typing import Any

from .autograd import Edge, Node, SavedOutput, TensorBase, is_grad_enabled, no_grad


class Function:
    """A custom operator, as `torch.autograd.Function` spells it.

    A subclass defines two static methods, `forward(ctx, *args)`, which computes with tensors while nothing is recorded,
    and `backward(ctx, *grads)`, which returns one gradient (or None) for each argument of forward. `ctx` carries values
    from one to the other (`ctx.save_for_backward(...)`, `ctx.saved_tensors`, any attribute), and
    `ctx.needs_input_grad[i]` says which gradients are wanted. `MyFunction.apply(*args)` runs it.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute the result; to be overridden."""
        raise TypeError("[Function] forward: a subclass must define it as a static method")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Compute the gradients of the arguments; to be overridden."""
        raise TypeError("[Function] backward: a subclass must define it as a static method")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run forward on `args` and record the node."""
        ctx = Context(tuple([isinstance(arg, TensorBase) and arg._requires_grad for arg in args]))
        with no_grad():
            result = cls.forward(ctx, *args)
        if not (any(ctx.needs_input_grad) and is_grad_enabled()):
            return result
        listed = result if isinstance(result, tuple) else (result,)
        # An argument handed straight back gets a tensor of its own: it now has this function as its history.
        listed = tuple([output.detach() if any(output is arg for arg in args) else output for output in listed])
        node = Node(cls.__name__, [(output._array.shape, output._array.dtype) for output in listed])
        positions = [position for position, needed in enumerate(ctx.needs_input_grad) if needed]
        node.edges = [Edge(args[position], place) for place, position in enumerate(positions)]

        def joint(grad: Any) -> list[Any]:
            results = cls.backward(ctx, *(grad if isinstance(grad, tuple) else (grad,)))
            results = results if isinstance(results, tuple) else (results,)
            if len(results) != len(args):
                raise RuntimeError(f"[{cls.__name__}] backward: expected {len(args)} gradients, got {len(results)}")
            return [results[position] for position in positions]

        node.joint = joint
        for index, output in enumerate(listed):
            if not any(output is marked for marked in ctx.non_differentiable):
                output._grad_fn = node
                output._output = index
                output._requires_grad = True
        ctx.seal(node, listed)
        return listed if isinstance(result, tuple) else listed[0]


class Context:
    """What `Function.forward` leaves for `Function.backward`."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self.non_differentiable: list[Any] = []
        self._saved: list[Any] = []
        self._versions: list[int] = []
        self._node: Any = None

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep `tensors` (or None) for backward, guarded against later in-place writes."""
        self._saved = list(tensors)
        self._versions = [-1 if tensor is None else tensor._storage.version for tensor in tensors]

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """Say which of forward's results have no gradient."""
        self.non_differentiable = list(tensors)

    def seal(self, node: Node, outputs: Any) -> None:
        """Replace kept results by stand-ins that do not keep the node alive."""
        self._node = node
        for position, tensor in enumerate(self._saved):
            for index, output in enumerate(outputs):
                if tensor is output:
                    self._saved[position] = SavedOutput(output._array, output._storage, index)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What `save_for_backward` kept."""
        tensors: list[Any] = []
        for value, version in zip(self._saved, self._versions, strict=True):
            if value is None:
                tensors.append(None)
                continue
            output = isinstance(value, SavedOutput)
            if (value.storage if output else value._storage).version != version:
                raise RuntimeError("[Function] a tensor saved for backward was modified in place")
            tensors.append(value.tensor(self._node) if output else value)
        return tuple(tensors)
