"""A first guess of what damaged a picture, read off the picture itself: the fast form of LD-RPS starts from it (ours).

y = D(x) with D(x) = gain · (1 - v) x^power + v:  v is the veil of haze, gain and power the exposure, and grey says that x lost its
colour, which nothing can invert. F-PAM then learns what the guess leaves over.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.blind import to_grey
from restoration.evaluation.baselines import noise_level

GUESSES = ("none", "exposure", "veil", "grey", "grey+noise", "auto")
# ours, chosen on the 64 photographs that the prior's training held out
WHITE_QUANTILE = 0.995  # the share of pixels below white
EXPOSURE_POWER = 0.9
VEIL_STRENGTH, VEIL_WINDOW, VEIL_WIDTH = 0.85, 0.25, 0.12  # of the dark channel; of the short side; of the short side
CLEAREST = 0.9  # a veil is kept below this share of the air light, where nothing of the picture is left
LAMP = 3.0  # white is at most this often the mean, so that one lamp does not hide that the rest is dark
DARK_WHITE = {"auto": 0.45, "exposure": 0.6}  # too dark is a picture whose white is below this
# hazy is a picture whose mean veil, less a quarter of its mean saturation, is above this, and whose shadows are
# above a share of its white
HAZY_VEIL, COLOURFUL = {"auto": 0.25, "veil": 0.15}, 0.25
SHADOW_QUANTILE, HAZY_SHADOW = 0.01, 0.06
NOISE_FACTOR = 1.4  # photographs are usually reduced, which correlates their noise and hides some of it from the estimate
TEXTURE = 4 / 255  # what the estimate finds in clean photographs without noise, on the mean
GREY_SPREAD = 0.5 / 255  # channels that differ less on the mean carry no colour
TONED_SPREAD = 4 / 255  # as much colour may be left beside one tone that follows brightness, as sepia's does
# a picture that varies less between areas, so many a side, says nothing of its exposure, veil or colour
FLAT, FLAT_SIDE = 2 / 255, 16


@dataclass(frozen=True)
class Guess:
    """gain, power: numbers; veil: (1,1,h,w) in [0,1]; air: the veil's full brightness; grey: no colour; noise: standard deviation after `invert`."""

    gain: float
    power: float
    veil: Tensor
    air: float
    grey: bool
    noise: float = 0.0

    def invert(self, y: Tensor) -> Tensor:
        """The picture y (1,3,h,w) in [0,1] would be without what was guessed, same shape, in [0,1]."""
        clear = (y - self.air * self.veil) / (1 - self.veil)
        return (clear / self.gain).clamp(0, 1) ** self.power

    def forward(self, x: Tensor) -> Tensor:
        """The damage as guessed, without the loss of colour: invert(forward(x)) = x for x (1,3,h,w) in [0,1]."""
        return self.gain * x.clamp(0, 1) ** (1 / self.power) * (1 - self.veil) + self.air * self.veil

    def describe(self) -> str:
        """In words what is wrong with the picture and how much."""
        parts = {
            f"too dark ({self.gain:.0%} of white)": self.gain < 1,
            f"hazy ({self.veil.mean().item():.0%})": self.veil.max() > 0,
            "no colour": self.grey,
            f"noisy ({255 * self.noise:.0f}/255)": self.noise > 0,
        }
        return " · ".join(part for part, present in parts.items() if present) or "nothing amiss"


def first_guess(y: Tensor, kind: str, always: bool = False) -> Guess:
    """What kind (one of GUESSES) of damage y (1,3,h,w) in [0,1] has and how strong; "auto" looks for each.

    A kind that is told but not there is left out as well, unless `always`: a picture in which nothing is wrong
    stays as it is.
    """
    strongest, spread = y.amax(1), y.amax(1) - y.amin(1)
    white = strongest.flatten().quantile(WHITE_QUANTILE).clamp_min(1 / 255).item()
    exposed = min(white, max(LAMP * strongest.mean().item(), 1 / 255))
    flat = bool(F.adaptive_avg_pool2d(y, FLAT_SIDE).std((-1, -2)).max() < FLAT)
    told = always and kind != "auto"
    dark = kind in DARK_WHITE and (told or (exposed < DARK_WHITE[kind] and not flat))
    colourless = (kind == "auto" and is_grey(y)) or (kind in {"grey", "grey+noise"} and (told or is_toned(y)))
    grey = colourless and (told or not flat)
    veil = torch.zeros_like(y[:, :1])
    shadow = y.amin(1).flatten().quantile(SHADOW_QUANTILE)
    if kind in HAZY_VEIL and (told or (not (flat or dark or grey) and shadow > HAZY_SHADOW * white)):
        found = _veil(y, white)
        if told or found.mean() - COLOURFUL * (spread / strongest.clamp_min(1e-2)).mean() >= HAZY_VEIL[kind]:
            veil = found
    guess = Guess(exposed if dark else 1.0, EXPOSURE_POWER if dark else 1.0, veil, white, grey)
    if kind == "grey":  # said to be clean: what looks like noise is texture, which is kept
        return guess
    # equal noise in all channels is as much in brightness as independent noise √3 times as strong
    channels = 3**0.5 if grey or is_grey(y) else 1.0
    noise = channels * NOISE_FACTOR * max(noise_level(guess.invert(y)) ** 2 - TEXTURE**2, 0.0) ** 0.5
    return dataclasses.replace(guess, noise=noise)


def is_grey(y: Tensor) -> bool:
    """Whether the channels of y (1,3,h,w) in [0,1] are equal but for the rounding of a file."""
    return bool((y.amax(1) - y.amin(1)).mean() < GREY_SPREAD)


def is_toned(y: Tensor) -> bool:
    """Whether y (1,3,h,w) in [0,1] is grey or has one tone that follows brightness, as sepia does."""
    small = F.adaptive_avg_pool2d(y, 4 * FLAT_SIDE)  # without its noise
    b = to_grey(small)[0, 0].flatten()
    curve = torch.stack([torch.ones_like(b), b, b**2], 1).double()
    colour = (small - to_grey(small))[0].flatten(1).T.double()
    left = colour - curve @ torch.linalg.lstsq(curve, colour, driver="gelsd").solution
    return bool((left.amax(1) - left.amin(1)).mean() < TONED_SPREAD)


def _veil(y: Tensor, air: float) -> Tensor:
    """The haze's share of each pixel, (1,1,h,w): the dark channel (He et al., CVPR 2009) of wide windows, smoothed as depth is smooth."""
    from scipy.ndimage import gaussian_filter, minimum_filter

    dark = (y.amin(1)[0] / air).clamp(0, 1).cpu().numpy()
    side = min(dark.shape)
    smooth = gaussian_filter(minimum_filter(dark, max(3, round(VEIL_WINDOW * side))), VEIL_WIDTH * side, mode="nearest")
    return torch.from_numpy(smooth).to(y).mul(VEIL_STRENGTH).clamp_max(CLEAREST)[None, None]
