"""A first guess of what damaged a picture, read off the picture itself: the fast form of LD-RPS starts from it (ours).

y = D(x) with D(x) = gain · (1 - v) x^power + v:  v is the veil of haze, gain and power the exposure, and grey says that x lost its
colour, which nothing can invert. F-PAM then learns what the guess leaves over.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from restoration.evaluation.baselines import noise_level

GUESSES = ("none", "exposure", "veil", "grey", "grey+noise", "auto")
# ours, chosen on the 64 photographs that the prior's training held out
WHITE_QUANTILE = 0.995  # the share of pixels below white
EXPOSURE_POWER = 0.9
VEIL_STRENGTH, VEIL_WINDOW, VEIL_WIDTH = 0.85, 0.25, 0.12  # of the dark channel; of the short side; of the short side
CLEAREST = 0.9  # a veil is kept below this share of the air light, where nothing of the picture is left
LAMP = 3.0  # white is at most this often the mean, so that one lamp does not hide that the rest is dark
DARK_WHITE = 0.45  # auto: a picture whose white is below this is too dark
# auto: hazy where the mean veil less a quarter of the mean saturation is above this
HAZY_VEIL, COLOURFUL = 0.25, 0.25
NOISE_FACTOR = 1.4  # photographs are usually reduced, which correlates their noise and hides some of it from the estimate
TEXTURE = 4 / 255  # what the estimate finds in clean photographs without noise, on the mean
GREY_SPREAD = 0.5 / 255  # auto: channels that differ less on the mean carry no colour


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


def first_guess(y: Tensor, kind: str) -> Guess:
    """What kind (one of GUESSES) of damage y (1,3,h,w) in [0,1] has and how strong; "auto" looks for each of them."""
    strongest, spread = y.amax(1), y.amax(1) - y.amin(1)
    white = strongest.flatten().quantile(WHITE_QUANTILE).clamp_min(1 / 255).item()
    exposed = min(white, max(LAMP * strongest.mean().item(), 1 / 255))
    grey = kind in {"grey", "grey+noise"} or (kind == "auto" and bool(spread.mean() < GREY_SPREAD))
    dark = kind == "exposure" or (kind == "auto" and exposed < DARK_WHITE)
    veil = _veil(y, white) if kind in {"veil", "auto"} else torch.zeros_like(y[:, :1])
    if kind == "auto" and (dark or grey or veil.mean() - COLOURFUL * (spread / strongest.clamp_min(1e-2)).mean() < HAZY_VEIL):
        veil = torch.zeros_like(veil)
    guess = Guess(exposed if dark else 1.0, EXPOSURE_POWER if dark else 1.0, veil, white, grey)
    if kind == "grey":  # said to be clean: what looks like noise is texture, which is kept
        return guess
    channels = 3**0.5 if grey else 1.0  # equal noise in all channels is as much in brightness as independent noise √3 times as strong
    noise = channels * NOISE_FACTOR * max(noise_level(guess.invert(y)) ** 2 - TEXTURE**2, 0.0) ** 0.5
    return dataclasses.replace(guess, noise=noise)


def _veil(y: Tensor, air: float) -> Tensor:
    """The haze's share of each pixel, (1,1,h,w): the dark channel (He et al., CVPR 2009) of wide windows, smoothed as depth is smooth."""
    from scipy.ndimage import gaussian_filter, minimum_filter

    dark = (y.amin(1)[0] / air).clamp(0, 1).cpu().numpy()
    side = min(dark.shape)
    smooth = gaussian_filter(minimum_filter(dark, max(3, round(VEIL_WINDOW * side))), VEIL_WIDTH * side, mode="nearest")
    return torch.from_numpy(smooth).to(y).mul(VEIL_STRENGTH).clamp_max(CLEAREST)[None, None]
