"""Missing pixels, at random or where a mask says so."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.files.knob_files import read_mask
from restoration.knobs import knob


@dataclass(frozen=True)
class Inpaint(LinearDegradation):
    """Missing pixels: `missing` of them at random, or those that are black in the picture `mask`."""

    missing: float = knob(
        0.5, "Share of random pixels that are missing (without a mask file)", low=0.0, high=0.95
    )
    mask: str = knob("", "Mask: a picture of the same size, black where pixels are missing")

    @functools.cached_property
    def _masks(self) -> dict[tuple[int, int], Tensor]:
        return {}

    def _keep(self, x: Tensor) -> Tensor:
        """(1,1,h,w) of x's size, ones where pixels are known.

        ValueError, one sentence, for a mask file that cannot be of this picture.
        """
        size = (x.shape[-2], x.shape[-1])
        if size not in self._masks:
            random = torch.rand(size, generator=torch.Generator().manual_seed(0))
            known = read_mask(self.mask, *size) if self.mask else random >= self.missing
            if not known.any():
                raise ValueError(
                    "The mask leaves no pixel of the picture: it is black where pixels are missing, and all "
                    "of it is black."
                )
            self._masks.clear()  # of one size: a folder holds pictures of many
            self._masks[size] = known[None, None]
        self._masks[size] = self._masks[size].to(x)  # and there it stays
        return self._masks[size]

    def forward(self, x: Tensor) -> Tensor:
        return self._keep(x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self._keep(y) * y

    def solve(self, r: Tensor, rho: float) -> Tensor:
        return r / (self._keep(r) + rho)

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self._keep(x) * super().degrade(x, generator)

    def measured(self, y: Tensor) -> Tensor:
        return self._keep(y)

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        return x if self.noise_std else torch.where(self._keep(y) > 0, y, x)

    def start(self, y: Tensor) -> Tensor:
        """Holes filled with a normalised Gaussian average of their surroundings, at growing widths."""
        keep, filled = self._keep(y), self._keep(y) * y
        known = keep.clone()
        for std in (1.0, 2.0, 4.0, 8.0, 16.0):
            weight = _smooth(keep, std)
            average = _smooth(keep * y, std) / weight.clamp_min(1e-6)
            new = (known == 0) & (weight > 1e-3)
            filled, known = torch.where(new, average, filled), torch.where(new, 1.0, known)
        return torch.where(
            known == 0, (keep * y).sum((-1, -2), keepdim=True) / keep.sum().clamp_min(1), filled
        )


def _smooth(x: Tensor, std: float) -> Tensor:
    """Separable Gaussian average with zero borders."""
    radius = math.ceil(3 * std)
    line = torch.exp(-(torch.arange(-radius, radius + 1).to(x) ** 2) / (2 * std**2))
    line = (line / line.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, line[:, :, None], padding=(0, radius), groups=x.shape[1])
    return F.conv2d(x, line[..., None], padding=(radius, 0), groups=x.shape[1])
