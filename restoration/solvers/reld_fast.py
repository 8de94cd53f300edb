"""Our fast form of RELD: the same t-update, annealed, with the encoder in place of the decoder's gradient.

Notation as in reld.py. The level s falls, and the denoiser does the whole v-step, v = f_s(E(t)), so neither
J_D nor λ is needed; where the codec is lossy, E(t) is taken as v + E(t) - E(D(v)), in which its error cancels
(`prior.pull`). White noise alone is one step: the noisy picture is what the denoiser was trained on. Where
there is Gaussian blur or a reduction, a trained network makes the first image in place of the first levels.
The idea is LATINO's (arXiv 2503.12615), the levels DPIR's (arXiv 2008.13751).

Numbers are those of docs/methods/reld.md; what the settings are worth: docs/measurements/reld.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Generator, Tensor

from restoration.degradations.base import LinearDegradation, is_grey
from restoration.degradations.inpaint import Inpaint
from restoration.degradations.linear import Denoise
from restoration.diffusion import geometric_levels, randn
from restoration.knobs import knob
from restoration.priors.latent import LatentPrior
from restoration.solvers import warm_start
from restoration.solvers.base import Known, Solver, Step, Steps
from restoration.solvers.reld import OUTPUT_HELP, OUTPUTS


@dataclass(frozen=True)
class RELDFast(Solver):
    """Half-quadratic splitting with falling noise levels and an encoder."""

    title: ClassVar[str] = "RELD"
    paper: ClassVar[str] = "arXiv 2503.22563"
    purpose: ClassVar[str] = "Restore a photograph when it is known how it was damaged"

    steps: int = knob(
        8,
        "Iterations, with those that a network stands for; one is enough for noise alone, and filling holes "
        "takes half as many again",
        low=1,
        high=200,
    )
    start_level: float = knob(
        49.0, "Noise level of the denoiser at the first iteration, in 1/255", low=1.0, high=255.0
    )
    end_level: float = knob(
        1.5, "Noise level of the denoiser at the last iteration, in 1/255", low=1.0, high=255.0
    )
    penalty: float = knob(
        0.5, "Weight of the prior against the measurement (c in ρ = c σ²/s²)", low=0.01, high=30.0
    )
    warm_start: float = knob(
        0.88,
        "Share of the iterations that a trained network stands for, of Gaussian blur and enlarging",
        low=0.0,
        high=0.9,
    )
    renoise: float = knob(0.0, "Fresh noise per iteration, in units of the level", low=0.0, high=1.0)
    output: str = knob("consistent", OUTPUT_HELP, choices=OUTPUTS)

    @property
    def differentiates(self) -> bool:
        return False

    @property
    def batches(self) -> bool:
        return True

    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        return self.rounds(degradation) - self.skipped(degradation)

    def skipped(self, degradation: Known) -> int:
        """The number of iterations that the trained network stands for."""
        return int(self.steps * self.warm_start) if warm_start.suits(degradation) else 0

    def networks(self, prior: str, degradation: Known) -> list[Path]:
        return warm_start.networks(degradation) if self.skipped(degradation) else []

    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """y (B,3,h,w) in [0,1] -> steps; the last one's image is (B,3,h·factor,w·factor)."""
        assert degradation is not None
        white, sigma = isinstance(degradation, Denoise), degradation.brightness_noise(y)
        skipped = self.skipped(degradation)
        levels = self.levels(prior, degradation, sigma)[skipped:]
        grey = prior.isometric and is_grey(y)  # elsewhere a latent's noise has no colour of its own
        t = warm_start.first_image(degradation, y) if skipped else degradation.start(y)  # (21)
        if not (white or skipped):
            t = degradation.prox(t, y, self.penalty * sigma**2 / levels[0] ** 2)
        z = prior.encode(t)
        for k, s in enumerate(levels, 1):
            rho = self.penalty * sigma**2 / s**2  # (15)
            fresh = 0.0 if white else self.renoise * s * prior.gain
            # one draw for all rows: a picture's noise does not depend on how many are restored with it; grey
            # pictures draw it in any case, as recipes of before did
            n = randn((1, *z.shape[1:]), generator, z.device) if fresh or grey else 0.0
            if grey:
                z = z + _colour_noise(prior, t, s, generator)
            # (13), (14): v = f_s(E(t) + n); what inverting a damage leaves is not white, and counts as noise
            v = prior.denoise_at(z + fresh * n, s, trusting=not white)
            w = prior.decode(v, (t.shape[-2], t.shape[-1]))  # D(v)
            # (5): t = argmin ½|A t - b|² + ρ/2 |t - D(v)|²
            t = _regained(prior, w, y, sigma) if white else degradation.prox(w, y, rho)
            last = k == len(levels)
            image = (degradation.agreeing(t, y) if self.output == "consistent" else w) if last else None
            scalars = {"residual": degradation.misfit(t, y), "level": s}
            yield Step(k, len(levels), v, f"noise level {255 * s:.1f}/255", scalars, image)
            if not last:
                z = prior.pull(v, w, t)  # (17): E(t), or v + E(t) - E(D(v))

    def rounds(self, degradation: Known) -> int:
        """The number of iterations, with those that the trained network stands for."""
        if isinstance(degradation, Denoise):
            return 1
        # a known pixel is heard of a little further with every iteration
        return self.steps + self.steps // 2 * isinstance(degradation, Inpaint)

    def levels(self, prior: LatentPrior, degradation: LinearDegradation, sigma: float) -> list[float]:
        """The levels s in [0,1] units; that of the noise where there is nothing else."""
        end = max(self.end_level / 255, prior.lowest)  # below that the denoiser would do the same again
        if isinstance(degradation, Denoise):
            return [max(end, sigma)]
        start = max(self.start_level / 255, prior.lowest)
        return geometric_levels(start, min(end, start), self.rounds(degradation))


def _regained(prior: LatentPrior, w: Tensor, y: Tensor, sigma: float) -> Tensor:
    """(5) for white noise alone, ρ = σ²/e² by (20): e² is what |y - w|² has beyond the noise, the error of a
    codec that loses more than the noise hides; each picture of w, y (B,3,H,W) has its own.
    """
    if prior.isometric:
        return w
    error = ((y - w).square().mean((1, 2, 3), keepdim=True) - sigma**2).clamp_min(0)
    return w + (y - w) * error / (error + sigma**2)


def _colour_noise(prior: LatentPrior, t: Tensor, s: float, generator: Generator) -> Tensor:
    """Noise of level s in the colours of t alone, as the latent has it.

    With the brightness noise of a grey picture it is white, which a denoiser of colour pictures was trained
    on.
    """
    noise = randn((1, *t.shape[1:]), generator, t.device)
    return prior.encode(t + s * (noise - noise.mean(1, keepdim=True))) - prior.encode(t)


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    # few calls, each from fresh noise, for distilled priors, whose estimate is a sharp picture at any level
    # (LATINO). The levels fall 3.2-fold a step, and the image of one level meets the denoiser of the next:
    # hence the larger penalty (ours)
    "few-step": {
        "steps": 4,
        "warm_start": 0.0,
        "start_level": 128.0,
        "end_level": 4.0,
        "renoise": 1.0,
        "penalty": 2.3,
    },
}
