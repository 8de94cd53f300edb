"""What cameras, resizing and the web do to a photograph: the second-order degradation of Real-ESRGAN, drawn
at random.

y = JPEG(sinc(resize(N₂(resize(blur₂(JPEG(N₁(resize(blur₁(x)))))))))  (Wang et al. 2021, arXiv 2107.10833,
fig. 2). The probabilities and ranges of `strong` are Real-ESRGAN's, those of `light` StableSR's (its public
configuration). Those of `mild` are ours, for photographs that went through one reduction and one JPEG at
most, and those of `enlarged`, for photographs that were smaller before. Differences: of the kernel families
only the Gaussian ones are drawn (isotropic and anisotropic; the generalised and the plateau kernels have 30 %
there); all pictures of a batch share one draw.
"""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MODES = ("area", "bilinear", "bicubic")
Range = tuple[float, float]


@dataclass(frozen=True)
class Ranges:
    """The ranges of one stage.

    blur: standard deviations in pixels; noise: Gaussian, in 1/255; shot: Poisson, 1 is that of 256 photons.
    """

    kernel: int
    blurred: float
    blur: Range
    resizing: tuple[float, float, float]  # probabilities of larger, smaller, equal
    ratio: Range
    noise: Range
    shot: Range
    quality: tuple[int, int]


class Pipeline(NamedTuple):
    """The ranges of both stages, the share of pictures with a last sinc filter, and whether resizing smooths
    what it reduces.
    """

    first: Ranges
    second: Ranges
    ringing: float = 0.8
    antialias: bool = False


STRENGTHS = {
    "mild": Pipeline(
        Ranges(21, 0.5, (0.2, 2.0), (0.0, 0.0, 1.0), (1.0, 1.0), (0, 3), (0.0, 0.2), (90, 100)),
        Ranges(11, 0.1, (0.2, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0), (0, 3), (0.0, 0.2), (75, 100)),
        ringing=0.1,
        antialias=True,
    ),
    "enlarged": Pipeline(
        Ranges(21, 0.5, (0.2, 1.0), (0.0, 1.0, 0.0), (0.3, 1.0), (0, 3), (0.0, 0.2), (85, 100)),
        Ranges(11, 0.1, (0.2, 1.0), (0.0, 0.0, 1.0), (1.0, 1.0), (0, 3), (0.0, 0.2), (75, 100)),
        ringing=0.1,
        antialias=True,
    ),
    "light": Pipeline(
        Ranges(21, 1.0, (0.2, 1.5), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2.0), (60, 95)),
        Ranges(11, 0.5, (0.2, 1.0), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1.0), (60, 100)),
    ),
    "strong": Pipeline(
        Ranges(21, 1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3.0), (30, 95)),
        Ranges(21, 0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
    ),
}


# gratings, in periods per 24 reduced pixels (horizontal, vertical): four finenesses up to just below the
# finest that pixels can hold
WAVES = tuple(
    wave
    for fine, oblique in ((3, 2), (6, 4), (9, 6), (11, 8))
    for wave in ((fine, 0), (oblique, oblique), (0, fine), (-oblique, oblique))
)
STRIPES = slice(4, 8)  # those of WAVES with a period of 4 reduced pixels
PROBE = 96  # side of the picture of gratings


CAMERAS = {f"camera-{strength}": strength for strength in STRENGTHS}  # the names of the tasks


@dataclass(frozen=True)
class Stage:
    """One drawn pass: blur (None: none), resize by `ratio`, noise (`level` in 1/255 or, if `shot`, in the
    unit of Ranges), JPEG.
    """

    kernel: Tensor | None
    ratio: float
    mode: str
    shot: bool
    level: float
    grey: bool
    quality: int


@dataclass(frozen=True)
class Realistic:
    """One drawn degradation of (B,3,H,W) in [0,1], to sides ⌈H/scale⌉, ⌈W/scale⌉."""

    scale: int
    stages: tuple[Stage, Stage]
    sinc: Tensor | None
    jpeg_last: bool
    antialias: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """The deterministic part: blurs and resizing, without noise and JPEG. Differentiable."""
        return self._apply(x, None)

    def transfer(self) -> Tensor:
        """(16,): what `forward` leaves of the contrast of WAVES, by sending all of them through it at once;
        1: all of it.
        """
        reduced, amplitude = PROBE // self.scale, 0.45 / len(WAVES)
        scene = 0.5 + amplitude * _gratings(PROBE, reduced).sum(0)
        seen = (self.forward(scene[None, None])[0, 0] - 0.5) / amplitude
        return 2 * (seen * _gratings(reduced, reduced)).mean((1, 2))

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """y, rounded to 8 bits; noise from the (CPU) generator."""
        return (self._apply(x, generator) * 255).round() / 255

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        final = [math.ceil(side / self.scale) for side in x.shape[-2:]]
        first, second = self.stages
        y = convolve(x, first.kernel)
        y = resize(
            y, [max(1, round(side * first.ratio)) for side in x.shape[-2:]], first.mode, self.antialias
        )
        if generator is not None:
            y = jpeg(noisy(y, first, generator), first.quality)
        y = convolve(y, second.kernel)
        y = resize(y, [max(1, round(side * second.ratio)) for side in final], second.mode, self.antialias)
        if generator is None:
            return convolve(resize(y, final, second.mode, self.antialias), self.sinc).clamp(0, 1)
        y = noisy(y, second, generator)
        if self.jpeg_last:
            return jpeg(convolve(resize(y, final, second.mode, self.antialias), self.sinc), second.quality)
        return convolve(resize(jpeg(y, second.quality), final, second.mode, self.antialias), self.sinc).clamp(
            0, 1
        )


@dataclass(frozen=True)
class Camera:
    """A task for blind solvers: every picture gets a degradation drawn from STRENGTHS[strength]."""

    strength: str
    scale: int

    @property
    def title(self) -> str:
        """For the page."""
        return f"Camera and web: blur, noise, JPEG ({self.strength})"

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x (B,3,H,W) in [0,1] -> y of sides ⌈H/scale⌉, ⌈W/scale⌉ in 8 bits."""
        return draw(self.strength, self.scale, generator).degrade(x, generator)


def draw(strength: str, scale: int, generator: torch.Generator) -> Realistic:
    """A random degradation of STRENGTHS[strength]; everything random comes from the (CPU) generator.

    ValueError for an unknown strength.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"strength is {strength!r}; it must be one of {', '.join(STRENGTHS)}.")
    ranges = STRENGTHS[strength]
    stages = _draw_stage(ranges.first, generator), _draw_stage(ranges.second, generator)
    ringing = _chance(ranges.ringing, generator)
    sinc = sinc_kernel(_uniform((math.pi / 3, math.pi), generator)) if ringing else None
    return Realistic(scale, stages, sinc, _chance(0.5, generator), ranges.antialias)


def _draw_stage(ranges: Ranges, generator: torch.Generator) -> Stage:
    kernel = _draw_kernel(ranges, generator) if _chance(ranges.blurred, generator) else None
    up, down, _ = ranges.resizing
    pick = _uniform((0, 1), generator)
    ratio = (
        _uniform((1, ranges.ratio[1]), generator)
        if pick < up
        else _uniform((ranges.ratio[0], 1), generator)
        if pick < up + down
        else 1.0
    )
    shot = _chance(0.5, generator)
    return Stage(
        kernel=kernel,
        ratio=ratio,
        mode=MODES[int(torch.randint(len(MODES), (), generator=generator))],
        shot=shot,
        level=_uniform(ranges.shot if shot else ranges.noise, generator),
        grey=_chance(0.4, generator),
        quality=int(torch.randint(ranges.quality[0], ranges.quality[1] + 1, (), generator=generator)),
    )


def _draw_kernel(ranges: Ranges, generator: torch.Generator) -> Tensor:
    """(k,k): ten per cent circular low-pass, the rest Gaussian, two thirds of them round."""
    from deepinv.physics.generator import GaussianBlurGenerator

    if _chance(0.1, generator):
        return sinc_kernel(_uniform((math.pi / 3, math.pi), generator))
    size = (ranges.kernel, ranges.kernel)
    gaussian = GaussianBlurGenerator(size, *ranges.blur, isotropic=_chance(0.65, generator), rng=generator)
    return gaussian.step(1)["filter"][0, 0]


@functools.cache
def _gratings(side: int, reduced: int) -> Tensor:
    """(16,side,side): cosines of the WAVES of a scene that is reduced to `reduced`, drawn at `side`."""
    periods = torch.tensor(WAVES) * (reduced / 24)
    pixels = (torch.arange(side) + 0.5) / side
    phases = 2 * math.pi * (periods[:, :1, None] * pixels + periods[:, 1:, None] * pixels[:, None])
    # shifted, lest all be high at one place
    return torch.cos(phases + 2.4 * torch.arange(len(WAVES))[:, None, None])


def sinc_kernel(cutoff: float, size: int = 21) -> Tensor:
    """The circular low-pass kernel ω J₁(ωr)/(2πr), which rings as sharpening and JPEG do."""
    axis = torch.arange(size) - (size - 1) / 2
    r = (axis[:, None] ** 2 + axis**2).sqrt().clamp_min(1e-6)
    kernel = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    return kernel / kernel.sum()


def _chance(probability: float, generator: torch.Generator) -> bool:
    return _uniform((0, 1), generator) < probability


def _uniform(bounds: Range, generator: torch.Generator) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand((), generator=generator).item()


def convolve(x: Tensor, kernel: Tensor | None) -> Tensor:
    """Every channel correlated with the kernel, borders mirrored (replicated where the picture is smaller
    than the kernel).

    By FFT: a direct convolution of single channels took two thirds of the training data's time.
    """
    if kernel is None:
        return x
    margin = kernel.shape[-1] // 2
    padded = F.pad(x, (margin,) * 4, mode="reflect" if margin < min(x.shape[-2:]) else "replicate")
    sides = [-(-side // 32) * 32 for side in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=sides) * torch.fft.rfft2(kernel.to(x).flip(0, 1), s=sides)
    valid = (slice(2 * margin, side) for side in padded.shape[-2:])
    return torch.fft.irfft2(spectrum, s=sides)[..., *valid]


def resize(x: Tensor, size: list[int], mode: str, antialias: bool) -> Tensor:
    """Without anti-aliasing unless told: aliasing is part of what phones and the web do."""
    if list(x.shape[-2:]) == size:
        return x
    if mode == "area":
        return F.interpolate(x, size, mode=mode)
    return F.interpolate(x, size, mode=mode, align_corners=False, antialias=antialias)


def noisy(x: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """x + Gaussian or shot noise, of all channels alike if grey; clamped."""
    x = x.clamp(0, 1)
    base = x.mean(1, keepdim=True).expand_as(x) if stage.grey else x
    shape = (x.shape[0], 1, *x.shape[-2:]) if stage.grey else x.shape
    if stage.shot:
        photons = 256 * base[:, : shape[1]].cpu()
        noise = (torch.poisson(photons, generator=generator) - photons) / 256 * stage.level
    else:
        noise = torch.randn(shape, generator=generator) * stage.level / 255
    return (x + noise.to(x)).clamp(0, 1)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """(B,3,H,W) in [0,1] through Pillow's JPEG of that quality."""
    pictures = []
    for pixels in (x.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        pictures.append(torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1))
    return torch.stack(pictures).to(x) / 255
