"""Products of tensors by index: einsum, tensordot, outer and Kronecker products, and the sums of products of PyTorch's
`add...` family. Everything ends in `matmul`."""

from __future__ import annotations

import builtins
import math
from typing import Any

from .arrange import diagonal, movedim
from .define import composed, normalize_axis
from .matmul import matmul, mv
from .reduce import sum
from .shape import permute, reshape, unsqueeze

Labels = tuple[Any, ...]


def _terms(equation: str, operands: list[Any]) -> tuple[list[Labels], Labels]:
    """Each operand's labels, and the result's; an ellipsis is labels counted from the right: ("...", 0) is its last.

    Raises:
        ValueError: the equation does not fit the operands.
    """
    text = equation.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    parts = inputs.split(",")
    if len(parts) != len(operands):
        raise ValueError(f"[einsum] operands: expected {len(parts)} for {equation!r}, got {len(operands)}")

    def labels(part: str, hidden: int) -> Labels:
        before, dots, after = part.partition("...")
        if not all(c.isalpha() for c in before + after):
            raise ValueError(f"[einsum] equation: expected letters, commas, '...' and '->', got {equation!r}")
        middle = [("...", i) for i in range(hidden - 1, -1, -1)] if dots else []
        return (*before, *middle, *after)

    named, widest = [], 0
    for part, operand in zip(parts, operands, strict=True):
        hidden = operand.ndim - len(part.replace("...", "")) if "..." in part else 0
        found = labels(part, builtins.max(hidden, 0))
        if len(found) != operand.ndim:
            raise ValueError(f"[einsum] operands: expected {len(found)} dimensions for {part!r}, got {operand.shape}")
        named.append(found)
        widest = builtins.max(widest, hidden)
    everything = [label for found in named for label in found]
    if arrow:
        result = labels(output, widest)
    else:  # the ellipsis, then what occurs once, in alphabetical order
        once = [label for label in everything if isinstance(label, str) and everything.count(label) == 1]
        result = (*(("...", i) for i in range(widest - 1, -1, -1)), *sorted(once))
    if len(set(result)) != len(result) or not set(result) <= set(everything):
        raise ValueError(f"[einsum] equation: expected an output of distinct input labels, got {equation!r}")
    return named, result


def _single(operand: Any, labels: Labels, sizes: dict[Any, int]) -> tuple[Any, Labels]:
    """Repeated labels become a diagonal; a dimension of 1 where the label is longer elsewhere is dropped."""
    while len(set(labels)) != len(labels):
        label = next(label for label in labels if labels.count(label) > 1)
        first = labels.index(label)
        second = labels.index(label, first + 1)
        if operand.shape[first] != operand.shape[second]:
            raise ValueError(f"[einsum] operands: expected equal sizes for {label!r}, got {operand.shape}")
        operand = diagonal(operand, 0, first, second)
        labels = (*(x for i, x in enumerate(labels) if i not in (first, second)), label)
    keep = [i for i, label in enumerate(labels) if not (operand.shape[i] == 1 and sizes[label] != 1)]
    if len(keep) != len(labels):
        operand = reshape(operand, tuple(operand.shape[i] for i in keep))
        labels = tuple(labels[i] for i in keep)
    return operand, labels


def _reduced(operand: Any, labels: Labels, wanted: set[Any]) -> tuple[Any, Labels]:
    axes = tuple(i for i, label in enumerate(labels) if label not in wanted)
    if not axes:
        return operand, labels
    return sum(operand, axes), tuple(label for label in labels if label in wanted)


def _arranged(operand: Any, labels: Labels, *groups: list[Any]) -> Any:
    """`operand` with one dimension a group of labels."""
    order = [labels.index(label) for group in groups for label in group]
    operand = permute(operand, tuple(order)) if order != list(range(len(order))) else operand
    shape, place = [], 0
    for group in groups:
        shape.append(math.prod(operand.shape[place : place + len(group)]))
        place += len(group)
    return reshape(operand, tuple(shape))


def _contracted(a: Any, of_a: Labels, b: Any, of_b: Labels, wanted: set[Any]) -> tuple[Any, Labels]:
    """One matrix product: labels of both that are wanted are batches, those that are not are summed."""
    a, of_a = _reduced(a, of_a, wanted | set(of_b))
    b, of_b = _reduced(b, of_b, wanted | set(of_a))
    batch = [label for label in of_a if label in of_b and label in wanted]
    summed = [label for label in of_a if label in of_b and label not in wanted]
    rows = [label for label in of_a if label not in of_b]
    columns = [label for label in of_b if label not in of_a]
    sizes = dict(zip(of_a, a.shape, strict=True)) | dict(zip(of_b, b.shape, strict=True))
    product = matmul(_arranged(a, of_a, batch, rows, summed), _arranged(b, of_b, batch, summed, columns))
    labels = (*batch, *rows, *columns)
    return reshape(product, tuple(sizes[label] for label in labels)), labels


@composed
def einsum(equation, *operands):
    """Products of the operands' elements, summed over the indices that the output does not name (Einstein's convention,
    NumPy's spelling): einsum("bij,bjk->bik", a, b) is a product of matrices.

    Indices are letters; a repeated one in one operand takes its diagonal; "..." stands for dimensions that broadcast.
    Without "->" the output's are those that occur once, in alphabetical order. Operands are multiplied two at a time,
    from left to right, each by one `matmul`.

    Raises:
        ValueError: the equation is malformed, or sizes do not agree.
    """
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    if not isinstance(equation, str):
        if operands and isinstance(operands[0], str):  # the operands first, as a list
            equation, operands = operands[0], tuple(equation) if isinstance(equation, (tuple, list)) else (equation,)
        else:
            raise TypeError(f"[einsum] equation: expected a string, got {type(equation).__name__}")
    if not operands:
        raise ValueError("[einsum] operands: expected at least one tensor")
    named, result = _terms(equation, list(operands))
    sizes: dict[Any, int] = {}
    for labels, operand in zip(named, operands, strict=True):
        for label, size in zip(labels, operand.shape, strict=True):
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size not in (1, known):
                raise ValueError(f"[einsum] operands: expected size {known} for {label!r}, got {size} in {equation!r}")
    prepared = [_single(operand, labels, sizes) for labels, operand in zip(named, operands, strict=True)]
    current, labels = prepared[0]
    for i, (operand, of_operand) in enumerate(prepared[1:], 2):
        wanted = set(result).union(*(later for _, later in prepared[i:]))
        current, labels = _contracted(current, labels, operand, of_operand, wanted)
    current, labels = _reduced(current, labels, set(result))
    missing = [label for label in result if label not in labels]  # every operand had size 1 there: cannot happen
    assert not missing
    order = tuple(labels.index(label) for label in result)
    return permute(current, order) if order != tuple(range(len(order))) else current


@composed
def tensordot(a, b, dims=2):
    """The product summed over dims: the last `dims` dimensions of a with the first of b, or the pairs (of a, of b)."""
    if isinstance(dims, (tuple, list)):
        of_a, of_b = (list(axes) if isinstance(axes, (tuple, list)) else [axes] for axes in dims)
    else:
        count = int(dims)
        if not 0 <= count <= builtins.min(a.ndim, b.ndim):
            raise ValueError(f"[tensordot] dims: expected at most {builtins.min(a.ndim, b.ndim)}, got {count}")
        of_a, of_b = list(range(a.ndim - count, a.ndim)), list(range(count))
    of_a = [normalize_axis("tensordot", axis, a.ndim) for axis in of_a]
    of_b = [normalize_axis("tensordot", axis, b.ndim) for axis in of_b]
    for i, j in zip(of_a, of_b, strict=True):  # a size of 1 is stretched
        if a.shape[i] == 1 != b.shape[j]:
            b = sum(b, j, True)
        elif b.shape[j] == 1 != a.shape[i]:
            a = sum(a, i, True)
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(f"[tensordot] dims: expected equal sizes, got {dims} of {a.shape} and {b.shape}")
    rows = [i for i in range(a.ndim) if i not in of_a]
    columns = [i for i in range(b.ndim) if i not in of_b]
    left, right = tuple(range(a.ndim)), tuple(range(b.ndim))
    product = matmul(_arranged(a, left, rows, of_a), _arranged(b, right, of_b, columns))
    return reshape(product, tuple(a.shape[i] for i in rows) + tuple(b.shape[i] for i in columns))


@composed
def outer(input, vec2):
    """input[i] * vec2[j], of vectors."""
    if input.ndim != 1 or vec2.ndim != 1:
        raise ValueError(f"[outer] vec2: expected two vectors, got shapes {input.shape} and {vec2.shape}")
    return unsqueeze(input, 1) * unsqueeze(vec2, 0)


@composed
def inner(input, other):
    """The sum of products over the last dimension of both."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return tensordot(input, other, ([-1], [-1]))


@composed
def vdot(input, other):
    """The sum of products of two vectors."""
    return matmul(input, other)


@composed
def kron(input, other):
    """The Kronecker product: every element of input times the whole of other."""
    ndim = builtins.max(input.ndim, other.ndim)
    a, b = (1,) * (ndim - input.ndim) + input.shape, (1,) * (ndim - other.ndim) + other.shape
    thin = tuple(size for n in a for size in (n, 1))
    wide = tuple(size for n in b for size in (1, n))
    return reshape(reshape(input, thin) * reshape(other, wide), tuple(m * n for m, n in zip(a, b, strict=True)))


def _blend(input: Any, product: Any, beta: Any, alpha: Any) -> Any:
    """beta * input + alpha * product; with beta 0 input is not looked at, NaN in it or not."""
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return (input if beta == 1 else input * beta) + product


@composed
def addmv(input, mat, vec, *, beta=1, alpha=1):
    """beta * input + alpha * (mat @ vec)."""
    return _blend(input, mv(mat, vec), beta, alpha)


@composed
def addr(input, vec1, vec2, *, beta=1, alpha=1):
    """beta * input + alpha * outer(vec1, vec2)."""
    return _blend(input, outer(vec1, vec2), beta, alpha)


@composed
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * bmm(batch1, batch2)."""
    return _blend(input, matmul(batch1, batch2), beta, alpha)


@composed
def addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    """beta * input + alpha * the sum of the batches' products."""
    left = reshape(movedim(batch1, 0, 1), (batch1.shape[1], -1))
    return _blend(input, matmul(left, reshape(batch2, (-1, batch2.shape[2]))), beta, alpha)


@composed
def cross(input, other, dim=None):
    """The cross product of vectors of three along dim (None: the first dimension of size 3)."""
    if dim is None:
        dim = next((i for i, size in enumerate(input.shape) if size == 3), -1)
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise ValueError(f"[cross] other: expected 3 entries along dim {dim}, got {input.shape} and {other.shape}")
    shifted = [(x.roll(-1, dim), x.roll(-2, dim)) for x in (input, other)]
    return shifted[0][0] * shifted[1][1] - shifted[0][1] * shifted[1][0]
