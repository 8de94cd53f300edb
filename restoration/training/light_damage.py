"""Little light, backlight and haze, drawn at random with the truth about them, for the network of
degradations/light.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations import blind, camera
from restoration.degradations.blind import to_grey
from restoration.degradations.light import SIDE
from restoration.degradations.tone import linear_light, relit, srgb
from restoration.files.images import quantise
from restoration.training.meter_damage import between

GAIN = (1.5, 20.0)  # times too little light
COVERED = (0.15, 0.97)  # share in the shade from and up to which a picture is backlit
MOSTLY = 0.6  # the share from which nobody can say whether all of it is dark instead
PUSHED = (-0.3, 1.3)  # stops too much where a window or the sky is
TINT = 0.15  # stops by which colours differ in the shade, a standard deviation


@dataclass
class Lit:
    """A photograph x and its damaged form y, (1,3,SIDE,SIDE) in [0,1]; stops (1,1,SIDE,SIDE): what is missing
    of its light; amounts: of light.KINDS, 0 where there is none, nan where it is not to be taught; dark,
    foggy: what was done to it; curved: `stops` are those of a whole S-curve.
    """

    x: Tensor
    y: Tensor
    stops: Tensor
    amounts: tuple[float, float, float]
    dark: bool
    foggy: bool
    curved: bool


def draw(photographs: list[Tensor], generator: torch.Generator) -> Lit:
    """One of the photographs, uint8 (3,h,w), damaged at random."""

    def chance(share: float) -> bool:
        return torch.rand((), generator=generator).item() < share

    x = small_copy(photographs, generator)
    if chance(0.3):  # pictures differ in colour and exposure without being damaged
        x = to_grey(x) + between(0.3, 1.4, generator) * (x - to_grey(x))
        x = x.clamp(0, 1) ** math.exp(between(-0.25, 0.25, generator))
    foggy, dark, backlit = chance(0.3), chance(0.25), chance(0.4)
    shade = torch.ones(1, 1, SIDE, SIDE) if dark else torch.zeros(1, 1, SIDE, SIDE)
    if backlit and not dark:
        objects = chance(0.6)
        shade = parted(x, generator) if objects else _shade(x, generator)
        if objects and not foggy:
            x = _overexposed(x, shade, generator)
    y, veil = x, 0.0
    if foggy:
        y, share = camera.Fog().veil(x, generator) if chance(0.5) else blind.veiled(x, generator)
        veil = share.mean().item()
    darkness = backlight = 0.0
    stops, curved = torch.zeros_like(shade), True
    if dark or backlit:
        gain = math.exp(between(math.log(GAIN[0]), math.log(GAIN[1]), generator))
        stops, covered = math.log2(gain) * shade, shade.mean().item()
        y, curved = _less(y, stops, dark, generator)
        darkness, backlight = _told(math.log2(gain), covered, dark)
    y = quantise(y + between(0, 0.012, generator) * torch.randn(y.shape, generator=generator))
    return Lit(x, y, stops, (darkness, backlight, veil), dark or backlit, foggy, curved)


def _told(stops: float, covered: float, dark: bool) -> tuple[float, float]:
    """(darkness, backlight) as they are to be taught, where this share of a picture lacks so many stops."""
    if dark:
        return stops, math.nan
    return (
        math.nan if covered > MOSTLY else 0.0,
        stops if COVERED[0] < covered < COVERED[1] else math.nan,
    )


def small_copy(photographs: list[Tensor], generator: torch.Generator) -> Tensor:
    """A large part of one photograph, sometimes square, (1,3,SIDE,SIDE) in [0,1]."""
    photograph = photographs[int(torch.randint(len(photographs), (), generator=generator))]
    part = between(0.6, 1.0, generator)
    height, width = (round(part * side) for side in photograph.shape[1:])
    if torch.rand((), generator=generator).item() < 0.5:
        height = width = min(height, width)
    top, left = (
        int(between(0, whole - side + 1, generator))
        for whole, side in zip(photograph.shape[1:], (height, width), strict=True)
    )
    x = photograph[None, :, top : top + height, left : left + width].float() / 255
    x = F.interpolate(x, [SIDE, SIDE], mode="area")
    return x.flip(-1) if torch.rand((), generator=generator).item() < 0.5 else x


def _less(y: Tensor, stops: Tensor, dark: bool, generator: torch.Generator) -> tuple[Tensor, bool]:
    """y with so many stops less light, behind a camera's curve, sRGB's alone or (where all is dark) a
    power's; whether it was a camera's.
    """
    pick = torch.rand((), generator=generator).item()
    if dark and pick < 0.35:
        power = between(1.0, 1.3, generator) / 2.2
        return (y.clamp(0, 1) ** 2.2 / torch.exp2(stops)) ** power, False
    if pick < 0.75:
        development = camera.draw_development(generator)
        return development.develop(development.undo(y) * torch.exp2(-stops)), True
    return srgb((linear_light(y) * torch.exp2(-stops)).clamp(0, 1)), False


def _shade(x: Tensor, generator: torch.Generator) -> Tensor:
    """(1,1,SIDE,SIDE) from 0 to 1: the camera's smooth one or, a third of the time, one with the borders of
    what is dark.
    """
    if torch.rand((), generator=generator).item() > 0.35:
        return camera.shade(x, generator)
    reach, share = int(between(1, 5, generator)), between(0, 0.5, generator)
    bright = F.avg_pool2d(
        F.pad(x.amax(1, keepdim=True), (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1
    )
    field = share * camera.smooth_field(x, generator) + (1 - share) * (1 - bright)
    field = (field - field.min()) / (field.max() - field.min()).clamp_min(1e-6)
    return torch.sigmoid(between(8, 30, generator) * (field - between(0.3, 0.6, generator)))


def parted(x: Tensor, generator: torch.Generator) -> Tensor:
    """(1,1,SIDE,SIDE) from 0 to 1: the shade of what stands before the brightest parts of x, a window or the
    sky; sharp at its objects' borders, and deeper in some places than in others.
    """
    reach = int(between(0, 4, generator))
    bright = F.avg_pool2d(
        F.pad(x.mean(1, keepdim=True), (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1
    )
    height = torch.linspace(1, 0, SIDE)[:, None].expand(1, 1, SIDE, SIDE)
    parts = [bright, height, camera.smooth_field(x, generator)]
    weights = [1.0, between(0, 0.8, generator), between(0, 0.5, generator)]
    field = torch.stack(
        [w * (p - p.mean()) / p.std().clamp_min(1e-3) for w, p in zip(weights, parts, strict=True)]
    ).sum(0)
    cut = field.flatten().quantile(between(0.2, 0.96, generator))
    shade = torch.sigmoid(math.exp(between(math.log(3), math.log(30), generator)) * (cut - field))
    return shade * (1 - between(0, 0.4, generator) * camera.smooth_field(x, generator))


def _overexposed(x: Tensor, shade: Tensor, generator: torch.Generator) -> Tensor:
    """x with too much light where there is no shade, which stays so, and a light of another colour in it."""
    bright = between(*PUSHED, generator) * (1 - shade)
    tint = TINT * torch.randn(1, 3, 1, 1, generator=generator) * shade
    return relit(x.clamp(1e-4, 1 - 1e-4), bright + tint, 1.0)
