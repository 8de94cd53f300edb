"""Small networks for first estimates: LatentINDIGO's Rest of INDIGO+ (there SwinIR), RELD's warm start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from restoration.files.images import enlarge
from restoration.priors.networks import Residual

RESIDUAL = 0.1  # unit of the networks' output: about what an enlarged or blurred picture lacks
BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)  # a Gaussian of one cell


class Restorer(ModelMixin, ConfigMixin):
    """Rest of INDIGO+ (there SwinIR), for the start: y (B,3,h,w) in [0,1] -> first estimate
    (B,3,h·scale,w·scale).

    The bicubic enlargement plus a residual that begins at zero, computed at a quarter of the output's
    resolution, of which only what is finer than that counts.
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
        residual = residual - _coarse(residual)
        return big + residual[..., : big.shape[-2], : big.shape[-1]]


def _coarse(residual: Tensor) -> Tensor:
    """What of it (B,3,H,W), sides multiples of 4, the grid of 4×4 pixels shows already: smoothed means.

    Colour and brightness of areas are the input's to say; a network that guesses them shifts flat and
    saturated ones.
    """
    means, side = F.avg_pool2d(residual, 4), len(BINOMIAL) // 2
    kernel = means.new_tensor(BINOMIAL).expand(3, 1, 1, -1) / sum(BINOMIAL)
    smooth = F.conv2d(F.pad(means, (side, side, 0, 0), mode="replicate"), kernel, groups=3)
    smooth = F.conv2d(F.pad(smooth, (0, 0, side, side), mode="replicate"), kernel.mT, groups=3)
    return F.interpolate(smooth, scale_factor=4, mode="bilinear")


class WarmStart(ModelMixin, ConfigMixin):
    """warm_start.proximal(A, y) -> an estimate of x (B,3,H,W): the sharp step plus a residual, 0 at first.

    Two levels, at a half and a quarter of the resolution. It is not told A: what inverting it left shows in
    both steps and in what they differ by.
    """

    @register_to_config
    def __init__(self, width: int = 48, deep_width: int = 96, cells: int = 2, deep_cells: int = 6):
        super().__init__()
        self.enter = nn.Conv2d(2 * 3 * 2**2 + 1, width, 3, padding=1)
        self.before = nn.Sequential(*(Residual(width, norm=True) for _ in range(cells)))
        self.down = nn.Conv2d(width, deep_width, 2, stride=2)
        self.deep = nn.Sequential(*(Residual(deep_width, norm=True) for _ in range(deep_cells)))
        self.up = nn.ConvTranspose2d(deep_width, width, 2, stride=2)
        self.after = nn.Sequential(*(Residual(width, norm=True) for _ in range(cells)))
        self.leave = nn.Conv2d(width, 3 * 2**2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]  # it has a bias

    def forward(self, sharp: Tensor, smooth: Tensor, sigma: Tensor) -> Tensor:
        height, width = sharp.shape[-2:]
        seen = torch.cat([4 * (sharp - 0.5), 20 * (smooth - sharp)], 1)
        seen = F.pixel_unshuffle(F.pad(seen, (0, -width % 4, 0, -height % 4), mode="replicate"), 2)
        level = (255 * sigma).log()[:, None, None, None].expand(-1, 1, *seen.shape[-2:])
        # the norms leave channels last: what is not, too, takes a third more time in being added
        seen = torch.cat([seen, level], 1).contiguous(memory_format=torch.channels_last)
        h = self.before(self.enter(seen))
        h = self.after(h + self.up(self.deep(self.down(h))))
        residual = F.pixel_shuffle(RESIDUAL * self.leave(h), 2)
        return sharp + residual[..., :height, :width]
