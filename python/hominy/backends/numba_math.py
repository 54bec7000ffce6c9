"""Scalar functions of float64 for the kernels of numba_jit.py.

Without branches or calls into the mathematical library, so that LLVM makes vector code of a loop over them. The side of
a conditional expression that is not meant is computed all the same, and must not be slow: hence the clamping.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

# contract: multiply and add may fuse, as in the C++ kernels; nothing else of fast math. Not cached on disk: Numba's
# cache has no stable key for a function that calls another through a closure (each process would add its files and find
# none), and raises where it may write neither beside the package nor in the user's home.
jit: Any = functools.partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract"})
inlined: Any = functools.partial(jit, forceinline=True)

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer, which then stands in the lowest bits
_LN2 = math.log(2)
_LOG2_E = 1 / _LN2
_LN2_HIGH = 0.6931471803691238  # 33 bits of ln 2, so that its product with an exponent is exact
_LN2_LOW = 1.9082149292705877e-10
# Taylor's series: expm1(r) / r, |r| <= ln(2) / 2; 2 atanh(s) / s by s**2, |s| <= 0.172; erf(x) / x by x**2, |x| <= 0.6.
_EXPM1_SERIES = tuple(1 / math.factorial(k) for k in range(14, 0, -1))
_ATANH_SERIES = tuple(2 / (2 * k + 1) for k in range(11, -1, -1))
ERF_SERIES = tuple((-1) ** k * 2 / math.sqrt(math.pi) / math.factorial(k) / (2 * k + 1) for k in range(13, -1, -1))
# (a + 4) exp(a**2 / 2) Q(a) by z = (a - 4) / (a + 4), 0 <= a <= 40, Q the standard normal's upper tail: interpolated at
# Chebyshev's nodes, relative error 4e-17.
_TAIL_SERIES = (
    -9.990624160023276e-10, -1.015295717649618e-11, 1.3976528155950822e-8, 1.4842390072751343e-8,
    -7.6347128434410861e-8, -1.5461968191221919e-7, 2.6354310560684454e-7, 1.0200713392568464e-6,
    -6.2499069953697852e-7, -5.9190131861540441e-6, 7.1493083254784009e-7, 3.5144214968257804e-5,
    -1.9078434059248705e-6, -0.00023109482414997104, 0.00013334424978358428, 0.0016308184424805886,
    -0.0034796923618040596, -0.0075401889656250168, 0.060396574890676654, -0.18652185795969339,
    0.38713740074221934, -0.60789664197189176, 0.75528513041575148,
)  # fmt: skip
_TAIL_EVEN, _TAIL_ODD = _TAIL_SERIES[0::2], _TAIL_SERIES[1::2]


@inlined
def polynomial(x, coefficients):
    """By Horner's rule, the highest coefficient first; up to some 15, which LLVM unrolls."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y


@inlined
def _power_of_two(n):
    """2**n for a whole n in [-1022, 1023]: n moved into the exponent's bits."""
    bits = np.float64(n + _ROUND).view(np.int64)
    return np.int64((bits << 52) + (1023 << 52)).view(np.float64)


@inlined
def _reduced(x):
    """n, expm1(r) where x = n ln 2 + r, n whole."""
    n = (x * _LOG2_E + _ROUND) - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    return n, r * polynomial(r, _EXPM1_SERIES)


@inlined
def exp(x):
    x = -750.0 if x < -750.0 else x
    n, p = _reduced(710.0 if x > 710.0 else x)
    half = (n * 0.5 + _ROUND) - _ROUND  # 2**n in two factors: it may be subnormal or infinite
    return (1.0 + p) * _power_of_two(half) * _power_of_two(n - half)


@inlined
def expm1_of_negative(x):
    n, p = _reduced(-60.0 if x < -60.0 else x)
    scale = _power_of_two(n)
    return scale * p + (scale - 1.0)


@inlined
def log1p_of_fraction(u):
    """log(1 + u) for 0 <= u <= 1: 2 atanh(s), where 1 + u or (1 + u) / 2 is (1 + s) / (1 - s)."""
    halved = (u - 1.0) * 0.5
    halve = u > 0.41421356237309503
    v = halved if halve else u
    s = v / (2.0 + v)
    return (_LN2 if halve else 0.0) + s * polynomial(s * s, _ATANH_SERIES)


@inlined
def normal_tail(a):
    """exp(-a**2 / 2) and Q(a), the standard normal's upper tail, for a >= 0."""
    a = 40.0 if a > 40.0 else a
    high = np.float64(np.float32(a))  # its square is exact
    d = (high - a) * (high + a) * 0.5
    e = exp(-0.5 * high * high) * (1.0 + d * (1.0 + d * (0.5 + d * (1.0 / 6.0))))
    inverse = 1.0 / (a + 4.0)
    z = (a - 4.0) * inverse
    return e, e * inverse * (polynomial(z * z, _TAIL_EVEN) + z * polynomial(z * z, _TAIL_ODD))


@inlined
def logistic(x):
    e = exp(-abs(x))
    return (e if x < 0.0 else 1.0) / (1.0 + e)
