"""Seeded damage that no operator undoes: what the blind method is measured on, and what the page can do to a
clean picture first.

Each corruption draws its strength and its noise from the generator and ends in 8 bits. x, y: (1,3,H,W)
float32 in [0,1]. The ranges are ours; each comment says what they imitate.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.base import LinearDegradation
from restoration.degradations.camera import EXPOSURES, CameraNoise, Fog
from restoration.degradations.linear import TASKS
from restoration.degradations.realistic import CAMERAS, Camera
from restoration.diffusion import randn
from restoration.files.errors import cut, quoted
from restoration.files.images import quantise

# of what a solver is told: words for everybody, and the field's own
WORDS = {
    "denoise": "Noise or grain (denoise)",
    "deblur": "Blur (deblur)",
    "motion-deblur": "Shaken camera (motion-deblur)",
    "kernel-deblur": "A blur of my own, from a file (kernel-deblur)",
    "super-resolution": "Too small: enlarge (super-resolution)",
    "inpaint": "Missing parts (inpaint)",
}
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def to_grey(x: Tensor) -> Tensor:
    """The BT.601 luma of x in all three channels, (B,3,H,W)."""
    return (x * _luma(x.device, x.dtype)).sum(1, keepdim=True).expand_as(x)


@functools.lru_cache(maxsize=16)
def _luma(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(3,1,1): brought to a device once, for which every copy is waited."""
    return torch.tensor(LUMA).to(device, dtype)[:, None, None]


def darken(x: Tensor, generator: torch.Generator) -> Tensor:
    """A short exposure: 3-15 % of the light, shot noise of 2000-20000 electrons at white, read noise, and a
    steeper tone curve.
    """
    exposure, electrons = _between(0.03, 0.15, generator), 10 ** _between(3.3, 4.3, generator)
    light = exposure * x.clamp(0, 1) ** 2.2
    light = light + (light / electrons).sqrt() * randn(x.shape, generator, x.device)
    light = light + 2 / electrons * randn(x.shape, generator, x.device)
    return light.clamp(0, 1) ** (_between(1.0, 1.3, generator) / 2.2)


def haze(x: Tensor, generator: torch.Generator) -> Tensor:
    """y = x t + A (1-t), t = exp(-β d): near-white air A and a depth d in [0,1] that rises towards the top
    and varies smoothly.
    """
    return veiled(x, generator)[0]


def veiled(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(`haze` of x, the share 1 - t of each pixel that is haze, (1,1,H,W))."""
    height, width = x.shape[-2:]
    bumps = F.interpolate(
        randn(torch.Size((1, 1, 4, 4)), generator, x.device),
        (height, width),
        mode="bicubic",
        align_corners=True,
    )
    slope = torch.linspace(1, 0, height).to(x)[:, None]
    depth = (0.25 + 0.6 * slope + 0.15 * bumps).clamp(0, 1)
    transmission = torch.exp(-_between(0.6, 1.6, generator) * depth)
    air = _between(0.8, 0.98, generator) + 0.02 * randn(torch.Size((1, 3, 1, 1)), generator, x.device)
    return x * transmission + air * (1 - transmission), 1 - transmission


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """White noise of 20-50/255 added at twice the size, then reduced: correlated and weaker, as in the Kodak
    files in circulation.
    """
    large = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    large = (large + _between(20, 50, generator) / 255 * randn(large.shape, generator, x.device)).clamp(0, 1)
    return F.interpolate(large, scale_factor=0.5, mode="bicubic", align_corners=False, antialias=True)


def grey(x: Tensor, generator: torch.Generator) -> Tensor:
    """No colour."""
    return to_grey(x)


@dataclass(frozen=True)
class Corruption:
    """Parts applied one after the other."""

    title: str
    parts: tuple[Callable[[Tensor, torch.Generator], Tensor], ...]

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (1,3,H,W) in [0,1] -> the damaged picture, same size, rounded to 8 bits."""
        for part in self.parts:
            x = part(x, generator)
        return quantise(x)


CORRUPTIONS: dict[str, Corruption | CameraNoise | Fog] = {
    "low-light": Corruption("Too dark, as from a short exposure", (darken,)),
    "haze": Corruption("Hazy", (haze,)),
    "noise": Corruption("Noisy", (noise,)),
    "grey": Corruption("Without colour", (grey,)),
    "low-light+noise": Corruption("Too dark and noisy", (noise, darken)),
    "grey+noise": Corruption("Without colour and noisy", (noise, grey)),
    "fog": Fog(),
    **{name: exposure() for name, exposure in EXPOSURES.items()},
}


# what makes a degraded picture of a clean one: degrade(x (1,3,H,W), generator) -> y (1,3,h,w)
Damage = LinearDegradation | Camera | Corruption | CameraNoise | Fog


def make_damage(name: str, settings: Mapping[str, Any], scale: int) -> Damage:
    """The damage of a name in TASKS or EXPOSURES (with settings), CAMERAS (which reduce `scale` times) or
    CORRUPTIONS.

    ValueError for any other name, and for settings that it does not have.
    """
    if name not in titles():
        raise ValueError(f"There is no damage {quoted(name)}; there are {', '.join(titles())}.")
    classes: dict[str, Any] = {**TASKS, **EXPOSURES}
    own = {field.name for field in dataclasses.fields(classes[name])} if name in classes else set()
    if unknown := settings.keys() - own:
        raise ValueError(
            f"{name} has no setting {cut(', '.join(sorted(unknown)))}; "
            f"it has {', '.join(sorted(own)) or 'none'}."
        )
    if name in classes:
        return classes[name](**settings)
    return Camera(CAMERAS[name], scale) if name in CAMERAS else CORRUPTIONS[name]


def titles() -> dict[str, str]:
    """Every damage's name -> what the page calls it."""
    cameras = {name: Camera(strength, 1).title for name, strength in CAMERAS.items()}
    return (
        {name: WORDS.get(name, name) for name in TASKS}
        | cameras
        | {name: corruption.title for name, corruption in CORRUPTIONS.items()}
    )
