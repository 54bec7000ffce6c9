"""Weights packed ahead for inference."""

from __future__ import annotations

from typing import Any

from .autograd import TensorBase
from .backends import Declined, direct

_UNKNOWN = object()
_KEPT = 8  # packed forms a weight, the latest: shapes of input that a program comes back to


class PreparedWeight:
    """Stands for a weight in convolutions that record no gradients, and keeps the forms that kernels pack it into.

    A form is made when a convolution first asks for it, for each shape of input and algorithm, and the latest 8 are
    kept; where the algorithm needs none, or the kernel is not compiled, the weight is used as it is. At batch 1 packing
    is a good part of a convolution's time: without it another algorithm may be the fastest, which rounds otherwise.

    The weight must not change meanwhile: a write that its tensor sees makes the next use raise; one through another
    view of the memory (a NumPy array) goes unseen, and the result may then be that of the old values.
    """

    __slots__ = ("_forms", "_storage", "_version", "weight")

    def __init__(self, weight: Any) -> None:
        if not isinstance(weight, TensorBase):
            raise TypeError(f"[prepare] weight: expected a tensor, got {type(weight).__name__}")
        array = weight._array
        if array.dtype.char not in "fd" or not 3 <= array.ndim <= 5:
            raise ValueError(
                "[prepare] weight: expected a convolution's, (out_channels, in_channels/groups, *kernel) of float32 or "
                f"float64, got {array.dtype} {array.shape}"
            )
        self.weight = weight
        self._storage, self._version = weight._storage, weight._storage.version
        self._forms: dict[Any, Any] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's."""
        return self.weight._array.shape

    @property
    def dtype(self) -> Any:
        """The weight's."""
        return self.weight._array.dtype

    @property
    def requires_grad(self) -> bool:
        """False: it has no gradient."""
        return False

    def requires_grad_(self, requires_grad: bool = True) -> PreparedWeight:
        """Itself, where it need not have a gradient.

        Raises:
            RuntimeError: it should have one.
        """
        if requires_grad:
            raise RuntimeError("[prepare] a prepared weight has no gradient; the weight it was made of may have one")
        return self

    @property
    def grad(self) -> Any:
        """There is none: raises a RuntimeError."""
        raise RuntimeError("[prepare] a prepared weight has no gradient; the weight it was made of may have one")

    def __repr__(self) -> str:
        return f"PreparedWeight({self.dtype} {self.shape}, {len(self)} packed forms)"

    def __len__(self) -> int:
        """How many packed forms it holds."""
        return sum(form is not None for form in self._forms.values())

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> Any:
        return PreparedWeight, (self.weight,)

    def checked(self, name: str) -> Any:
        """The weight, if it is what it was.

        Raises:
            RuntimeError: it was written to since it was prepared.
        """
        if self.weight._storage is not self._storage or self._storage.version != self._version:
            raise RuntimeError(f"[{name}] weight: it changed since it was prepared; prepare it again")
        return self.weight

    def conv(self, arguments: tuple[Any, ...]) -> Any:
        """`ops.conv.convolution(*arguments)`, not recorded, by a packed form of the weight."""
        from .ops.conv import by_form

        return by_form(self, arguments)

    def form(self, x_shape: tuple[int, ...], channels_last: bool, settings: tuple[Any, ...]) -> Any:
        """The weight packed for an input of that shape and layout, and for the kernel's settings (stride, padding,
        dilation, groups, algorithm, exact); None where nothing is packed."""
        pack = direct.get("conv_pack")
        if pack is None:
            return None
        key = (x_shape, channels_last, settings, direct["isa"]())  # tests change the compiled level
        form = self._forms.get(key, _UNKNOWN)
        if form is _UNKNOWN:
            form = pack(self.weight._array, x_shape, channels_last, *settings)
            form = None if type(form) is Declined else form
            while len(self._forms) >= _KEPT:
                self._forms.pop(next(iter(list(self._forms)), None), None)  # a copy: other threads add and drop
            self._forms[key] = form
        return form


class PreparedRecurrent:
    """The weights of one recurrent layer, packed ahead for calls that record no gradients; see `nn.utils.prepare`.

    directions: for each direction its six tensors, None where there is none (`ops.recurrent.WEIGHTS`).
    """

    __slots__ = ("_cell", "_directions", "_form", "_level", "_state")

    def __init__(self, directions: Any, cell: str) -> None:
        self._directions, self._cell, self._form, self._level = tuple(directions), cell, None, None
        self._state = self._state_now()

    def _state_now(self) -> list[tuple[Any, int]]:
        """Each weight's memory and how often it was written to."""
        every = [weight for direction in self._directions for weight in direction if weight is not None]
        return [(weight._storage, weight._storage.version) for weight in every]

    def __reduce__(self) -> Any:
        return PreparedRecurrent, (self._directions, self._cell)

    def form(self, name: str, directions: Any) -> Any:
        """What the compiled kernel takes for these weights; None where there is none, or they are others by now.

        Raises:
            RuntimeError: a weight was written to since it was prepared.
        """
        pairs = [
            pair for old, new in zip(self._directions, directions, strict=True) for pair in zip(old, new, strict=True)
        ]
        pack = direct.get("recurrent_prepare")
        if pack is None or any(old is not new for old, new in pairs):
            return None
        if self._state_now() != self._state:
            raise RuntimeError(f"[{name}] weights: they changed since they were prepared; prepare the layer again")
        level = direct["isa"]()
        if self._level != level:
            arrays = tuple(tuple(None if w is None else w._array for w in direction) for direction in directions)
            form = pack(arrays, self._cell, None)
            self._form, self._level = None if type(form) is Declined else form, level
        return self._form


def prepare(weight: Any) -> PreparedWeight:
    """A handle that stands for a convolution's weight where no gradients are recorded, packed ahead for the kernels.

        packed = hominy.prepare(layer.weight)
        with hominy.no_grad():
            y = F.conv2d(x, packed, layer.bias, padding=1)      # the first call packs, the others do not

    `hominy.nn.utils.prepare(model)` does it for all convolutions and recurrent layers of a model.

    Raises:
        TypeError, ValueError: weight is none of a convolution.
    """
    return PreparedWeight(weight)
