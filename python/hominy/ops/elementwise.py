"""Elementwise arithmetic, comparison and functions, with broadcasting and promotion.

Two arrays of one dtype, or an array and a Python number of its category, go straight to the backend; anything else
meets in the dtype of `dtypes.result_type` first. Outputs keep their inputs' memory order.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from ..backends import run
from ..dtypes import category, get_default_dtype, result_type
from .define import NUMBERS, operator, require_array, scalar


def promote(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """`a` and `b` in one dtype, at least one of them an array.

    Raises:
        TypeError: one of them is not numbers.
    """
    if isinstance(a, np.ndarray):
        if isinstance(b, np.ndarray):
            if a.dtype == b.dtype and a.dtype.char in NUMBERS:
                return a, b
        elif a.dtype.char in "efd" if type(b) is float else type(b) is int and a.dtype.kind in "fi" and -128 <= b < 128:
            return a, b
    elif isinstance(b, np.ndarray) and type(a) is float and b.dtype.char in "efd":
        return a, b
    a, b = _operand(name, "input", a), _operand(name, "other", b)
    dtype = result_type(a, b)
    try:
        return np.asarray(a, dtype), np.asarray(b, dtype)
    except OverflowError:
        argument = "other" if isinstance(a, np.ndarray) else "input"
        message = f"[{name}] {argument}: expected a number that {dtype} holds, got an integer beyond it"
        raise OverflowError(message) from None


def _require_broadcast(name: str, a: np.ndarray, b: np.ndarray) -> None:
    for size_a, size_b in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if size_a != size_b and size_a != 1 and size_b != 1:
            raise ValueError(f"[{name}] other: expected a shape that broadcasts with {a.shape}, got {b.shape}")


def _operand(name: str, argument: str, value: Any) -> Any:
    if isinstance(value, np.generic):  # a NumPy scalar counts as a Python number
        value = value.item()
    if isinstance(value, np.ndarray):
        return require_array(name, argument, value)
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return require_array(name, argument, np.asarray(value))
    raise TypeError(f"[{name}] {argument}: expected a tensor, an array or a number, got {type(value).__name__}")


def as_float(name: str, value: Any) -> np.ndarray:
    """`value` as an array of a float dtype: integers and bools become the default dtype."""
    array = require_array(name, "input", value)
    if array.dtype.char in "fd":
        return array
    return array.astype(np.float32 if category(array.dtype) == 2 else get_default_dtype())


def _stored_as(result: np.ndarray, array: Any) -> np.ndarray:
    """`result` back in the storage dtype of a half-precision `array`."""
    if isinstance(array, np.ndarray) and array.dtype.itemsize == 2 and category(array.dtype) == 2:
        return result.astype(array.dtype)
    return result


def run_broadcast(kernel: str, a: Any, b: Any, *rest: Any) -> Any:
    """The backend's `kernel`; where it refuses the shapes, the message names them as every operator does."""
    try:
        return run(kernel, a, b, *rest)
    except ValueError:
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            _require_broadcast(kernel, a, b)
        raise


def _binary(kernel: str, input: Any, other: Any, out: Any) -> Any:
    a, b = promote(kernel, input, other)
    dtype = (a if isinstance(a, np.ndarray) else b).dtype
    if out is None and dtype.char in "fdl":
        return run_broadcast(kernel, a, b, None)
    if dtype.itemsize == 2 and category(dtype) == 2:  # computes in float32
        a, b = (v.astype(np.float32) if isinstance(v, np.ndarray) else v for v in (a, b))
        result = run_broadcast(kernel, a, b, None).astype(dtype)
        return result if out is None else _into(kernel, result, out)
    if out is not None and (out.dtype != dtype or np.shape(a) != out.shape or np.ndim(b) > out.ndim):
        return _into(kernel, run_broadcast(kernel, a, b, None), out)
    return run_broadcast(kernel, a, b, out)


def _into(name: str, result: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`result` written into `out`, where its category and shape allow that."""
    if category(result.dtype) > category(out.dtype):
        raise TypeError(f"[{name}_] a result of dtype {result.dtype} cannot be stored in a tensor of dtype {out.dtype}")
    if result.shape != out.shape:
        raise ValueError(f"[{name}_] expected a result of shape {out.shape}, got {result.shape}")
    np.copyto(out, result, casting="unsafe")
    return out


def _unary(kernel: str, input: Any, out: Any) -> Any:
    array = as_float(kernel, input)
    if out is not None and out.dtype != array.dtype:
        return _into(kernel, _stored_as(run(kernel, array, None), input), out)
    result = run(kernel, array, out)
    return result if array is input else _stored_as(result, input)


# Arithmetic.


@operator(direct="add")
def add(input, other, out=None):
    """input + other."""
    return _binary("add", input, other, out)


@operator(direct="subtract")
def subtract(input, other, out=None):
    """input - other."""
    return _binary("subtract", input, other, out)


@operator(direct="multiply")
def multiply(input, other, out=None):
    """input * other."""
    return _binary("multiply", input, other, out)


@operator(direct="divide")
def divide(input, other, out=None):
    """input / other, true division: integers give floats."""
    if isinstance(input, np.ndarray) and input.dtype.kind in "iub":
        input = input.astype(get_default_dtype())
    if isinstance(other, np.ndarray) and other.dtype.kind in "iub" and not isinstance(input, np.ndarray):
        other = other.astype(get_default_dtype())
    return _binary("divide", input, other, out)


_INTEGER_POWERS = {2: "square", 0.5: "sqrt", -1: "reciprocal", -0.5: "rsqrt"}


@operator
def pow(input, exponent, out=None):
    """input ** exponent. The exponents 2, 0.5, -1 and -0.5 have kernels of their own."""
    if isinstance(exponent, (int, float)) and isinstance(input, np.ndarray):
        kernel = _INTEGER_POWERS.get(exponent)
        if kernel is not None and input.dtype.char in "fd":
            return run(kernel, input, out)
        if input.dtype.kind in "iu" and isinstance(exponent, int) and exponent < 0:
            raise ValueError(f"[pow] exponent: expected at least 0 for an integer tensor, got {exponent}")
    return _binary("power", input, exponent, out)


@operator(direct="maximum")
def maximum(input, other, out=None):
    """The larger of input and other; NaN wins. Where they are equal, the gradient is shared by halves."""
    return _binary("maximum", input, other, out)


@operator(direct="minimum")
def minimum(input, other, out=None):
    """The smaller of input and other; NaN wins. Where they are equal, the gradient is shared by halves."""
    return _binary("minimum", input, other, out)


@operator
def remainder(input, other, out=None):
    """input - other * floor(input / other), the sign of other."""
    return _binary("remainder", input, other, out)


@operator
def floor_divide(input, other, out=None):
    """floor(input / other)."""
    return _binary("floor_divide", input, other, out)


def _share(grad, input, other, wins):
    """`grad` where `wins(input, other)`, half of it where they are equal."""
    return where(eq(input, other), grad * 0.5, where(wins(input, other), grad, 0.0))


add.gradient(input=lambda grad: grad, other=lambda grad: grad)
subtract.gradient(input=lambda grad: grad, other=lambda grad: negative(grad))
multiply.gradient(input=lambda grad, other: grad * other, other=lambda grad, input: grad * input)
divide.gradient(
    input=lambda grad, other: grad / other,
    other=lambda grad, output, other: negative(grad * output / other),
)


def _power_base_gradient(grad, input, exponent):
    if isinstance(exponent, (int, float)):
        if exponent == 0:
            return grad * 0.0
        if exponent == 2:
            return grad * input * 2.0
        return grad * (float(exponent) * pow(input, exponent - 1))
    return where(eq(exponent, 0), 0.0, grad * (exponent * pow(input, exponent - 1)))


def _power_exponent_gradient(grad, output, input, exponent):
    # 0 ** e is 0 for e > 0, whatever e: there log(0) must not turn the gradient into NaN.
    if isinstance(input, (int, float)):
        return (
            grad * (output * float(np.log(input))) if input else where(greater_equal(exponent, 0), 0.0, grad * output)
        )
    flat = eq(input, 0) & greater_equal(exponent, 0)
    return where(flat, 0.0, grad * (output * log(where(flat, 1.0, input))))


pow.gradient(input=_power_base_gradient, exponent=_power_exponent_gradient)
maximum.gradient(
    input=lambda grad, input, other: _share(grad, input, other, greater),
    other=lambda grad, input, other: _share(grad, input, other, less),
)
minimum.gradient(
    input=lambda grad, input, other: _share(grad, input, other, less),
    other=lambda grad, input, other: _share(grad, input, other, greater),
)
floor_divide.gradient(input=lambda grad: grad * 0.0, other=lambda grad: grad * 0.0)
remainder.gradient(
    input=lambda grad: grad,
    other=lambda grad, input, other: negative(grad * floor(divide(input, other))),
)


# Comparison and logic: no gradients.


def _compare(kernel: str, input: Any, other: Any) -> Any:
    a, b = promote(kernel, input, other)
    return run_broadcast(kernel, a, b)


@operator(direct="equal")
def eq(input, other):
    """input == other, elementwise."""
    return _compare("equal", input, other)


@operator(direct="not_equal")
def not_equal(input, other):
    """input != other, elementwise."""
    return _compare("not_equal", input, other)


@operator(direct="less")
def less(input, other):
    """input < other."""
    return _compare("less", input, other)


@operator(direct="less_equal")
def less_equal(input, other):
    """input <= other."""
    return _compare("less_equal", input, other)


@operator(direct="greater")
def greater(input, other):
    """input > other."""
    return _compare("greater", input, other)


@operator(direct="greater_equal")
def greater_equal(input, other):
    """input >= other."""
    return _compare("greater_equal", input, other)


@operator
def logical_not(input):
    """True where input is 0."""
    return run("logical_not", require_array("logical_not", "input", input))


@operator
def logical_and(input, other):
    """True where both are not 0."""
    return _compare("logical_and", input, other)


@operator
def logical_or(input, other):
    """True where either is not 0."""
    return _compare("logical_or", input, other)


@operator
def logical_xor(input, other):
    """True where exactly one is not 0."""
    return _compare("logical_xor", input, other)


@operator
def bitwise_and(input, other):
    """input & other, of integers or bools."""
    return _compare("bitwise_and", input, other)


@operator
def bitwise_or(input, other):
    """input | other, of integers or bools."""
    return _compare("bitwise_or", input, other)


@operator
def bitwise_xor(input, other):
    """input ^ other, of integers or bools."""
    return _compare("bitwise_xor", input, other)


@operator
def bitwise_not(input):
    """~input; of a bool, its negation."""
    array = require_array("bitwise_not", "input", input)
    if array.dtype.kind not in "iub":
        raise TypeError(f"[bitwise_not] input: expected integers or bool, got dtype {array.dtype}")
    return run("logical_not", array) if array.dtype.kind == "b" else run("bitwise_xor", array, array.dtype.type(-1))


@operator
def isnan(input):
    """True where input is NaN."""
    return run("isnan", require_array("isnan", "input", input))


@operator
def isinf(input):
    """True where input is infinite."""
    return run("isinf", require_array("isinf", "input", input))


@operator
def isfinite(input):
    """True where input is neither NaN nor infinite."""
    return run("isfinite", require_array("isfinite", "input", input))


@operator
def where(condition, input, other):
    """input where condition holds, else other; all three broadcast."""
    condition = require_array("where", "condition", condition)
    if condition.dtype.kind != "b":
        raise TypeError(f"[where] condition: expected dtype bool, got {condition.dtype}")
    a, b = (
        promote("where", input, other)
        if not _both_numbers(input, other)
        else (np.asarray(input, result_type(input, other)), other)
    )
    _require_broadcast("where", condition, a if isinstance(a, np.ndarray) else b)
    _require_broadcast("where", condition, b if isinstance(b, np.ndarray) else a)
    return run("where", condition, a, b)


def _both_numbers(a: Any, b: Any) -> bool:
    return not isinstance(a, np.ndarray) and not isinstance(b, np.ndarray)


where.gradient(
    input=lambda grad, condition: where(condition, grad, 0.0),
    other=lambda grad, condition: where(condition, 0.0, grad),
)


# Functions of one argument.


@operator(direct="negative")
def negative(input, out=None):
    """-input."""
    array = require_array("negative", "input", input)
    if array.dtype.kind == "b":
        raise TypeError("[negative] input: expected numbers, got dtype bool; use logical_not")
    return run("negative", array, out) if array.dtype.kind != "V" else _unary("negative", array, out)


@operator(direct="absolute")
def abs(input, out=None):
    """|input|; its gradient at 0 is 0."""
    array = require_array("abs", "input", input)
    return run("absolute", array, out) if array.dtype.kind in "iu" else _unary("absolute", array, out)


@operator(public=False, direct="absolute_backward")
def abs_backward(grad, input):
    """grad * sign(input)."""
    return run("absolute_backward", as_float("abs_backward", grad), as_float("abs_backward", input))


@operator(direct="sign")
def sign(input, out=None):
    """-1, 0 or 1; NaN stays NaN."""
    array = require_array("sign", "input", input)
    return run("sign", array, out) if array.dtype.kind in "iu" else _unary("sign", array, out)


@operator(direct="square")
def square(input, out=None):
    """input^2."""
    array = require_array("square", "input", input)
    return run("square", array, out) if array.dtype.kind in "iu" else _unary("square", array, out)


@operator(direct="sqrt")
def sqrt(input, out=None):
    """The square root; NaN below 0."""
    return _unary("sqrt", input, out)


@operator(direct="rsqrt")
def rsqrt(input, out=None):
    """1 / sqrt(input)."""
    return _unary("rsqrt", input, out)


@operator(direct="reciprocal")
def reciprocal(input, out=None):
    """1 / input."""
    return _unary("reciprocal", input, out)


@operator(direct="exp")
def exp(input, out=None):
    """e^input."""
    return _unary("exp", input, out)


@operator(direct="expm1")
def expm1(input, out=None):
    """e^input - 1, accurate near 0."""
    return _unary("expm1", input, out)


@operator(direct="log")
def log(input, out=None):
    """The natural logarithm; -inf at 0, NaN below."""
    return _unary("log", input, out)


@operator(direct="log1p")
def log1p(input, out=None):
    """log(1 + input), accurate near 0."""
    return _unary("log1p", input, out)


@operator
def log2(input, out=None):
    """The logarithm to base 2."""
    return _unary("log2", input, out)


@operator
def log10(input, out=None):
    """The logarithm to base 10."""
    return _unary("log10", input, out)


@operator
def sin(input, out=None):
    """The sine, of radians."""
    return _unary("sin", input, out)


@operator
def cos(input, out=None):
    """The cosine, of radians."""
    return _unary("cos", input, out)


@operator
def tan(input, out=None):
    """The tangent, of radians."""
    return _unary("tan", input, out)


@operator(direct="erf")
def erf(input, out=None):
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to input."""
    return _unary("erf", input, out)


def _rounding(kernel: str, input: Any, out: Any) -> Any:
    array = require_array(kernel, "input", input)
    return array.copy() if array.dtype.kind in "iub" and out is None else _unary(kernel, array, out)


@operator(direct="floor")
def floor(input, out=None):
    """The largest integer not above input."""
    return _rounding("floor", input, out)


@operator(direct="ceil")
def ceil(input, out=None):
    """The smallest integer not below input."""
    return _rounding("ceil", input, out)


@operator(direct="round")
def round(input, out=None):
    """The nearest integer; halves go to the even one."""
    return _rounding("round", input, out)


@operator
def trunc(input, out=None):
    """input without its fraction."""
    return _rounding("trunc", input, out)


@operator
def clamp(input, min=None, max=None, out=None):
    """input limited to [min, max], numbers or None; NaN stays NaN.

    The gradient is that of the input within the limits, both included, and 0 beyond.
    """
    if min is None and max is None:
        raise ValueError("[clamp] min, max: expected at least one of them")
    array = require_array("clamp", "input", input)
    if isinstance(min, np.ndarray) or isinstance(max, np.ndarray):
        lower = array if min is None else run("maximum", *promote("clamp", array, min), None)
        return lower if max is None else run("minimum", *promote("clamp", lower, max), out)
    low = -np.inf if min is None else scalar("clamp", "min", min)
    high = np.inf if max is None else scalar("clamp", "max", max)
    if array.dtype.char in "fd":
        return run("clamp", array, low, high, out)
    if category(array.dtype) == 2:
        return _stored_as(run("clamp", array.astype(np.float32), low, high), array)
    bounds = np.iinfo(array.dtype)
    return run("clamp", array, builtins.max(low, bounds.min), builtins.min(high, bounds.max), out)


@operator(public=False)
def clamp_backward(grad, input, min, max):
    """grad where min <= input <= max, else 0."""
    low = -np.inf if min is None else float(min)
    high = np.inf if max is None else float(max)
    return run("clamp_backward", grad, input, low, high)


negative.gradient(input=lambda grad: negative(grad))
abs.gradient(input=lambda grad, input: abs_backward(grad, input))
abs_backward.gradient(
    grad=lambda outer, input: abs_backward(outer, input), input=lambda outer, grad: outer * grad * 0.0
)
sign.gradient(input=lambda grad: grad * 0.0)
square.gradient(input=lambda grad, input: grad * (input * 2.0))
sqrt.gradient(input=lambda grad, output: grad / (output * 2.0))
rsqrt.gradient(input=lambda grad, output, input: grad * (output * -0.5) / input)
reciprocal.gradient(input=lambda grad, output: negative(grad * square(output)))
exp.gradient(input=lambda grad, output: grad * output)
expm1.gradient(input=lambda grad, output: grad * (output + 1.0))
log.gradient(input=lambda grad, input: grad / input)
log1p.gradient(input=lambda grad, input: grad / (input + 1.0))
log2.gradient(input=lambda grad, input: grad / (input * float(np.log(2.0))))
log10.gradient(input=lambda grad, input: grad / (input * float(np.log(10.0))))
sin.gradient(input=lambda grad, input: grad * cos(input))
cos.gradient(input=lambda grad, input: negative(grad * sin(input)))
tan.gradient(input=lambda grad, output: grad * (square(output) + 1.0))
erf.gradient(input=lambda grad, input: grad * (exp(negative(square(input))) * (2.0 / float(np.sqrt(np.pi)))))
floor.gradient(input=lambda grad: grad * 0.0)
ceil.gradient(input=lambda grad: grad * 0.0)
round.gradient(input=lambda grad: grad * 0.0)
trunc.gradient(input=lambda grad: grad * 0.0)


def _within(grad, input, low, high):
    kept = where(less(input, low), 0.0, grad) if low is not None else grad
    return where(greater(input, high), 0.0, kept) if high is not None else kept


def _clamp_gradient(grad, input, min, max):
    plain = (type(None), int, float)
    if isinstance(min, plain) and isinstance(max, plain):
        return clamp_backward(grad, input, min, max)
    return _within(grad, input, min, max)


clamp.gradient(
    input=_clamp_gradient,
    # Where min > max, the result is max.
    min=lambda grad, input, min, max: where(
        less(input, min) if max is None else less(input, min) & less(min, max), grad, 0.0
    ),
    max=lambda grad, input, min, max: where(
        greater(input, max) if min is None else greater(input, max) | less(max, min), grad, 0.0
    ),
)
clamp_backward.gradient(grad=lambda grad, input, min, max: clamp_backward(grad, input, min, max))
