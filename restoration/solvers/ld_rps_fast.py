"""Blind restoration in a few steps, after LD-RPS (arXiv 2507.00790), for the embedded prior on a CPU.

The paper's algorithm is ld_rps.py. Equation numbers are those of docs/methods/ld-rps.md.

Objective: min_x ‖ψ(x) - y‖² / σ² - log p(x), in the order in which it is solved:

    guess the damage ψ; y ← ψ⁻¹(y); σ ← the white noise that stands for what is left      first_guess
    if neither noise nor missing colour is left: return y
    z ← E(y), at the level of y's own noise (missing colour: at COLOURLESS first)
    for t falling from that level:
        ẑ0, ε ← denoise(z, t)
        where y still says more than z: g ← the best step along ∇ ‖ψ(D(ẑ0)) - y‖² (12)
        z ← √ᾱ' ẑ0 + √(1-ᾱ') ε - g                                   (3)
    x ← D(z), its added colours made to follow its brightness
    return x, moved towards y by what noise does not explain         (13)

What differs from the paper, each measured in docs/measurements/ld-rps.md: ψ is the guess, exact, so nothing
is trained; the picture's own noise stands for the diffusion's, so none is added and a run depends on no seed;
no recurrence; the last step is in pixels, so that what the codec loses comes back and a picture in which
nothing is wrong is unchanged.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from restoration.degradations.blind import to_grey
from restoration.degradations.estimate import GUESSES, Guess, first_guess, is_grey
from restoration.degradations.light import unrounded
from restoration.degradations.meter import WEIGHTS
from restoration.diffusion import ddim_step, falling
from restoration.knobs import knob
from restoration.priors.latent import LatentPrior
from restoration.solvers.base import Known, Solver, Step, Steps
from restoration.solvers.ld_rps import GUIDANCE_HELP, PROMPT_HELP

EASY = 0.5  # megapixels of a picture that is quick enough with all steps
COLOURLESS = 10.0  # the level at which a latent no longer says that its picture is grey
CODEC_ERROR = 0.3 / 255  # what the embedded codec's round trip loses, as a standard deviation
TINT_WIDTH = 0.16  # standard deviation, in short sides, of the windows in which colours follow brightness
TINT_SIDE = 64  # pixels of the short side at which that is computed
PIXELS = 3 * 512**2  # values of a picture at the size for which the paper's scale is given


@dataclass(frozen=True)
class LDRPSFast(Solver):
    """LD-RPS in a few steps from a first guess of the damage."""

    title: ClassVar[str] = "LD-RPS"
    paper: ClassVar[str] = "arXiv 2507.00790"
    purpose: ClassVar[str] = "Restore a photograph that is too dark, hazy, noisy or without colour"
    blind: ClassVar[bool] = True
    colours: ClassVar[bool] = True

    prompt: str = knob("", PROMPT_HELP)
    text_guidance: float = knob(8.0, GUIDANCE_HELP, low=1.0, high=20.0)
    guess: str = knob("auto", "Damage to look for (none: noise alone · auto: each kind)", choices=GUESSES)
    act: str = knob(
        "where found", "Undo the told damage where it is found, or always", choices=("where found", "always")
    )
    strength: float = knob(1.0, "Share of the change that is made; 0 is the input", low=0.0, high=1.0)
    steps: int = knob(6, "Steps of a pass; missing colour and noise take two passes", low=1, high=1000)
    all_steps_below: float = knob(
        EASY,
        "Megapixels up to which a picture takes all its steps; a larger one takes fewer, one at the least",
        low=0.0,
        high=100.0,
    )
    step: str = knob(
        "line search",
        "Where colour is missing · line search: the best step along the gradient · constant: the paper's",
        choices=("line search", "constant"),
    )
    scale: float = knob(
        1.0, "Share of the searched step, or the paper's constant at 512×512", low=0.0, high=1e6
    )

    @property
    def differentiates(self) -> bool:
        return True

    @property
    def batches(self) -> bool:
        return False  # the noise level, and so the timesteps, are each picture's own

    def networks(self, prior: str, degradation: Known) -> list[Path]:
        return [WEIGHTS.parent] if self.act == "where found" else []  # the damage meter's

    def iterations(self, degradation: Known, pixels: float = 0) -> int:
        if pixels <= 1e6 * self.all_steps_below:
            return self.steps
        return max(1, int(self.steps * 1e6 * self.all_steps_below / pixels))

    def restore(self, prior: LatentPrior, y: Tensor, degradation: Known, *, generator: Generator) -> Steps:
        """y (1,3,h,w) in [0,1] -> steps; the last one's image is (1,3,h,w).

        A step's views: the estimate, ψ of it, every finished pass.
        """
        # guess the damage ψ; y ← ψ⁻¹(y); σ ← the noise left in it
        always = self.act == "always"
        guess = first_guess(y, self.guess, always)
        target = guess.invert(unrounded(y) if guess.dark else y)
        target = to_grey(target) if guess.grey and not always else target
        described, size = f"found: {guess.describe()}", (y.shape[-2], y.shape[-1])
        # z ← E(y)
        with torch.no_grad():
            z = prior.encode(target)
        # if neither noise nor missing colour is left: return y
        if not guess.grey and guess.told == 0:
            views = _views(target, guess) | {"pass 0": target}
            yield Step(1, 1, z, described, {}, y.lerp(target, self.strength), views)
            return
        text = prior.embed(self.prompt)
        passes = self.passes(prior, guess, self.iterations(degradation, size[0] * size[1]))
        total, done, finished = sum(map(len, passes)), itertools.count(1), {}
        for number, times in enumerate(passes):
            # at the level of y's own noise, which stands for the diffusion's
            z = prior.alpha_bar[times[0]].sqrt().item() * z
            doubt = doubt_of(prior, guess, times[0])
            # a pass ends without noise: the lowest level's would be a fifth of faint noise
            kept = [*(prior.alpha_bar[t] for t in times[1:]), torch.ones_like(prior.alpha_bar[0])]
            for t, alpha_bar_next in zip(times, kept, strict=True):
                # ẑ0, ε ← denoise(z, t)
                z0, eps = prior.denoise(z, t, text, self.text_guidance)
                z, x = ddim_step(z0, eps, alpha_bar_next), None
                # g ← the best step along ∇ ‖ψ(D(ẑ0)) - y‖² (12), where y still says more than z
                if doubt < math.inf:
                    x, g = self._pull(prior, z0, target, t, alpha_bar_next, guess, doubt)
                    # z ← √ᾱ' ẑ0 + √(1-ᾱ') ε - g
                    z = z - g
                index, image, ended = next(done), None, t == times[-1]
                if x is None or ended:
                    # at the end of a pass z is ẑ0 as it was pulled
                    x = _decode(prior, z if ended else z0, size)
                if ended:
                    finished[f"pass {number}"] = x.clamp(0, 1)
                if index == total:
                    # x ← D(z), moved towards y by what noise does not explain (13)
                    image = _last_step(x, target, guess)
                    if is_grey(y) and not guess.grey:
                        image = to_grey(image)  # the prior sees in colour
                    image = y.lerp(image, self.strength)
                residual = (_seen(x, guess) - target).square().mean().sqrt().item()
                note, views = f"{described}, pass {number}, timestep {t}", _views(x, guess) | finished
                yield Step(index, total, z0, note, {"residual": residual}, image, views)

    def passes(self, prior: LatentPrior, guess: Guess, steps: int) -> tuple[tuple[int, ...], ...]:
        """The falling timesteps of each pass, `steps` at most.

        Missing colour comes first, while brightness is held to y with its noise, then the noise.
        """
        own = prior.timestep(prior.gain * guess.told) if guess.told else 0
        colourless = prior.timestep(prior.gain * COLOURLESS) if guess.grey else 0
        first = falling(max(colourless, own), steps)
        return (first, falling(own, steps)) if guess.grey and own else (first,)

    def _pull(
        self,
        prior: LatentPrior,
        z0: Tensor,
        target: Tensor,
        t: int,
        alpha_bar_next: Tensor,
        guess: Guess,
        doubt: float,
    ) -> tuple[Tensor, Tensor]:
        """(D(z0) (1,3,h,w), what to take from the next latent (1,C,h,w)); doubt is finite."""
        size = (target.shape[-2], target.shape[-1])
        with torch.enable_grad():
            leaf = z0.detach().requires_grad_()
            x = prior.decode(leaf, size)
            # the same in all channels: along a luma's own gradient, its weights, a darker grey would turn
            # magenta
            free = x.detach() + (x - x.detach()).mean(1, keepdim=True) if guess.grey else x
            (gradient,) = torch.autograd.grad((_seen(free, guess) - target).square().sum() / 2, leaf)
        if self.step == "constant":
            return x.detach(), self.scale * 2 / PIXELS * gradient
        with torch.no_grad():
            damp = doubt / prior.sigmas[t].item() ** 2
            g = best_step(lambda z: _seen(prior.decode(z, size), guess), z0, gradient, damp)
        return x.detach(), self.scale * alpha_bar_next.sqrt().item() * g


def best_step(function: Any, x: Tensor, gradient: Tensor, damp: float) -> Tensor:
    """What to take from x to minimise ‖function(x) - y‖² + damp ‖step‖² along the gradient of ½‖function(x) -
    y‖².

    Free of scale: the derivative is taken along a unit vector, over a change of 1e-2 a value, whatever the
    gradient's size and x's.
    """
    length = gradient.norm().clamp_min(torch.finfo(gradient.dtype).tiny)  # without a slope, no step
    direction, h = gradient / length, 1e-2 * x.numel() ** 0.5
    moved = (function(x + h * direction) - function(x)) / h
    return length / (moved.square().sum() + damp).clamp_min(1e-20) * direction


def doubt_of(prior: LatentPrior, guess: Guess, first: int) -> float:
    """Variance of what y still says once a pass has begun: a start at σ without fresh noise holds 1/σ² of
    precision.
    """
    if guess.told == 0:
        return 0.0
    left = guess.told**-2 - (prior.sigmas[first].item() / prior.gain) ** -2
    return 1 / left if left > 0.05 * guess.told**-2 else math.inf  # timesteps miss a level by up to 1 %


def _seen(x: Tensor, guess: Guess) -> Tensor:
    """What y shows of x (1,3,h,w) without the invertible damage: its brightness where colour is missing, else
    all.
    """
    return to_grey(x) if guess.grey else x


@torch.no_grad()
def _decode(prior: LatentPrior, z: Tensor, size: tuple[int, int]) -> Tensor:
    return prior.decode(z, size)


def _views(x: Tensor, guess: Guess) -> dict[str, Tensor]:
    return {"estimate": x.clamp(0, 1), "ψ(estimate)": guess.forward(_seen(x, guess)).clamp(0, 1)}


def _last_step(x: Tensor, target: Tensor, guess: Guess) -> Tensor:
    """x (1,3,h,w) moved towards the target by the share of their difference that noise does not explain.

    So what the codec lost comes back.
    """
    x = shaded(x) if guess.grey else x
    residual = (_seen(x, guess) - target).mean(1, keepdim=True) if guess.grey else x - target
    error = (residual.square().mean() - guess.told**2).clamp_min(CODEC_ERROR**2)  # of x, as a variance
    return x - residual / (1 + guess.told**2 / error)


def shaded(x: Tensor) -> Tensor:
    """x (1,3,h,w) with its brightness b kept and its colours made to follow it: (1 + tint) b, tint of wide
    windows.

    Light and shade change brightness and colour by the same factor; the faint colours of a small prior do
    not.
    """
    from scipy.ndimage import gaussian_filter

    brightness, size = to_grey(x), (x.shape[-2], x.shape[-1])
    # so wide a window needs no more than a small picture, on which it costs little
    small = [max(1, round(side * min(1.0, TINT_SIDE / min(size)))) for side in size]
    sigma = (0, 0, *[TINT_WIDTH * min(small)] * 2)
    parts = (F.adaptive_avg_pool2d(part, (small[0], small[1])).cpu() for part in (x - brightness, brightness))
    added, light = (
        torch.from_numpy(gaussian_filter(part.numpy(), sigma, mode="nearest")).to(x) for part in parts
    )
    return brightness * (1 + F.interpolate(added / light.clamp_min(1e-3), size, mode="bilinear"))


PRESETS: dict[str, dict[str, Any]] = {
    "auto": {},
    "low-light": {"guess": "exposure"},
    "dehaze": {"guess": "veil"},
    "denoise": {"guess": "none", "steps": 2},  # more are sharper, and further from the truth
    "colorize": {"guess": "grey", "step": "constant", "scale": 80_000.0},
    "colorize+denoise": {"guess": "grey+noise"},
}
