"""The pool of memory blocks behind large outputs.

Outputs of 16 KiB and more come from 64-byte aligned blocks that outlive the tensors which used them, so that the next
output of that size costs no page faults. Free blocks are bounded: HOMINY_POOL_BYTES, else an eighth of physical memory,
at most 1 GiB.
"""

from __future__ import annotations

from . import backends


def empty_cache() -> None:
    """Give every free block back to the operating system."""
    if not backends.available("native"):
        from . import _native

        _native.pool_empty()


def statistics() -> dict[str, int]:
    """Bytes in use, free, at peak and at most kept free; how many requests found a free block (`hits`) or not
    (`misses`).

    Empty where the compiled kernels are absent: NumPy allocates there.
    """
    if backends.available("native"):
        return {}
    from . import _native

    return dict(_native.pool_statistics())
