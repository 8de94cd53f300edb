"""The first estimate of LatentINDIGO: INDIGO+'s Rest (there SwinIR), a small network here."""

from __future__ import annotations

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from restoration.files.images import enlarge
from restoration.priors.networks import Residual

RESIDUAL = 0.1  # unit of the restorer's output: about what an enlarged picture lacks


class Restorer(ModelMixin, ConfigMixin):
    """Rest of INDIGO+ (there SwinIR), for the start: y (B,3,h,w) in [0,1] -> first estimate
    (B,3,h·scale,w·scale).

    The bicubic enlargement plus a residual that begins at zero, computed at a quarter of the output's
    resolution.
    """

    @register_to_config
    def __init__(self, scale: int = 4, width: int = 48, cells: int = 6):
        super().__init__()
        self.fold = 4 // scale
        self.enter = nn.Conv2d(3 * self.fold**2, width, 3, padding=1)
        self.body = nn.Sequential(*(Residual(width, norm=True) for _ in range(cells)))
        self.leave = nn.Conv2d(width, 3 * 4**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # it has a bias

    def forward(self, y: Tensor) -> Tensor:
        big = enlarge(y, self.config.scale)
        y = F.pad(y, (0, -y.shape[-1] % self.fold, 0, -y.shape[-2] % self.fold), mode="replicate")
        h = self.body(self.enter(F.pixel_unshuffle(4 * (y - 0.5), self.fold)))
        residual = F.pixel_shuffle(RESIDUAL * self.leave(h), 4)
        return big + residual[..., : big.shape[-2], : big.shape[-1]]
