"""How many threads the kernels use."""

from __future__ import annotations

from . import backends


def get_num_threads() -> int:
    """Threads that the next large kernel may use: HOMINY_NUM_THREADS, else what CPU affinity and cgroup quota allow.

    1 where the compiled kernels are absent: the fallbacks are serial.
    """
    if backends.available("native"):
        return 1
    from . import _native

    return int(_native.num_threads())


def set_num_threads(n: int) -> None:
    """Use `n` threads from now on, 1 to 1024. Results do not depend on it, to the last bit.

    Raises:
        TypeError: not an integer.
        ValueError: out of range.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"[set_num_threads] n: expected an integer, got {type(n).__name__}")
    n = n.__index__()
    if not 1 <= n <= 1024:
        raise ValueError(f"[set_num_threads] n: expected an integer in [1, 1024], got {n}")
    if not backends.available("native"):
        from . import _native

        _native.set_num_threads(n)
