"""The compiled kernels of csrc/, one function each.

`hominy._native` checks its arrays against the kernel's contract and declines what it has no kernel for, so its
functions are the backend's: this module only gives them their place among the backends.
"""

from .._native import *  # noqa: F403
