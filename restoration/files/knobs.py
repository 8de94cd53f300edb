"""The files of knobs: blur kernels and inpainting masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from restoration.files.images import open_image

MAX_KERNEL = 128  # pixels a side


def read_kernel(path: str) -> Tensor:
    """A blur kernel (h,w) float32, as it is in the file: a grey picture or a .npy array. ValueError, one sentence, for anything else."""
    if path.endswith(".npy"):
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False)).float()
        except (OSError, EOFError, TypeError, ValueError) as error:
            raise ValueError(f"The blur kernel {path} cannot be read: {error}") from None
    with open_image(path) as image:
        if max(image.size) > MAX_KERNEL:
            raise ValueError(
                f"The kernel picture is {image.width}×{image.height}; at most {MAX_KERNEL}×{MAX_KERNEL} is accepted."
            )
        return torch.from_numpy(np.array(image.convert("L"))).float()


def read_mask(path: str, height: int, width: int) -> Tensor:
    """An inpainting mask (height,width), True where pixels are known. ValueError, one sentence, for one of another size."""
    with open_image(path) as image:
        if image.size != (width, height):
            raise ValueError(
                f"The mask is {image.width}×{image.height} but the picture {width}×{height}; they must be equal."
            )
        return torch.from_numpy(np.array(image.convert("L")) > 127)
