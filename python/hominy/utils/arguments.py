"""Checks of plain arguments (sizes, rates, choices), each with the library's one form of message:

[Linear] in_features: expected a positive integer, got 0
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any


def wrong(where: str, argument: str, expected: str, got: object) -> str:
    """The text of an error: the operator, its argument, what was expected, what came."""
    return f"[{where}] {argument}: expected {expected}, got {got!r}"


def integer(where: str, argument: str, value: Any, lowest: int = 1) -> int:
    """`value` as an int not below `lowest`; anything with `__index__` is an integer, but a bool is not.

    Raises:
        TypeError: it is no integer. ValueError: it is below `lowest`.
    """
    expected = {0: "an integer of 0 or more", 1: "a positive integer"}.get(lowest, f"an integer of {lowest} or more")
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(wrong(where, argument, expected, value)) from None
    if number < lowest:
        raise ValueError(wrong(where, argument, expected, value))
    return number


def are_plain_integers(*values: Any) -> bool:
    """Whether all are Python integers, None, text, or tuples of these: as keys of a cache they mean themselves, while
    (1.0, True) equals (1, 1)."""
    for value in values:  # all() over a generator takes three times as long, at every call of a convolution
        kind = type(value)
        if kind is tuple:
            if not are_plain_integers(*value):
                return False
        elif kind is not int and value is not None and kind is not str:
            return False
    return True


def number(where: str, argument: str, value: Any, low: float = -math.inf, below: float = math.inf) -> float:
    """`value` as a finite float with low <= value < below (a tensor or array of one element is a number too).

    Raises:
        TypeError: it is no number. ValueError: it is not finite, or outside the range.
    """
    if math.isinf(low):
        expected = "a finite number"
    else:
        expected = f"a finite number of {low:g} or more" + ("" if math.isinf(below) else f" and below {below:g}")
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError):
        raise TypeError(wrong(where, argument, expected, value)) from None
    if not (math.isfinite(result) and low <= result < below):
        raise ValueError(wrong(where, argument, expected, value))
    return result


def choice(where: str, argument: str, value: Any, options: Iterable[Any]) -> str:
    """`value` if it is one of `options`, else a ValueError that lists them."""
    names = tuple(options)
    if value not in names:
        raise ValueError(wrong(where, argument, "one of " + ", ".join(map(repr, names)), value))
    return value
