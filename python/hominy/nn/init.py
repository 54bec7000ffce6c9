"""Initial values of weights. Every function fills its tensor in place, outside the graph, and returns it.

Random ones draw from hominy's generator (`hominy.manual_seed`), or from the `generator` given.
A tensor's fan_in is its inputs per output, shape[1] * prod(shape[2:]); fan_out is shape[0] * prod(shape[2:]).
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import no_grad
from ..tensor import Tensor
from ..utils.arguments import choice, integer, number, wrong

LINEAR_GAINS = ("linear", "sigmoid", *(f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights in front of a nonlinearity are scaled so that signals keep their variance.

    1 for linear, convolutions and sigmoid; 5/3 for tanh; sqrt(2) for relu; sqrt(2 / (1 + slope^2)) for leaky_relu,
    whose slope is `param` (0.01 if None); 3/4 for selu.
    """
    choice("calculate_gain", "nonlinearity", nonlinearity, (*LINEAR_GAINS, "tanh", "relu", "leaky_relu", "selu"))
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else number("calculate_gain", "param", param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    return {"tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75}.get(nonlinearity, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    a, b = number("uniform_", "a", a), number("uniform_", "b", b)
    if a > b:
        raise ValueError(wrong("uniform_", "b", f"a number not below a={a}", b))
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    mean, std = number("normal_", "mean", mean), number("normal_", "std", std, low=0.0)
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Normal with the given mean and standard deviation, but within [a, b]: what falls outside is drawn again."""
    import numpy as np

    from ..creation import from_numpy
    from ..random import rand, randn

    where = "trunc_normal_"
    mean, std = number(where, "mean", mean), number(where, "std", std, low=0.0)
    a, b = number(where, "a", a), number(where, "b", b)
    if not a < b or std == 0.0:
        raise ValueError(wrong(where, "a, b, std", "a < b and std > 0", (a, b, std)))
    low, high = (a - mean) / std, (b - mean) / std
    nearest = min(max(low, 0.0), high)  # where in the interval the density is largest
    # Almost all normal draws would miss an interval that is narrow or far out. There, uniform draws are accepted with
    # the density's probability; what lies 8 further out than `nearest` has less than e^-32 of it and is left away.
    often = 0.5 * (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0))) > 0.05
    low, high = max(low, nearest - 8.0), min(high, nearest + 8.0)
    values = np.empty(math.prod(tensor.shape))
    filled = 0
    while filled < values.size:
        count = values.size - filled

        def draw(function: Any, count: int = count) -> np.ndarray:
            return function(count, generator=generator).numpy().astype(np.float64)

        if often:
            x = draw(randn)
            accepted = x[(low <= x) & (x <= high)]
        else:
            x = low + (high - low) * draw(rand)
            accepted = x[draw(rand) <= np.exp(0.5 * (nearest - x) * (nearest + x))]
        values[filled : filled + accepted.size] = accepted
        filled += accepted.size
    with no_grad():
        return tensor.copy_(from_numpy((values * std + mean).clip(a, b).reshape(tuple(tensor.shape))))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    with no_grad():
        return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix; of a rectangle, as much as fits."""
    import numpy as np

    from ..creation import from_numpy

    if len(tensor.shape) != 2:
        raise ValueError(wrong("eye_", "tensor", "2 dimensions", tuple(tensor.shape)))
    with no_grad():
        return tensor.copy_(from_numpy(np.eye(*tensor.shape, dtype=np.float32)))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Convolution weights (out, in, *window) that pass their input on: a 1 in the middle of the window, channel by
    channel, in each of `groups` groups of outputs; 0 elsewhere.

    Raises:
        ValueError: other than 3 to 5 dimensions, or outputs that `groups` does not divide.
    """
    import numpy as np

    from ..creation import from_numpy

    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(wrong("dirac_", "tensor", "3 to 5 dimensions", shape))
    groups = integer("dirac_", "groups", groups)
    if shape[0] % groups:
        raise ValueError(wrong("dirac_", "groups", f"a divisor of {shape[0]}", groups))
    outputs = shape[0] // groups
    values = np.zeros(shape, np.float32)
    middle = tuple(size // 2 for size in shape[2:])
    for group in range(groups):
        for channel in range(min(outputs, shape[1])):
            values[group * outputs + channel, channel][middle] = 1.0
    with no_grad():
        return tensor.copy_(from_numpy(values))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """A matrix, normal with mean 0 and deviation std, of which in each column the part `sparsity` is 0, rounded up.
    Martens, 2010.

    Raises:
        ValueError: not 2 dimensions, or a part outside [0, 1].
    """
    import numpy as np

    from ..creation import from_numpy
    from ..random import rand, randn

    shape = tuple(tensor.shape)
    if len(shape) != 2:
        raise ValueError(wrong("sparse_", "tensor", "2 dimensions", shape))
    sparsity, std = number("sparse_", "sparsity", sparsity, low=0.0), number("sparse_", "std", std, low=0.0)
    if sparsity > 1.0:
        raise ValueError(wrong("sparse_", "sparsity", "a number in [0, 1]", sparsity))
    values = randn(shape, generator=generator).numpy().astype(np.float64) * std
    order = np.argsort(rand(shape, generator=generator).numpy(), axis=0)
    np.put_along_axis(values, order[: math.ceil(sparsity * shape[0])], 0.0, axis=0)
    with no_grad():
        return tensor.copy_(from_numpy(values))


def _fans(where: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out)"""
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ValueError(wrong(where, "tensor", "2 dimensions or more, (out, in, ...)", shape))
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in +-gain * sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, 2010."""
    bound = number("xavier_uniform_", "gain", gain) * math.sqrt(6.0 / max(sum(_fans("xavier_uniform_", tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with standard deviation gain * sqrt(2 / (fan_in + fan_out)). Glorot and Bengio, 2010."""
    std = number("xavier_normal_", "gain", gain) * math.sqrt(2.0 / max(sum(_fans("xavier_normal_", tensor)), 1))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(where: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    choice(where, "mode", mode, ("fan_in", "fan_out"))
    fan = _fans(where, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform in +-gain * sqrt(3 / fan), where `a` is the slope of leaky_relu. He et al., 2015."""
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan), where `a` is the slope of leaky_relu. He et al., 2015."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer. Saxe et al., 2013.

    A tensor of more dimensions is filled as the matrix (shape[0], the rest).
    """
    import numpy as np

    from ..creation import from_numpy
    from ..random import randn

    gain = number("orthogonal_", "gain", gain)
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ValueError(wrong("orthogonal_", "tensor", "2 dimensions or more", shape))
    if 0 in shape:
        return tensor
    rows, columns = shape[0], math.prod(shape[1:])
    normal = randn(max(rows, columns), min(rows, columns), generator=generator).numpy().astype(np.float64)
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diag(r))  # makes the distribution uniform: a QR with positive diagonal is unique
    with no_grad():
        return tensor.copy_(from_numpy(gain * (q if rows >= columns else q.T).reshape(shape)))
