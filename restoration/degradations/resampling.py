"""Reduction of a picture's sides, as an exact operator: Pillow's bicubic, or Gaussian blur and decimation."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.knobs import knob


@dataclass(frozen=True)
class SuperResolution(LinearDegradation):
    """Reduction by `scale` as an exact separable operator: Pillow's anti-aliased bicubic, or Gaussian blur
    and decimation.

    A = R_h ⊗ R_w with the resampling matrices R; (AAᵀ+ρ)⁻¹ is closed-form in the eigenbases of R Rᵀ of both
    sides. No periodicity is assumed, where deepinv's Downsampling has circular borders. Bicubic reduction
    keeps the centre of every scale×scale cell; Gaussian blur either that or the top left pixel, as in DPIR,
    which lies (scale-1)/2 pixels off.
    """

    scale: int = knob(4, "How many times larger the result is", choices=(2, 3, 4))
    reduction: str = knob("bicubic", "How the small picture was made", choices=("bicubic", "blur-decimate"))
    blur: float = knob(
        1.6,
        "Width of the Gaussian of blur-decimate: standard deviation in pixels of the result",
        low=0.2,
        high=6.0,
    )

    keep: str = knob(
        "centre",
        "What blur-decimate keeps of every cell: its centre, or its top left pixel",
        choices=("centre", "top-left"),
    )

    @property
    def factor(self) -> int:
        return self.scale

    def _sides(self, height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Resampling matrices of the low-resolution height and width."""
        return matrix_on(like.device, height, *self._way), matrix_on(like.device, width, *self._way)

    @property
    def _way(self) -> tuple[int, float, float]:
        """(scale, standard deviation of the Gaussian or 0 for bicubic, position in a cell in pixels of the
        result).
        """
        if self.reduction == "bicubic":
            return self.scale, 0.0, (self.scale - 1) / 2
        return self.scale, self.blur, 0.0 if self.keep == "top-left" else (self.scale - 1) / 2

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.scale or x.shape[-2] % self.scale:
            raise ValueError(
                f"A picture of {x.shape[-1]}×{x.shape[-2]} cannot be reduced {self.scale} times exactly; "
                "crop it first."
            )
        rows, columns = self._sides(x.shape[-2] // self.scale, x.shape[-1] // self.scale, x)
        return rows @ x @ columns.T

    def adjoint(self, y: Tensor) -> Tensor:
        rows, columns = self._sides(y.shape[-2], y.shape[-1], y)
        return rows.T @ y @ columns

    def solve(self, r: Tensor, rho: float) -> Tensor:
        (la, ua), (lb, ub) = (eigenbasis(n, *self._way, r.device) for n in r.shape[-2:])
        return ua @ ((ua.T @ r @ ub) / (la[:, None] * lb + rho)) @ ub.T

    def start(self, y: Tensor) -> Tensor:
        """Pillow's bicubic enlargement, each channel in float, shifted to where the pixels of y were kept."""
        height, width = y.shape[-2:]
        size, shift = (width * self.scale, height * self.scale), 0.5 - (self._way[2] + 0.5) / self.scale
        box = (
            (1 + shift, 1 + shift, 1 + shift + width, 1 + shift + height) if shift else (0, 0, width, height)
        )
        planes = (F.pad(y, (1,) * 4, mode="replicate") if shift else y).flatten(0, 1).cpu().numpy()
        large = [
            np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BICUBIC, box=box)) for p in planes
        ]
        return torch.from_numpy(np.stack(large)).reshape(*y.shape[:2], size[1], size[0]).to(y)


# two sides of one picture: up to 70 MB each at 4 megapixels
@functools.lru_cache(maxsize=2)
def resampling_matrix(low: int, scale: int, std: float, position: float) -> Tensor:
    """(low, low·scale) reduction of one side: Pillow's bicubic read off Pillow itself on unit vectors, or a
    Gaussian of `std` > 0.
    """
    high = low * scale
    if not std:
        unit = np.eye(high, dtype=np.float32)  # column j is the j-th unit vector
        return torch.from_numpy(np.array(Image.fromarray(unit).resize((high, low), Image.Resampling.BICUBIC)))
    centre = torch.arange(low) * scale + position
    weights = torch.exp(-((torch.arange(high) - centre[:, None]) ** 2) / (2 * std**2))
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=2)
def matrix_on(device: torch.device, low: int, scale: int, std: float, position: float) -> Tensor:
    """`resampling_matrix` on a device."""
    return resampling_matrix(low, scale, std, position).to(device)


@functools.lru_cache(maxsize=2)
def eigenbasis(
    low: int, scale: int, std: float, position: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Eigenvalues and -vectors of R Rᵀ, float32 from float64."""
    matrix = resampling_matrix(low, scale, std, position).double()
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.clamp_min(0).float().to(device), vectors.float().to(device)
