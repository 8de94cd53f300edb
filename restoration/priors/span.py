"""SPAN, which enlarges a picture that was reduced and nothing else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's red, green and blue
BLOCKS = 6


class Block(nn.Module):
    """Three convolutions and attention without parameters."""

    def __init__(self, width: int):
        super().__init__()
        self.c1, self.c2, self.c3 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,C,h,w) -> the block's output, and what its second convolution sees."""
        first = F.silu(self.c1(x))
        last = self.c3(F.silu(self.c2(first)))
        return (last + x) * (torch.sigmoid(last) - 0.5), first


class SPAN(ModelMixin, ConfigMixin):
    """SPAN (Wan et al., arXiv 2311.12770) as it is after training, each convolution one kernel.

    y (B,3,h,w) in [0,1], without noise -> (B,3,h·scale,w·scale), unclamped. What it makes of a pixel
    depends on 21 around it.
    """

    @register_to_config
    def __init__(self, scale: int = 2, width: int = 48):
        super().__init__()
        self.conv_1 = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.conv_2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.upsampler = nn.Conv2d(width, 3 * scale**2, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        y = y.contiguous(memory_format=torch.channels_last)
        h = entered = self.conv_1(255 * (y - y.new_tensor(MEAN)[:, None, None]))
        outputs, firsts = [], []
        for block in self.blocks:
            h, first = block(h)
            outputs.append(h)
            firsts.append(first)
        merged = self.conv_cat(torch.cat([entered, self.conv_2(h), outputs[0], firsts[-1]], 1))
        return F.pixel_shuffle(self.upsampler(merged), self.config.scale)
