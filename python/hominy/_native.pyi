# The compiled module: its functions are those of backends/reference.py, and csrc/bindings/module.cpp has the rest.
from typing import Any

def __getattr__(name: str) -> Any: ...
