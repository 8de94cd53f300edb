"""What the solvers give a denoiser, beside white noise of the level it is told: noise of another colour,
uneven or weaker, a camera's, and RELD's images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.blur import GaussianBlur, MotionBlur
from restoration.degradations.camera import SHOT, CameraNoise
from restoration.degradations.resampling import SuperResolution

LEVELS = (20 / 255, 60 / 255)  # of the denoiser's first call; RELD's default is 49
RATIOS = (0.45, 0.8)  # from one call's level to the next one's; RELD's default is 0.73


def between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def log_between(low: float, high: float, generator: torch.Generator) -> float:
    return math.exp(between(math.log(low), math.log(high), generator))


def colour(generator: torch.Generator) -> Tensor:
    """(3,1,1) in [0,1], every second time with each channel at nothing or at most."""
    values = torch.rand(3, 1, 1, generator=generator)
    return values.round() if torch.rand((), generator=generator) < 0.5 else values


def uneven_noise(noise: Tensor, generator: torch.Generator) -> Tensor:
    """White noise (3,H,W), half of the time as a grain that the channels share to a part, made coloured or
    locally weaker: never stronger than 1 on the mean over the picture.
    """
    height, width = noise.shape[-2:]
    if torch.rand((), generator=generator) < 0.5:
        shared = between(0, 1, generator)  # the correlation of two channels
        grain = torch.randn(1, height, width, generator=generator)
        noise = math.sqrt(1 - shared) * noise + math.sqrt(shared) * grain
    if torch.rand((), generator=generator) < 0.4:
        frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)).clamp_min(
            1 / max(height, width)
        )
        spectrum = torch.fft.rfft2(noise) * frequency ** between(-1, 1, generator)
        coloured = torch.fft.irfft2(spectrum, s=(height, width))
        return coloured / coloured.square().mean().sqrt() * between(0.3, 1, generator)
    side = 1 if torch.rand((), generator=generator) < 0.5 else 3
    level = 0.1 + 0.9 * torch.rand(1, 1, side, side, generator=generator)
    return noise * F.interpolate(level, (height, width), mode="bilinear", align_corners=True)[0]


def camera_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Noise (3,H,W) of a camera that takes the picture x (3,H,W) in [0,1], then sharpens or smooths it and
    takes a part of its noise's colour out.

    JPEG's share is in it, and it has 0.3 to 1 of the level that is told, since correlated noise is told as
    more than it is (meter.as_white).
    """
    iso = tuple(SHOT)[int(torch.randint(len(SHOT), (), generator=generator))]
    noisy, clean = CameraNoise(iso=iso).expose(x[None], generator)
    noise = (noisy - clean)[0]
    noise = noise + between(-0.8, 4, generator) * (noise - F.avg_pool2d(noise, 3, 1, 1))
    noise = noise.lerp(noise.mean(0, keepdim=True).expand_as(noise), between(0, 1, generator))
    return noise / noise.square().mean().sqrt().clamp_min(1e-3) * between(0.3, 1, generator)


def draw_degradation(generator: torch.Generator) -> LinearDegradation:
    """A blur or a reduction, with little noise."""
    kind = int(torch.randint(4, (), generator=generator))
    noise = log_between(0.5, 12, generator)
    if kind == 0:
        return GaussianBlur(noise_std=noise, std=between(0.6, 3, generator))
    if kind == 1:
        size = 2 * int(torch.randint(4, 16, (), generator=generator)) + 1
        return MotionBlur(
            noise_std=noise, size=size, path=int(torch.randint(10_000, (), generator=generator))
        )
    return SuperResolution(noise_std=noise / 4, scale=2 if kind == 2 else 4)


@torch.no_grad()
def reld_input(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    denoise: Callable[[Tensor, float], Tensor],
    x: Tensor,
    visits: int,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """(latent, level) that RELD gives its denoiser in the call after `visits` of them, for a random
    degradation of x (B,3,H,W) in [0,1].

    denoise(latent, level) is the denoiser as it stands, so that it learns from its own mistakes.
    """
    degradation = draw_degradation(generator)
    y = degradation.degrade(x, generator)
    penalty = log_between(0.2, 1.2, generator) * degradation.brightness_noise(y) ** 2
    level, ratio = between(*LEVELS, generator), between(*RATIOS, generator)
    t = degradation.prox(degradation.start(y), y, penalty / level**2)
    for _ in range(visits):
        t = degradation.prox(decode(denoise(encode(t), level)), y, penalty / level**2)
        level *= ratio
    return encode(t), level
