"""The damage meter: what is wrong with a photograph, how much, and how sure that is (ours).

A small network, trained by restoration/training/meter.py on photographs damaged at random, reads the
statistics of features.py; light and haze are the network's of light.py. Their thresholds were put where one
clean photograph in some hundreds is called damaged in each respect.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from restoration.degradations import light
from restoration.degradations.features import COMB, coarseness, noise_by_brightness, texture
from restoration.files import images

WEIGHTS = Path(__file__).parents[1] / "weights" / "meter" / "model.safetensors"
KINDS = ("noise", "blur", "jpeg", "enlargement")  # read from `texture`
LEAST = {
    "noise": 0.0,
    "blur": 0.0,
    "jpeg": 1.0,
    "enlargement": 1.0,
    "darkness": 0.0,
    "backlight": 0.0,
    "veil": 0.0,
}
MOST = {
    "noise": 100 / 255,
    "blur": 6.0,
    "jpeg": 100.0,
    "enlargement": 6.0,
    "darkness": 6.0,
    "backlight": 6.0,
    "veil": 1.0,
}
# from `coarseness` to the level for a denoiser of white noise: 1.5 times that of a camera's, at which the
# PSNR of held-out photographs is highest; the coarsest is that of noise enlarged twice with its picture
COARSEST, COARSE_POWER = 1.65, 1.8
# a denoiser is told so much more than was measured, as noise that is told too low stays, which costs more
# than detail; chosen by PSNR on held-out photographs, white noise and a camera's
ALLOWANCE = 1.08
# JPEG leaves noise coarser, and blocks, which are as much as noise: by the share of quality that is lost,
# chosen by PSNR on held-out photographs of quality 50 to 100
JPEG_COARSER, JPEG_BLOCKS = 1.2, 25 / 255
BRIGHTNESSES = (0.1, 0.3, 0.5, 0.7, 0.9)  # at which the level of noise is told
GREY_SPREAD = 0.5 / 255  # channels that differ less on the mean carry no colour
# a picture whose strongest channels have so low a mean is too dark where the network is but little sure of
# it: 4 in 1,000 clean photographs
DIM, LIKELY, PLAIN = 0.2, 0.1, 0.75
# from which light or haze is asked about: so sure it is of a room before a window, as of 1 clean photograph
# in 7
UNSURE = 0.05
# log-likelihood ratio a coefficient from which the comb of JPEG's steps tells the quality alone
SURE_COMB = 0.5
STRAY = 6.0  # standard deviations: a statistic further out than this counts as so far
WIDTHS = (192, 96)


@dataclass(frozen=True)
class Estimate:
    """How much of a damage there is if there is any, and how sure it is that there is, from 0 to 1: `present`
    from one half on, which few clean photographs reach."""

    value: float
    confidence: float

    @property
    def present(self) -> bool:
        return self.confidence >= 0.5


@dataclass(frozen=True)
class Damage:
    """What is wrong with a picture.

    noise: standard deviation of the noise as it is in the picture, over all pixels and channels, in [0,1];
    noise_curve: the same at BRIGHTNESSES; noise_as_white: so many times as strong is the white noise that a
    denoiser has to be told of to take it out, 1 or more, before JPEG. blur: standard deviation of the blur
    in pixels. jpeg: quality, 1 to 100. enlargement: so many times as large a side as it has detail for.
    darkness: stops of light (powers of two) that are missing everywhere; backlight: in the dark part. veil:
    the mean share of haze. colour: the share of colour that is missing, 1 for a grey picture. pixels: how
    many the picture has.
    """

    noise: Estimate
    noise_curve: tuple[float, ...]
    noise_as_white: float
    blur: Estimate
    jpeg: Estimate
    enlargement: Estimate
    darkness: Estimate
    backlight: Estimate
    veil: Estimate
    colour: Estimate
    pixels: int

    def estimates(self) -> Mapping[str, Estimate]:
        """Every kind of damage by name."""
        return {
            f.name: value
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Estimate)
        }

    def noise_map(self, y: Tensor) -> Tensor:
        """The noise's standard deviation at each pixel of y (B,3,H,W) in [0,1] by its brightness, (B,1,H,W)
        in [0,1].
        """
        brightness = y.mean(1, keepdim=True).clamp(0, 1).detach().cpu().numpy()
        levels = np.interp(brightness, BRIGHTNESSES, self.noise_curve).astype(np.float32)
        return torch.from_numpy(levels).to(y)

    def as_white(self, noise: float) -> float:
        """The white noise that a denoiser is told of to take out noise like this picture's and JPEG's blocks;
        noise: its standard deviation in [0,1], as the result.
        """
        lost = 1 - self.jpeg.value / 100 if self.jpeg.present else 0.0
        white = ALLOWANCE * noise * self.noise_as_white
        return math.hypot(white * (1 + JPEG_COARSER * lost), JPEG_BLOCKS * lost)

    def describe(self) -> list[str]:
        """What is wrong, one plain sentence each; empty where nothing is."""
        sentences = {
            "noise": f"It is noisy: about {255 * self.noise.value:.0f}/255{self._where()}.",
            "blur": f"It is blurred, as by a Gaussian of {self.blur.value:.1f} pixels.",
            "jpeg": f"It was compressed as JPEG of quality {self.jpeg.value:.0f}.",
            "enlargement": f"It was enlarged about {self.enlargement.value:.1f} times.",
            "darkness": f"It is too dark: {self.darkness.value:.1f} stops of light are missing.",
            "backlight": f"Its dark part lacks {self.backlight.value:.1f} stops of light (backlit).",
            "veil": f"It is hazy: about {self.veil.value:.0%} of what is seen is haze.",
            "colour": "It has no colour.",
        }
        return [sentences[kind] for kind in self.told()]

    def told(self) -> list[str]:
        """The kinds of damage that are there and are worth a sentence each, by name."""
        kinds = [kind for kind, estimate in self.estimates().items() if estimate.present]
        if self.darkness.present and self.backlight.present:
            kinds.remove("backlight")  # of a picture that is dark everywhere this says the same again
        return kinds

    def doubts(self) -> list[str]:
        """What is as often meant as wrong and only who took the picture knows, one plain sentence each."""
        found = self.estimates()
        sentences = {
            ("darkness", "backlight"): "Its dark part may lack light: then take LD-RPS's preset low-light.",
            ("veil",): "It may be hazy: then take LD-RPS's preset dehaze.",
        }
        sure = {kinds: max(found[kind].confidence for kind in kinds) for kinds in sentences}
        return [sentences[kinds] for kinds, share in sure.items() if UNSURE <= share < 0.5]

    def _where(self) -> str:
        dark, bright = self.noise_curve[0], self.noise_curve[-1]
        return (
            f", {255 * dark:.0f} in the dark and {255 * bright:.0f} in the light"
            if max(dark, bright) > 1.5 * min(dark, bright)
            else ""
        )


class Reader(nn.Module):
    """Statistics (B,n) -> (logits that each kind of damage is there (B,k), how much where it is (B,k), in the
    units of `to_units`).
    """

    centre: Tensor
    spread: Tensor
    value_centre: Tensor
    value_spread: Tensor
    threshold: Tensor

    def __init__(self, count: int, kinds: int) -> None:
        super().__init__()
        sizes = (count, *WIDTHS)
        layers = [
            part
            for a, b in itertools.pairwise(sizes)
            for part in (nn.Linear(a, b), nn.SiLU(), nn.Dropout(0.1))
        ]
        self.network = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 2 * kinds))
        for name, size in {
            "centre": count,
            "spread": count,
            "value_centre": kinds,
            "value_spread": kinds,
            "threshold": kinds,
        }.items():
            self.register_buffer(name, torch.zeros(size))

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        normal = ((statistics - self.centre) / self.spread).clamp(-STRAY, STRAY)
        logits, values = self.network(normal).chunk(2, 1)
        return logits - self.threshold, values * self.value_spread + self.value_centre


def to_units(kind: str, value: float) -> float:
    """What the network is trained to tell of a value of Damage: noise and enlargement by their logarithms."""
    return (
        float(np.log(max(255 * value, 0.1)))
        if kind == "noise"
        else float(np.log(value))
        if kind == "enlargement"
        else value
    )


def from_units(kind: str, output: float) -> float:
    """The inverse of `to_units`, within LEAST and MOST."""
    value = (
        float(np.exp(output)) / 255
        if kind == "noise"
        else float(np.exp(output))
        if kind == "enlargement"
        else output
    )
    return min(max(value, LEAST[kind]), MOST[kind])


@functools.cache
def load_reader(path: Path = WEIGHTS) -> Reader:
    """The trained network."""
    state = load_file(path)
    with torch.random.fork_rng(devices=[]):  # initial weights, which nobody sees, take no draws of a run
        reader = Reader(len(state["centre"]), len(KINDS))
    reader.load_state_dict(state)
    return reader.eval()


def measure_damage(x: Tensor, quality: int | None = None) -> Damage:
    """What is wrong with x (1,3,H,W) in [0,1], sides ≥ 16, in a fraction of a second whatever its size.

    quality: JPEG's, where the file at hand says it (`file_quality`). ValueError for another shape.
    """
    if x.ndim != 4 or x.shape[:2] != (1, 3) or min(x.shape[-2:]) < images.MIN_SIDE:
        raise ValueError(
            f"One picture (1,3,H,W) of at least {images.MIN_SIDE} pixels a side is measured, not "
            f"{tuple(x.shape)}."
        )
    pixels = _pixels(x)
    statistics = texture(pixels)
    with torch.no_grad():
        logits, outputs = load_reader()(torch.from_numpy(statistics)[None])
    estimates = _estimates(KINDS, outputs[0], logits[0])
    comb, likelihood = statistics[COMB].tolist()
    if likelihood > SURE_COMB:
        estimates["jpeg"] = Estimate(100 * comb, estimates["jpeg"].confidence)
    found = light.find_light(x)
    estimates |= _estimates(light.KINDS, found.amounts[0], found.logits[0])
    lacking = max(estimates["darkness"].confidence, estimates["backlight"].confidence)
    if pixels.max(-1).mean() < 255 * DIM and lacking >= LIKELY:
        estimates["darkness"] = Estimate(estimates["darkness"].value, max(lacking, PLAIN))
    if quality is not None:
        estimates["jpeg"] = Estimate(quality, estimates["jpeg"].confidence)
    spread = float((pixels.max(-1) - pixels.min(-1)).mean()) / 255
    grey = spread < GREY_SPREAD
    return Damage(
        **estimates,
        noise_curve=_curve(pixels, estimates["noise"].value),
        noise_as_white=min(max(coarseness(pixels), 1.0), COARSEST) ** COARSE_POWER,
        colour=Estimate(float(grey), float(grey)),
        pixels=x.shape[-2] * x.shape[-1],
    )


def _estimates(kinds: tuple[str, ...], outputs: Tensor, logits: Tensor) -> dict[str, Estimate]:
    """By kind; outputs and logits (k,)."""
    return {
        kind: Estimate(from_units(kind, value), confidence)
        for kind, value, confidence in zip(kinds, outputs.tolist(), logits.sigmoid().tolist(), strict=True)
    }


def _pixels(x: Tensor) -> np.ndarray:
    """(H,W,3) float32 in [0,255]."""
    return (x[0].detach().float().clamp(0, 1) * 255).permute(1, 2, 0).cpu().numpy()


def _curve(pixels: np.ndarray, level: float) -> tuple[float, ...]:
    """The noise at BRIGHTNESSES: as the flattest parts differ there, and `level` on the whole picture."""
    edges = np.linspace(0, 255.01, len(BRIGHTNESSES) + 1)
    ratios = noise_by_brightness(pixels, edges)
    known = np.isfinite(ratios)
    if known.sum() < 2:
        return (level,) * len(BRIGHTNESSES)
    ratios = np.interp(BRIGHTNESSES, np.array(BRIGHTNESSES)[known], ratios[known])
    shares = np.histogram(pixels.mean(-1), edges)[0] / (pixels.shape[0] * pixels.shape[1])
    whole = max(float(np.sqrt((shares * ratios**2).sum())), 1e-3)
    return tuple(float(level * ratio / whole) for ratio in ratios)
