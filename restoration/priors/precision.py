"""The codec's precision: bfloat16 on CUDA's devices where what that costs is hidden by what the codec and the
denoiser cannot keep anyway, else float32; float16 never, whose range SDXL's leaves.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor

from restoration.priors.levels import levels
from restoration.priors.parts import Parts
from restoration.priors.placement import Placement

SIDE = 256  # pixels of the picture that is tried
# of the codec's own error in a picture, with which that grows by 1 %, and of the lowest noise level in the
# latent (ours)
PICTURE, LATENT = 0.14, 0.5


def suits(where: Placement) -> bool:
    """Whether bfloat16 is worth a trial there."""
    return where.device.startswith("cuda") and where.dtype == torch.bfloat16


def fitted(parts: Parts, where: Placement) -> tuple[Parts, Placement]:
    """Both with the codec in the precision that it bears there, tried on its own weights."""
    if not suits(where):
        return parts, where
    vae = parts.vae.to(where.device)
    half = copy.deepcopy(vae).to(torch.bfloat16)
    if not bears(vae, half, lowest(parts)):
        return parts, where
    return dataclasses.replace(parts, vae=half), dataclasses.replace(where, codec=torch.bfloat16)


def lowest(parts: Parts) -> float:
    """The lowest noise level of the denoiser, in the latent as the codec makes it, without its scaling."""
    alpha_bar = levels(parts.scheduler).alpha_bar[0].item()
    return ((1 - alpha_bar) / alpha_bar) ** 0.5 / parts.vae.config.scaling_factor


@torch.no_grad()
def bears(vae: Any, half: Any, level: float) -> bool:
    """Whether half, the codec in another precision, changes a picture on its way through by less than PICTURE
    of what the codec itself does, and its latent by less than LATENT of the level.
    """
    x = 2 * photograph().to(vae.device) - 1
    latents = [codec.encode(x.to(codec.dtype)).latent_dist.mode() for codec in (vae, half)]
    pictures = [codec.decode(z).sample.float() for codec, z in zip((vae, half), latents, strict=True)]
    changed, own = _rms(pictures[1] - pictures[0]), _rms(pictures[0] - x)
    # false where a number is none
    return changed < PICTURE * own and _rms(latents[1].float() - latents[0]) < LATENT * level


def photograph() -> Tensor:
    """(1,3,SIDE,SIDE) in [0,1]: noise whose amplitude falls with the frequency, as in photographs, and which
    is mostly grey.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, SIDE, SIDE, generator=generator)
    noise = noise + 0.3 * torch.randn(1, 3, SIDE, SIDE, generator=generator)
    frequency = (torch.fft.fftfreq(SIDE)[:, None] ** 2 + torch.fft.rfftfreq(SIDE) ** 2).sqrt()
    x = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency.clamp_min(1 / SIDE))
    return (0.5 + 0.2 * x / x.std()).clamp(0, 1)


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
