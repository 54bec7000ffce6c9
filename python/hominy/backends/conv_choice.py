"""Which algorithm a convolution takes: what the caller fixed, and how exact results must be; for the whole process."""

from __future__ import annotations

from typing import Any

ALGORITHMS = ("auto", "product", "depthwise", "grouped", "winograd2", "winograd4")
DIRECTIONS = ("forward", "input_gradient", "weight_gradient")


class Choice:
    """The state: the algorithm of each direction, and whether those of a looser error bound are ruled out."""

    forward = "auto"
    input_gradient = "auto"
    weight_gradient = "auto"
    exact = False


choice = Choice()


def require_algorithm(where: str, name: Any) -> str:
    """`name` if there is such an algorithm, else a ValueError."""
    if name not in ALGORITHMS:
        names = ", ".join(map(repr, ALGORITHMS))
        raise ValueError(f"[{where}] algorithm: expected one of {names}, got {name!r}")
    return name


class use_conv_algorithm:
    """Compute convolutions by one algorithm, at once and, as a context manager, until the block ends.

    name: "product" (implicit matrix product, computes everything), "depthwise", "grouped", "winograd2", "winograd4" or
    "auto", by shape. It holds for the whole process, for forward, input gradient and weight gradient.

        with hominy.backends.use_conv_algorithm("winograd2"): ...

    Raises:
        ValueError: there is no such algorithm; a convolution inside, when it is not one that the algorithm computes.
    """

    def __init__(self, name: str) -> None:
        require_algorithm("use_conv_algorithm", name)
        self.previous = dict(vars(choice))
        for direction in DIRECTIONS:
            setattr(choice, direction, name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        for direction in DIRECTIONS:
            setattr(choice, direction, self.previous.get(direction, "auto"))


def set_float_precision(precision: str) -> None:
    """How exact results must be, for the whole process: "high" (at first) or "exact".

    "high" admits algorithms whose error bound is looser than that of the plain sum of products, by no more than 8
    times: Winograd's for 3x3 convolutions, which does 2.25 to 4 times less arithmetic. "exact" rules them out: every
    result is then a sum of products in the tensors' own dtype, with the error bound of one, (k + 2) eps (|x| conv |w| +
    |b|) for a convolution of k products an output. (PyTorch's `set_float32_matmul_precision` also admits bfloat16;
    nothing here does.)

    Raises:
        ValueError: another name.
    """
    if precision not in ("exact", "high"):
        raise ValueError(f"[set_float_precision] precision: expected 'exact' or 'high', got {precision!r}")
    choice.exact = precision == "exact"


def get_float_precision() -> str:
    """What `set_float_precision` left: "high" or "exact"."""
    return "exact" if choice.exact else "high"


def conv_algorithm(
    input: Any,
    weight: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    direction: str = "forward",
) -> str:
    """The algorithm that a convolution of these tensors (or arrays) takes: its name, as `use_conv_algorithm` has it.

    direction: "forward", "input_gradient" or "weight_gradient". What is fixed, and `set_float_precision`, count.

        >>> hominy.backends.conv_algorithm(x, weight, padding=1)
        'winograd4'

    Raises:
        ValueError: the arguments are none of a convolution, or no such direction.
    """
    from ..ops.conv import algorithm_of

    return algorithm_of(input, weight, stride, padding, dilation, groups, direction)
