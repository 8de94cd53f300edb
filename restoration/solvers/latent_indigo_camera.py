"""What LatentINDIGO believes of one photograph's camera, and how it guides an estimate by it.

Equation numbers are those of docs/methods/latent-indigo.md.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from restoration.degradations import realistic
from restoration.files.images import enlarge
from restoration.priors.latent import LatentPrior
from restoration.solvers import tiles

REFINE_RATES = {"gamma": 1e-3, "full": 5e-5}  # γ's is ours; Θ's is INDIGO+'s for real photographs
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
    def tile(self) -> int: ...
    def size(self, y: Tensor) -> tuple[int, int]: ...


class Camera:
    """What is believed of one photograph's degradation: network, γ and measurement, in the solver's domain.

    Network and γ are this object's own wherever they are refined: the next photograph begins with the trained
    ones.
    """

    @torch.no_grad()
    def __init__(self, solver: Settings, prior: LatentPrior, y: Tensor, restored: Tensor):
        """y (B,3,h,w) and restored = Rest(y), (B,3,h·scale,w·scale), both in [0,1]."""
        from restoration.solvers.inn_weights import load_inn  # loads diffusers

        self.solver, self.prior, self.y, self.restored = solver, prior, y, restored
        inn = load_inn(solver.domain, solver.scale, prior)
        self.inn = copy.deepcopy(inn) if solver.refine == "full" else inn
        self.gamma = self.inn.embed(y)
        self.big = enlarge(y, solver.scale)
        self.observed = y if solver.domain == "pixel" else prior.encode(self.big)
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
        return clean.lerp(self.observed, self.solver.fidelity_weight)

    def _represent(self, z: Tensor) -> Tensor:
        """A latent in the INN's domain: itself, or its picture (1,3,H,W)."""
        return z if self.solver.domain == "latent" else self._decode(z)

    def _decode(self, z: Tensor) -> Tensor:
        return tiles.decode(self.prior, z, self.solver.size(self.y), self.solver.tile)

    @torch.no_grad()
    def describe(self) -> str:
        """What F believes of the degradation, for the user."""
        kept = self.inn.transfer(self.gamma)[:, realistic.STRIPES].mean().item()
        return f"in the input, stripes of 4 pixels kept {max(kept, 0):.0%} of their contrast"

    def guide(self, z: Tensor) -> tuple[Tensor, dict[str, float]]:
        """(guided estimate, {"residual": rms of y - x_c}) in the solver's form of guidance."""
        if self.solver.guidance == "none":
            return z, {}
        guided, residual = self.gradient(z) if self.solver.guidance == "gradient" else self.swap(z)
        return guided, {"residual": residual}

    @torch.no_grad()
    def swap(self, z: Tensor) -> tuple[Tensor, float]:
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

    def gradient(self, z: Tensor) -> tuple[Tensor, float]:
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


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()
