"""What a model consists of, as a table: layers, the shapes they give, the parameters they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..autograd import no_grad
from ..creation import zeros
from ..tensor import Tensor
from ..utils.arguments import wrong
from .module import Module


@dataclass(frozen=True)
class Layer:
    """A line of the table."""

    path: str  # as in named_modules(); "" for the model itself
    kind: str  # the class
    output_shape: Any  # of the last call: a shape, a tuple of shapes, or None where the layer was not called
    parameters: int  # elements of the layer's own parameters, each counted where it comes first
    trainable: int  # those of them that require grad


@dataclass(frozen=True)
class Summary:
    """What `summary` returns; `str` gives the table."""

    layers: tuple[Layer, ...]
    buffers: int  # elements of all buffers
    bytes: int  # of parameters and buffers

    @property
    def parameters(self) -> int:
        """The number of all parameters' elements."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """The number of elements of those that require grad."""
        return sum(layer.trainable for layer in self.layers)

    def __str__(self) -> str:
        rows = [("layer", "output shape", "parameters")]
        for layer in self.layers:
            depth = layer.path.count(".") + 1 if layer.path else 0
            name = layer.path.rpartition(".")[2]
            label = "  " * depth + (f"{name}: {layer.kind}" if name else layer.kind)
            rows.append((label, _shape_text(layer.output_shape), f"{layer.parameters:,}" if layer.parameters else "-"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
        rule = "-" * len(lines[0])
        total = f"{self.parameters:,} parameters, {self.trainable:,} of them trainable"
        if self.buffers:
            total += f"; {self.buffers:,} elements in buffers"
        return "\n".join([lines[0], rule, *lines[1:], rule, total, f"{_size_text(self.bytes)} of memory"])

    __repr__ = __str__


def _shape_text(shape: Any) -> str:
    if shape is None:
        return "-"
    if shape and isinstance(shape[0], tuple):
        return ", ".join(map(str, shape))
    return str(shape)


def _size_text(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}"
        size /= 1000.0
    return f"{size:,.3g} MB" if size < 1000.0 else f"{size:,.0f} MB"


def _shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return tuple(_shapes(part) for part in output if isinstance(part, (Tensor, tuple, list)))
    return None


def summary(model: Module, input_size: Any = None, *, example: Any = None) -> Summary:
    """Call `model` once, in evaluation mode and without gradients, and list what came out of each layer.

        print(hominy.nn.summary(model, (1, 28 * 28)))

    Args:
        input_size: the shape of its input, batch included, or a list of shapes for several; the values are zeros of the
            first parameter's dtype.
        example: in its place, an input, or a tuple of several. Without either, shapes are left out.

    Raises:
        TypeError: `model` is no module, or input and example are both given.
    """
    if not isinstance(model, Module):
        raise TypeError(wrong("summary", "model", "a hominy.nn.Module", type(model).__name__))
    if input_size is not None and example is not None:
        raise TypeError("[summary] example: expected input_size or example, got both")
    shapes: dict[int, Any] = {}
    if input_size is not None or example is not None:
        _record(model, _inputs(model, input_size, example), shapes)
    layers: list[Layer] = []
    counted: set[int] = set()
    for path, module in model.named_modules():
        own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in counted]
        counted.update(map(id, own))
        count = sum(parameter.numel() for parameter in own)
        trainable = sum(parameter.numel() for parameter in own if parameter.requires_grad)
        layers.append(Layer(path, type(module).__name__, shapes.get(id(module)), count, trainable))
    tensors = [*model.parameters(), *model.buffers()]
    return Summary(
        tuple(layers),
        sum(buffer.numel() for buffer in model.buffers()),
        sum(value.numel() * value.element_size() for value in tensors),
    )


def _inputs(model: Module, input_size: Any, example: Any) -> tuple[Any, ...]:
    if example is not None:
        return example if isinstance(example, tuple) else (example,)
    sizes = [input_size] if isinstance(input_size, int) or not _is_list_of_shapes(input_size) else input_size
    dtype = next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), None)
    return tuple(zeros(size, dtype=dtype) for size in sizes)


def _is_list_of_shapes(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Sequence)


def _record(model: Module, inputs: tuple[Any, ...], shapes: dict[int, Any]) -> None:
    """Call `model` and note what shapes each module gives; the model is afterwards as it was."""

    def note(module: Module, inputs: Any, output: Any) -> None:
        shapes[id(module)] = _shapes(output)

    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        model.eval()
        with no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
