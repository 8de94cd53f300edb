"""LD-RPS (ICCV 2025, arXiv 2507.00790): blind restoration by latent diffusion, a damage network learned per picture, and recurrence.

Notation (code -> paper):  y -> y · z -> z_t · z0 -> ẑ_0|t · prior.decode -> D · alignment.psi -> ψ (F-PAM) · recurrences -> R · again -> γT
  scale -> s · companion -> the second, never guided trajectory of the batch

Written from a specification of the method and of its release, which tells apart paper and official code. Where they differ:
- Gradient: with respect to the clean estimate as a leaf (official code), not through the denoiser (paper).
- Recurrence: `renoise="latent"` re-noises the latent (official code), `"image"` decodes and encodes first (paper).
- Clean estimate: the proper one of z_t; the official code takes it from the next latent with the wrong coefficients (≤ 1 %).
- Networks and optimisers are fresh for each picture; the official ones keep Adam's moments, so its results depend on the order.
- Times, clipping and the loss weights of low-light, dehaze and denoise are the official code's: presets `paper`, `paper dehaze`, `paper
  denoise`. Colour and the mixtures were not released: only our fast presets do them.
- Perceptual losses: on VGG-16 as in the paper where its weights are on this machine or the Hub can be asked for them; otherwise on edge
  differences, which need none (features=auto; a step's note says which).

Exact economies, none of which changes a result: the companion and, up to the first guided step, the main trajectory depend on the
seed and the settings alone and are computed once, for all pictures of one size, until a prior is used with other settings; the companion
has no graph; nothing is decoded or encoded in vain; features of y are computed once; an empty prompt needs one run of the denoiser
instead of two. Against the literal algorithm on Stable
Diffusion at 512×512 they need 1.41 (low-light, R=2, text), 2.91 (denoise, R=1) and 3.82 (dehaze, R=3) times fewer FLOPs, counted by torch.

The fast presets, for the embedded prior on a CPU, are ours:
- A first guess of exposure, veil, grey and noise is undone (`guess`). ψ starts as the guess leaves it, exactly, and has nothing to learn;
  the discriminators and the quality losses are off.
- `start="picture"`: the sampler starts at the level of the picture's own noise, which stands for the diffusion's, without fresh noise.
- Guidance takes the best step along the gradient (for colorize the paper's constant one) and counts only what the start does not hold
  yet: nothing where the start is at the noise's level (denoise, low-light), brightness where the start is far above it (colorize).
- Colours that were missing are made to follow the brightness (`output=shaded`): the prior adds them without regard to light and shade.
- The last step, in pixels, brings back what the codec drops; a picture in which nothing is found wrong comes back unchanged, and
  haze without noise is undone by the guess alone.

python -m restoration.benchmark --clean CBSD24 --crop 256 --limit 6 --task TASK --solver ld-rps --preset PRESET (noise: --limit 8), seed 0,
embedded prior; 1 to 5 s of one core's time a picture, the first preview within 1 s; PSNR in dB / SSIM:
| task | preset | input | baseline | result | both up |
|---|---|---|---|---|---|
| noise | denoise | 25.00 / 0.636 | non-local means 28.95 / 0.820 | 30.57 / 0.887 | 8 of 8 |
| haze | dehaze | 12.07 / 0.740 | dark channel prior 19.54 / 0.913 | 23.56 / 0.940 | 6 of 6 |
| low-light | low-light | 10.28 / 0.340 | gamma + grey-world 17.15 / 0.669 | 28.75 / 0.947 | 6 of 6 |
| low-light+noise | low-light+denoise | 9.82 / 0.256 | gamma + grey-world 16.49 / 0.488 | 27.14 / 0.854 | 6 of 6 |
| grey+noise | colorize+denoise | 24.32 / 0.745 | non-local means 25.33 / 0.850 | 25.87 / 0.866 | 5 of 6 |
| grey | colorize | 26.97 / 0.980 | – | 27.73 / 0.979 | 3 of 6 (PSNR 5 of 6), lowest SSIM 0.99 of its input's |
`auto` on noise, haze, low-light at 192×192: 31.13, 22.93, 30.60 dB, 18 of 18 up. Colorize adds faint, mostly warm tints, not
the true colours: so small a prior does not recognise objects. It does not reach the aim of 80 % of the pictures above their input.

What each difference from the paper is worth: the same command on 8 development photographs, every 8th of the last 64 of the training pack,
which training holds out (`restoration.training.data.split`), --crop 96 --set KEY=VALUE...; noise in --preset denoise (input 25.07 / 0.520),
low-light in low-light (9.69 / 0.377), low-light+noise in low-light+denoise (9.02 / 0.266), grey in colorize (23.47 / 0.923):
| --set | noise | low-light | low-light+noise | grey |
|---|---|---|---|---|
| – (the preset as it is) | 31.95 / 0.907 | 25.09 / 0.931 | 27.08 / 0.896 | 24.33 / 0.921 |
| N: start=noise first=899 steps=30 fresh_noise=1 | 27.48 / 0.638 | 24.07 / 0.800 | | |
| N step=constant scale=80000 | 28.46 / 0.688 | | | |
| N step=constant scale=400000 | 26.72 / 0.624 | | | |
| N guide_below=700 | 27.49 / 0.639 | | | |
| N L, L: psi_start=random features=edges fit_pixel=3 fit_perceptual=0.002 fit_adversarial=0.001 critic_rate=1e-4 | 11.36 / 0.319 | | | |
| N L companion=free | 12.35 / 0.393 | | | |
| N L companion=free guide_below=700 step=constant scale=40000 recurrences=1 clamp=0.995 output=decoded | 11.13 / 0.169 | | | |
| N companion=free guide_below=700 psi_start=random features=edges and the seven loss weights of preset paper | | 7.13 / 0.041 | | |
| fresh_noise=1 (from the picture, noised anew) | 28.42 / 0.689 | | | |
| fresh_noise=1 L | 15.69 / 0.480 | | | |
| step=line search scale=1 (as the other fast presets) | | | | 24.16 / 0.920 |
| guide_below=700 | | | | 24.30 / 0.921 |
| guide_every=2 | | | | 24.35 / 0.921 |
| steps=1 | 31.94 / 0.909 | | | 24.06 / 0.919 |
| output=decoded (no last step in pixels) | 31.97 / 0.909 | 25.07 / 0.932 | 27.08 / 0.896 | 20.24 / 0.813 |
| output=consistent (colours as the sampler leaves them) | | | | 24.20 / 0.920 |
| clamp=0.995 (the paper's clipping) | 30.62 / 0.901 | | | |
| recurrences=1 | 31.51 / 0.897 | 24.81 / 0.914 | 26.57 / 0.868 | |
| recurrences=1 renoise=image | 31.51 / 0.897 | | | |
| recurrences=2 | 30.63 / 0.873 | 24.51 / 0.894 | 25.96 / 0.839 | |
| recurrences=3 | 29.89 / 0.853 | 24.28 / 0.878 | | |
| guess=none | | 9.69 / 0.377 | | |
| width=64 (ψ is exact at any width) | | 25.09 / 0.931 | | |
A recurrence, which the paper needs to come back from pure noise, costs here: the start already is the picture. A ψ that begins at random
cannot learn enough in so few steps. Where nothing guides (noise, low light and both: the start holds all that the picture says), step,
guide_below and guide_every change nothing. The searched step needs no scale to be found; a found one does better for grey, worse for
grey with noise (there the picture's own brightness is not to be reached: 19.79 instead of 22.25 dB), and `auto` keeps the search. Haze on
the same pictures (12.40 / 0.738): with the guess 21.71 / 0.899, with guess=none 12.40 / 0.736 (nothing to do: ψ is the identity).
Not measured: VGG features, 450 steps, text on a prior that reads it (its effect is tested on a tiny random one).
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.blind import to_grey
from restoration.degradations.estimate import GUESSES, Guess, first_guess, is_grey
from restoration.degradations.linear import Checked, LinearDegradation, knob
from restoration.diffusion import add_noise, clamp_quantile, ddim_step, randn
from restoration.priors.latent import LatentPrior
from restoration.priors.placement import Placement
from restoration.solvers.base import Step
from restoration.solvers.fpam import Alignment, Weights, edges, grey_matrix, vgg_features

COLOURLESS = 10.0  # ours: the level at which a latent no longer says that its picture is grey
CODEC_ERROR = 2 / 255  # ours: the embedded codec's round trip of the 8 development photographs loses 1.7/255 (43.8 dB at --crop 192)
TINT_WIDTH = 0.16  # ours, chosen on held-out photographs: standard deviation, in short sides, of the windows in which colours follow brightness
TINT_SIDE = 64  # ours: pixels of the short side at which that is computed
Passes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LDRPS(Checked):
    """Posterior sampling with a learned damage network and recurrent refinement. The defaults are the paper's low-light setting."""

    title: ClassVar[str] = "LD-RPS"
    paper: ClassVar[str] = "arXiv 2507.00790"
    blind: ClassVar[bool] = True
    colours: ClassVar[bool] = True

    prompt: str = knob("", "What the picture would show in good condition; guides priors that read text")
    text_guidance: float = knob(8.0, "Classifier-free guidance towards the prompt; 1 is off", low=1.0, high=20.0)
    guess: str = knob("none", "First guess of the damage (none: as in the paper · auto: look for each kind)", choices=GUESSES)
    start: str = knob("noise", "noise: as in the paper · picture: from the encoded picture", choices=("noise", "picture"))
    start_level: float = knob(0.0, "Noise level to start from with a picture, in 1/255; at least that of the picture's noise", low=0.0, high=2550.0)
    fresh_noise: float = knob(1.0, "Noise added to a start picture and before a recurrence, in units of the level", low=0.0, high=1.0)
    first: int = knob(899, "First timestep with a start from noise", low=1, high=999)
    steps: int = knob(450, "Steps of the first pass", low=1, high=1000)
    recurrences: int = knob(2, "How many times the result is noised again and refined (R)", low=0, high=8)
    again: int = knob(449, "Timestep that a recurrence returns to", low=1, high=999)
    renoise: str = knob("latent", "A recurrence re-noises the latent, or the image after decoding and encoding", choices=("latent", "image"))
    output: str = knob(
        "decoded",
        "decoded: as in the paper · consistent: a last step in pixels · shaded: before it, added colours are made to follow the brightness",
        choices=("decoded", "consistent", "shaded"),
    )
    guide_below: int = knob(700, "Guidance begins below this timestep", low=1, high=1000)
    guide_every: int = knob(1, "Guide every n-th step", low=1, high=10)
    step: str = knob("constant", "constant: as in the paper · line search: the best step along the gradient", choices=("constant", "line search"))
    scale: float = knob(80_000.0, "Guidance: the constant s at 512×512, or the share of the searched step", low=0.0, high=1e6)
    clamp: float = knob(0.995, "Share of latent values that are not clipped", low=0.9, high=1.0)
    companion: str = knob("free", "free: ψ also learns from an unguided sample · none", choices=("free", "none"))
    width: int = knob(64, "Width of ψ and of the discriminators", low=6, high=64)
    psi_start: str = knob("random", "ψ begins at random as in the paper, or as the guess leaves it", choices=("random", "exact"))
    features: str = knob("auto", "Perceptual losses: VGG-16, edge differences, or VGG-16 where it can be had", choices=("auto", "vgg", "edges"))
    fit_pixel: float = knob(0.02, "ψ keeps pixels", low=0.0, high=10.0)
    fit_perceptual: float = knob(0.3, "ψ keeps features", low=0.0, high=10.0)
    fit_adversarial: float = knob(0.8, "ψ takes the look of the picture", low=0.0, high=10.0)
    fit_rate: float = knob(5e-4, "Learning rate of ψ", low=0.0, high=0.01)
    critic_rate: float = knob(4e-5, "Learning rate of the discriminators", low=0.0, high=0.01)
    perceptual: float = knob(2e-3, "Guidance: features of ψ(estimate) against the picture's", low=0.0, high=1.0)
    adversarial: float = knob(5e-5, "Guidance: residual discriminator", low=0.0, high=1.0)
    brightness: float = knob(1e-2, "Guidance: mean brightness of patches towards 0.5", low=0.0, high=1.0)
    patches: int = knob(16, "Patches a side of the brightness loss", low=1, high=64)
    colour: float = knob(1e-2, "Guidance: grey-world", low=0.0, high=1.0)
    quality_below: int = knob(100, "Brightness and grey-world act below this timestep", low=0, high=1000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start == "picture" and self.companion == "free":
            raise ValueError("companion=free needs start=noise: at the low level where a picture starts, the unguided sample would be noise.")

    @property
    def batches(self) -> bool:
        return False  # it fits networks to each picture

    def factor(self, degradation: LinearDegradation | None) -> int:
        return 1

    def iterations(self, degradation: LinearDegradation | None) -> int:
        return self.steps * (1 + self.recurrences)

    def restore(self, prior: LatentPrior, y: Tensor, degradation: LinearDegradation | None, *, generator: torch.Generator) -> Iterator[Step]:
        """y (1,3,h,w) in [0,1] -> steps; the last one's image is (1,3,h,w). A step's views: the estimate, ψ of it, every finished pass."""
        size = (y.shape[-2], y.shape[-1])
        guess = first_guess(y, self.guess)
        target = to_grey(guess.invert(y)) if guess.grey else guess.invert(y)
        text = prior.embed(self.prompt)
        seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(2)]
        matrix = None if self.psi_start == "random" else grey_matrix() if guess.grey else torch.eye(3)
        features, said = self._features()
        alignment = Alignment(target, self._weights(), self.width, generator, matrix, features)
        passes = self.passes(prior, guess)
        z = self._first_latent(prior, target, passes[0][0], seeds[0], generator)
        free = [self._free_run(prior, seed, size, passes) for seed in seeds] if self.start == "noise" else []
        total, done, finished = sum(map(len, passes)), 0, {}
        found = (f"found: {guess.describe()}, " if self.guess == "auto" else "") + said
        for number, times in enumerate(passes):
            if number:  # recurrence: back to γT
                z = _noise_again(prior, z, times[0], size, self.renoise, self.fresh_noise * randn(z.shape, generator, z.device))
            doubt = self._doubt(prior, guess, times[0])
            for k, (t, t_next) in enumerate(zip(times, (*times[1:], 0), strict=True)):
                guided = t < self.guide_below and k % self.guide_every == 0 and doubt < math.inf
                if self.start == "noise" and not number and t >= self.guide_below:
                    z0, eps, x = free[0].moment(prior, text, done)  # not yet guided: independent of y
                else:
                    z0, eps = _estimate(prior, z, t, text, self.text_guidance, self.clamp)
                    x = None
                others = [] if self.companion == "none" else [free[1].moment(prior, text, done).x.to(z.device)]
                # x1 = D(ẑ0); one step of ψ on {x1, x2}; g = s ∇_{ẑ0} loss(ψ(x1), y)
                pull, scalars, views = self._align_and_guide(prior, alignment, z0, x, others, t, size, guided, guess, doubt)
                factor = 1.0 if self.step == "constant" else prior.alpha_bar[t_next].sqrt().float()
                z = ddim_step(z0, eps, prior.alpha_bar[t_next]) - factor * pull
                done += 1
                if k == len(times) - 1:
                    finished[f"pass {number}"] = prior.picture(z, size)
                image = self._finish(alignment, _decode(prior, z, size), guess) if done == total else None
                if image is not None and self.output != "decoded" and not guess.grey and is_grey(y):
                    image = to_grey(image)  # the prior sees in colour
                yield Step(done, total, z0, f"{found}pass {number}, timestep {t}", scalars, image, views | finished)

    def passes(self, prior: LatentPrior, guess: Guess) -> Passes:
        """The timesteps of the first pass and of every recurrence, falling."""
        if self.start == "noise":
            times = _falling(self.first, self.steps)
            return (times, *[tuple(t for t in times if t <= self.again) or times[-1:]] * self.recurrences)
        quiet = prior.timestep(prior.gain * guess.noise) if guess.noise else 0
        level = max(self.start_level / 255, COLOURLESS) if guess.grey else self.start_level / 255 + 1e-9
        first = prior.timestep(prior.gain * level)
        # a grey and noisy picture: first the colours, while brightness is pulled towards y with its noise, then the noise
        recurrences = self.recurrences + (guess.grey and quiet > 0)
        return (_falling(max(first, quiet), self.steps), *[_falling(max(self.again, quiet), self.steps)] * recurrences)

    def _doubt(self, prior: LatentPrior, guess: Guess, first: int) -> float:
        """Variance of what y still says once a pass has begun: a start from it at σ, without fresh noise, holds a precision of 1/σ² (ours)."""
        if self.fresh_noise == 1 or guess.noise == 0:
            return guess.noise**2
        left = guess.noise**-2 - prior.sigmas[first].item() ** -2
        return 1 / left if left > 0.05 * guess.noise**-2 else math.inf  # timesteps miss a level by up to 1 %

    def _align_and_guide(
        self,
        prior: LatentPrior,
        alignment: Alignment,
        z0: Tensor,
        known: Tensor | None,
        others: list[Tensor],
        t: int,
        size: tuple[int, int],
        guided: bool,
        guess: Guess,
        doubt: float,
    ) -> tuple[Tensor, dict[str, float], dict[str, Tensor]]:
        """One training step of ψ, then the step that the clean estimate z0 takes towards y: (pull (1,C,h,w), scalars, views).

        known: D(z0) where it has been computed before; others: further clean pictures (1,3,h,w) for ψ.
        """
        with torch.set_grad_enabled(guided):
            leaf = z0.detach().requires_grad_(guided)
            x = prior.decode(leaf, size) if known is None else known.to(z0.device)
        pictures = torch.cat([x.detach(), *others])
        scalars = dict(alignment.fit(pictures, t < self.guide_below))
        pull = torch.zeros_like(z0)
        with torch.set_grad_enabled(guided):
            if guided:
                loss = alignment.loss(_brightness_only(x) if guess.grey else x, pictures, t < self.quality_below)
                # of a sum over pixels: that of the mean falls with the picture's size until it is lost in rounding
                (gradient,) = torch.autograd.grad(x.numel() / 2 * loss, leaf)
                pull = self._pull(prior, alignment, leaf.detach(), gradient, t, size, doubt)
        with torch.no_grad():
            damaged = alignment.psi(x.detach())
            scalars["residual"] = (damaged - alignment.y).square().mean().sqrt().item()
            views = {"estimate": x.detach().clamp(0, 1), "ψ(estimate)": guess.forward(damaged).clamp(0, 1)}
        return pull, scalars, views

    @torch.no_grad()
    def _pull(
        self, prior: LatentPrior, alignment: Alignment, z0: Tensor, gradient: Tensor, t: int, size: tuple[int, int], doubt: float
    ) -> Tensor:
        """s of the official code times the gradient of its mean, or the step to the minimum of ‖ψ(D(z)) - y‖² + λ ‖z - z0‖², λ = doubt/σ_t².

        gradient: of half the sum over pixels. The second is ours: it adapts to ψ's gain and to any latent scale, and it stops trusting y
        where the diffusion's noise is the lesser.
        """
        if self.step == "constant":
            return self.scale * 2 / (3 * 512**2) * gradient
        damp = doubt / prior.sigmas[t].item() ** 2
        return self.scale * _best_step(lambda z: alignment.psi(prior.decode(z, size)), z0, gradient, damp)

    @torch.no_grad()
    def _finish(self, alignment: Alignment, x: Tensor, guess: Guess) -> Tensor:
        """The answer from the decoded x: as it is, or after one last step towards y in pixels, which brings back what the codec drops."""
        if self.output == "decoded":
            return x
        if self.output == "shaded" and guess.grey:
            x = _shaded(x)
        with torch.enable_grad():
            leaf = x.requires_grad_()
            free = _brightness_only(leaf) if guess.grey else leaf
            residual = alignment.psi(free) - alignment.y
            (gradient,) = torch.autograd.grad(residual.square().sum() / 2, leaf)
        # of x, as a variance: what noise does not explain
        error = (residual.detach().square().mean() - guess.noise**2).clamp_min(CODEC_ERROR**2).item()
        return x.detach() - _best_step(alignment.psi, x.detach(), gradient, guess.noise**2 / error)

    def _first_latent(self, prior: LatentPrior, target: Tensor, t: int, seed: int, generator: torch.Generator) -> Tensor:
        if self.start == "noise":
            return randn(_shape(prior, (target.shape[-2], target.shape[-1])), torch.Generator().manual_seed(seed), prior.device)
        with torch.no_grad():
            z = prior.encode(target)
        return add_noise(z, self.fresh_noise * randn(z.shape, generator, z.device), prior.alpha_bar[t])

    def _free_run(self, prior: LatentPrior, seed: int, size: tuple[int, int], passes: Passes) -> FreeRun:
        """The unguided trajectory of a seed under these settings; each prior keeps two, the main and the companion, as long as it lives."""
        kept = _free_runs.setdefault(prior, functools.lru_cache(maxsize=2)(FreeRun))
        wording = self.prompt, self.text_guidance
        return kept(prior.placement, seed, _shape(prior, size), size, passes, wording, self.clamp, self.renoise, self.fresh_noise)

    def _features(self) -> tuple[Callable[[Tensor], Tensor], str]:
        """What the perceptual losses compare, and which it is where it was looked for. Nothing is loaded where no such loss has weight."""
        if self.features == "edges" or not (self.perceptual or self.fit_perceptual):
            return edges, ""
        try:
            return vgg_features(), "perceptual losses on VGG-16, "
        except Exception:  # of the network, the Hub's client, the file: whatever keeps the weights away, there is the stand-in
            if self.features == "vgg":
                raise
            return edges, "perceptual losses on edges as VGG-16 cannot be had, "

    def _weights(self) -> Weights:
        return Weights(**{name: getattr(self, name) for name in Weights.__dataclass_fields__})


class Moment(NamedTuple):
    """One step of an unguided trajectory: clean estimate and noise, each (1,C,h,w), and the decoded estimate (1,3,·,·) in main memory."""

    z0: Tensor
    eps: Tensor
    x: Tensor


class FreeRun:
    """Plain DDIM from noise of shape (1,C,h,w), with recurrences, that no picture touches: the same for every picture of a run.

    Each moment is computed once, when it is first asked for, by the prior that is then given; a failure leaves all as it was. The placement
    and the wording (prompt, guidance) are part of its identity: what a network computed in float16 is not replayed in float32.
    """

    def __init__(
        self,
        placement: Placement,
        seed: int,
        shape: tuple[int, ...],
        size: tuple[int, int],
        passes: Passes,
        wording: tuple[str, float],
        clamp: float,
        renoise: str,
        fresh_noise: float,
    ):
        self._size, self._guidance, self._clamp, self._renoise = size, wording[1], clamp, renoise
        generator = torch.Generator().manual_seed(seed)
        self._z, *noises = (randn(shape, generator, torch.device(placement.device)) for _ in passes)
        self._steps = [  # (timestep, the next one, the noise that a recurrence begins with)
            (t, t_next, noise if t == times[0] else None)
            for times, noise in zip(passes, [None, *(fresh_noise * noise for noise in noises)], strict=True)
            for t, t_next in zip(times, (*times[1:], 0), strict=True)
        ]
        self._moments: list[Moment] = []

    def moment(self, prior: LatentPrior, text: Tensor | None, k: int) -> Moment:
        """The k-th step; text: the wording as the prior reads it."""
        while len(self._moments) <= k:
            t, t_next, noise = self._steps[len(self._moments)]
            z = self._z if noise is None else _noise_again(prior, self._z, t, self._size, self._renoise, noise)
            z0, eps = _estimate(prior, z, t, text, self._guidance, self._clamp)
            moment = Moment(z0, eps, _decode(prior, z0, self._size).cpu())
            self._z = ddim_step(z0, eps, prior.alpha_bar[t_next])  # last of what can fail
            self._moments.append(moment)
        return self._moments[k]


_free_runs: weakref.WeakKeyDictionary[LatentPrior, Callable[..., FreeRun]] = weakref.WeakKeyDictionary()


@torch.no_grad()
def _estimate(prior: LatentPrior, z: Tensor, t: int, text: Tensor | None, guidance: float, clamp: float) -> tuple[Tensor, Tensor]:
    z0, eps = prior.denoise(z, t, text, guidance)
    return clamp_quantile(z0, clamp), eps


@torch.no_grad()
def _decode(prior: LatentPrior, z: Tensor, size: tuple[int, int]) -> Tensor:
    return prior.decode(z, size)


@torch.no_grad()
def _noise_again(prior: LatentPrior, z: Tensor, t: int, size: tuple[int, int], form: str, noise: Tensor) -> Tensor:
    """√ᾱ_t z + √(1-ᾱ_t) noise of the latent itself, or of its picture encoded anew."""
    if form == "image":
        z = prior.encode(prior.decode(z, size).clamp(0, 1))
    return add_noise(z, noise, prior.alpha_bar[t])


def _shape(prior: LatentPrior, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Of the latent of one picture."""
    return 1, prior.channels, -(-size[0] // prior.factor), -(-size[1] // prior.factor)


def _falling(first: int, steps: int) -> tuple[int, ...]:
    """At most `steps` timesteps at equal distances from `first`, at least 1, down to above 0."""
    first = max(1, first)
    return tuple(range(first, 0, -max(1, (first + 1) // steps)))[:steps]


def _best_step(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor, damp: float) -> Tensor:
    """What to take from x to minimise ‖function(x) - y‖² + damp ‖step‖² along the gradient of half the first term, same shape.

    Free of scale: the derivative is taken along a unit vector, over a change of 1e-2 a value, whatever the gradient's size and x's.
    """
    length = gradient.norm()
    if length == 0:
        return gradient
    direction, h = gradient / length, 1e-2 * x.numel() ** 0.5
    moved = (function(x + h * direction) - function(x)) / h
    return length / (moved.square().sum() + damp).clamp_min(1e-20) * direction


def _brightness_only(x: Tensor) -> Tensor:
    """x, whose gradient is the same in all channels: along a luma's own gradient, its weights, a darker grey would turn magenta."""
    return x.detach() + (x - x.detach()).mean(1, keepdim=True)


def _shaded(x: Tensor) -> Tensor:
    """x (1,3,h,w) with its brightness b kept and its colours made to follow it: (1 + tint) b, the tint that of wide windows (ours).

    Light and shade change brightness and colour by the same factor; the faint colours that a small prior adds do not.
    """
    from scipy.ndimage import gaussian_filter

    brightness, size = to_grey(x), (x.shape[-2], x.shape[-1])
    # so wide a window needs no more than a small picture, on which it costs little
    small = [max(1, round(side * min(1.0, TINT_SIDE / min(size)))) for side in size]
    sigma = (0, 0, *[TINT_WIDTH * min(small)] * 2)
    parts = (F.adaptive_avg_pool2d(part, (small[0], small[1])).cpu().numpy() for part in (x - brightness, brightness))
    added, light = (torch.from_numpy(gaussian_filter(part, sigma, mode="nearest")).to(x) for part in parts)
    return brightness * (1 + F.interpolate(added / light.clamp_min(1e-3), size, mode="bilinear"))


# embedded prior, ours: the ablation table has a row for each difference from the paper
FAST: dict[str, Any] = {
    "start": "picture", "fresh_noise": 0.0, "steps": 6, "recurrences": 0, "again": 1, "guide_below": 1000, "step": "line search", "scale": 1.0,
    "clamp": 1.0, "width": 16, "psi_start": "exact", "companion": "none", "output": "consistent",
    "perceptual": 0.0, "adversarial": 0.0, "fit_pixel": 0.0, "fit_adversarial": 0.0, "fit_perceptual": 0.0, "brightness": 0.0, "colour": 0.0,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "auto": FAST | {"guess": "auto", "output": "shaded"},
    "low-light": FAST | {"guess": "exposure"},
    "dehaze": FAST | {"guess": "veil"},
    "denoise": FAST,
    "colorize": FAST | {"guess": "grey", "step": "constant", "scale": 80_000.0, "output": "shaded"},
    "low-light+denoise": FAST | {"guess": "exposure"},
    "colorize+denoise": FAST | {"guess": "grey+noise", "output": "shaded"},
    # the official code's, for Stable Diffusion on a GPU; low-light is what the defaults are
    "paper": {},
    "paper dehaze": {
        "recurrences": 3,  # the paper's best; the script's default, 0, saves no picture
        "scale": 25_000.0, "perceptual": 5e-3, "adversarial": 0.0, "patches": 8, "colour": 1e-3, "quality_below": 150,
        "fit_pixel": 0.2, "fit_perceptual": 0.5, "fit_adversarial": 0.2, "critic_rate": 1e-4,
    },
    "paper denoise": {
        "recurrences": 1, "scale": 40_000.0, "perceptual": 0.0, "adversarial": 0.0, "brightness": 0.0, "colour": 0.0,
        "fit_pixel": 3.0, "fit_perceptual": 0.002, "fit_adversarial": 0.001, "critic_rate": 1e-4,
    },
}  # fmt: skip
