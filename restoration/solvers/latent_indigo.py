"""LatentINDIGO (arXiv 2505.12935), reconstructed: a network that has learned to degrade guides the sampler.

Equation numbers are those of docs/methods/latent-indigo.md, which says what is known and what is ours; what
the settings are worth: docs/measurements/latent-indigo.md.

Notation (code -> paper):  y -> y · inn -> g_Θ · gamma -> γ_deg = F(y) ·
  z_t, z0 -> z_t, z_{0|t} · guided -> z̃
  observed -> y, or z_y = E(enlarged y) in the latent domain · measured -> x_c, z_c ·
  swapped -> x_inv, z_inv
  fidelity_weight -> κ of (29) · levels -> sqrt((1-ᾱ)/ᾱ) of the visited timesteps · churn -> η of DDIM (15)

Objective at every step:  min ‖aim - x_c(z_{0|t})‖, with the aim (29), by a swap of the coarse part (21),
(24) or one gradient step (19).

Deviations: the autograd-free forms (21) and (24), Polyak's step (30), refinement of γ alone, all
regularisations (26) to (28), and the aim: κ = 0 by default, since a swap copies whatever it is given into
the estimate, and y is noisy; or Wiener's weight (31). start="noise" adds its noise to √ᾱ E(enlarged y), of
which 0.025 is left at the highest level, 40, of the embedded prior, not to zeros. The input gets mirrored
surroundings, and the result the input's light in wide windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Generator, Tensor

from restoration.degradations import realistic
from restoration.degradations.meter import WEIGHTS, measure_damage
from restoration.degradations.partial import SURROUNDINGS, mirrored
from restoration.diffusion import add_noise, churned_step, geometric_levels, randn
from restoration.files.images import enlarge
from restoration.knobs import knob
from restoration.priors.latent import LatentPrior
from restoration.priors.memory import Demand
from restoration.solvers import tiles
from restoration.solvers.base import Known, Solver, Step, Steps
from restoration.solvers.latent_indigo_camera import Camera

DOMAINS = ("latent", "pixel")
REFINE_BELOW = 1.5  # noise level from which the estimate can teach the INN anything: ᾱ > 0.3
GUIDANCE = ("direct", "gradient", "none")
FIDELITIES = ("all", "unexplained")
WINDOW = 63  # pixels of the input, in which the result's light is that of the input


@dataclass(frozen=True)
class LatentINDIGO(Solver):
    """Blind restoration: the invertible network estimates the degradation itself.

    The fields' help texts say what they do.
    """

    title: ClassVar[str] = "LatentINDIGO"
    paper: ClassVar[str] = "arXiv 2505.12935"
    purpose: ClassVar[str] = (
        "Restore and enlarge a photograph with a camera's blur, noise and compression, which nobody can "
        "write down"
    )
    blind: ClassVar[bool] = True
    effort: ClassVar[float] = 2.1  # `vivid`, `faithful` and `fast`, at a megapixel on one CPU core

    domain: str = knob(
        "latent", "latent: LatentINN, fast · pixel: PixelINN, decodes at every step", choices=DOMAINS
    )
    scale: int = knob(4, "How many times larger the result is", choices=(1, 2, 4))
    start: str = knob(
        "restoration",
        "First estimate: a small network's, the enlarged picture, none",
        choices=("restoration", "enlarged", "noise"),
    )
    fidelity_weight: float = knob(
        0.0,
        "0: towards the clean first estimate, 1: towards the input with its noise and artefacts",
        low=0.0,
        high=1.0,
    )
    fidelity: str = knob(
        "all",
        "What of the input the fidelity weight counts: all · what its measured noise does not explain",
        choices=FIDELITIES,
    )
    steps: int = knob(4, "Steps of the sampler", low=1, high=100)
    start_level: float = knob(5.0, "Noise added to the first estimate, in 1/255", low=1.0, high=255.0)
    end_level: float = knob(3.0, "Noise level of the last step, in 1/255", low=1.0, high=255.0)
    guidance: str = knob(
        "direct",
        "direct: the swapped estimate itself · gradient: one step down the mismatch",
        choices=GUIDANCE,
    )
    refine: str = knob(
        "none",
        "Fit to this photograph: the degradation's embedding, or the full network",
        choices=("none", "gamma", "full"),
    )
    regularise: str = knob(
        "none",
        "Keep the latent natural (resample denoises twice)",
        choices=("none", "pull", "resample", "statistics"),
    )
    strength: float = knob(0.3, "Strength of the regularisation", low=0.0, high=1.0)
    churn: float = knob(
        0.0, "Fresh noise per step (0: deterministic, 1: as much as possible)", low=0.0, high=1.0
    )
    tile: int = knob(64, "Side of the denoiser's tiles, in latent pixels", low=16, high=512)

    @property
    def differentiates(self) -> bool:
        return self.domain == "pixel" and self.guidance == "gradient"

    def demand(self, pixels: int) -> Demand:
        wide = (math.sqrt(pixels) + 2 * SURROUNDINGS * self.scale) ** 2  # as of a square
        return Demand(round(wide), self.differentiates, encoded=1, tile=self.tile)

    @property
    def batches(self) -> bool:
        return self.refine == "none"  # a refined network is one picture's own

    def factor(self, degradation: Known) -> int:
        return self.scale

    def enlarging(self, factor: int) -> Solver:
        return replace(self, scale=factor)

    @classmethod
    def damages(cls) -> tuple[str, ...]:
        return tuple(realistic.CAMERAS)

    def networks(self, prior: str, degradation: Known) -> list[Path]:
        from restoration.solvers.inn_weights import INNS, folder_name  # loads diffusers

        return [
            INNS / folder_name(self.domain, self.scale, prior),
            INNS / folder_name("first", self.scale, ""),
            WEIGHTS.parent,  # the damage meter's
        ]

    def lacks(self, prior: str) -> str:
        from restoration.solvers.inn_weights import missing  # loads diffusers

        return "" if self.guidance == self.refine == "none" else missing(self.domain, self.scale, prior)

    def size(self, y: Tensor) -> tuple[int, int]:
        """(H,W) of the result for y (B,3,h,w)."""
        return y.shape[-2] * self.scale, y.shape[-1] * self.scale

    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        return self.steps

    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """y (B,3,h,w) in [0,1] -> steps; the last one's image is (B,3,h·scale,w·scale), its views show the
        estimated camera.

        ValueError where no INN has been trained for this domain, scale and codec of the prior.
        """
        wide = mirrored(y, SURROUNDINGS if min(y.shape[-2:]) > SURROUNDINGS else 0)
        for step in self.sample(prior, wide, generator):
            image, views = step.image, step.views
            if image is not None:
                image = _inside(levelled(image, wide, self.scale), y, wide)
                views = {title: _inside(view, y, wide) for title, view in views.items()}
            yield replace(step, latent=_inside(step.latent, y, wide), image=image, views=views)

    def sample(self, prior: LatentPrior, y: Tensor, generator: Generator) -> Steps:
        """The sampler, on y (B,3,h,w) with its surroundings; the last image is (B,3,h·scale,w·scale)."""
        from restoration.solvers.first_estimate import first_estimate  # loads diffusers

        damages = [measure_damage(picture) for picture in y.cpu().split(1)]
        restored = first_estimate(prior, y, self.scale, damages, self.tile, generator)  # Rest(y)
        # γ ← F(y), Θ ← Θ_trained, z_y ← E(y)
        unguided = self.guidance == self.refine == "none"
        camera = None if unguided else Camera(self, prior, y, restored, damages)
        z = prior.encode(restored if self.start == "restoration" else enlarge(y, self.scale))
        start = float(prior.sigmas[-1]) / prior.gain if self.start == "noise" else self.start_level / 255
        times = [
            prior.timestep(prior.gain * level)
            for level in geometric_levels(start, min(self.end_level / 255, start), self.steps)
        ]
        z_t = add_noise(z, _noise(z, generator), prior.alpha_bar[times[0]])
        for k, t in enumerate(times, 1):
            last = k == self.steps
            z0 = tiles.denoise(prior, z_t, t, self.tile)  # (14)
            guided, residual = camera.guide(z0) if camera else (z0, None)
            guided = self._regularise(prior, guided, z0, t, k / self.steps, generator)
            if camera and self.refine != "none" and prior.sigmas[t] < REFINE_BELOW:
                camera.refine(z0)  # (25), of the unguided estimate: the guided one agrees with y already
            if not last:
                fresh = _noise(z_t, generator) if self.churn else None
                levels = prior.alpha_bar[t], prior.alpha_bar[times[k]]
                z_t = churned_step(z_t, guided, *levels, self.churn, fresh)  # (15)
            image = tiles.decode(prior, guided, self.size(y), self.tile) if last else None
            views = camera.views(guided) if camera and last else {}
            scalars, found = camera.told(residual) if camera else ({}, "")
            scalars["level"] = float(prior.sigmas[t])
            described = f"found: {found}, " if camera else ""
            note = f"{described}noise level {255 * scalars['level']:.1f}/255"
            yield Step(k, self.steps, guided, note, scalars, image, views)

    def _regularise(
        self,
        prior: LatentPrior,
        guided: Tensor,
        z0: Tensor,
        t: int,
        progress: float,
        generator: Generator,
    ) -> Tensor:
        """The regularised estimate: "pull" (26), "resample" (27), "statistics" (28)."""
        if self.regularise == "pull":
            return guided.lerp(z0, self.strength * progress / (1 + self.strength * progress))
        if self.regularise == "resample":
            again = add_noise(guided, _noise(guided, generator), prior.alpha_bar[t])
            return guided.lerp(tiles.denoise(prior, again, t, self.tile), self.strength)
        if self.regularise == "statistics":
            (mean, std), (mean0, std0) = (
                (z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True)) for z in (guided, z0)
            )
            return guided.lerp((guided - mean) / std.clamp_min(1e-6) * std0 + mean0, self.strength)
        return guided


def levelled(image: Tensor, y: Tensor, scale: int) -> Tensor:
    """image (B,3,h·scale,w·scale) with the light that y (B,3,h,w) has in wide windows: that is measured, and
    what the networks make of flat colours, which they seldom saw, is not.
    """
    lacking = y - F.avg_pool2d(image, scale)
    window = min(WINDOW, *((side - 1) // 2 * 2 - 1 for side in y.shape[-2:]))
    for _ in range(2):  # the mean of a mean follows slopes, and shows no edges of windows
        lacking = F.avg_pool2d(F.pad(lacking, (window // 2,) * 4, mode="reflect"), window, 1)
    return image + F.interpolate(lacking, image.shape[-2:], mode="bilinear")


def _inside(x: Tensor, y: Tensor, wide: Tensor) -> Tensor:
    """The part of x that shows y (B,3,h,w), where all of x shows `wide`, which is y with its surroundings: a
    picture of wide's sides or so many times those, or a latent of it.
    """
    edge, ratio = (wide.shape[-1] - y.shape[-1]) // 2, x.shape[-1] / wide.shape[-1]
    ratio = round(ratio) if ratio >= 1 else 1 / round(1 / ratio)
    first = round(edge * ratio)
    height, width = (math.ceil(side * ratio) for side in y.shape[-2:])
    return x[..., first : first + height, first : first + width]


def _noise(z: Tensor, generator: Generator) -> Tensor:
    """(1,C,h,w): one draw for all rows of z, so that a picture's noise does not depend on how many are
    restored with it.
    """
    return randn((1, *z.shape[1:]), generator, z.device)


PRESETS: dict[str, dict[str, Any]] = {
    # texture: from far away, where guidance is what keeps the picture
    "vivid": {"domain": "pixel", "start_level": 70.0, "steps": 6},
    # the least error: near, and whatever the noise does not explain comes back
    "faithful": {
        "domain": "pixel",
        "fidelity": "unexplained",
        "fidelity_weight": 1.0,
        "start_level": 3.0,
        "end_level": 2.0,
        "steps": 2,
    },
    "fast": {},
    "pixel": {"domain": "pixel"},
    "bold": {"guidance": "gradient", "start_level": 20.0, "steps": 6},
    "from noise": {"guidance": "gradient", "start": "noise", "fidelity_weight": 1.0, "steps": 50},
    # guidance by y itself, refinement of all of the network and a regularisation: the paper has all three
    "paper-like": {
        "domain": "pixel",
        "guidance": "gradient",
        "start": "noise",
        "fidelity_weight": 1.0,
        "steps": 50,
        "refine": "full",
        "regularise": "pull",
    },
}
