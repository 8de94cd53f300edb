"""What LatentINDIGO believes of one photograph's camera, and how it guides an estimate by it.

Equation numbers are those of docs/methods/latent-indigo.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations import realistic
from restoration.degradations.advice import JPEG_NOISE
from restoration.degradations.meter import Damage
from restoration.files.images import enlarge
from restoration.priors.latent import LatentPrior
from restoration.solvers import tiles

REFINE_RATES = {"gamma": 1e-3, "full": 5e-5}  # γ's is ours; Θ's is INDIGO+'s for real photographs
WINDOW = 9  # pixels of the input, over which the power of a difference is taken
CLEARLY = 2.0  # times the noise's power is what counts as structure
RESIDUAL_CONTRAST = 4  # of the residual's picture


class Settings(Protocol):
    """What is read of the solver's settings."""

    @property
    def domain(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def guidance(self) -> str: ...
    @property
    def refine(self) -> str: ...
    @property
    def fidelity_weight(self) -> float: ...
    @property
    def fidelity(self) -> str: ...
    @property
    def tile(self) -> int: ...
    def size(self, y: Tensor) -> tuple[int, int]: ...


class Camera:
    """What is believed of one photograph's degradation: network, γ and measurement, in the solver's domain.

    Network and γ are this object's own wherever they are refined: the next photograph begins with the trained
    ones.
    """

    @torch.no_grad()
    def __init__(
        self, solver: Settings, prior: LatentPrior, y: Tensor, restored: Tensor, damages: Sequence[Damage]
    ):
        """y (B,3,h,w) and restored = Rest(y), (B,3,h·scale,w·scale), both in [0,1]; damages: what was
        measured of each picture.
        """
        from restoration.solvers.inn_weights import load_inn  # loads diffusers

        self.solver, self.prior, self.y, self.restored = solver, prior, y, restored
        inn = load_inn(solver.domain, solver.scale, prior)
        self.inn = copy.deepcopy(inn) if solver.refine == "full" else inn
        self.gamma = self.inn.embed(y)
        self.big = enlarge(y, solver.scale)
        self.observed = y if solver.domain == "pixel" else prior.encode(self.big)
        # it has no unit in latents
        self.noise = noise_levels(y, damages) if solver.domain == "pixel" else y.new_zeros(len(y), 1, 1, 1)
        self.target = self._aim()
        self.learned = {"none": [], "gamma": [self.gamma], "full": list(self.inn.parameters())}[solver.refine]
        self.optimiser = (
            torch.optim.Adam(self.learned, lr=REFINE_RATES[solver.refine]) if self.learned else None
        )

    @torch.no_grad()
    def _aim(self) -> Tensor:
        """What the estimate's coarse part is to be (29): between what the camera would have made of Rest(y),
        free of noise, and the measurement.
        """
        clean = self.inn.measure(
            self.restored if self.solver.domain == "pixel" else self.prior.encode(self.restored), self.gamma
        )
        difference = self.observed - clean
        weight: float | Tensor = self.solver.fidelity_weight
        if self.solver.fidelity == "unexplained":
            weight = weight * unexplained(difference, self.noise)
        return clean + weight * difference

    def _represent(self, z: Tensor) -> Tensor:
        """A latent in the INN's domain: itself, or its picture (1,3,H,W)."""
        return z if self.solver.domain == "latent" else self._decode(z)

    def _decode(self, z: Tensor) -> Tensor:
        return tiles.decode(self.prior, z, self.solver.size(self.y), self.solver.tile)

    @torch.no_grad()
    def told(self, residual: Tensor | None) -> tuple[dict[str, float], str]:
        """({"residual": its value}, what F believes of the degradation, for the user), by one wait for the
        device.
        """
        kept = self.inn.transfer(self.gamma)[:, realistic.STRIPES].mean()
        share, *values = torch.stack([kept] if residual is None else [kept, residual]).tolist()
        described = f"{max(share, 0):.0%} of the contrast of fine detail is left"
        return dict(zip(["residual"], values, strict=False)), described

    def guide(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """(guided estimate, rms of y - x_c) in the solver's form of guidance."""
        if self.solver.guidance == "none":
            return z, None
        return self.gradient(z) if self.solver.guidance == "gradient" else self.swap(z)

    @torch.no_grad()
    def swap(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(z_inv, rms of y - x_c): (24); in pixels (21), whose difference of encodings cancels the codec's
        error.
        """
        x = self._represent(z)
        swapped, measured = self.inn.swap(x, self.target, self.gamma)
        change = (
            swapped - x
            if self.solver.domain == "latent"
            else self.prior.encode(swapped) - self.prior.encode(x)
        )
        return z + change, _rms(self.observed - measured)

    def gradient(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """One step down L = ‖target - x_c‖ by z_{0|t} (18), (19), (23), of Polyak's length (30)."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            measured = self.inn.measure(self._represent(leaf), self.gamma)
            length = (self.target - measured).square().sum((1, 2, 3), keepdim=True).sqrt()
            (slope,) = torch.autograd.grad(length.sum(), leaf)
        step = length.detach() / slope.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return z - step * slope, _rms(self.observed - measured.detach())

    def refine(self, z: Tensor) -> None:
        """One Adam step of γ or Θ on mean |y - x_c|² (25)."""
        assert self.optimiser is not None
        with torch.no_grad():
            x = self._represent(z)
        with torch.enable_grad():
            for parameter in self.learned:
                parameter.requires_grad_()
            loss = (self.observed - self.inn.measure(x, self.gamma)).square().mean()
            gradients = torch.autograd.grad(loss, self.learned, allow_unused=True)
        for parameter, gradient in zip(self.learned, gradients, strict=True):
            parameter.requires_grad_(False)
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimiser.step()
        self.target = self._aim()

    @torch.no_grad()
    def views(self, z: Tensor) -> Mapping[str, Tensor]:
        """What the INN thinks the camera made of the estimate, and what it leaves unexplained, beside the
        measurement.
        """
        measured = self.inn.measure(self._represent(z), self.gamma)
        seen, made = (
            (self.y, measured) if self.solver.domain == "pixel" else (self.big, self._decode(measured))
        )
        rest = 0.5 + RESIDUAL_CONTRAST * (seen - made)
        return {
            "What the camera did to it": made.clamp(0, 1),
            f"Not explained (×{RESIDUAL_CONTRAST})": rest.clamp(0, 1),
        }


def noise_levels(y: Tensor, damages: Sequence[Damage]) -> Tensor:
    """The standard deviation of what noise and JPEG left in each of y (B,3,h,w) in [0,1], (B,1,1,1)."""
    jpeg = [JPEG_NOISE * (100 - d.jpeg.value) / 255 if d.jpeg.present else 0.0 for d in damages]
    levels = [math.hypot(d.noise.value, left) for d, left in zip(damages, jpeg, strict=True)]
    return y.new_tensor(levels)[:, None, None, None]


def unexplained(difference: Tensor, noise: Tensor) -> Tensor:
    """Wiener's weights (B,1,h,w) of a difference (B,C,h,w) in which there is noise of these levels (B,1,1,1)
    (31).

    What most of the picture has is noise too, whatever was measured: structure that was missed is in few
    places.
    """
    side = min(WINDOW, *((side - 1) // 2 * 2 - 1 for side in difference.shape[-2:]))
    padded = F.pad(difference.square().mean(1, keepdim=True), (side // 2,) * 4, mode="reflect")
    power = F.avg_pool2d(padded, side, 1).clamp_min(1e-12)
    usual = power.flatten(1).quantile(0.5, dim=1)[:, None, None, None]
    return (1 - CLEARLY * torch.maximum(usual, noise**2) / power).clamp_min(0)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()
