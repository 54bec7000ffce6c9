"""NumPy's .npz files: a zip archive of arrays. Python objects in them are refused, whatever NumPy's settings."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zipfile
import zlib
from typing import Any

import numpy as np

from ..dtypes import bfloat16
from .files import Archive, WeightsError, named_arrays, native, tensors

EXPANSION = 100.0  # a compressed file may hold that many times its size; deflate's own limit is 1032
_HEADER_BYTES = 1 << 16
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)


def write(obj: Any, path: str) -> None:
    """Write a state dict uncompressed, the same tensors as the same bytes; bfloat16 becomes raw 2-byte items."""
    arrays = named_arrays(obj)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            raw = array.view("V2") if array.dtype.kind == "V" else array
            member = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(member, "w", force_zip64=raw.nbytes > 1 << 30) as file:
                np.lib.format.write_array(file, raw, allow_pickle=False)


def read(path: str) -> dict[str, Any]:
    """{name: tensor}; 2-byte raw items are bfloat16."""
    with open(path, "rb") as file:
        archive = Archive(file, EXPANSION)
        arrays = {}
        for name, member in archive.members.items():
            if not name.endswith(".npy"):
                raise WeightsError(f"expected arrays (.npy) alone, got {name!r}")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise WeightsError(f"expected {name!r} stored or deflated, got compression {member.compress_type}")
            try:
                with archive.zip.open(member) as stream:
                    arrays[name.removesuffix(".npy")] = _array(name, stream, member.file_size)
            except WeightsError:
                raise
            except (*_UNREADABLE, ValueError) as error:
                raise WeightsError(f"expected the array {name!r}, got {error}") from None
        return tensors(arrays)


def _array(name: str, stream: Any, size: int) -> np.ndarray:
    """The array in `stream`, a .npy file of `size` bytes; its shape is believed only if it gives that size."""
    start = stream.read(min(size, _HEADER_BYTES))
    header = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(header)
        reader: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise ValueError(f"version {version} of the format")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, fortran, dtype = reader(header)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, UnicodeError) as error:
        raise WeightsError(f"expected the header of an array in {name!r}, got {error}") from None
    if dtype.hasobject:
        raise WeightsError(f"expected numbers in {name!r}, got Python objects ({dtype}), which are never loaded")
    try:
        target = bfloat16() if dtype.kind == "V" and dtype.itemsize == 2 and not dtype.names else native(dtype)
    except TypeError as error:
        raise WeightsError(f"expected numbers in {name!r}: {error}") from None
    expected = math.prod(shape) * dtype.itemsize
    if any(type(length) is not int or length < 0 for length in shape) or expected != size - header.tell():
        raise WeightsError(f"expected {size - header.tell()} bytes in {name!r}, got shape {shape} of {dtype}")
    data = np.empty(expected, np.uint8)
    rest = start[header.tell() :]
    data[: len(rest)] = np.frombuffer(rest, np.uint8)
    done, view = len(rest), data.data
    while done < expected:
        got = stream.readinto(view[done:])
        if not got:
            raise WeightsError(f"expected {expected} bytes in {name!r}, got {done}")
        done += got
    try:
        array = data.view(dtype).reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        raise WeightsError(f"expected an array in {name!r}: {error}") from None
    return array.view(target) if dtype.kind == "V" else array.astype(target, copy=False)
