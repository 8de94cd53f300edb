"""LatentINDIGO, reconstructed from the abstract and two reviews of arXiv 2505.12935: an INN that has learned to degrade guides the sampler.

Notation (code -> papers/latentindigo.md):  y -> y · inn -> g_Θ · gamma -> γ_deg = F(y) · z_t, z0 -> z_t, z_{0|t} · guided -> z̃
  observed -> y, or z_y = E(enlarged y) in the latent domain · measured -> x_c, z_c · swapped -> x_inv, z_inv
  fidelity_weight -> κ of the soft swap (§3.4.2) · levels -> sqrt((1-ᾱ)/ᾱ) of the visited timesteps · churn -> η of DDIM (15)

Known from the paper: guidance of the latent by the INN at every step, in pixels (PixelINN) or in latents without decoding
(LatentINN); a regularisation that keeps the latent near the manifold; refinement of the INN along the way.
Reconstructed: the order of these (§3.2), the gradient with respect to z_{0|t} (19), one Adam step of refinement per step (25).
Proposed here: the autograd-free forms (21) and (24), the Polyak step of the gradient form, refinement of γ alone, all
regularisations (η of (21), (24) is 1), and that guidance aims at (1-κ) g_c(Rest(y)) + κ y, with κ = 0 by default: a swap copies whatever
it is given into the estimate, and y is noisy. Differences from official code: unknown, none was found.

Measured with `python -m restoration.benchmark --solver latent-indigo --preset fast --set …`, embedded prior and committed networks,
seed 0, CPU; in brackets the bicubic enlargement. NIQE is our own fit; lower is better.

| set | settings | PSNR | SSIM | NIQE |
|---|---|---|---|---|
| CBSD24 (23 files), --task camera-light --crop 256, ×4 | LatentINN | 22.06 (21.70) | 0.531 (0.506) | 6.06 (7.30) |
| | domain=pixel | 22.06 | 0.532 | 6.08 |
| RealSR-dev, 10 camera pairs, ×4 | LatentINN | 24.12 (23.87) | 0.743 (0.715) | 5.97 (6.81) |
| | refine=gamma: residual 7.92 -> 7.81 | 24.12 | 0.743 | 5.97 |
| | refine=full: residual 7.92 -> 7.50 | 24.12 | 0.743 | 5.97 |
| CBSD24, first 6, ×2 | scale=2 | 24.10 (23.67) | 0.630 (0.605) | 5.57 (6.51) |
| CBSD24, first 6, ×1 (in brackets the input) | scale=1 | 26.08 (25.34) | 0.727 (0.686) | 4.84 (4.72) |

The residual is the rms of y - x_c in 1/255, in the domain of the network. Ablation on the first 6 of CBSD24, ×4 light, bicubic 21.64
and NIQE 7.37; residuals of the two domains do not compare:

| settings | PSNR | NIQE | residual |
|---|---|---|---|
| default: LatentINN, direct, 4 steps from 5/255 | 21.84 | 6.02 | 6.95 |
| guidance=none | 21.84 | 6.02 | |
| guidance=gradient | 21.84 | 6.03 | 6.93 |
| domain=pixel | 21.84 | 6.03 | 4.12 |
| domain=pixel guidance=gradient | 21.84 | 6.02 | 4.12 |
| refine=gamma | 21.84 | 6.02 | 6.88 |
| refine=full | 21.84 | 6.02 | 6.70 |
| regularise=pull | 21.84 | 6.03 | 6.96 |
| regularise=resample | 21.85 | 6.15 | 6.96 |
| regularise=statistics | 21.84 | 6.02 | 6.95 |
| fidelity_weight=0.25 | 21.87 | 6.06 | 6.74 |
| fidelity_weight=0.5 | 21.89 | 6.09 | 6.54 |
| fidelity_weight=1 | 21.90 | 6.09 | 6.16 |
| domain=pixel fidelity_weight=0.5 | 21.85 | 6.27 | 3.61 |
| domain=pixel fidelity_weight=1 | 21.71 | 6.54 | 3.11 |
| start=enlarged | 21.63 | 6.51 | 5.96 |
| start=enlarged fidelity_weight=1: towards y alone | 21.69 | 6.57 | 5.40 |
| start=enlarged guidance=none | 21.63 | 6.77 | |
| start_level=50 guidance=none, 10 steps | 21.49 | 3.94 | |
| start_level=50 guidance=direct, 10 steps | 21.52 | 3.91 | 8.36 |
| start_level=50 guidance=gradient, 10 steps | 21.65 | 3.96 | 7.08 |
| the same, 25 steps | 21.63 | 3.87 | 7.04 |
| the same, 50 steps | 21.62 | 3.86 | 7.03 |

On 4 held-out photographs of the training set (bicubic 26.46 dB, NIQE 7.08) fidelity weights of 0, 0.25, 0.5, 0.75 and 1 give 28.04, 27.96,
27.79, 27.56 and 27.30 dB and a NIQE of 6.67, 6.46, 6.23, 6.04 and 5.95: towards 1 the texture of y returns, JPEG's included. Hence 0.

So the restorer gives the gain in PSNR and the denoiser that in NIQE; guidance is worth something once the start is far away (0.2 dB
at 50/255), where the gradient form is better than the direct one; regularisation and refinement change nothing here, more steps
neither. Hence neither is on by default. From noise (--preset "from noise", first 2 of CBSD24, bicubic 22.53) the gradient form reaches
20.18 dB and the direct one 19.60 dB. At 50/255 the low NIQE is in part speckle: `bold` starts at 20/255, where none is seen.

Time at 512×512, ×4, in seconds of one core (`python -m pytest -s tests/test_latent_indigo.py -k "quarter_of or adds_to"` prints it): a
gradient takes LatentINN 0.07 and PixelINN 1.2, 0.06 of it; but the denoiser takes 1.6, so that a whole guided step takes LatentINN 0.60
of PixelINN's time, not a quarter. For the backward pass they keep 11 and 72 MB; the whole process (`/usr/bin/time -v python -m restoration
Y.png --solver latent-indigo -o X.png --set guidance=… steps=4`) grows to 989 MB unguided, 993 with LatentINN's gradient and 1118 with
PixelINN's. The direct form adds 0.04 a step, 0.05 once and 0.35 for the two pictures shown at the end to an unguided run, which computes
none of F, aim and views: 4 % of 25 steps, but 8 % of `fast` and its 4.

start="noise" adds its noise to √ᾱ E(enlarged y), of which 0.025 is left at the highest level (40) of the embedded prior, not to zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from restoration.degradations import realistic
from restoration.degradations.linear import Checked, LinearDegradation, knob
from restoration.diffusion import add_noise, geometric_levels, randn
from restoration.files.images import enlarge
from restoration.priors import tiling
from restoration.priors.latent import LatentPrior
from restoration.solvers.base import Step

DOMAINS = ("latent", "pixel")
REFINE_RATES = {"gamma": 1e-3, "full": 5e-5}  # [D]; INDIGO+'s real-photograph setting [C+]
REFINE_BELOW = 1.5  # noise level from which the estimate can teach the INN anything: ᾱ > 0.3 [D]
GUIDANCE = ("direct", "gradient", "none")
RESIDUAL_CONTRAST = 4  # of the residual's picture


@dataclass(frozen=True)
class LatentINDIGO(Checked):
    """Blind restoration: the invertible network estimates the degradation itself. The fields' help texts say what they do."""

    title: ClassVar[str] = "LatentINDIGO"
    paper: ClassVar[str] = "arXiv 2505.12935"
    blind: ClassVar[bool] = True
    colours: ClassVar[bool] = False

    domain: str = knob("latent", "latent: LatentINN, fast · pixel: PixelINN, decodes at every step", choices=DOMAINS)
    scale: int = knob(4, "How many times larger the result is", choices=(1, 2, 4))
    start: str = knob("restoration", "First estimate: a small network's, the enlarged picture, none", choices=("restoration", "enlarged", "noise"))
    fidelity_weight: float = knob(0.0, "0: towards the clean first estimate, 1: towards the input with its noise and artefacts", low=0.0, high=1.0)
    steps: int = knob(4, "Steps of the sampler", low=1, high=100)
    start_level: float = knob(5.0, "Noise added to the first estimate, in 1/255", low=1.0, high=255.0)
    end_level: float = knob(3.0, "Noise level of the last step, in 1/255", low=1.0, high=255.0)
    guidance: str = knob("direct", "direct: the swapped estimate itself · gradient: one step down the mismatch", choices=GUIDANCE)
    refine: str = knob("none", "Fit to this photograph: the degradation's embedding, or the full network", choices=("none", "gamma", "full"))
    regularise: str = knob("none", "Keep the latent natural (resample denoises twice)", choices=("none", "pull", "resample", "statistics"))
    strength: float = knob(0.3, "Strength of the regularisation", low=0.0, high=1.0)
    churn: float = knob(0.0, "Fresh noise per step (0: deterministic, 1: as much as possible)", low=0.0, high=1.0)
    tile: int = knob(64, "Side of the denoiser's tiles, in latent pixels", low=16, high=512)

    @property
    def batches(self) -> bool:
        return self.refine == "none"  # a refined network is one picture's own

    def factor(self, degradation: LinearDegradation | None) -> int:
        return self.scale

    def size(self, y: Tensor) -> tuple[int, int]:
        """(H,W) of the result for y (B,3,h,w)."""
        return y.shape[-2] * self.scale, y.shape[-1] * self.scale

    def iterations(self, degradation: LinearDegradation | None) -> int:
        return self.steps

    def restore(self, prior: LatentPrior, y: Tensor, degradation: LinearDegradation | None, *, generator: torch.Generator) -> Iterator[Step]:
        """y (B,3,h,w) in [0,1] -> steps; the last one's image is (B,3,h·scale,w·scale), its views show the estimated camera.

        ValueError where no INN has been trained for this domain, scale and codec of the prior.
        """
        from restoration.solvers.inn import load_restorer  # loads diffusers

        restored = load_restorer(self.scale, str(prior.device))(y)  # Rest(y)
        # γ ← F(y), Θ ← Θ_trained, z_y ← E(y)
        camera = None if self.guidance == self.refine == "none" else _Camera(self, prior, y, restored)
        z = prior.encode(restored if self.start == "restoration" else enlarge(y, self.scale))
        start = float(prior.sigmas[-1]) / prior.gain if self.start == "noise" else self.start_level / 255
        times = [prior.timestep(prior.gain * level) for level in geometric_levels(start, min(self.end_level / 255, start), self.steps)]
        z_t = add_noise(z, _noise(z, generator), prior.alpha_bar[times[0]])
        for k, t in enumerate(times, 1):
            last = k == self.steps
            z0 = tiling.denoise(prior, z_t, t, self.tile)  # (14)
            guided, scalars = camera.guide(z0) if camera else (z0, {})
            guided = self._regularise(prior, guided, z0, t, k / self.steps, generator)
            if camera and self.refine != "none" and prior.sigmas[t] < REFINE_BELOW:
                camera.refine(guided)  # (25)
            if not last:
                z_t = self._ddim(prior, z_t, guided, t, times[k], generator)  # (15)
            image = tiling.decode(prior, guided, self.size(y), self.tile) if last else None
            scalars["level"] = float(prior.sigmas[t])
            views = camera.views(guided) if camera and last else {}
            found = f"found: {camera.describe()}, " if camera else ""
            note = f"{found}noise level {255 * scalars['level']:.1f}/255"
            yield Step(k, self.steps, guided, note, scalars, image, views)

    def _regularise(self, prior: LatentPrior, guided: Tensor, z0: Tensor, t: int, progress: float, generator: torch.Generator) -> Tensor:
        """REG of latentindigo.md §3.5: R1 "pull", R2 "resample", R5 "statistics"."""
        if self.regularise == "pull":
            return guided.lerp(z0, self.strength * progress / (1 + self.strength * progress))
        if self.regularise == "resample":
            again = add_noise(guided, _noise(guided, generator), prior.alpha_bar[t])
            return guided.lerp(tiling.denoise(prior, again, t, self.tile), self.strength)
        if self.regularise == "statistics":
            (mean, std), (mean0, std0) = ((z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True)) for z in (guided, z0))
            return guided.lerp((guided - mean) / std.clamp_min(1e-6) * std0 + mean0, self.strength)
        return guided

    def _ddim(self, prior: LatentPrior, z_t: Tensor, guided: Tensor, t: int, t_next: int, generator: torch.Generator) -> Tensor:
        """To the next level, with ε̃ of the guided estimate and a share `churn` of fresh noise."""
        a, b = prior.alpha_bar[t], prior.alpha_bar[t_next]
        eps = (z_t - a.sqrt().to(z_t) * guided) / (1 - a).sqrt().to(z_t)
        if not self.churn:
            return add_noise(guided, eps, b)
        fresh = self.churn**2 * (1 - b) / (1 - a) * (1 - a / b)  # σ² of (15)
        kept, new = (1 - b - fresh).sqrt().to(z_t), fresh.sqrt().to(z_t)
        return b.sqrt().to(z_t) * guided + kept * eps + new * _noise(z_t, generator)


class _Camera:
    """What is believed of one photograph's degradation: network, γ and measurement, in the solver's domain.

    Network and γ are this object's own wherever they are refined: the next photograph begins with the trained ones.
    """

    @torch.no_grad()
    def __init__(self, solver: LatentINDIGO, prior: LatentPrior, y: Tensor, restored: Tensor):
        """y (B,3,h,w) and restored = Rest(y), (B,3,h·scale,w·scale), both in [0,1]."""
        from restoration.solvers.inn import load_inn  # loads diffusers

        self.solver, self.prior, self.y, self.restored = solver, prior, y, restored
        inn = load_inn(solver.domain, solver.scale, prior)
        self.inn = copy.deepcopy(inn) if solver.refine == "full" else inn
        self.gamma = self.inn.embed(y)
        self.big = enlarge(y, solver.scale)
        self.observed = y if solver.domain == "pixel" else prior.encode(self.big)
        self.target = self._aim()
        self.learned = {"none": [], "gamma": [self.gamma], "full": list(self.inn.parameters())}[solver.refine]
        self.optimiser = torch.optim.Adam(self.learned, lr=REFINE_RATES[solver.refine]) if self.learned else None

    @torch.no_grad()
    def _aim(self) -> Tensor:
        """What the estimate's coarse part is to be: between what the camera would have made of Rest(y), free of noise, and the measurement."""
        clean = self.inn.measure(self.restored if self.solver.domain == "pixel" else self.prior.encode(self.restored), self.gamma)
        return clean.lerp(self.observed, self.solver.fidelity_weight)

    def _represent(self, z: Tensor) -> Tensor:
        """A latent in the INN's domain: itself, or its picture (1,3,H,W)."""
        return z if self.solver.domain == "latent" else self._decode(z)

    def _decode(self, z: Tensor) -> Tensor:
        return tiling.decode(self.prior, z, self.solver.size(self.y), self.solver.tile)

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
        """(z_inv, rms of y - x_c): (24) with η = 1; in pixels (21), whose difference of encodings cancels the codec's error."""
        x = self._represent(z)
        swapped, measured = self.inn.swap(x, self.target, self.gamma)
        change = swapped - x if self.solver.domain == "latent" else self.prior.encode(swapped) - self.prior.encode(x)
        return z + change, _rms(self.observed - measured)

    def gradient(self, z: Tensor) -> tuple[Tensor, float]:
        """One step down L = ‖target - x_c‖ with respect to z_{0|t} (18), (19); L/‖∇L‖² ∇L is Polyak's step, which needs no tuned ζ."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            measured = self.inn.measure(self._represent(leaf), self.gamma)
            length = (self.target - measured).square().sum((1, 2, 3), keepdim=True).sqrt()
            (slope,) = torch.autograd.grad(length.sum(), leaf)
        step = length.detach() / slope.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return z - step * slope, _rms(self.observed - measured.detach())

    def refine(self, z: Tensor) -> None:
        """One Adam step of γ or Θ on mean |y - x_c|²."""
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
        """What the INN thinks the camera made of the estimate, and what it leaves unexplained, beside the measurement."""
        measured = self.inn.measure(self._represent(z), self.gamma)
        seen, made = (self.y, measured) if self.solver.domain == "pixel" else (self.big, self._decode(measured))
        rest = 0.5 + RESIDUAL_CONTRAST * (seen - made)
        return {"What the camera did to it": made.clamp(0, 1), f"Not explained (×{RESIDUAL_CONTRAST})": rest.clamp(0, 1)}


def _noise(z: Tensor, generator: torch.Generator) -> Tensor:
    """(1,C,h,w): one draw for all rows of z, so that a picture's noise does not depend on how many are restored with it."""
    return randn((1, *z.shape[1:]), generator, z.device)


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "pixel": {"domain": "pixel"},
    "bold": {"guidance": "gradient", "start_level": 20.0, "steps": 6},
    "from noise": {"guidance": "gradient", "start": "noise", "fidelity_weight": 1.0, "steps": 50},
}
