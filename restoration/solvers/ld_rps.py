"""LD-RPS (ICCV 2025, arXiv 2507.00790): blind restoration by latent diffusion, a damage network learned per
picture, and recurrence.

This is the paper's algorithm, for Stable Diffusion on a GPU; ld_rps_fast.py is ours for the embedded prior.
z₁ is guided, z₂ its companion:

    ψ, D1, D2 ← fresh; z₁, z₂ ~ N(0, I)
    for pass r = 0 … R:
        if r > 0: z ← √ᾱ_γT z + √(1-ᾱ_γT) noise                      (6)
        for t falling from T, or γT:
            ẑ0, ε ← denoise(z, t, text); ẑ0 clipped                  (1), (2)
            z' ← √ᾱ' ẑ0 + √(1-ᾱ') ε                                  (3)
            ẑ ← ẑ0, or the official estimate (z' - √(1-ᾱ) ε) / √ᾱ; x ← D(ẑ)   (4)
            one Adam step of D1, one of ψ, on x₁, x₂ against y              (8)
            if t < guide_below: z'₁ ← z'₁ - s ∇_ẑ₁ loss(ψ(x₁), y)           (5), (9)
            z ← z'
    return D(z₁)

Notation (code -> paper): z -> z_t · z0 -> ẑ_0|t · prior.decode -> D · alignment.psi -> ψ (F-PAM) ·
recurrences -> R · first -> T · again -> γT · scale -> s

Equation numbers are those of docs/methods/ld-rps.md. Where paper and official code differ:
- Gradient: with respect to the clean estimate as a leaf (official code), not through the denoiser (paper).
- Recurrence: `renoise="latent"` re-noises the latent (official code), `"image"` decodes and encodes (paper).
- Estimate: `"official"` takes it from the next latent with this one's coefficients, a slip that makes another
  trajectory: the first guided pull differs by half; `"proper"` is the paper's.
- Networks and optimisers are fresh for each picture; the official ones keep Adam's moments, so its results
  depend on the order.
- Times, clipping and loss weights of low-light, dehaze and denoise are the official code's. Colour and
  mixtures were not released.
- Perceptual losses: on VGG-16 as in the paper where its weights can be loaded; otherwise on edge differences,
  which need none.

Rounding to float32 alone moves a result by 1.9/255, so published figures can be met in the mean only. Nothing
is decoded, encoded or differentiated in vain, and an empty prompt needs one run of the denoiser instead of
two. Where memory is short a guided step decodes once more instead of keeping the decoder's graph while ψ
learns, and ψ, its critics and VGG work in tiles. No frames of the companion are kept, whose trajectory does
not depend on the picture: for a set without text that would save up to 3.7 times, but hold 3 to 80 GB.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from restoration.diffusion import add_noise, clamp_quantile, ddim_step, falling, randn
from restoration.knobs import knob
from restoration.priors.latent import LatentPrior
from restoration.priors.tiling import local
from restoration.solvers.base import Known, Solver, Step, Steps
from restoration.solvers.decoding import decode
from restoration.solvers.fpam import HALO, Alignment, Weights, edges, vgg_features

PROMPT_HELP = "What the picture would show in good condition; guides priors that read text"
GUIDANCE_HELP = "Classifier-free guidance towards the prompt; 1 is off"


@dataclass(frozen=True)
class LDRPS(Solver):
    """Posterior sampling with a learned damage network and recurrence.

    The defaults are the paper's low-light setting.
    """

    title: ClassVar[str] = "LD-RPS as published"
    paper: ClassVar[str] = "arXiv 2507.00790"
    purpose: ClassVar[str] = (
        "Restore a photograph that is too dark, hazy, noisy or without colour, by the algorithm as published"
    )
    blind: ClassVar[bool] = True
    colours: ClassVar[bool] = True

    prompt: str = knob("", PROMPT_HELP)
    text_guidance: float = knob(8.0, GUIDANCE_HELP, low=1.0, high=20.0)
    first: int = knob(899, "First timestep", low=1, high=999)
    steps: int = knob(450, "Steps of the first pass", low=1, high=1000)
    recurrences: int = knob(2, "How many times the result is noised again and refined (R)", low=0, high=8)
    again: int = knob(449, "Timestep that a recurrence returns to", low=1, high=999)
    renoise: str = knob(
        "latent",
        "A recurrence re-noises the latent, or the image after decoding and encoding",
        choices=("latent", "image"),
    )
    estimate: str = knob(
        "official",
        "Clean estimate · official: from the next latent, as released · proper: as in the paper",
        choices=("official", "proper"),
    )
    guide_below: int = knob(700, "Guidance begins below this timestep", low=1, high=1000)
    scale: float = knob(80_000.0, "Guidance: the constant s at 512×512", low=0.0, high=1e6)
    clamp: float = knob(0.995, "Share of latent values that are not clipped", low=0.9, high=1.0)
    width: int = knob(64, "Width of ψ and of the discriminators", low=6, high=64)
    features: str = knob(
        "auto",
        "Perceptual losses: VGG-16, edge differences, or VGG-16 where it can be loaded",
        choices=("auto", "vgg", "edges"),
    )
    fit_pixel: float = knob(0.02, "ψ keeps pixels", low=0.0, high=10.0)
    fit_perceptual: float = knob(0.3, "ψ keeps features", low=0.0, high=10.0)
    fit_adversarial: float = knob(0.8, "ψ takes the look of the picture", low=0.0, high=10.0)
    fit_rate: float = knob(5e-4, "Learning rate of ψ", low=0.0, high=0.01)
    critic_rate: float = knob(4e-5, "Learning rate of the discriminators", low=0.0, high=0.01)
    perceptual: float = knob(2e-3, "Guidance: features of ψ(estimate) and the picture's", low=0.0, high=1.0)
    adversarial: float = knob(5e-5, "Guidance: residual discriminator", low=0.0, high=1.0)
    brightness: float = knob(1e-2, "Guidance: mean brightness of patches towards 0.5", low=0.0, high=1.0)
    patches: int = knob(16, "Patches a side of the brightness loss", low=1, high=64)
    colour: float = knob(1e-2, "Guidance: grey-world", low=0.0, high=1.0)
    quality_below: int = knob(100, "Brightness and grey-world act below this timestep", low=0, high=1000)

    @property
    def own_bytes(self) -> tuple[float, float]:
        """Per pixel, of ψ, the critics and VGG at their peak, while the decoder's graph is alive: counted at
        width 64.
        """
        return 1_000 * self.width / 64, 9_900 * self.width / 64

    @property
    def differentiates(self) -> bool:
        return True

    @property
    def batches(self) -> bool:
        return False  # it fits networks to each picture

    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        return sum(map(len, self.passes()))

    def passes(self) -> tuple[tuple[int, ...], ...]:
        """The falling timesteps of the first pass and of every recurrence."""
        times = falling(self.first, self.steps)
        return (times, *[tuple(t for t in times if t <= self.again) or times[-1:]] * self.recurrences)

    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """y (1,3,h,w) in [0,1] -> steps; the last one's image is (1,3,h,w).

        A step's views: the estimate, ψ of it, every finished pass.
        """
        size, text, passes = (y.shape[-2], y.shape[-1]), prior.embed(self.prompt), self.passes()
        shape = 1, prior.channels, *(-(-side // prior.factor) for side in size)
        seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(2)]
        first, other = (torch.Generator().manual_seed(seed) for seed in seeds)
        # where memory is short ψ and its critics work in tiles too
        tile = prior.codec_tile * prior.factor if prior.placement.tiled else 0
        features, source = self._features(tile)
        # ψ, D1, D2 ← fresh; z₁, z₂ ~ N(0, I)
        alignment = Alignment(y, self.weights(), self.width, generator, features, tile)
        z, companion = randn(shape, first, y.device), randn(shape, other, y.device)
        total, done, finished = sum(map(len, passes)), itertools.count(1), {}
        for number, times in enumerate(passes):
            # if r > 0: z ← √ᾱ_γT z + √(1-ᾱ_γT) noise (6)
            if number:
                z = self._noise_again(prior, z, times[0], size, generator)
                companion = self._noise_again(prior, companion, times[0], size, other)
            for t, t_next in zip(times, (*times[1:], 0), strict=True):
                # ẑ0, ε ← denoise(z, t, text), ẑ0 clipped (1), (2); z' ← √ᾱ' ẑ0 + √(1-ᾱ') ε (3); ẑ (4)
                estimate, z = self._ddim(prior, z, t, t_next, text)
                other_estimate, companion = self._ddim(prior, companion, t, t_next, text)
                # x ← D(ẑ); the companion is never guided and needs no way back
                guided = t < self.guide_below
                back: Callable[[Tensor], Tensor] | None = None
                if guided:
                    x, back = decode(prior, estimate, size, twice=prior.placement.again)
                else:
                    x = _decode(prior, estimate, size)
                pictures = torch.cat([x, _decode(prior, other_estimate, size)])
                # one Adam step of D1, one of ψ, on x₁, x₂ against y (8)
                losses = alignment.fit(pictures, guided)
                # if t < guide_below: z'₁ ← z'₁ - s ∇_ẑ₁ loss(ψ(x₁), y) (5), (9); s grows with the size as
                # losses are means
                if back:
                    slope = back(alignment.slope(x, pictures, t < self.quality_below))
                    z = z - self.scale * size[0] * size[1] / 512**2 * slope
                index = next(done)
                if t == times[-1]:
                    finished[f"pass {number}"] = prior.picture(z, size)
                image = _decode(prior, z, size) if index == total else None
                views, scalars = _views(alignment, pictures[:1], losses)
                note = f"{source}pass {number}, timestep {t}"
                yield Step(index, total, estimate, note, scalars, image, views | finished)

    @torch.no_grad()
    def _ddim(
        self, prior: LatentPrior, z: Tensor, t: int, t_next: int, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(the clean estimate that is decoded, the next latent), both (1,C,h,w)."""
        z0, eps = prior.denoise(z, t, text, self.text_guidance)
        z0 = clamp_quantile(z0, self.clamp)
        following = ddim_step(z0, eps, prior.alpha_bar[t_next])
        if self.estimate == "official":
            a = prior.alpha_bar[t].item()
            z0 = clamp_quantile((following - (1 - a) ** 0.5 * eps) / a**0.5, self.clamp)
        return z0, following

    @torch.no_grad()
    def _noise_again(
        self, prior: LatentPrior, z: Tensor, t: int, size: tuple[int, int], generator: Generator
    ) -> Tensor:
        """The latent, or its picture encoded anew, with fresh noise at timestep t."""
        if self.renoise == "image":
            z = prior.encode(prior.picture(z, size))
        return add_noise(z, randn(z.shape, generator, z.device), prior.alpha_bar[t])

    def _features(self, tile: int) -> tuple[Callable[[Tensor], Tensor], str]:
        """What the perceptual losses compare, and its name where it was looked for; nothing is loaded in
        vain.
        """
        if self.features == "edges" or not (self.perceptual or self.fit_perceptual):
            return edges, ""
        try:
            vgg = vgg_features()
            return lambda x: local(vgg, x, tile, HALO, 2), "perceptual losses on VGG-16, "
        except Exception:  # of the network, the Hub's client, the file: there is the stand-in
            if self.features == "vgg":
                raise
            return edges, "perceptual losses on edges as VGG-16 cannot be loaded, "

    def weights(self) -> Weights:
        return Weights(**{name: getattr(self, name) for name in Weights.__dataclass_fields__})


@torch.no_grad()
def _decode(prior: LatentPrior, z: Tensor, size: tuple[int, int]) -> Tensor:
    return prior.decode(z, size)


@torch.no_grad()
def _views(
    alignment: Alignment, x: Tensor, losses: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """(pictures for the eye, the losses and the rms of ψ(x) - y, for all of which the host waits once)."""
    damaged = alignment.damage(x)
    named = {**losses, "residual": (damaged - alignment.y).square().mean().sqrt()}
    scalars = dict(zip(named, torch.stack(list(named.values())).tolist(), strict=True))
    return {"estimate": x.clamp(0, 1), "ψ(estimate)": damaged.clamp(0, 1)}, scalars


# the official code's; low-light is what the defaults are
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper dehaze": {
        "recurrences": 3,  # the paper's best; the script's default, 0, saves no picture
        "scale": 25_000.0, "perceptual": 5e-3, "adversarial": 0.0, "patches": 8, "colour": 1e-3,
        "quality_below": 150, "fit_pixel": 0.2, "fit_perceptual": 0.5, "fit_adversarial": 0.2,
        "critic_rate": 1e-4,
    },
    "paper denoise": {
        "recurrences": 1, "scale": 40_000.0, "perceptual": 0.0, "adversarial": 0.0, "brightness": 0.0,
        "colour": 0.0, "fit_pixel": 3.0, "fit_perceptual": 0.002, "fit_adversarial": 0.001,
        "critic_rate": 1e-4,
    },
}  # fmt: skip
