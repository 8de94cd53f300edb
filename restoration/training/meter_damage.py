"""The damage that the meter learns to measure: drawn at random, with the truth about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations import camera
from restoration.degradations.blind import to_grey
from restoration.degradations.meter import to_units
from restoration.degradations.realistic import jpeg
from restoration.files.images import quantise

# what is surely there, and what is not worth a word; in between nothing is taught. Noise: as if the picture
# had its light, in 1/255
THERE = {"noise": 2.5, "blur": 0.8, "enlargement": 1.5}
NOTHING = {"noise": 0.5, "blur": 0.0, "enlargement": 1.0}
POOR, GOOD = 80, 93  # JPEG's quality
FAINT = 0.4 / 255  # noise below this is not told from rounding


@dataclass
class Sample:
    """A picture on its way through damage: y and the same without noise, (1,3,H,W) in [0,1]; value: of each
    kind, nan: not to be taught.
    """

    y: Tensor
    quiet: Tensor
    values: dict[str, float] = field(default_factory=lambda: dict(NOTHING) | {"jpeg": 100.0})

    def both(self, change) -> None:  # type: ignore[no-untyped-def]
        """The same change to the noisy and the quiet picture."""
        self.y, self.quiet = change(self.y).clamp(0, 1), change(self.quiet).clamp(0, 1)


def damage(x: Tensor, generator: torch.Generator) -> Sample:
    """x (1,3,H,W) in [0,1], damaged at random, with the truth about it."""

    def chance(share: float) -> bool:
        return torch.rand((), generator=generator).item() < share

    x = to_grey(x) if chance(0.08) else x
    if chance(0.2):  # a background out of focus is no damage
        far = (camera.smooth_field(x, generator) > between(0.3, 0.7, generator)).to(x)
        far = gaussian(far.expand_as(x), 4.0)
        x = x * (1 - far) + gaussian(x, between(1.5, 6.0, generator)) * far
    sample = Sample(x, x)
    if chance(0.1):
        foggy, _ = camera.Fog().veil(x, generator)
        sample = Sample(foggy, foggy)
    if chance(0.4):
        _blur(sample, generator)
    enlarging, first = chance(0.2), chance(0.4)
    factor = between(1.3, 4.0, generator)
    small = [max(8, round(side / factor)) for side in x.shape[-2:]]
    size = list(x.shape[-2:])
    if enlarging:
        sample.both(lambda a: F.interpolate(a, small, mode="bicubic", antialias=True))
        if first:  # noise that is enlarged with the picture
            _noise(sample, generator)
        mode = ("bilinear", "bicubic")[int(chance(0.6))]
        sample.both(lambda a: F.interpolate(a, size, mode=mode))
        sample.values |= {"enlargement": factor, "blur": math.nan}
    if not enlarging or not first:
        _noise(sample, generator)
    if chance(0.12):  # sharpened, as cameras do
        amount = between(0.3, 1.2, generator)
        sample.both(lambda a: a + amount * (a - gaussian(a, 1.0)))
    if chance(0.45):
        quality = int(between(10, 99, generator))
        sample.both(lambda a: jpeg(a, quality))
        sample.values["jpeg"] = float(quality)
    sample.y, sample.quiet = quantise(sample.y), quantise(sample.quiet)
    sample.values["noise"] = (sample.y - sample.quiet).square().mean().sqrt().item()
    return sample


def gaussian(x: Tensor, std: float, other: float | None = None) -> Tensor:
    """x blurred by a Gaussian of these standard deviations across and down, in pixels."""
    for axis, sigma in ((-1, std), (-2, std if other is None else other)):
        radius = max(1, math.ceil(3 * sigma))
        kernel = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        kernel = (
            (kernel / kernel.sum()).view((1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1)).repeat(3, 1, 1, 1)
        )
        padding = (radius, radius, 0, 0) if axis == -1 else (0, 0, radius, radius)
        x = F.conv2d(F.pad(x, padding, mode="replicate"), kernel, groups=3)
    return x


def _blur(sample: Sample, generator: torch.Generator) -> None:
    std, ratio = between(0.4, 3.6, generator), max(0.0, between(-1.0, 1.0, generator))
    other = std * (1 - 0.5 * ratio)
    sample.both(lambda a: gaussian(a, std, other))
    sample.values["blur"] = math.sqrt((std**2 + other**2) / 2)


def _noise(sample: Sample, generator: torch.Generator) -> None:
    """None, white, alike in all channels, correlated by reduction, or a sensor's (also in less light)."""
    pick, x = torch.rand((), generator=generator).item(), sample.y
    strong = math.exp(between(math.log(1.0), math.log(60.0), generator)) / 255
    if pick < 0.25:
        return
    if pick < 0.42:
        sample.y = x + strong * torch.randn(x.shape, generator=generator)
    elif pick < 0.48:
        sample.y = x + strong * torch.randn(x[:, :1].shape, generator=generator)
    elif pick < 0.6:  # reduced or enlarged after it arose
        grains = [max(4, round(side * between(0.45, 2.2, generator))) for side in x.shape[-2:]]
        grain = 1.5 * strong * torch.randn((1, 3, *grains), generator=generator)
        sample.y = x + F.interpolate(grain, x.shape[-2:], mode="bicubic", antialias=True)
    else:
        dark, shot = (
            torch.rand((), generator=generator).item(),
            math.exp(between(math.log(2e-5), math.log(2e-2), generator)),
        )
        gain, illumination = (
            math.exp(between(math.log(1.5), math.log(16.0), generator)),
            torch.ones(1, 1, 1, 1),
        )
        if dark < 0.3:
            illumination, shot = illumination / gain, shot / 4
        elif dark < 0.5:
            illumination, shot = torch.exp(-math.log(gain) * camera.shade(x, generator)), shot / 4
        sample.y, sample.quiet = camera.sensor(x, illumination, shot, generator)
    sample.y = sample.y.clamp(0, 1)


def between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def labels(kinds: tuple[str, ...], values: dict[str, float], light: float = 1.0) -> np.ndarray:
    """(2,k): whether each kind is there (0, 1) and its value as the network tells it; nan: not to be taught.

    light: the share of its light that the picture has, for how much its noise matters.
    """
    present, targets = [], []
    for kind in kinds:
        value = values[kind]
        if kind == "jpeg":
            present.append(1.0 if value <= POOR else 0.0 if value >= GOOD else math.nan)
        else:
            seen = value * 255 / light if kind == "noise" else value
            present.append(1.0 if seen >= THERE[kind] else 0.0 if seen <= NOTHING[kind] else math.nan)
        nothing = FAINT if kind == "noise" else NOTHING.get(kind, 0.0)
        # how much is learned where there is some
        silent = math.isnan(value) or value <= nothing or (kind == "jpeg" and value == 100)
        targets.append(math.nan if silent else to_units(kind, value))
    return np.array([present, targets], dtype=np.float32)
