"""The files of knobs: blur kernels and inpainting masks, read as every picture is."""

from __future__ import annotations

import functools
import os

import torch
from torch import Tensor

from restoration.files import images


def read_kernel(path: str) -> Tensor:
    """A blur kernel (h,w) float32 up to a factor: a grey picture of any depth, a .npy or .npz array.

    ValueError, one sentence.
    """
    kernel = torch.from_numpy(images.load("kernel", path))
    # the rounding of whoever made it; what is really negative is refused where the kernel is used
    return torch.where(kernel.abs() <= 1e-6 * kernel.abs().max(), 0, kernel)


def read_mask(path: str, height: int, width: int) -> Tensor:
    """An inpainting mask (height,width), True where pixels are known.

    ValueError, one sentence, for one that does not fit the picture.
    """
    return _mask(path, height, width)[0]


def how_read_mask(path: str, height: int, width: int) -> str:
    """What was taken as known in a mask, and how much is missing, in one line. ValueError as `read_mask`."""
    return _mask(path, height, width)[1]


def _mask(path: str, height: int, width: int) -> tuple[Tensor, str]:
    try:
        state = os.stat(path)
    except OSError as error:
        raise ValueError(f"{images.plain_name(path)} cannot be opened: {error.strerror}.") from None
    return _cached_mask(path, state.st_mtime_ns, state.st_size, height, width)


@functools.lru_cache(maxsize=4)  # a run asks at every step
def _cached_mask(path: str, changed: int, size: int, height: int, width: int) -> tuple[Tensor, str]:
    known, how = images.load("mask", path, height=height, width=width)
    return torch.from_numpy(known.copy()), how
