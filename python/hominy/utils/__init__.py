"""What stands beside the layers: `hominy.utils.data`, datasets and loaders, imported when first asked for."""

from __future__ import annotations

from typing import Any

__all__ = ["data"]


def __getattr__(name: str) -> Any:
    if name == "data":
        import importlib

        return importlib.import_module(".data", __name__)
    raise AttributeError(f"module 'hominy.utils' has no attribute {name!r}")
