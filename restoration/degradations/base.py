"""What every damage y = A(x) + n is that a solver is told, after deepinv's physics: exact adjoints, proximal
steps in closed form.

x, y: (B,3,H,W) float32 in [0,1]. `noise_std` is the measurement noise in 1/255. Objects are immutable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from restoration.knobs import Checked, knob

NOISE_FLOOR = 0.5 / 255  # measurements are never better than their 8-bit rounding


def is_grey(x: Tensor) -> bool:
    """Whether the channels of x (B,3,H,W) differ nowhere by more than the rounding to 8 bits."""
    return bool((x.amax(1) - x.amin(1)).max() <= 1.001 / 255)


def noise_knob(default: float) -> Any:
    return knob(
        default,
        "Standard deviation of the noise, in 1/255: 5 is faint, 25 plain to see, 50 hides details",
        low=0.0,
        high=100.0,
    )


@dataclass(frozen=True)
class LinearDegradation(Checked, ABC):
    """y = A x + n with A linear. Adding a task is one subclass and one line in TASKS."""

    noise_std: float = noise_knob(0.0)  # in 1/255 where the user sees it; `noise` is the same in [0,1] units

    @property
    def noise(self) -> float:
        """Noise standard deviation in [0,1] units."""
        return self.noise_std / 255

    @property
    def factor(self) -> int:
        """Output side over input side of the restoration."""
        return 1

    @property
    def margin(self) -> int:
        """Pixels that the surroundings of a picture reach into it."""
        return 0

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x, noise-free and differentiable."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Aᵀ y, exact."""

    @abstractmethod
    def solve(self, r: Tensor, rho: float) -> Tensor:
        """(A Aᵀ + ρ)⁻¹ r in measurement space."""

    def start(self, y: Tensor) -> Tensor:
        """A first image of the restored size."""
        return y

    def prox(self, v: Tensor, y: Tensor, rho: float) -> Tensor:
        """argmin_x ½|Ax-y|² + ρ/2|x-v|² = v + Aᵀ(AAᵀ+ρ)⁻¹(y-Av), which never divides by ρ:
        docs/methods/reld.md (6).
        """
        return v + self.adjoint(self.solve(y - self.forward(v), rho))

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        """x with the pixels that y tells without any noise."""
        return x

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A x + n with n from the (CPU) generator, equal in all channels of a grey picture."""
        clean = self.forward(x)
        shape = (len(clean), 1, *clean.shape[2:]) if is_grey(x) else clean.shape
        return clean + self.noise * torch.randn(shape, generator=generator).to(clean)

    def measured(self, y: Tensor) -> Tensor:
        """Ones where y is a measurement, zeros where it is not; its shape is y's or broadcasts to it."""
        return torch.ones_like(y[:1, :1])

    def misfit(self, x: Tensor, y: Tensor) -> float:
        """Root mean square of A x - y over what was measured."""
        weight = self.measured(y).expand_as(y)
        return ((weight * (self.forward(x) - y)).square().sum() / weight.sum()).sqrt().item()

    def brightness_noise(self, y: Tensor) -> float:
        """Standard deviation of independent channel noise that is as strong along the brightness of y as its
        own is, [0,1] units.

        Equal noise in three channels has √3 the amplitude there, and a latent prior sees no more of it than
        the brightness. It is never less than the rounding to 8 bits.
        """
        return max(self.noise, NOISE_FLOOR) * (3**0.5 if is_grey(y) else 1.0)
