"""The standard normal's quantile function, in float64, from additions, multiplications, divisions and roots alone.

Those are exact to the last bit under IEEE 754, and a NumPy ufunc does one of them at a time (nothing is contracted), so
the result has the same bits on every machine: random normals are made of it. The logarithm of the tails is therefore
written out too.

Source: Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37, 1988: relative error about 1e-16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip
_LOG_2 = 0.6931471805599453


def _polynomial(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        np.multiply(total, x, out=total)
        np.add(total, coefficient, out=total)
    return total


def _ratio(table: Any, x: np.ndarray) -> np.ndarray:
    return _polynomial(table[0], x) / _polynomial(table[1], x)


def natural_logarithm(x: np.ndarray) -> np.ndarray:
    """The natural logarithm of positive numbers, within 4e-16 of it relative to at least 1: 2 atanh((m - 1) / (m + 1))
    of the mantissa m, by its series."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _polynomial(tuple(2.0 / k for k in range(23, 0, -2)), s * s)
    return (exponent - low).astype(np.float64) * _LOG_2 + s * series


def normal_quantile(q: np.ndarray) -> np.ndarray:
    """x with P(X < x) = 0.5 + q, of float64 numbers; infinite at -0.5 and 0.5, NaN beyond."""
    q = np.asarray(q, np.float64)
    distance = np.abs(q)
    with np.errstate(all="ignore"):
        result = q * _ratio(_CENTRE, 0.180625 - q * q)
        outer = distance > 0.425
        if outer.any():
            rest = 0.5 - distance[outer]
            root = np.sqrt(-natural_logarithm(np.where(rest > 0, rest, 1.0)))
            far = root > 5.0
            value = _ratio(_TAIL, root - 1.6)
            if far.any():
                value = np.where(far, _ratio(_FAR_TAIL, root - 5.0), value)
            value = np.where(rest > 0, value, np.where(rest == 0, np.inf, np.nan))
            result[outer] = np.copysign(value, q[outer])
    return result
