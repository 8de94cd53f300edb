"""Tone curves of cameras: from linear light to sRGB, then an S-curve, and what more or less light would have
made of a picture behind such a curve.

sRGB as in IEC 61966-2-1, the S-curve e² (3 - 2e) of Brooks et al. 2019 (arXiv 1811.11127), here by a share s:
(1 - s) e + s e² (3 - 2e). All of it works channel by channel on values in [0,1].
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_SHARE = 0.01  # below it the cubic's inverse loses digits


def srgb(linear: Tensor) -> Tensor:
    """Linear light in [0,1], any shape -> sRGB."""
    return torch.where(
        linear < 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )


def linear_light(encoded: Tensor) -> Tensor:
    """The inverse of `srgb`."""
    return torch.where(encoded < 0.04045, encoded / 12.92, ((encoded.clamp_min(1e-8) + 0.055) / 1.055) ** 2.4)


def curve(encoded: Tensor, share: Tensor | float = 1.0) -> Tensor:
    """The S-curve by this share (broadcastable, in [0,1])."""
    return (1 - share) * encoded + share * encoded**2 * (3 - 2 * encoded)


def straight(y: Tensor, share: Tensor | float = 1.0) -> Tensor:
    """The inverse of `curve`: the middle root of a cubic, by Viète's formula."""
    share = _beside(y, share).clamp_min(LEAST_SHARE)
    p, q = (1 + share / 2) / (2 * share), (y - 0.5) / (2 * share)
    angle = torch.asin((1.5 * q / p * (3 / p).sqrt()).clamp(-1, 1)) / 3
    return (0.5 + 2 * (p / 3).sqrt() * torch.sin(angle)).clamp(0, 1)


def relit(y: Tensor, stops: Tensor | float, share: Tensor | float = 1.0) -> Tensor:
    """y (B,3,H,W) in [0,1] as 2^stops times the light (broadcastable; negative: less) would have made it,
    behind the S-curve by `share`; colours keep their ratios in linear light but where a channel is full.
    """
    light = linear_light(straight(y, share)) * torch.exp2(_beside(y, stops))
    return curve(srgb(light.clamp(0, 1)), share)


def _beside(y: Tensor, value: Tensor | float) -> Tensor:
    """In y's place and precision; a number is made there, since its copy would be waited for."""
    return value.to(y) if isinstance(value, Tensor) else y.new_full((), value)
