"""Where a number that is not finite comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autograd import grad, no_grad
from ..tensor import Tensor
from .module import Module


def all_finite(values: Any) -> bool:
    """Whether all elements of a tensor, or of a list of tensors and others, are finite."""
    if isinstance(values, (tuple, list)):
        return all(map(all_finite, values))
    if not isinstance(values, Tensor) or not values.is_floating_point():
        return True
    array = values.detach().numpy()
    with np.errstate(all="ignore"):  # the sum of squares says so in one pass, unless it overflows
        return bool(np.isfinite(np.vdot(array, array)) or np.isfinite(array).all())


def first_not_finite(model: Module, loss: Callable[..., Any], inputs: Sequence[Any], target: Any) -> str:
    """Say where the first number that is not finite comes from, by one more pass through the model: the data, a weight,
    a layer (one without others inside), the loss; or, if all of these are finite, where the gradients that the
    parameters hold began to be broken on the way back."""
    seen: list[tuple[str, Module, Any, Any]] = []  # (name, layer, inputs, output), in their order
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    handles = [
        module.register_forward_hook(
            lambda m, given, output, path=path: seen.append((f"layer {path!r} ({type(m).__name__})", m, given, output))
        )
        for path, module in model.named_modules()
        if not [*module.children()]
    ]
    try:
        with np.errstate(all="ignore"):
            output = model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        with no_grad():
            for buffer, before in buffers:  # running statistics as they were
                buffer.copy_(before)
    places: list[tuple[str, Any]] = [("the batch itself holds NaN or infinity", [*inputs, target])]
    places += [(f"the weight {name!r} holds NaN or infinity", weight) for name, weight in model.named_parameters()]
    for layer, _, given, result in seen:
        places.append((f"what reaches {layer} is the first that is not finite", given))
        places.append((f"{layer} is the first whose output is not finite", result))
    value = loss(output, target)
    places.append(("the model's output is not", output))
    places.append(("the model's output is finite: it is the loss that is not", value))
    for place, values in places:
        if not all_finite(values):
            return place

    bad = {name: weight for name, weight in model.named_parameters() if not all_finite(weight.grad)}
    layers = [entry for entry in seen if isinstance(entry[3], Tensor) and entry[3].requires_grad]
    gradients = grad(value, [entry[3] for entry in layers], allow_unused=True)
    place = "the loss"
    for (layer, module, _, _), gradient in zip(reversed(layers), reversed(gradients), strict=True):
        if not all_finite(gradient):
            break  # it came here broken: the layer after this one, or the loss, has done it
        place = layer
        if any(weight is own for weight in bad.values() for own in module.parameters(recurse=False)):
            break
    reached = ", ".join(map(repr, [*bad][:3])) + (", ..." if len(bad) > 3 else "")
    return f"on the way back they begin in {place}, and reach {reached}"
