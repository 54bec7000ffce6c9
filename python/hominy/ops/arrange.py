"""Where elements lie: parts and pieces of tensors, diagonals, triangles, repetition, padding. What only looks at memory
(`narrow`, `split`, `diagonal`, `movedim`) gives views; `flip`, `roll`, `repeat` and `pad` copy."""

from __future__ import annotations

import builtins
import itertools
from typing import Any

import numpy as np

from ..dtypes import normalize_dtype
from ..memory_format import channels_last_order
from ..utils.arguments import choice, integer
from .define import as_tensor, composed, normalize_axes, normalize_axis, operator, require_array
from .indexing import accumulate_at, index_select, setitem
from .shape import broadcast_to, cat, expand, permute, reshape, stack, transpose


def sizes_of(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The sizes given as f(x, 2, 3) or f(x, (2, 3))."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


# Parts: views by basic indexing.


@composed
def narrow(input, dim, start, length):
    """length entries of dim, from start on."""
    axis = normalize_axis("narrow", dim, input.ndim)
    size = input.shape[axis] if input.ndim else 0
    start, length = int(start), integer("narrow", "length", length, 0)
    if not -size <= start <= size:
        raise IndexError(f"[narrow] start: expected an integer in [{-size}, {size}], got {start}")
    start = start + size if start < 0 else start
    if start + length > size:
        raise ValueError(f"[narrow] length: expected at most {size - start} from {start} on, got {length}")
    return input[(slice(None),) * axis + (slice(start, start + length),)]


@composed
def select(input, dim, index):
    """The entry index of dim, without that dimension."""
    if input.ndim == 0:
        raise ValueError("[select] input: expected at least 1 dimension, got a 0-d tensor")
    return input[(slice(None),) * normalize_axis("select", dim, input.ndim) + (index.__index__(),)]


@composed
def unbind(input, dim=0):
    """The entries along dim, as a tuple of tensors without it."""
    axis = normalize_axis("unbind", dim, input.ndim)
    if input.ndim == 0:
        raise ValueError("[unbind] input: expected at least 1 dimension, got a 0-d tensor")
    return tuple(input[(slice(None),) * axis + (i,)] for i in range(input.shape[axis]))


def _between(input: Any, axis: int, bounds: Any) -> tuple[Any, ...]:
    return tuple(input[(slice(None),) * axis + (slice(start, stop),)] for start, stop in bounds)


@composed
def split(input, split_size_or_sections, dim=0):
    """Pieces along dim: of a size each (the last may be smaller), or of the sizes in a list."""
    axis = normalize_axis("split", dim, input.ndim)
    size = input.shape[axis]
    if isinstance(split_size_or_sections, (tuple, list)):
        sections = [integer("split", "split_size_or_sections", n, 0) for n in split_size_or_sections]
        if builtins.sum(sections) != size:
            raise ValueError(f"[split] split_size_or_sections: expected a sum of {size}, got {tuple(sections)}")
        ends = np.cumsum([0, *sections]).tolist()
        return _between(input, axis, itertools.pairwise(ends))
    step = integer("split", "split_size_or_sections", split_size_or_sections, 0 if size == 0 else 1)
    return _between(input, axis, ((start, start + step) for start in range(0, builtins.max(size, 1), step or 1)))


@composed
def split_with_sizes(input, split_sizes, dim=0):
    """Pieces along dim of the given sizes."""
    return split(input, list(split_sizes), dim)


@composed
def chunk(input, chunks, dim=0):
    """At most chunks pieces of equal size along dim; the last may be smaller."""
    axis = normalize_axis("chunk", dim, input.ndim)
    chunks = integer("chunk", "chunks", chunks)
    size = input.shape[axis]
    step = -(-size // chunks)
    return split(input, step, axis) if step else _between(input, axis, [(0, 0)] * chunks)


@composed
def tensor_split(input, indices_or_sections, dim=0):
    """Pieces along dim: so many of nearly equal size, or cut at the given indices; as NumPy's `array_split`."""
    axis = normalize_axis("tensor_split", dim, input.ndim)
    if input.ndim == 0:
        raise ValueError("[tensor_split] input: expected at least 1 dimension, got a 0-d tensor")
    size = input.shape[axis]
    if hasattr(indices_or_sections, "tolist"):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (tuple, list)):
        ends = [0, *(int(i) for i in indices_or_sections), size]
    else:
        count = integer("tensor_split", "indices_or_sections", indices_or_sections)
        ends = [0, *np.cumsum([size // count + (i < size % count) for i in range(count)]).tolist()]
    return _between(input, axis, itertools.pairwise(ends))


@composed
def hsplit(input, indices_or_sections):
    """`tensor_split` by columns: along dimension 1, or 0 of a vector."""
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


@composed
def vsplit(input, indices_or_sections):
    """`tensor_split` by rows, along dimension 0."""
    return tensor_split(input, indices_or_sections, 0)


@composed
def dsplit(input, indices_or_sections):
    """`tensor_split` along dimension 2."""
    return tensor_split(input, indices_or_sections, 2)


@composed
def unfold(input, dimension, size, step):
    """Windows of `size` entries along dimension, `step` apart, in a new last dimension (a copy)."""
    axis = normalize_axis("unfold", dimension, input.ndim)
    if input.ndim == 0:
        return reshape(input, (1,))[: integer("unfold", "size", size, 0)]
    length, size, step = input.shape[axis], integer("unfold", "size", size, 0), integer("unfold", "step", step)
    if size > length:
        raise ValueError(f"[unfold] size: expected at most {length}, got {size}")
    places = np.arange(0, length - size + 1, step)[:, None] + np.arange(size)
    windows = index_select(input, axis, places.reshape(-1))
    windows = reshape(windows, input.shape[:axis] + places.shape + input.shape[axis + 1 :])
    return movedim(windows, axis + 1, -1)


# Shapes.


@composed
def movedim(input, source, destination):
    """The dimensions source moved to destination, the others in order."""
    sources = source if isinstance(source, (tuple, list)) else (source,)
    targets = destination if isinstance(destination, (tuple, list)) else (destination,)
    if len(sources) != len(targets):
        raise ValueError(f"[movedim] destination: expected {len(sources)} dimensions as source, got {len(targets)}")
    sources = [normalize_axis("movedim", axis, input.ndim) for axis in sources]
    targets = [normalize_axis("movedim", axis, input.ndim) for axis in targets]
    if len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ValueError(f"[movedim] source: expected distinct dimensions, got {tuple(sources)} to {tuple(targets)}")
    order = [axis for axis in range(input.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return permute(input, tuple(order)) if input.ndim else input


@composed
def unflatten(input, dim, sizes):
    """Dimension dim as several of the given sizes, one of which may be -1."""
    axis = normalize_axis("unflatten", dim, input.ndim)
    sizes = tuple(int(size) for size in sizes)
    known = 1
    for size in sizes:
        known *= size if size != -1 else 1
    if sizes.count(-1) == 1 and known and input.shape[axis] % known == 0:
        sizes = tuple(input.shape[axis] // known if size == -1 else size for size in sizes)
    elif known != input.shape[axis] or -1 in sizes:
        raise ValueError(f"[unflatten] sizes: expected a product of {input.shape[axis]}, got {sizes}")
    return reshape(input, input.shape[:axis] + sizes + input.shape[axis + 1 :])


@composed
def expand_as(input, other):
    """input stretched to other's shape; a read-only view."""
    return expand(input, other.shape)


@composed
def view_as(input, other):
    """input in other's shape."""
    return reshape(input, other.shape)


@composed
def reshape_as(input, other):
    """input in other's shape."""
    return reshape(input, other.shape)


@composed
def ravel(input):
    """input in one dimension."""
    return reshape(input, (-1,))


@composed
def adjoint(input):
    """The last two dimensions swapped."""
    return transpose(input, -2, -1)


@composed
def broadcast_tensors(*tensors):
    """The tensors stretched to their common shape."""
    tensors = sizes_of(tensors)
    shape = broadcast_shapes(*(tensor.shape for tensor in tensors))
    return tuple(broadcast_to(tensor, shape) for tensor in tensors)


@composed
def broadcast_shapes(*shapes):
    """The shape to which the shapes broadcast."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"[broadcast_shapes] shapes: expected ones that broadcast, got {shapes}") from None


def _at_least(name: str, ndim: int, tensors: tuple[Any, ...]) -> Any:
    several = len(tensors) != 1 or isinstance(tensors[0], (tuple, list))
    found = []
    for tensor in sizes_of(tensors):
        tensor = as_tensor(name, "tensors", tensor)
        if tensor.ndim < ndim:
            full = (1,) * (min(ndim, 2) - tensor.ndim) + tensor.shape
            tensor = reshape(tensor, full + (1,) * (ndim - len(full)))
        found.append(tensor)
    return tuple(found) if several else found[0]


@composed
def atleast_1d(*tensors):
    """0-d tensors as vectors of one element."""
    return _at_least("atleast_1d", 1, tensors)


@composed
def atleast_2d(*tensors):
    """Numbers and vectors as matrices of one row."""
    return _at_least("atleast_2d", 2, tensors)


@composed
def atleast_3d(*tensors):
    """Vectors as (1, n, 1), matrices as (m, n, 1)."""
    return _at_least("atleast_3d", 3, tensors)


@composed
def hstack(tensors):
    """The tensors side by side: along dimension 1, vectors along 0."""
    tensors = [atleast_1d(tensor) for tensor in tensors]
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


@composed
def vstack(tensors):
    """The tensors below each other, vectors as rows."""
    return cat([atleast_2d(tensor) for tensor in tensors], 0)


@composed
def dstack(tensors):
    """The tensors behind each other, along dimension 2."""
    return cat([atleast_3d(tensor) for tensor in tensors], 2)


@composed
def column_stack(tensors):
    """The tensors side by side, vectors and numbers as columns."""
    return cat([reshape(t, (-1, 1)) if t.ndim < 2 else t for t in tensors], 1)


@composed
def meshgrid(*tensors, indexing="ij"):
    """Coordinate grids of vectors: each stretched along the others' dimensions; "xy" swaps the first two."""
    choice("meshgrid", "indexing", indexing, ("ij", "xy"))
    vectors = [atleast_1d(tensor) for tensor in sizes_of(tensors)]
    swapped = indexing == "xy" and len(vectors) > 1
    if swapped:
        vectors[:2] = vectors[1::-1]
    shape = tuple(vector.numel() for vector in vectors)
    grids = [
        broadcast_to(reshape(vector, (1,) * i + (-1,) + (1,) * (len(vectors) - 1 - i)), shape)
        for i, vector in enumerate(vectors)
    ]
    if swapped:
        grids[:2] = grids[1::-1]
    return tuple(grids)


@composed
def cartesian_prod(*tensors):
    """All combinations of the vectors' elements, one a row."""
    tensors = sizes_of(tensors)
    if len(tensors) == 1:
        return as_tensor("cartesian_prod", "tensors", tensors[0])
    return stack([reshape(grid, (-1,)) for grid in meshgrid(*tensors)], -1)


@composed
def block_diag(*tensors):
    """A matrix with the matrices along its diagonal, zeros elsewhere."""
    blocks = [atleast_2d(tensor) for tensor in tensors]
    width = builtins.sum(block.shape[1] for block in blocks)
    rows, start = [], 0
    for block in blocks:
        rows.append(constant_pad(block, (start, width - start - block.shape[1]), 0.0))
        start += block.shape[1]
    return cat(rows, 0)


# Order and repetition.


@operator
def flip(input, dims):
    """The order along dims (an integer or several) reversed; a copy."""
    array = require_array("flip", "input", input)
    axes = normalize_axes("flip", dims, array.ndim) if dims != () and dims != [] else ()
    return np.flip(array, axes).copy(order="C") if array.ndim else array.copy()


@composed
def fliplr(input):
    """The order along dimension 1 reversed."""
    return flip(input, (1,))


@composed
def flipud(input):
    """The order along dimension 0 reversed."""
    return flip(input, (0,))


@operator
def roll(input, shifts, dims=None):
    """Entries moved by shifts along dims, around the end; without dims, in the flattened input."""
    array = require_array("roll", "input", input)
    if dims is None or dims in ((), []):
        shift = shifts[0] if isinstance(shifts, (tuple, list)) else shifts
        return np.roll(array, int(shift))
    shifts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if len(shifts) != len(dims):
        raise ValueError(f"[roll] shifts: expected {len(dims)} of them as dims, got {len(shifts)}")
    axes = tuple(normalize_axis("roll", axis, array.ndim) for axis in dims)
    return np.roll(array, tuple(int(shift) for shift in shifts), axes) if array.ndim else array.copy()


flip.gradient(input=lambda grad, dims: flip(grad, dims))
roll.gradient(
    input=lambda grad, shifts, dims: roll(
        grad, tuple(-s for s in shifts) if isinstance(shifts, (tuple, list)) else -shifts, dims
    )
)


@composed
def rot90(input, k=1, dims=(0, 1)):
    """Turned by k quarters in the plane of two dimensions, from the first towards the second."""
    if len(dims) != 2:
        raise ValueError(f"[rot90] dims: expected two dimensions, got {tuple(dims)}")
    first, second = (normalize_axis("rot90", axis, input.ndim) for axis in dims)
    if first == second:
        raise ValueError(f"[rot90] dims: expected distinct dimensions, got {tuple(dims)}")
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, (first, second))
    return transpose(flip(input, (second if k == 1 else first,)), first, second)


@composed
def repeat(input, *repeats):
    """The tensor laid out repeats times along each dimension; more numbers than dimensions add dimensions in front."""
    counts = tuple(integer("repeat", "repeats", count, 0) for count in sizes_of(repeats))
    lead = len(counts) - input.ndim
    if lead < 0:
        raise ValueError(f"[repeat] repeats: expected at least {input.ndim} numbers, got {counts}")
    shape = (1,) * lead + input.shape
    thin = tuple(size for pair in zip((1,) * len(shape), shape, strict=True) for size in pair)
    wide = tuple(size for pair in zip(counts, shape, strict=True) for size in pair)
    full = tuple(count * size for count, size in zip(counts, shape, strict=True))
    result = reshape(broadcast_to(reshape(input, thin), wide), full)
    return result if np.any(np.asarray(counts) != 1) else result.clone()


@composed
def tile(input, *dims):
    """As `repeat`; fewer numbers than dimensions are those of the last ones."""
    counts = sizes_of(dims)
    return repeat(input, *((1,) * (input.ndim - len(counts)) + tuple(counts)))


@composed
def repeat_interleave(input, repeats, dim=None, *, output_size=None):
    """Each entry along dim repeats times (a number, or one an entry); without dim, of the flattened input."""
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    axis = normalize_axis("repeat_interleave", dim, input.ndim)
    counts = np.asarray(repeats._array if hasattr(repeats, "_array") else repeats)
    if counts.dtype.kind not in "iu" or (counts.size and counts.min() < 0):
        raise ValueError(f"[repeat_interleave] repeats: expected integers of 0 or more, got {counts}")
    if counts.ndim and counts.size not in (1, input.shape[axis]):
        raise ValueError(f"[repeat_interleave] repeats: expected {input.shape[axis]} of them, got {counts.size}")
    places = np.repeat(np.arange(input.shape[axis]), counts.reshape(-1) if counts.ndim else counts)
    return index_select(input, axis, places)


# Diagonals and triangles.


def _diagonal_places(shape: tuple[int, int], offset: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = builtins.max(-offset, 0), builtins.max(offset, 0)
    count = builtins.max(0, builtins.min(shape[0] - rows, shape[1] - columns))
    return np.arange(count) + rows, np.arange(count) + columns


@operator(view=True)
def diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonal of the matrices in dim1 and dim2, `offset` above the main one, as the last dimension; a view."""
    array = require_array("diagonal", "input", input)
    first, second = normalize_axis("diagonal", dim1, array.ndim), normalize_axis("diagonal", dim2, array.ndim)
    if first == second or array.ndim < 2:
        raise ValueError(f"[diagonal] dim2: expected two distinct dimensions of {array.shape}, got {dim1} and {dim2}")
    moved = np.moveaxis(array, (first, second), (-2, -1))
    rows, columns = _diagonal_places(moved.shape[-2:], offset)
    if not len(rows):
        return np.empty((*moved.shape[:-2], 0), array.dtype)
    first, second, count = int(rows[0]), int(columns[0]), len(rows)
    square = moved[..., first : first + count, second : second + count]
    return np.einsum("...ii->...i", square)  # a view that can be written to, which np.diagonal's cannot


def _diagonal_gradient(grad, shape_of_input, offset, dim1, dim2):
    ndim = len(shape_of_input)
    first, second = normalize_axis("diagonal", dim1, ndim), normalize_axis("diagonal", dim2, ndim)
    order = [axis for axis in range(ndim) if axis not in (first, second)] + [first, second]
    shape = tuple(shape_of_input[axis] for axis in order)
    placed = accumulate_at(shape, (Ellipsis, *_diagonal_places(shape[-2:], offset)), grad)
    return permute(placed, tuple(order.index(axis) for axis in range(ndim)))


diagonal.gradient(input=_diagonal_gradient)


@composed
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Zeros with input's last dimension on the diagonal of the matrices in dim1 and dim2."""
    size = input.shape[-1] + builtins.abs(offset)
    shape = (*input.shape[:-1], size, size)
    placed = accumulate_at(shape, (Ellipsis, *_diagonal_places((size, size), offset)), input)
    first, second = normalize_axis("diag_embed", dim1, len(shape)), normalize_axis("diag_embed", dim2, len(shape))
    if first == second:
        raise ValueError(f"[diag_embed] dim2: expected distinct dimensions, got {dim1} and {dim2}")
    return movedim(placed, (-2, -1), (first, second))


@composed
def diag(input, diagonal=0):
    """A vector as the diagonal of a matrix of zeros; the diagonal of a matrix as a vector."""
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise ValueError(f"[diag] input: expected 1 or 2 dimensions, got shape {input.shape}")
    return _diagonal(input, diagonal).clone()


_diagonal = diagonal


@composed
def diagflat(input, offset=0):
    """The flattened input as the diagonal of a matrix of zeros."""
    return diag_embed(reshape(input, (-1,)), offset)


@composed
def trace(input):
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise ValueError(f"[trace] input: expected 2 dimensions, got shape {input.shape}")
    return diagonal(input).sum()


def _triangle(name: str, function: Any, input: Any, diagonal: Any, out: Any) -> np.ndarray:
    array = require_array(name, "input", input)
    if array.ndim < 2:
        raise ValueError(f"[{name}] input: expected at least 2 dimensions, got shape {array.shape}")
    result = function(array, int(diagonal))
    if out is None:
        return result
    out[...] = result
    return out


@operator
def tril(input, diagonal=0, out=None):
    """The lower triangle of matrices, up to `diagonal` above the main one; zeros elsewhere."""
    return _triangle("tril", np.tril, input, diagonal, out)


@operator
def triu(input, diagonal=0, out=None):
    """The upper triangle of matrices, from `diagonal` above the main one on; zeros elsewhere."""
    return _triangle("triu", np.triu, input, diagonal, out)


tril.gradient(input=lambda grad, diagonal: tril(grad, diagonal))
triu.gradient(input=lambda grad, diagonal: triu(grad, diagonal))


@composed
def tril_indices(row, col, offset=0, *, dtype=None, device=None):
    """Rows and columns of the elements of a (row, col) matrix's lower triangle: (2, count)."""
    places = np.stack(np.tril_indices(row, offset, col))
    return as_tensor("tril_indices", "places", places.astype(normalize_dtype(dtype or "int64")))


@composed
def triu_indices(row, col, offset=0, *, dtype=None, device=None):
    """Rows and columns of the elements of a (row, col) matrix's upper triangle: (2, count)."""
    places = np.stack(np.triu_indices(row, offset, col))
    return as_tensor("triu_indices", "places", places.astype(normalize_dtype(dtype or "int64")))


# Copies with a part replaced.


@composed
def select_scatter(input, src, dim, index):
    """input with src at the entry index of dim."""
    return setitem(input, (slice(None),) * normalize_axis("select_scatter", dim, input.ndim) + (index,), src)


@composed
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """input with src at start:end:step of dim."""
    axis = normalize_axis("slice_scatter", dim, input.ndim)
    return setitem(input, (slice(None),) * axis + (slice(start, end, step),), src)


@composed
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """input with src on the diagonal of the matrices in dim1 and dim2."""
    moved = movedim(input, (dim1, dim2), (-2, -1))
    placed = setitem(moved, (Ellipsis, *_diagonal_places(moved.shape[-2:], offset)), src)
    return movedim(placed, (-2, -1), (dim1, dim2))


# Padding.


@operator(public=False)
def constant_pad(input, pad, value):
    """input with pad[2 i] entries before and pad[2 i + 1] after dimension -1 - i filled with value; negative: cut."""
    array = require_array("pad", "input", input)
    outside, inside, shape = [], [], []
    for axis, size in enumerate(array.shape):
        place = 2 * (array.ndim - 1 - axis)
        before, after = (pad[place], pad[place + 1]) if place + 1 < len(pad) else (0, 0)
        total = size + before + after
        if total < 0:
            raise ValueError(f"[pad] pad: expected to leave dimension {axis} of {size} something, got {tuple(pad)}")
        shape.append(total)
        outside.append(slice(builtins.max(before, 0), total - builtins.max(after, 0)))
        inside.append(slice(builtins.max(-before, 0), size - builtins.max(-after, 0)))
    result = np.full_like(array, value, shape=shape)  # in array's memory order
    result[tuple(outside)] = array[tuple(inside)]
    return result


constant_pad.gradient(input=lambda grad, pad: constant_pad(grad, tuple(-n for n in pad), 0.0))


def _padded_places(mode: str, size: int, before: int, after: int) -> np.ndarray:
    places = np.arange(-before, size + after)
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":  # around what a negative margin leaves
        first, left = builtins.max(-before, 0), size - builtins.max(-before, 0) - builtins.max(-after, 0)
        return first + (places - first) % builtins.max(left, 1)
    return np.abs(size - 1 - np.abs(size - 1 - np.abs(places)))


@composed(functional=True)
def pad(input, pad, mode="constant", value=None):
    """input with margins: pad[0] entries before and pad[1] after the last dimension, pad[2] and pad[3] for the one
    before it, and so on; negative numbers cut.

    mode: "constant" (filled with value, 0 by default), "reflect" (mirrored, without the edge), "replicate" (the edge),
    "circular" (the other end).
    """
    choice("pad", "mode", mode, ("constant", "reflect", "replicate", "circular"))
    margins = tuple(int(n) for n in pad)
    if len(margins) % 2 or len(margins) > 2 * input.ndim:
        raise ValueError(f"[pad] pad: expected at most {input.ndim} pairs of integers, got {margins}")
    if mode == "constant":
        return constant_pad(input, margins, 0.0 if value is None else value)
    order = None if input.is_contiguous() else channels_last_order(input._array)
    shape = input.shape
    if order is not None:  # what is picked of C order lies in it
        input = permute(input, order)
    for i in range(len(margins) // 2):
        axis, before, after = input.ndim - 1 - i, margins[2 * i], margins[2 * i + 1]
        size = shape[axis]
        limit = {"reflect": size - 1, "circular": size}.get(mode, before + after if size else 0)
        if (builtins.max(before, after) > builtins.max(limit, 0) and mode != "replicate") or size + before + after < 0:
            raise ValueError(f"[pad] pad: expected at most {limit} on dimension {axis} for {mode}, got {before, after}")
        if before or after:
            place = axis if order is None else order.index(axis)
            input = index_select(input, place, _padded_places(mode, size, before, after))
    return input if order is None else permute(input, sorted(range(len(order)), key=order.__getitem__))


@composed
def swapdims(input, dim0, dim1):
    """Two dimensions swapped."""
    return transpose(input, dim0, dim1)


@composed
def combinations(input, r=2, with_replacement=False):
    """All choices of r elements of a vector, in order, one a row."""
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.asarray(list(choose(range(input.numel()), r)), np.int64).reshape(-1, r)
    return input[rows] if rows.size else input[:0].reshape((0, r) if r else (0,))
