"""Sequences of several lengths in one batch: packed, padded, and back. Names and meanings are PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ...autograd import TensorBase
from ...creation import tensor
from ...ops.recurrent import checked_lengths
from ...ops.shape import cat, stack
from ...tensor import Tensor


class PackedSequence(NamedTuple):
    """The steps of several sequences, longest first, one step after the other.

    data: (sum of lengths, *): of each step its rows. batch_sizes: int64 (T,), how many rows each step has.
    sorted_indices: which sequence of the batch each row is, None where they are in order; unsorted_indices: the
    inverse. `pack_padded_sequence` and `pack_sequence` make them.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def lengths(self) -> np.ndarray:
        """int64 (B,): the rows' lengths, falling."""
        sizes = self.batch_sizes.numpy()
        batch = int(sizes[0]) if len(sizes) else 0
        return (sizes[None, :] > np.arange(batch)[:, None]).sum(axis=1, dtype=np.int64)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The same with `data.to(...)`."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def float(self) -> PackedSequence:
        """The same in float32."""
        return self._replace(data=self.data.float())

    def double(self) -> PackedSequence:
        """The same in float64."""
        return self._replace(data=self.data.double())


def _require_tensor(name: str, argument: str, value: Any, dimensions: int) -> Tensor:
    if not isinstance(value, TensorBase):
        raise TypeError(f"[{name}] {argument}: expected a tensor, got {type(value).__name__}")
    if value._array.ndim < dimensions:
        raise ValueError(
            f"[{name}] {argument}: expected at least {dimensions} dimensions, got shape {value._array.shape}"
        )
    return value  # type: ignore[return-value]


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes this one; None for None."""
    return None if permutation is None else tensor(np.argsort(permutation.numpy()))


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave out of input (T, B, *), or (B, T, *) with `batch_first`, what lies beyond each sequence's length.

    lengths: B integers in [1, T]. With `enforce_sorted` they must not increase; else rows are sorted, and the layers'
    results come back in the order given.

    Raises:
        ValueError: a length is out of range, there are not B of them, or they increase though they must not.
    """
    name = "pack_padded_sequence"
    input = _require_tensor(name, "input", input, 2)
    batch, steps = input.shape[:2] if batch_first else (input.shape[1], input.shape[0])
    values = checked_lengths(name, lengths, batch, steps)
    if batch == 0:
        raise ValueError(f"[{name}] input: expected at least one sequence, got shape {tuple(input.shape)}")
    order = None
    if (values[1:] > values[:-1]).any():
        if enforce_sorted:
            raise ValueError(
                f"[{name}] lengths: expected lengths that do not increase (or enforce_sorted=False), got "
                f"{values.tolist()}"
            )
        order = np.argsort(-values, kind="stable")
        values = values[order]
    sizes = (values[None, :] > np.arange(values[0])[:, None]).sum(axis=1, dtype=np.int64)
    # Row `row` of step `step`, in the order of steps.
    step = np.repeat(np.arange(len(sizes)), sizes)
    row = np.arange(len(step)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    row = row if order is None else order[row]
    data = input[tensor(row), tensor(step)] if batch_first else input[tensor(step), tensor(row)]
    if order is None and not enforce_sorted:
        order = np.arange(batch)
    sorted_indices = None if order is None else tensor(order)
    return PackedSequence(data, tensor(sizes), sorted_indices, invert_permutation(sorted_indices))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(padded (T, B, *) or (B, T, *), lengths (B) int64), the opposite of `pack_padded_sequence`.

    T is the longest length, or `total_length`.

    Raises:
        ValueError: `total_length` is less than the longest length.
    """
    name = "pad_packed_sequence"
    if not isinstance(sequence, PackedSequence):
        raise TypeError(f"[{name}] sequence: expected a PackedSequence, got {type(sequence).__name__}")
    lengths, sizes = sequence.lengths, sequence.batch_sizes.numpy()
    steps = len(sizes)
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                f"[{name}] total_length: expected at least {steps}, the longest length, got {total_length}"
            )
        steps = total_length
    data, batch = sequence.data, len(lengths)
    order = None if sequence.unsorted_indices is None else sequence.unsorted_indices.numpy()
    starts = np.cumsum(sizes) - sizes
    # One row of padding behind the data stands for all that is beyond a length.
    padding = data.new_full((1, *data.shape[1:]), padding_value)
    place = np.full((steps, batch), len(data), np.int64)
    for t, size in enumerate(sizes.tolist()):
        place[t, :size] = starts[t] + np.arange(size)
    if order is not None:
        place, lengths = place[:, order], lengths[order]
    padded = cat([data, padding])[tensor(np.ascontiguousarray(place.T if batch_first else place))]
    return padded, tensor(lengths)


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (length, *) as one tensor (T, B, *) or (B, T, *), the shorter ones padded.

    Raises:
        ValueError: there are none, or `padding_side` is neither "right" nor "left".
    """
    name = "pad_sequence"
    rows = [_require_tensor(name, "sequences", row, 1) for row in sequences]
    if not rows:
        raise ValueError(f"[{name}] sequences: expected at least one tensor, got none")
    if padding_side not in ("right", "left"):
        raise ValueError(f"[{name}] padding_side: expected 'right' or 'left', got {padding_side!r}")
    longest = max(len(row) for row in rows)
    padded = []
    for row in rows:
        filling = row.new_full((longest - len(row), *row.shape[1:]), padding_value)
        padded.append(cat([row, filling] if padding_side == "right" else [filling, row]))
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences of (T, B, *), or (B, T, *) with `batch_first`, each at its own length."""
    padded = _require_tensor("unpad_sequence", "padded_sequences", padded_sequences, 2)
    rows = padded if batch_first else padded.transpose(0, 1)
    values = checked_lengths("unpad_sequence", lengths, len(rows), rows.shape[1])
    return [rows[i, :length] for i, length in enumerate(values.tolist())]


def pack_sequence(sequences: Iterable[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """`pack_padded_sequence` of sequences (length, *) that are not padded yet."""
    rows = list(sequences)
    return pack_padded_sequence(pad_sequence(rows), [len(row) for row in rows], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that `pack_sequence` packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
