"""FFDNet, the embedded prior's view of fine detail."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FFDNet(nn.Module):
    """FFDNet (Zhang, Zuo and Zhang, arXiv 1710.04026): a plain stack of convolutions at half resolution that
    is told the noise level.

    x (B,3,H,W) in [0,1], H and W even, sigma (B,) the level of its noise -> the clean estimate, of the same
    shape. With width 96 and depth 12 the names and shapes are those of the authors' `ffdnet_color.pth`.
    """

    def __init__(self, width: int = 96, depth: int = 12):
        super().__init__()
        widths = [13, *[width] * (depth - 1), 12]
        layers: list[nn.Module] = []
        for inside, outside in itertools.pairwise(widths):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = F.pixel_unshuffle(x, 2)
        level = sigma.to(h.dtype)[:, None, None, None].expand(-1, 1, *h.shape[-2:])
        return F.pixel_shuffle(self.model(torch.cat([h, level], 1)), 2)
