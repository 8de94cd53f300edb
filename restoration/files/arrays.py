"""Blur kernels in numpy's files.

The header is checked before anything is allocated: 20 kB of file may claim terabytes.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib

import numpy as np

from restoration.files.sizes import MAX_KERNEL

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<type>[<>|=]?[fiub]\d{1,2})',\s*'fortran_order':\s*(?P<fortran>True|False),\s*"
    r"'shape':\s*\((?P<shape>[\d, ]{0,60})\),?\s*\}\s*"
)
MAX_HEADER = 1024  # bytes; numpy writes 128
MAX_BYTES = 2 * 16 * MAX_KERNEL**2 + MAX_HEADER  # of an array file: two channels of the widest numbers


def is_array(data: bytes) -> bool:
    """Whether a file's content is numpy's, by its beginning: suffixes say little."""
    return data.startswith((NPY, ZIP))


def kernel(data: bytes, name: str) -> np.ndarray:
    """The kernel (h,w) float32 in a .npy or .npz file's content.

    ValueError, one sentence, for anything else.
    """
    if data.startswith(ZIP):
        data = _only_member(data, name)
    kernel = _array(data, name)
    if kernel.ndim == 3:  # one channel, first or last, or equal ones
        axis = 0 if kernel.shape[0] <= 4 < kernel.shape[-1] else -1
        kernel = kernel.mean(axis) if kernel.shape[axis] <= 4 and not kernel.std(axis).any() else kernel
    if kernel.ndim != 2 or not kernel.size or max(kernel.shape) > MAX_KERNEL:
        shape = "×".join(map(str, kernel.shape))
        raise ValueError(
            f"The blur kernel {name} has the shape {shape}; a grey one of at most {MAX_KERNEL}×{MAX_KERNEL} "
            "is accepted."
        )
    return kernel


def _only_member(data: bytes, name: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.namelist()
            if len(members) != 1:
                raise ValueError(f"{name} holds {len(members)} arrays; a blur kernel is one.")
            with archive.open(members[0]) as file:
                return file.read(MAX_BYTES)
    except ValueError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,  # zipfile of a compression that it does not know
        LookupError,
    ):
        raise ValueError(f"{name} is damaged or cut off; a complete .npz file is needed.") from None


def _array(data: bytes, name: str) -> np.ndarray:
    """The array in a .npy file's content, float32, its shape and type checked before it is made."""
    width = 2 if data[6:7] == b"\1" else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    start = 8 + width + length
    header = (
        HEADER.fullmatch(data[8 + width : start].decode("latin-1"))
        if data.startswith(NPY) and length <= MAX_HEADER
        else None
    )
    if header is None:
        raise ValueError(f"The blur kernel {name} is no .npy array of real numbers.")
    shape = tuple(int(side) for side in header["shape"].replace(" ", "").split(",") if side)
    try:
        kind = np.dtype(header["type"])
    except TypeError:
        raise ValueError(f"The blur kernel {name} is no .npy array of real numbers.") from None
    count = int(np.prod([min(side, 10**6) for side in shape], dtype=object))
    if count > 4 * MAX_KERNEL**2:
        sides = "×".join(map(str, shape))
        raise ValueError(
            f"The blur kernel {name} has the shape {sides}; at most {MAX_KERNEL}×{MAX_KERNEL} is accepted."
        )
    if len(data) < start + count * kind.itemsize:
        raise ValueError(f"The blur kernel {name} is cut off.")
    values = np.frombuffer(data, kind, count, start).reshape(
        shape, order="F" if header["fortran"] == "True" else "C"
    )
    with np.errstate(all="ignore"):
        return values.astype(np.float32)
