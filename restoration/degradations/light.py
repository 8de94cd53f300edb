"""How much light a photograph lacks, and where, and how much haze lies over it: a small network on a small
copy (ours).

The network is trained by restoration/training/light.py on photographs that were darkened and fogged with
known maps: its maps are those with which `tone.relit` and `clear` bring the photograph back best. It says
besides whether there is such damage at all, which a dark photograph need not have; its maps are what there
is if there is some.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy.ndimage import uniform_filter
from torch import Tensor, nn

WEIGHTS = Path(__file__).parents[1] / "weights" / "meter" / "light.safetensors"
# the same network, trained on: better at haze, worse at little light
HAZE_WEIGHTS = WEIGHTS.with_name("haze.safetensors")
KINDS = ("darkness", "backlight", "veil")
UNITS = (1.0, 1.0, 0.2)  # of what the network says of the amount of each
SIDE, FOLD = 64, 4  # of the copy that the network sees; pixels of it per value of its maps
THICKEST = 0.95  # haze that hides more than this leaves nothing to restore
# of the guided filter (He et al. 2013) that fits a map to the photograph's edges
GUIDE_SIDE, GUIDE_WIDTH, GUIDE_EPSILON = 256, 1 / 12, 1e-3
# of what is no more than a file's rounding, as a standard deviation; pixels around one that say what it was
ROUNDING, ROUNDING_RADIUS = 0.7 / 255, 3


@dataclass(frozen=True)
class Light:
    """What the network says of B pictures. stops, veil (B,1,16,16): the light that is missing, in powers of
    two, and the share of each pixel that is haze, if there is such damage; logits (B,3): whether there is, in
    the order of KINDS, from 0 on; amounts (B,3): how much in all, stops, stops and mean share; air, share
    (B,1,1,1): the haze's brightness and the share of the S-curve in the picture's tones.
    """

    stops: Tensor
    veil: Tensor
    logits: Tensor
    amounts: Tensor
    air: Tensor
    share: Tensor


class Residual(nn.Module):
    """x + convolutions of x, which begin at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class LightNet(nn.Module):
    """Small copies (B,3,SIDE,SIDE) in [0,1] -> Light: a U-Net for the maps, its means for the rest."""

    threshold: Tensor

    def __init__(self, widths: tuple[int, ...] = (40, 64, 96), hidden: int = 192) -> None:
        super().__init__()
        pairs = [*itertools.pairwise(widths)]
        self.enter = nn.Conv2d(6 * FOLD**2, widths[0], 3, padding=1)
        self.encode = nn.ModuleList(Residual(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.whole = nn.Sequential(
            nn.Linear(2 * widths[-1], hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.spread = nn.Linear(hidden, widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(a + b, a, 3, padding=1) for a, b in pairs)
        self.decode = nn.ModuleList(Residual(width) for width in widths[:-1])
        self.maps = nn.Conv2d(widths[0], 2, 3, padding=1)
        self.tell = nn.Linear(hidden, 8)
        self.register_buffer("threshold", torch.zeros(len(KINDS)))

    def forward(self, x: Tensor) -> Light:
        seen = torch.cat([x - 0.4, torch.log(x + 0.01) / 2 + 0.5], 1)
        h = self.encode[0](self.enter(F.pixel_unshuffle(seen, FOLD)))
        skips = []
        for down, encode in zip(self.down, self.encode[1:], strict=True):  # type: ignore[arg-type]
            skips.append(h)
            h = encode(down(F.silu(h)))
        whole = self.whole(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))
        h = h + self.spread(whole)[:, :, None, None]
        for k in reversed(range(len(skips))):
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            h = self.decode[k](self.up[k](torch.cat([F.silu(h), skips[k]], 1)))
        stops, veil = self.maps(F.silu(h)).split(1, 1)
        logits, amounts, air, share = self.tell(whole).split((3, 3, 1, 1), 1)
        return Light(
            F.softplus(stops),
            THICKEST * torch.sigmoid(veil - 1),
            logits - self.threshold,
            amounts * amounts.new_tensor(UNITS),
            torch.sigmoid(air + 2)[:, :, None, None],
            torch.sigmoid(share)[:, :, None, None],
        )


@functools.cache
def load_light(path: Path = WEIGHTS) -> LightNet:
    """The trained network."""
    with torch.random.fork_rng(devices=[]):  # initial weights, which nobody sees, take no draws of a run
        network = LightNet()
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return network.eval()


@torch.no_grad()
def find_light(x: Tensor) -> Light:
    """What the trained networks say of x (B,3,H,W) in [0,1], on the CPU: one of light, one of haze."""
    small = F.adaptive_avg_pool2d(x.detach().float().cpu().clamp(0, 1), SIDE)
    light, haze = load_light()(small), load_light(HAZE_WEIGHTS)(small)
    veil = KINDS.index("veil")  # the last
    return replace(
        light,
        veil=haze.veil,
        air=haze.air,
        logits=torch.cat([light.logits[:, :veil], haze.logits[:, veil:]], 1),
        amounts=torch.cat([light.amounts[:, :veil], haze.amounts[:, veil:]], 1),
    )


def clear(y: Tensor, veil: Tensor, air: Tensor | float) -> Tensor:
    """y (B,3,H,W) in [0,1] without haze (Koschmieder's law): veil (broadcastable) below 1, air its full
    brightness.
    """
    return ((y - air * veil) / (1 - veil)).clamp(0, 1)


def fitted(field: Tensor, y: Tensor) -> Tensor:
    """A map (1,1,h,w) enlarged to y (1,3,H,W) in [0,1], its borders where y has edges: (1,1,H,W).

    By a guided filter (He, Sun and Tang 2013) on a copy of about GUIDE_SIDE pixels.
    """
    scale = min(1.0, GUIDE_SIDE / min(y.shape[-2:]))
    size = (max(1, round(scale * y.shape[-2])), max(1, round(scale * y.shape[-1])))
    guide = F.adaptive_avg_pool2d(y.float().cpu(), size).mean(1)[0].numpy()
    rough = F.interpolate(field.cpu(), size, mode="bicubic")[0, 0].numpy()
    radius = max(1, round(GUIDE_WIDTH * min(size)))
    smooth = guided_filter(np.sqrt(guide), rough, radius, GUIDE_EPSILON)
    smooth = smooth.clip(float(field.min()), float(field.max()))
    return F.interpolate(torch.from_numpy(smooth)[None, None].to(y), y.shape[-2:], mode="bilinear")


def unrounded(y: Tensor) -> Tensor:
    """y (1,3,H,W) in [0,1] smoothed, guided by itself, where it varies by no more than a file's rounding, of
    which more light would make specks.
    """
    planes = y[0].float().cpu().numpy()
    smooth = [guided_filter(plane, plane, ROUNDING_RADIUS, ROUNDING**2) for plane in planes]
    return torch.from_numpy(np.stack(smooth))[None].to(y).clamp(0, 1)


def guided_filter(guide: np.ndarray, rough: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """`rough` (H,W) smoothed within windows of 2·radius + 1, but for what is linear in the guide (H,W)."""

    def box(a: np.ndarray) -> np.ndarray:
        return uniform_filter(a, 2 * radius + 1, mode="reflect")

    means = box(guide), box(rough)
    slope = (box(guide * rough) - means[0] * means[1]) / (box(guide**2) - means[0] ** 2 + epsilon)
    return box(slope) * guide + box(means[1] - slope * means[0])
