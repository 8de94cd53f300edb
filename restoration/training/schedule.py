"""The noise levels of the embedded prior: geometric, and which of them training draws."""

from __future__ import annotations

import math

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from restoration.priors.networks import LatentUNet

LOW = (2 / 255, 120 / 255)  # the range that the solvers visit most


def geometric_betas(sigma_min: float, sigma_max: float, steps: int) -> list[float]:
    """betas whose levels sqrt((1-ᾱ)/ᾱ) are geometric from sigma_min to sigma_max."""
    sigma = torch.exp(torch.linspace(math.log(sigma_min), math.log(sigma_max), steps, dtype=torch.float64))
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + sigma**2)])
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()


def draw_timesteps(
    model: LatentUNet,
    count: int,
    generator: torch.Generator,
    levels: tuple[float, float] = LOW,
    anywhere: float = 0.25,
) -> Tensor:
    """(count,) timesteps, log-uniform between the levels, the share `anywhere` over the whole schedule."""
    c = model.config
    span = math.log(c.sigma_max / c.sigma_min)
    low, high = (math.log(level / c.sigma_min) / span for level in levels)
    u, whole = torch.rand(count, generator=generator), torch.rand(count, generator=generator) < anywhere
    position = torch.where(whole, u, low + (high - low) * u)
    return (position * (c.num_train_timesteps - 1)).round().long()


def timestep(model: LatentUNet, level: float) -> int:
    """The timestep whose noise level is nearest to `level`."""
    c = model.config
    return round(
        math.log(level / c.sigma_min) / math.log(c.sigma_max / c.sigma_min) * (c.num_train_timesteps - 1)
    )


def scheduler(model: LatentUNet) -> DDIMScheduler:
    """The levels of the model, as diffusers keeps them."""
    c = model.config
    betas = geometric_betas(c.sigma_min, c.sigma_max, c.num_train_timesteps)
    return DDIMScheduler(
        num_train_timesteps=c.num_train_timesteps,
        trained_betas=betas,
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
    )
