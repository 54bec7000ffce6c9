"""How tensors print: PyTorch's choice of digits, NumPy's layout of rows and of what is left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_options: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors print from now on, as PyTorch's function: digits after the point; from how many elements on only the
    first and last `edgeitems` are shown; characters a line; always or never as powers of ten (None: when needed)."""
    for name, value in (
        ("precision", precision), ("threshold", threshold), ("edgeitems", edgeitems), ("linewidth", linewidth),
    ):  # fmt: skip
        if value is not None:
            _options[name] = int(value)
    _options["sci_mode"] = sci_mode


def _shown(array: np.ndarray) -> np.ndarray:
    """The elements that will be printed."""
    edge = _options["edgeitems"]
    if array.size > _options["threshold"]:
        for axis, size in enumerate(array.shape):
            if size > 2 * edge:
                array = array.take([*range(edge), *range(size - edge, size)], axis)
    return array.reshape(-1)


def _float_format(values: np.ndarray) -> Any:
    """One format for all values: whole numbers with a bare point, powers of ten where the range asks for them."""
    finite = values[np.isfinite(values) & (values != 0)]
    precision, powers = _options["precision"], _options["sci_mode"]
    sizes = np.abs(finite)
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1.0, 1.0)
    whole = bool((finite == np.trunc(finite)).all())
    if powers is None:
        powers = high > 1e8 or high / low > 1000 or (not whole and low < 1e-4)
    kind = f".{precision}e" if powers else ".0f" if whole else f".{precision}f"

    def text(value: Any) -> str:
        value = float(value)
        if not math.isfinite(value):
            return str(value)
        return format(value, kind) + ("." if whole and not powers else "")

    width = max((len(text(value)) for value in values), default=0)
    return lambda value: text(value).rjust(width)


def text_of(array: np.ndarray, prefix: str) -> str:
    """The elements of `array` in brackets, indented to stand behind `prefix`."""
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    formatter: Any = None
    if array.dtype.kind == "f":
        formatter = {"float_kind": _float_format(_shown(array).astype(np.float64))}
    return np.array2string(
        array, separator=", ", prefix=prefix, threshold=_options["threshold"], edgeitems=_options["edgeitems"],
        max_line_width=_options["linewidth"], formatter=formatter,
    )  # fmt: skip


__all__ = ["set_printoptions", "text_of"]
