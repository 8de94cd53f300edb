"""RELD, reconstructed from the abstract of arXiv 2503.22563: a latent denoiser as RED regulariser in
half-quadratic splitting.

Notation (code -> paper):  y -> b observation · degradation -> A · v -> v latent · t -> t auxiliary image ·
  w -> D(v) · prior.encode, prior.decode -> E, D · prior.denoise_at(v, s) -> f_s(v) · rho -> ρ · lam -> λ ·
  sigma -> σ_n · eta -> η

Objective:  min_v ½|A D(v) - b|² + λ R(v),  ∇R(v) = v - f_s(v), split with t = D(v) (`splitting="pixel"`, the
likelier reading) or with t = v (`"latent"`). The level s is that of noise in the picture, [0,1] units;
prior.gain makes it the latent's.

Known from the paper: the splitting's shape (closed-form t, one gradient step in v), warm start by encoding,
the tasks. Reconstructed: everything else, and the step length, Cauchy's, is ours. Differences from any
official code: unknown, none was found. Numbers are those of docs/methods/reld.md; what the settings are
worth: docs/measurements/reld.md. The faster form without the decoder's gradient: reld_fast.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Generator, Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.linear import Denoise
from restoration.knobs import knob
from restoration.priors.latent import LatentPrior
from restoration.solvers.base import Known, Solver, Step, Steps
from restoration.solvers.decoding import decode

OUTPUTS = ("consistent", "decoded")
OUTPUT_HELP = "consistent: agrees with the measurement · decoded: as the prior draws it"


@dataclass(frozen=True)
class RELD(Solver):
    """Half-quadratic splitting with a latent denoiser. Fields are the paper's hyperparameters."""

    title: ClassVar[str] = "RELD, paper's form"
    paper: ClassVar[str] = "arXiv 2503.22563"
    purpose: ClassVar[str] = (
        "Restore a photograph when it is known how it was damaged, by the algorithm as published"
    )

    splitting: str = knob(
        "pixel", "The paper's two readings: t = D(v), or t = v", choices=("pixel", "latent")
    )
    steps: int = knob(100, "Iterations", low=1, high=200)
    level: float = knob(12.0, "Noise level of the denoiser, in 1/255", low=1.0, high=255.0)
    penalty: float = knob(
        1.0, "Weight of the splitting against the measurement (c in ρ = c σ²/s²)", low=0.01, high=30.0
    )
    strength: float = knob(1.0, "Regularisation λ in units of σ²/s²", low=0.01, high=10.0)
    output: str = knob("consistent", OUTPUT_HELP, choices=OUTPUTS)

    @property
    def differentiates(self) -> bool:
        return True

    @property
    def batches(self) -> bool:
        return True

    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        return self.steps

    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """y (B,3,h,w) in [0,1] -> steps; the last one's image is (B,3,h·factor,w·factor)."""
        assert degradation is not None
        pixel, s, sigma = self.splitting == "pixel", self.level / 255, degradation.brightness_noise(y)
        rho = self.penalty * sigma**2 / (s if pixel else prior.gain * s) ** 2
        lam = self.strength * sigma**2 / (prior.gain * s) ** 2
        start = degradation.start(y)
        if not isinstance(degradation, Denoise):
            start = degradation.prox(start, y, self.penalty * sigma**2 / s**2)
        v, size = prior.encode(start), (start.shape[-2], start.shape[-1])  # v = E(t), the warm start
        w, transposed = decode(prior, v, size)  # D(v), r -> J_D(v)ᵀ r
        x = degradation.prox(w, y, rho)
        for k in range(1, self.steps + 1):
            f = prior.denoise_at(v, s, trusting=True)
            if pixel:
                t = x  # (5): t = argmin ½|A t - b|² + ρ/2 |t - D(v)|²
                g = transposed(rho * (w - t)) + lam * (v - f)  # (11): g = ρ J_Dᵀ (D(v) - t) + λ (v - f_s(v))
            else:
                t = (lam * f + rho * v) / (lam + rho)  # (3): t = (λ f_s(v) + ρ v) / (λ + ρ)
                data = degradation.adjoint(degradation.forward(w) - y)
                g = transposed(data) + rho * (v - t)  # (4): g = J_Dᵀ Aᵀ (A D(v) - b) + ρ (v - t)
            v = v - self._cauchy(prior, degradation, v, w, g, rho, lam) * g  # v = v - η g, η of (19)
            w, transposed = decode(prior, v, size)
            x = degradation.prox(w, y, rho)
            last = k == self.steps
            image = (degradation.agreeing(x, y) if self.output == "consistent" else w) if last else None
            scalars = {"residual": degradation.misfit(x, y), "level": s}
            yield Step(k, self.steps, v, f"noise level {self.level:.1f}/255", scalars, image)

    def _cauchy(
        self,
        prior: LatentPrior,
        degradation: LinearDegradation,
        v: Tensor,
        w: Tensor,
        g: Tensor,
        rho: float,
        lam: float,
    ) -> Tensor:
        """(19): the step η (B,1,1,1) that minimises the objective along g, were D linear: A J_D g is a finite
        difference.
        """
        h = 1e-2 / g.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
        q = degradation.forward((w - prior.decode(v - h * g, (w.shape[-2], w.shape[-1]))) / h)
        # without t, the data term of the pixel form is whitened with ρ(AAᵀ+ρ)⁻¹
        pixel = self.splitting == "pixel"
        weight, curved = (lam, rho * degradation.solve(q, rho)) if pixel else (rho, q)
        return _row_sums(g.square()) / (_row_sums(q * curved) + weight * _row_sums(g.square())).clamp_min(
            1e-20
        )


def _row_sums(x: Tensor) -> Tensor:
    """(B,C,h,w) -> (B,1,1,1): every picture takes a step of its own length."""
    return x.sum((1, 2, 3), keepdim=True)


PRESETS: dict[str, dict[str, Any]] = {"faithful": {}}
