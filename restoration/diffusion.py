"""Diffusion arithmetic as pure functions. σ = sqrt((1-ᾱ)/ᾱ) is the noise level of z_t/√ᾱ, in latent units."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def randn(shape: torch.Size | tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal, drawn on the generator's (CPU) device so that a seed means the same everywhere."""
    return torch.randn(shape, generator=generator).to(device)


def add_noise(z0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """z_t = √ᾱ z0 + √(1-ᾱ) ε (DDPM, arXiv 2006.11239, eq. 4); give alpha_bar in float64."""
    # numbers of the host: a device takes them without waiting for a copy
    return alpha_bar.sqrt().item() * z0 + (1 - alpha_bar).sqrt().item() * eps


def ddim_step(z0: Tensor, eps: Tensor, alpha_bar_next: Tensor) -> Tensor:
    """The deterministic step to the next level: √ᾱ' z0 + √(1-ᾱ') ε (DDIM, arXiv 2010.02502, (12), η = 0)."""
    return add_noise(z0, eps, alpha_bar_next)


def churned_step(
    z_t: Tensor, z0: Tensor, alpha_bar: Tensor, alpha_bar_next: Tensor, churn: float, noise: Tensor | None
) -> Tensor:
    """DDIM's step from z_t with the clean estimate z0, a share `churn` (η) of its noise fresh.

    noise: standard normal, of z_t's shape or broadcasting to it; None where churn is 0.
    """
    a, b = alpha_bar.item(), alpha_bar_next.item()
    eps = (z_t - a**0.5 * z0) / (1 - a) ** 0.5
    if noise is None:
        return add_noise(z0, eps, alpha_bar_next)
    fresh = churn**2 * (1 - b) / (1 - a) * (1 - a / b)  # σ² of DDIM
    return b**0.5 * z0 + (1 - b - fresh) ** 0.5 * eps + fresh**0.5 * noise


def clamp_quantile(z0: Tensor, ratio: float, low: float = 1.0, high: float = 100.0) -> Tensor:
    """z0 (B,…) clipped to ±s, s = clip(quantile_ratio |z0|, low, high) per sample; ratio 1 changes nothing.

    Like Imagen's dynamic thresholding (arXiv 2205.11487, §2.3) but without the division by s, as LD-RPS's
    release patches diffusers.
    """
    if ratio >= 1:
        return z0
    limit = z0.abs().flatten(1).quantile(ratio, dim=1).clamp(low, high).view(-1, *[1] * (z0.ndim - 1))
    return z0.clamp(-limit, limit)


def geometric_levels(start: float, end: float, count: int) -> list[float]:
    """`count` noise levels from start to end with equal ratios; just [end] when count is 1."""
    if count == 1:
        return [end]
    return [
        math.exp(math.log(start) + (math.log(end) - math.log(start)) * i / (count - 1)) for i in range(count)
    ]


def falling(first: int, steps: int) -> tuple[int, ...]:
    """At most `steps` timesteps at equal distances from `first`, at least 1, down to above 0."""
    first = max(1, first)
    return tuple(range(first, 0, -max(1, (first + 1) // steps)))[:steps]
