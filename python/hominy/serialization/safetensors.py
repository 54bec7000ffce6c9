"""safetensors files, by the safetensors package: it checks the header against the file, and holds no code to run.

The format: https://github.com/huggingface/safetensors#format. The package's parser is compiled, fuzzed and what
everybody else reads these files with; ours would only be one more.
"""

from __future__ import annotations

from typing import Any

from .files import WeightsError, named_arrays, tensors


def _package() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("a .safetensors file needs the safetensors package: pip install safetensors") from error
    return safetensors


def write(obj: Any, path: str) -> None:
    """Write a state dict, marked as PyTorch's layout, which hominy's layers share."""
    package = _package()
    package.numpy.save_file(named_arrays(obj), path, metadata={"format": "pt"})


def read(path: str) -> dict[str, Any]:
    """{name: tensor}, in the file's order of names."""
    package = _package()
    with open(path, "rb"):
        pass  # a file that is not there is a FileNotFoundError, not the package's
    try:
        with package.safe_open(path, framework="np") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except package.SafetensorError as error:
        raise WeightsError(f"expected a safetensors file, got {error}") from None
    except (KeyError, AttributeError, TypeError) as error:  # a dtype that NumPy has no name for
        raise WeightsError(f"expected dtypes that NumPy has, got {error}") from None
    try:
        return tensors(found)
    except TypeError as error:
        raise WeightsError(f"expected numbers: {error}") from None
