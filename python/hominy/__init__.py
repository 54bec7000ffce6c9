"""hominy: deep-learning kernels for NumPy people.

Tensors, operators and their gradients under PyTorch's names; `hominy.kernels` has the same operators for plain NumPy
arrays, `hominy.nn`, `hominy.optim` and `hominy.utils.data` the layers, optimizers and data loading on top.
"""

from __future__ import annotations

import math
from typing import Any

from . import autograd, backends, ops
from .autograd import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .backends import use_backend
from .backends.conv_choice import get_float_precision, set_float_precision
from .creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    tensor,
    zeros,
    zeros_like,
)
from .dtypes import bool_ as bool  # PyTorch's name
from .dtypes import (
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .memory_format import channels_last, channels_last_3d, contiguous_format, preserve_format
from .prepared import prepare
from .printing import set_printoptions
from .random import (
    Generator,
    bernoulli,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)
from .tensor import Tensor
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None
double, half, float, long, int, short = float64, float16, float32, int64, int32, int16

globals().update(ops.public_functions())


def is_tensor(value: Any) -> Any:
    """Whether `value` is a tensor."""
    return isinstance(value, Tensor)


def __getattr__(name: str) -> Any:
    if name in (  # imported when first asked for
        "callbacks", "kernels", "linalg", "memory", "models", "nn", "optim", "random", "serialization", "testing",
        "training", "transforms", "utils",
    ):  # fmt: skip
        import importlib

        return importlib.import_module("." + name, __name__)
    if name in ("fit", "cross_validate"):
        from . import training

        return getattr(training, name)
    if name in ("load", "save"):
        from . import serialization

        return getattr(serialization, name)
    if name == "bfloat16":
        from .dtypes import bfloat16

        return bfloat16()
    raise AttributeError(f"module 'hominy' has no attribute {name!r}")


__all__ = [
    "Generator", "Tensor", "arange", "as_tensor", "autograd", "backends", "bernoulli", "bool", "default_generator",
    "channels_last", "channels_last_3d", "contiguous_format", "preserve_format",
    "get_float_precision", "get_rng_state", "inf", "linalg", "logspace", "multinomial", "nan", "newaxis", "normal",
    "pi", "e", "randint_like", "scalar_tensor", "seed", "set_printoptions", "set_rng_state", "double", "empty",
    "empty_like",
    "enable_grad", "eye", "float", "float16", "float32", "float64", "from_dlpack", "from_numpy", "full", "full_like",
    "get_default_dtype", "get_num_threads", "half", "initial_seed", "int", "int8", "int16", "int32", "int64",
    "is_grad_enabled", "is_tensor", "linspace", "long", "manual_seed", "no_grad", "ones", "ones_like", "ops",
    "prepare", "promote_types", "rand", "rand_like", "randint", "randn", "randn_like", "randperm", "set_default_dtype",
    "set_float_precision", "set_grad_enabled", "set_num_threads", "short", "tensor", "uint8", "use_backend", "zeros",
    "zeros_like", *ops.public_functions(),
]  # fmt: skip
