"""Elementwise functions beyond the everyday ones: inverse and hyperbolic functions, gamma and error functions, and the
rarer functions of two arguments. NumPy computes them; `lgamma` and `erfc` go through Python's `math`, some 100 ns an
element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import category, result_type
from ..quantile import normal_quantile
from ..utils.arguments import integer
from .define import as_tensor, composed, operator, require_array, scalar
from .elementwise import (
    _into,
    _operand,
    _require_broadcast,
    _stored_as,
    as_float,
    cos,
    eq,
    exp,
    greater_equal,
    isnan,
    less,
    log,
    logical_not,
    maximum,
    minimum,
    negative,
    pow,
    promote,
    rsqrt,
    sign,
    sin,
    square,
    trunc,
    where,
)

LOG_2, LOG_10 = math.log(2.0), math.log(10.0)


def _apply(name: str, function: Any, input: Any, out: Any = None) -> Any:
    array = as_float(name, input)
    with np.errstate(all="ignore"):
        result = _stored_as(np.asarray(function(array), array.dtype), input)
    return result if out is None else _into(name, result, out)


def _apply_two(name: str, function: Any, input: Any, other: Any, out: Any = None, floats: bool = True) -> Any:
    """`function` of both in their common dtype; with `floats`, integers become floats first."""
    a, b = _operand(name, "input", input), _operand(name, "other", other)
    dtype = result_type(a, b)
    if floats and category(dtype) != 2:
        dtype = result_type(np.empty((), dtype), 1.0)
    a, b = np.asarray(a, dtype), np.asarray(b, dtype)
    if dtype.itemsize == 2 and category(dtype) == 2:
        a, b = a.astype(np.float32), b.astype(np.float32)
    _require_broadcast(name, a, b)
    with np.errstate(all="ignore"):
        result = np.asarray(function(a, b)).astype(dtype, copy=False)
    return result if out is None else _into(name, result, out)


@operator
def asin(input, out=None):
    """The angle in [-pi/2, pi/2] whose sine is input; NaN beyond [-1, 1]."""
    return _apply("asin", np.arcsin, input, out)


@operator
def acos(input, out=None):
    """The angle in [0, pi] whose cosine is input; NaN beyond [-1, 1]."""
    return _apply("acos", np.arccos, input, out)


@operator
def atan(input, out=None):
    """The angle in (-pi/2, pi/2) whose tangent is input."""
    return _apply("atan", np.arctan, input, out)


@operator
def sinh(input, out=None):
    """The hyperbolic sine."""
    return _apply("sinh", np.sinh, input, out)


@operator
def cosh(input, out=None):
    """The hyperbolic cosine."""
    return _apply("cosh", np.cosh, input, out)


@operator
def asinh(input, out=None):
    """The inverse hyperbolic sine."""
    return _apply("asinh", np.arcsinh, input, out)


@operator
def acosh(input, out=None):
    """The inverse hyperbolic cosine; NaN below 1."""
    return _apply("acosh", np.arccosh, input, out)


@operator
def atanh(input, out=None):
    """The inverse hyperbolic tangent; infinite at -1 and 1, NaN beyond."""
    return _apply("atanh", np.arctanh, input, out)


@operator
def exp2(input, out=None):
    """2^input."""
    return _apply("exp2", np.exp2, input, out)


_erfc = np.frompyfunc(math.erfc, 1, 1)


@operator
def erfc(input, out=None):
    """1 - erf(input), accurate in the right tail."""
    return _apply("erfc", lambda x: _erfc(x.astype(np.float64)), input, out)


@operator
def erfinv(input, out=None):
    """x with erf(x) = input; infinite at -1 and 1, NaN beyond. By Wichura's AS 241."""
    return _apply("erfinv", lambda x: normal_quantile(x.astype(np.float64) / 2) * math.sqrt(0.5), input, out)


@np.vectorize(otypes=[np.float64])
def _lgamma(x: float) -> float:
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


@operator
def lgamma(input, out=None):
    """log |Gamma(input)|; infinite at 0 and the negative integers."""
    return _apply("lgamma", lambda x: _lgamma(x.astype(np.float64)) if x.size else x, input, out)


# B_2k / (2k) of the asymptotic series of the digamma function, B_2k / (2k)! of Euler-Maclaurin's.
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _digamma(x: np.ndarray) -> np.ndarray:
    """psi(x): from x + 10 by its asymptotic series and the recurrence; left of 1/2 by reflection."""
    x = x.astype(np.float64)
    left = x < 0.5
    y = np.where(left, 1.0 - x, x)
    shifted = y + 10.0
    series = sum(b / (2 * k + 2) * shifted ** -(2.0 * k + 2) for k, b in enumerate(_BERNOULLI))
    result = np.log(shifted) - 0.5 / shifted - series - sum(1.0 / (y + k) for k in range(10))
    fraction = x - np.floor(x)
    result = np.where(left, result - math.pi / np.tan(math.pi * fraction), result)
    pole = np.where(x == 0, -np.copysign(np.inf, x), np.nan)
    return np.where(left & (fraction == 0), pole, np.where(np.isposinf(x), np.inf, result))


@operator
def digamma(input, out=None):
    """The logarithmic derivative of the gamma function; NaN at the negative integers, infinite at 0."""
    return _apply("digamma", _digamma, input, out)


def _zeta(s: float, x: np.ndarray) -> np.ndarray:
    """Hurwitz's zeta function of s > 1 (whole where x < 0) by Euler-Maclaurin's formula, from beyond x + 12 on."""
    steps = 12 + int(min(max(-np.min(x, initial=0.0, where=np.isfinite(x)), 0.0), 1000.0))
    shifted = x + steps
    total = sum((x + k) ** -s for k in range(steps)) + shifted ** (1 - s) / (s - 1) + 0.5 * shifted**-s
    rising, factorial = s, 2.0
    for k, b in enumerate(_BERNOULLI):
        total = total + b / factorial * rising * shifted ** (-s - 2 * k - 1)
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
        factorial *= (2 * k + 3) * (2 * k + 4)
    return total


def _polygamma(n: int, x: np.ndarray) -> np.ndarray:
    if n == 0:
        return _digamma(x)
    x = x.astype(np.float64)
    left = x < 0.5 if n == 1 else np.zeros(x.shape, bool)
    y = np.where(left, 1.0 - x, np.where(x < -1000.0, np.nan, x))
    value = (-1.0) ** (n + 1) * math.factorial(n) * _zeta(n + 1.0, y)
    if n == 1:
        value = np.where(left, (math.pi / np.sin(math.pi * (x - np.floor(x)))) ** 2 - value, value)
    return value


@operator
def polygamma(n, input):
    """The derivative number n of digamma; from n = 2 on NaN below -1000."""
    n = integer("polygamma", "n", n, 0)
    return _apply("polygamma", lambda x: _polygamma(n, x), input)


@operator
def sinc(input, out=None):
    """sin(pi input) / (pi input), 1 at 0."""
    return _apply("sinc", np.sinc, input, out)


@operator
def frac(input, out=None):
    """input - trunc(input), the sign of input."""
    return _apply("frac", lambda x: x - np.trunc(x), input, out)


@operator
def deg2rad(input, out=None):
    """Degrees as radians."""
    return _apply("deg2rad", lambda x: x * x.dtype.type(math.pi / 180), input, out)


@operator
def rad2deg(input, out=None):
    """Radians as degrees."""
    return _apply("rad2deg", lambda x: x * x.dtype.type(180 / math.pi), input, out)


@operator
def nan_to_num(input, nan=0.0, posinf=None, neginf=None, out=None):
    """input with NaN replaced by nan, infinities by posinf and neginf (None: the dtype's largest and smallest)."""
    array = require_array("nan_to_num", "input", input)
    if array.dtype.kind in "iub":
        return array.copy() if out is None else out
    nan = 0.0 if nan is None else scalar("nan_to_num", "nan", nan)
    result = np.asarray(np.nan_to_num(array, nan=nan, posinf=posinf, neginf=neginf))
    return result if out is None else _into("nan_to_num", result, out)


@operator
def signbit(input):
    """True where input is negative, -0.0 among them."""
    array = require_array("signbit", "input", input)
    return np.asarray(np.signbit(array)) if category(array.dtype) == 2 else np.asarray(array < 0)


@operator
def isposinf(input):
    """True where input is positive infinity."""
    return np.asarray(require_array("isposinf", "input", input) == np.inf)


@operator
def isneginf(input):
    """True where input is negative infinity."""
    return np.asarray(require_array("isneginf", "input", input) == -np.inf)


asin.gradient(input=lambda grad, input: grad * rsqrt(1.0 - square(input)))
acos.gradient(input=lambda grad, input: negative(grad * rsqrt(1.0 - square(input))))
atan.gradient(input=lambda grad, input: grad / (square(input) + 1.0))
sinh.gradient(input=lambda grad, input: grad * cosh(input))
cosh.gradient(input=lambda grad, input: grad * sinh(input))
asinh.gradient(input=lambda grad, input: grad * rsqrt(square(input) + 1.0))
acosh.gradient(input=lambda grad, input: grad * rsqrt((input - 1.0) * (input + 1.0)))
atanh.gradient(input=lambda grad, input: grad / ((1.0 - input) * (1.0 + input)))
exp2.gradient(input=lambda grad, output: grad * (output * LOG_2))
erfc.gradient(input=lambda grad, input: grad * (exp(negative(square(input))) * (-2.0 / math.sqrt(math.pi))))
erfinv.gradient(input=lambda grad, output: grad * (exp(square(output)) * (math.sqrt(math.pi) / 2)))
lgamma.gradient(input=lambda grad, input: grad * digamma(input))
digamma.gradient(input=lambda grad, input: grad * polygamma(1, input))
polygamma.gradient(input=lambda grad, n, input: grad * polygamma(n + 1, input))
frac.gradient(input=lambda grad: grad)
deg2rad.gradient(input=lambda grad: grad * (math.pi / 180))
rad2deg.gradient(input=lambda grad: grad * (180 / math.pi))
nan_to_num.gradient(input=lambda grad, input: where(input.isfinite(), grad, 0.0))


def _sinc_gradient(grad, input):
    zero = eq(input, 0)
    x = where(zero, 1.0, input) * math.pi
    return where(zero, 0.0, grad * ((x * cos(x) - sin(x)) / square(x) * math.pi))


sinc.gradient(input=_sinc_gradient)


# Functions of two arguments.


@operator
def atan2(input, other, out=None):
    """The angle of the point (other, input), in [-pi, pi]."""
    return _apply_two("atan2", np.arctan2, input, other, out)


@operator
def fmod(input, other, out=None):
    """input - other * trunc(input / other), the sign of input."""
    return _apply_two("fmod", np.fmod, input, other, out, floats=False)


@operator
def hypot(input, other, out=None):
    """sqrt(input^2 + other^2), without overflow on the way."""
    return _apply_two("hypot", np.hypot, input, other, out)


@operator
def logaddexp(input, other):
    """log(exp(input) + exp(other)), without overflow on the way."""
    return _apply_two("logaddexp", np.logaddexp, input, other)


@operator
def logaddexp2(input, other):
    """log2(2^input + 2^other), without overflow on the way."""
    return _apply_two("logaddexp2", np.logaddexp2, input, other)


def _xlogy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where((x == 0) & ~np.isnan(y), x.dtype.type(0), x * np.log(y))


@operator
def xlogy(input, other, out=None):
    """input * log(other), 0 where input is 0 and other is a number."""
    return _apply_two("xlogy", _xlogy, input, other, out)


@operator
def heaviside(input, values, out=None):
    """0 below 0, 1 above, values at 0."""
    return _apply_two("heaviside", lambda x, v: np.where(x == 0, v, np.where(x < 0, 0, 1)), input, values, out, False)


@operator
def copysign(input, other, out=None):
    """|input| with the sign of other."""
    return _apply_two("copysign", np.copysign, input, other, out)


@operator
def fmax(input, other):
    """The larger of input and other; a number wins over NaN."""
    return _apply_two("fmax", np.fmax, input, other, floats=False)


@operator
def fmin(input, other):
    """The smaller of input and other; a number wins over NaN."""
    return _apply_two("fmin", np.fmin, input, other, floats=False)


def _whole_numbers(name: str, function: Any, input: Any, other: Any, out: Any = None) -> Any:
    a, b = promote(name, input, other)
    for argument, value in (("input", a), ("other", b)):
        if isinstance(value, np.ndarray) and value.dtype.kind not in "iu":
            raise TypeError(f"[{name}] {argument}: expected integers, got dtype {value.dtype}")
    return _apply_two(name, function, a, b, out, floats=False)


@operator
def gcd(input, other, out=None):
    """The greatest common divisor of integers."""
    return _whole_numbers("gcd", np.gcd, input, other, out)


@operator
def lcm(input, other, out=None):
    """The least common multiple of integers."""
    return _whole_numbers("lcm", np.lcm, input, other, out)


@operator
def bitwise_left_shift(input, other, out=None):
    """input * 2^other, of integers."""
    return _whole_numbers("bitwise_left_shift", np.left_shift, input, other, out)


@operator
def bitwise_right_shift(input, other, out=None):
    """floor(input / 2^other), of integers."""
    return _whole_numbers("bitwise_right_shift", np.right_shift, input, other, out)


def _first_wins(input, other):
    return greater_equal(input, other) | isnan(other)


def _first_is_less(input, other):
    return logical_not(less(other, input)) & logical_not(isnan(input)) | isnan(other)


atan2.gradient(
    input=lambda grad, input, other: grad * (other / (square(input) + square(other))),
    other=lambda grad, input, other: negative(grad * (input / (square(input) + square(other)))),
)
fmod.gradient(
    input=lambda grad: grad, other=lambda grad, input, other: negative(grad * trunc(input / other))
)  # fmt: skip
hypot.gradient(
    input=lambda grad, output, input: grad * (input / output),
    other=lambda grad, output, other: grad * (other / output),
)
logaddexp.gradient(
    input=lambda grad, input, other: grad / (exp(other - input) + 1.0),
    other=lambda grad, input, other: grad / (exp(input - other) + 1.0),
)
logaddexp2.gradient(
    input=lambda grad, input, other: grad / (exp2(other - input) + 1.0),
    other=lambda grad, input, other: grad / (exp2(input - other) + 1.0),
)
xlogy.gradient(
    input=lambda grad, input, other: where(eq(input, 0) & logical_not(greater_equal(other, 0)), 0.0, grad * log(other)),
    other=lambda grad, input, other: grad * input / other,
)
copysign.gradient(input=lambda grad, output, input: grad * (sign(output) * sign(input)))
fmax.gradient(
    input=lambda grad, input, other: where(_first_wins(input, other), grad, 0.0),
    other=lambda grad, input, other: where(_first_wins(input, other), 0.0, grad),
)
fmin.gradient(
    input=lambda grad, input, other: where(_first_is_less(input, other), grad, 0.0),
    other=lambda grad, input, other: where(_first_is_less(input, other), 0.0, grad),
)


# Made of the above.


@composed
def logit(input, eps=None):
    """log(input / (1 - input)), input first limited to [eps, 1 - eps] where eps is given."""
    if eps is not None:
        input = input.clamp(eps, 1.0 - eps)
    return log(input / (1.0 - input))


@composed
def clamp_min(input, min):
    """The larger of input and min, a number or a tensor."""
    return maximum(input, min)


@composed
def clamp_max(input, max):
    """The smaller of input and max, a number or a tensor."""
    return minimum(input, max)


@composed
def sgn(input):
    """The sign, as `sign`."""
    return sign(input)


@composed
def positive(input):
    """input itself.

    Raises:
        TypeError: input is bool.
    """
    if input.dtype.kind == "b":
        raise TypeError("[positive] input: expected numbers, got dtype bool")
    return input


@composed
def rsub(input, other, *, alpha=1):
    """other - alpha * input."""
    return other - (input if alpha == 1 else input * alpha)


@composed
def float_power(input, exponent):
    """input ** exponent in float64."""
    return pow(input.double(), exponent)


@composed
def ldexp(input, other):
    """input * 2^other."""
    return input * exp2(other)


@composed
def isreal(input):
    """True everywhere: hominy has no complex numbers."""
    return eq(input, input) | isnan(input)


@composed
def addcmul(input, tensor1, tensor2, *, value=1):
    """input + value * tensor1 * tensor2."""
    return input + tensor1 * tensor2 * value if value != 1 else input + tensor1 * tensor2


@composed
def addcdiv(input, tensor1, tensor2, *, value=1):
    """input + value * tensor1 / tensor2."""
    return input + tensor1 / tensor2 * value if value != 1 else input + tensor1 / tensor2


@composed
def lerp(input, end, weight):
    """input + weight * (end - input), from the nearer end: exact at weights 0 and 1."""
    if isinstance(weight, (int, float)):
        return input + (end - input) * weight if weight < 0.5 else end - (end - input) * (1.0 - weight)
    weight = weight.to(input.dtype)
    return where(weight.abs() < 0.5, input + (end - input) * weight, end - (end - input) * (1.0 - weight))


@operator
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """|input - other| <= atol + rtol * |other|, elementwise; equal infinities are close."""
    a, b = require_array("isclose", "input", input), require_array("isclose", "other", other)
    if a.dtype != b.dtype:
        raise TypeError(f"[isclose] other: expected dtype {a.dtype}, got {b.dtype}")
    _require_broadcast("isclose", a, b)
    if a.dtype.kind in "iub":
        a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        close = (a == b) | (np.abs(a - b) <= atol + np.abs(rtol * b)) & np.isfinite(b)
        if equal_nan:
            close |= np.isnan(a) & np.isnan(b)
    return np.asarray(close)


@composed
def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether `isclose` holds everywhere, as a bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@composed
def equal(input, other):
    """Whether both have the same shape and elements, as a bool; `eq` compares elementwise."""
    other = as_tensor("equal", "other", other)
    return input.shape == other.shape and bool(eq(input, other).all())
