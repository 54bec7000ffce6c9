"""What tests, gradient checks, benchmarks and the demo share: the table of operator cases and how a result is judged.

>>> from hominy.testing import cases
>>> case = cases.find("softmax")
>>> arguments = case.arguments(rng, "float32", case.timing[0])
>>> case.verify(hominy.kernels.softmax(*arguments), arguments)      # raises with the worst element
"""

from .cases import CASES, Case, find
from .layouts import LAYOUTS, lay_out

__all__ = ["CASES", "LAYOUTS", "Case", "find", "lay_out"]
