"""How a denoiser's output becomes a clean estimate, and what it is given: diffusion's levels, and those of a
flow.

Every prior is used with z_t = √ᾱ z0 + √(1-ᾱ) ε at integer timesteps, whatever it was trained with.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Levels(Protocol):
    """alpha_bar: (T,) falling, float64, on the host: looking up a level never waits for the device."""

    alpha_bar: Tensor

    def given(self, z_t: Tensor, t: int) -> tuple[Tensor, float]:
        """What the network takes in place of (z_t, t)."""
        ...

    def noise_free(self, out: Tensor, z_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """(z0, ε) of the network's output."""
        ...


class Diffusion:
    """Of DDPM's kind (arXiv 2006.11239), from a scheduler's betas; prediction_type: epsilon, sample or
    v_prediction.
    """

    def __init__(self, scheduler: Any):
        # float64: at the lowest levels 1-ᾱ is a difference of nearly equal numbers. The bound is for
        # schedules that end in noise alone, where the estimate would divide by zero: EulerDiscreteScheduler's
        self.alpha_bar = (1 - scheduler.betas.double().cpu()).cumprod(0).clamp_min(2**-24)
        self.prediction_type: str = scheduler.config.prediction_type

    def given(self, z_t: Tensor, t: int) -> tuple[Tensor, float]:
        return z_t, t

    def noise_free(self, out: Tensor, z_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        root_a, root_b = roots(self.alpha_bar[t])
        if self.prediction_type == "sample":
            return out, (z_t - root_a * out) / root_b
        if self.prediction_type == "v_prediction":
            return root_a * z_t - root_b * out, root_a * out + root_b * z_t
        return (z_t - root_b * out) / root_a, out


class Flow:
    """Of rectified flow's kind (arXiv 2209.03003, 2403.03206 §2): x_σ = (1-σ) z0 + σ ε, the network
    predicting v = ε - z0.

    x_σ = z_t (1-σ)/√ᾱ has the same signal and noise as z_t where ᾱ = (1-σ)²/((1-σ)² + σ²). The network takes
    any σ, so that its timesteps are numbered by Stable Diffusion's levels: what a method says in those means
    the same here.
    """

    def __init__(self) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alpha_bar = (1 - betas).cumprod(0)

    def sigma(self, t: int) -> float:
        """σ of a timestep."""
        a = self.alpha_bar[t].item()
        return (1 - a) ** 0.5 / (a**0.5 + (1 - a) ** 0.5)

    def given(self, z_t: Tensor, t: int) -> tuple[Tensor, float]:
        return self._scaled(z_t, t), self.sigma(t)

    def noise_free(self, out: Tensor, z_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        x, sigma = self._scaled(z_t, t), self.sigma(t)
        return x - sigma * out, x + (1 - sigma) * out

    def _scaled(self, z_t: Tensor, t: int) -> Tensor:
        root_a, root_b = roots(self.alpha_bar[t])
        return z_t / (root_a + root_b)


def roots(alpha_bar: Tensor) -> tuple[float, float]:
    """(√ᾱ, √(1-ᾱ)) as numbers of the host: a kernel takes them without waiting for a copy."""
    return alpha_bar.sqrt().item(), (1 - alpha_bar).sqrt().item()


def levels(scheduler: Any) -> Diffusion | Flow:
    """Of a diffusers scheduler."""
    return Diffusion(scheduler) if hasattr(scheduler, "betas") else Flow()
