"""Photographs as a camera takes them in little light, and haze: seeded damage that looks like that of real
pictures.

A picture is taken back to what the sensor saw, gets the sensor's noise there, and is developed again: y =
JPEG(tone(M · W · (raw · light + demosaic(n)))), raw = W⁻¹ M⁻¹ tone⁻¹(x), n ~ N(0, shot · raw · light + read²)
on the Bayer mosaic. After Brooks et al. 2019 (arXiv 1811.11127: white balance, matrices, curve, noise) with
Malvar's demosaicing (ICASSP 2004). Demosaicing is linear, so sending the noise alone through it is sending
the picture's mosaic as well, but for the detail that a mosaic loses; that is lost to the mean of many
exposures too, which is what real pairs are compared with. x, y: (1,3,H,W) float32 in [0,1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.realistic import jpeg
from restoration.degradations.tone import curve, linear_light, srgb, straight
from restoration.diffusion import randn
from restoration.files.images import quantise
from restoration.knobs import Checked, knob

# from CIE XYZ to four cameras' colours, and from linear sRGB to XYZ (Brooks et al. 2019, their code, Apache
# 2.0)
XYZ_TO_CAMERA = torch.tensor([
    [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
    [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
    [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
    [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
])  # fmt: skip
RGB_TO_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# variance of the shot noise at the sensor's white (ours): 3300, 500, 125 electrons
SHOT = {"low": 0.0003, "medium": 0.002, "high": 0.008}
GAIN = (4.0, 16.0)  # times too little light
QUALITY = (85, 98)  # of the camera's JPEG
# Malvar, He, Cutler (ICASSP 2004), in eighths: green at red and blue; red at green in its rows, in its
# columns; red at blue
GREEN = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
ALONG = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
ACROSS = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]


@dataclass(frozen=True)
class Development:
    """How one camera makes a picture of its raw values: white balance (3,), colour matrix camera -> linear
    sRGB (3,3), then the curves.
    """

    balance: Tensor
    matrix: Tensor

    def develop(self, raw: Tensor) -> Tensor:
        """Linear raw colours (B,3,H,W) -> sRGB in [0,1]."""
        linear = _mix(self.matrix, raw.clamp(0, 1) * self.balance.to(raw)[:, None, None]).clamp(0, 1)
        return curve(srgb(linear))

    def undo(self, x: Tensor) -> Tensor:
        """sRGB in [0,1] (B,3,H,W) -> linear raw colours in [0,1]; `develop` gives x back but for colours that
        no raw value has.
        """
        linear = linear_light(straight(x))
        return (_mix(torch.linalg.inv(self.matrix), linear) / self.balance.to(x)[:, None, None]).clamp(0, 1)


def draw_development(generator: torch.Generator) -> Development:
    """A random mixture of the four cameras and a random light, from the (CPU) generator."""
    weights = torch.rand(4, generator=generator)
    to_camera = (weights[:, None, None] * XYZ_TO_CAMERA).sum(0) / weights.sum() @ RGB_TO_XYZ
    to_camera = to_camera / to_camera.sum(1, keepdim=True)  # white stays white
    red, blue = _between(1.9, 2.4, generator), _between(1.5, 1.9, generator)
    return Development(torch.tensor([red, 1.0, blue]), torch.linalg.inv(to_camera))


def mosaic(raw: Tensor) -> Tensor:
    """(B,3,H,W) -> (B,1,H,W): the one colour that each photosite of an RGGB sensor sees."""
    return (raw * _sites(raw)).sum(1, keepdim=True)


def demosaic(values: Tensor) -> Tensor:
    """(B,1,H,W) of an RGGB sensor -> (B,3,H,W), by Malvar's linear filters; linear in `values`."""
    padded = F.pad(values, (2, 2, 2, 2), mode="reflect")
    kernels = (
        torch.tensor([GREEN, ALONG, [*map(list, zip(*ALONG, strict=True))], ACROSS])[:, None].to(values) / 8
    )
    green, along, down, across = F.conv2d(padded, kernels).split(1, 1)
    red, at_green, blue = _sites(values)
    even = _rows(values)  # the rows with red photosites
    return torch.cat(
        [
            red * values + blue * across + at_green * torch.where(even, along, down),
            at_green * values + (1 - at_green) * green,
            blue * values + red * across + at_green * torch.where(even, down, along),
        ],
        1,
    )


def sensor(x: Tensor, light: Tensor, shot: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(the photograph of the scene x (1,3,H,W) in so much light (broadcastable to x), the same without
    noise), before JPEG.

    shot: variance of the shot noise at the sensor's white, in its square; the camera and the noise come from
    the (CPU) generator.
    """
    camera = draw_development(generator)
    raw = camera.undo(x) * light
    # read noise grows with the amplification: the line of Brooks et al. through phones' calibrations, and its
    # spread
    read = math.exp(2.18 * math.log(shot) + 1.2 + 0.26 * randn(torch.Size(()), generator, x.device).item())
    photosites = mosaic(raw)
    noise = (shot * photosites + read).sqrt() * randn(photosites.shape, generator, x.device)
    return camera.develop(raw + demosaic(noise)), camera.develop(raw)


@dataclass(frozen=True)
class CameraNoise(Checked):
    """Sensor noise of three ISO-like levels as it is after development and JPEG: coloured, correlated,
    stronger where it is dark.
    """

    title: ClassVar[str] = "Camera noise"
    iso: str = knob("medium", "Noise of the sensor, as at ISO 800, 6400 and 25600", choices=tuple(SHOT))

    def light(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """(1,1,1,1) or (1,1,H,W) in (0,1]: how much of the light of x reaches the sensor."""
        return x.new_ones(1, 1, 1, 1)

    def expose(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(y, the same without the sensor's noise), both (1,3,H,W) and after JPEG; everything random from the
        (CPU) generator.
        """
        pictures = sensor(x, self.light(x, generator), SHOT[self.iso], generator)
        quality = int(torch.randint(QUALITY[0], QUALITY[1] + 1, (), generator=generator))
        noisy, clean = (jpeg(picture, quality) for picture in pictures)
        return noisy, clean

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x -> y, same size, in 8 bits."""
        return quantise(self.expose(x, generator)[0])


@dataclass(frozen=True)
class LowLight(CameraNoise):
    """A quarter to a sixteenth of the light everywhere."""

    title: ClassVar[str] = "Too dark, taken by a camera"
    iso: str = knob("low", "Noise of the sensor, as at ISO 800, 6400 and 25600", choices=tuple(SHOT))

    def light(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x.new_full((1, 1, 1, 1), 1 / _gain(generator))


@dataclass(frozen=True)
class Backlit(LowLight):
    """A quarter to a sixteenth of the light in some region, all of it in another, smoothly in between."""

    title: ClassVar[str] = "Backlit, taken by a camera"

    def light(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.exp(-math.log(_gain(generator)) * shade(x, generator))


@dataclass(frozen=True)
class Fog:
    """Haze by Koschmieder's law y = x t + A (1 - t), t = exp(-β d), with a depth d that is smooth in the
    large and rises with height.
    """

    title: ClassVar[str] = "Fog by depth"

    def degrade(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x -> y, same size, in 8 bits."""
        return quantise(
            jpeg(
                self.veil(x, generator)[0],
                int(torch.randint(QUALITY[0], QUALITY[1] + 1, (), generator=generator)),
            )
        )

    def veil(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(y before JPEG, 1 - t (1,1,H,W)): the picture in fog and the share of each pixel that is fog."""
        slope = torch.linspace(1, 0, x.shape[-2]).to(x)[:, None]
        tilt = _between(0, 0.8, generator)
        depth = 0.2 + 0.8 * (tilt * slope + (1 - tilt) * smooth_field(x, generator))
        fog = 1 - torch.exp(-_between(0.5, 2.0, generator) * depth)
        air = _between(0.6, 0.98, generator) + 0.02 * randn(torch.Size((1, 3, 1, 1)), generator, x.device)
        return (x * (1 - fog) + air * fog).clamp(0, 1), fog


EXPOSURES: dict[str, type[CameraNoise]] = {
    "camera-noise": CameraNoise,
    "camera-low-light": LowLight,
    "camera-backlit": Backlit,
}


def shade(x: Tensor, generator: torch.Generator) -> Tensor:
    """(1,1,H,W) from about 0 to 1: where light is missing, in some random region or rather where x is dark,
    as before a bright sky.
    """
    small = F.adaptive_avg_pool2d(x.mean(1, keepdim=True), 12)
    bright = F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False)
    share = torch.rand((), generator=generator).item()
    field = share * smooth_field(x, generator) + (1 - share) * (1 - bright)
    low, high = field.min(), field.max()
    return torch.sigmoid(
        _between(6, 20, generator)
        * ((field - low) / (high - low).clamp_min(1e-6) - _between(0.3, 0.6, generator))
    )


def smooth_field(x: Tensor, generator: torch.Generator) -> Tensor:
    """(1,1,H,W) from 0 to 1 in x's sides: random values on grids of 3, 5 and 9 points, the finer the weaker,
    joined smoothly.
    """
    field = x.new_zeros(1, 1, *x.shape[-2:])
    for points in (3, 5, 9):
        grid = randn(torch.Size((1, 1, points, points)), generator, x.device)
        field = field + F.interpolate(grid, x.shape[-2:], mode="bicubic", align_corners=True) / points
    low, high = field.min(), field.max()
    return (field - low) / (high - low).clamp_min(1e-6)


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix.to(x), x)


def _rows(x: Tensor) -> Tensor:
    """(H,1): whether the row is even, from 0 on."""
    return (torch.arange(x.shape[-2], device=x.device) % 2 == 0)[:, None]


def _sites(x: Tensor) -> Tensor:
    """(3,H,W) of zeros and ones: which colour each photosite sees."""
    even, left = _rows(x), (torch.arange(x.shape[-1], device=x.device) % 2 == 0)[None]
    return torch.stack([even & left, even ^ left, ~even & ~left]).to(x)


def _gain(generator: torch.Generator) -> float:
    return math.exp(_between(math.log(GAIN[0]), math.log(GAIN[1]), generator))


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()
