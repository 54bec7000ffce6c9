"""Weights in files: `save` and `load`, by the name's extension.

| extension | holds | written and read by |
|---|---|---|
| .safetensors | tensors by name | the safetensors package (optional) |
| .npz | tensors by name | NumPy's own array format, in a zip file; `numpy.load` reads it too |
| .pt .pth .bin .ckpt | tensors in dictionaries, lists, tuples | this package, in PyTorch's format, without PyTorch |

A file is data: reading one never imports or calls what it names, and allocates no more than the file's own size (an
`.npz` may be compressed, within a bound). What is malformed, truncated or names anything but tensors and containers is
a `WeightsError`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..utils.arguments import wrong
from .files import WeightsError, replacing

__all__ = ["WeightsError", "load", "save"]

PYTORCH = (".pt", ".pth", ".bin", ".ckpt")


def _format(where: str, path: Any) -> tuple[str, Any]:
    """The path as a string, and the module that reads and writes its format."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise TypeError(wrong(where, "path", "a string or a path", path)) from None
    name = os.fsdecode(name)
    extension = os.path.splitext(name)[1].lower()
    if extension == ".npz":
        from . import npz as module
    elif extension == ".safetensors":
        from . import safetensors as module  # type: ignore[no-redef]
    elif extension in PYTORCH:
        from . import pytorch as module  # type: ignore[no-redef]
    else:
        raise ValueError(wrong(where, "path", "a name that ends in .safetensors, .npz or " + ", ".join(PYTORCH), name))
    return name, module


def save(obj: Any, path: Any) -> None:
    """Write `obj`, a state dict, to `path` in the format of its extension.

    A `.safetensors` or `.npz` file holds tensors (or arrays) by name. A PyTorch file holds tensors, arrays, numbers,
    strings, dtypes and None in dictionaries, lists and tuples, so an optimizer's state too; `torch.load` reads it.
    Tensors that share memory share it in a PyTorch file; the other formats write them twice.

    The file appears whole or not at all: it is written beside `path` under another name, then renamed.

        hominy.save(model.state_dict(), "model.pt")

    Raises:
        TypeError, ValueError: `obj` holds something that the format does not; no file is left then.
        ImportError: safetensors is not installed.
    """
    name, module = _format("save", path)
    write: Callable[[Any, str], None] = module.write
    with replacing(name) as temporary:
        write(obj, temporary)


def load(path: Any) -> Any:
    """What the file at `path` holds: for a state dict {name: tensor}, to hand to `load_state_dict`.

        model.load_state_dict(hominy.load("model.pt"))

    PyTorch's files are read in all three of its formats (zip since 1.6, the pickles before it, the tar archive of 0.1),
    little or big endian, from whatever device; tensors that shared memory share it again. A dtype comes back as
    NumPy's, a device as its name, a parameter as `hominy.nn.Parameter`. bfloat16 needs the ml_dtypes package.

    Raises:
        WeightsError: a ValueError and a pickle.UnpicklingError; the file is damaged, or holds what is not a tensor or a
            container, which the message names.
        ImportError: safetensors or ml_dtypes is needed and not installed.
    """
    name, module = _format("load", path)
    read: Callable[[str], Any] = module.read
    try:
        return read(name)
    except WeightsError as error:
        raise WeightsError(f"[load] {os.path.basename(name)}: {error}") from None
