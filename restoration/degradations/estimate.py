"""A first guess of what damaged a picture, read off the picture itself: the fast form of LD-RPS starts from
it (ours).

y = D(x): x in less light, by stops(p) at each place p, behind a camera's tone curve (tone.relit), or in
haze, x (1 - v) + A v (light.clear); grey says that x lost its colour, which nothing can invert. The maps are
those of the network of light.py, which sees illumination as Retinex does, and fitted to the edges of y. In
recipes of before, D(x) = gain · (1 - v) x^power + v, the same gain and power everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from restoration.degradations.blind import to_grey
from restoration.degradations.light import Light, find_light, fitted
from restoration.degradations.meter import Damage, measure_damage
from restoration.degradations.tone import linear_light, relit, straight

GUESSES = ("none", "exposure", "veil", "grey", "grey+noise", "auto")
# ours, chosen on the 64 photographs that the prior's training held out
WHITE_QUANTILE = 0.995  # the share of pixels below white
EXPOSURE_POWER = 0.9
# of the dark channel; of the short side; of the short side
VEIL_STRENGTH, VEIL_WINDOW, VEIL_WIDTH = 0.85, 0.25, 0.12
CLEAREST = 0.9  # a veil is kept below this share of the air light, where nothing of the picture is left
LAMP = 3.0  # white is at most this often the mean, so that one lamp does not hide that the rest is dark
DARK_WHITE = 0.45  # too dark was a picture whose white was below this
# the meter's confidence from which missing light is given and haze is taken away; who says that light is
# missing is believed where 9 of 10 decibels of what backlit photographs of the training can gain are had, but
# the shade of drawings is meant
DARK, HAZY = {"auto": 0.5, "exposure": 0.01}, {"auto": 0.5, "veil": 0.05}
DARK_DRAWING = 0.1
CLEARED = 0.95  # share of the haze that is taken away: a little of it tells distance (He et al., CVPR 2009)
# what is as bright as this in linear light after it got its light back, in the mean of small areas, is bright
# enough
FULL, AREAS = 0.9, 64
# of before: hazy was a picture whose mean veil, less a quarter of its mean saturation, was above this
HAZY_VEIL, COLOURFUL = 0.25, 0.25
# of before: what correlation hides of noise; what clean photographs have of it
NOISE_FACTOR, TEXTURE = 1.4, 4 / 255
# the meter's confidence from which a picture is noisy; one of which that is told; a small one, which is all
# detail; and a grey one
NOISY, NOISY_TOLD, NOISY_SMALL, NOISY_GREY, SMALL = 0.5, 0.3, 0.9, 0.1, 128
# noise that nobody sees, and that rounding, grain and flat areas look like to the meter; with noise of 3/255
# 31 of 32 photographs of the training show more
FAINT = 2.5 / 255
# share of pixels that equal their neighbours in a drawing; of pixels needed to tell
DRAWN, UNCLIPPED = 0.5, 0.2
GREY_SPREAD = 0.5 / 255  # channels that differ less on the mean carry no colour
# of white: the colour that may be left beside one tone that follows brightness, as in sepia
TONED_SPREAD = 4 / 255
# a picture that varies less between areas, so many a side, says nothing of its exposure, veil or colour; nor
# does one without an edge, whose slope changes by less of its white: at most 0.03 in gradients, 0.16 to 0.6
# in hazy photos
FLAT, FLAT_SIDE = 2 / 255, 16
EDGELESS, BENT_QUANTILE, BENT_SIDE = 0.06, 0.99, 64
# pixels of the short side above which the veil, which is smooth, is computed on a reduced picture
VEIL_SIDE = 512


@dataclass(frozen=True)
class Guess:
    """stops: (1,1,h,w) or (1,1,1,1), the light that is missing in powers of two, and share, that of the
    S-curve in the tones; gain, power: the exposure of recipes of before; veil: (1,1,h,w) in [0,1] or
    (1,1,1,1); air: its full brightness; grey: no colour; noise: standard deviation after `invert`; told: that
    of the white noise that takes the place of it and of JPEG's blocks for a denoiser.
    """

    stops: Tensor
    share: float
    veil: Tensor
    air: float
    grey: bool
    noise: float = 0.0
    told: float = 0.0
    gain: float = 1.0
    power: float = 1.0

    def invert(self, y: Tensor) -> Tensor:
        """The picture y (1,3,h,w) in [0,1] would be without what was guessed, same shape, in [0,1]."""
        lit = relit(y, self.stops, self.share) if self.dark else y
        hazeless = (lit - self.air * self.veil) / (1 - self.veil)
        return (hazeless / self.gain).clamp(0, 1) ** self.power

    def forward(self, x: Tensor) -> Tensor:
        """The guessed damage without the loss of colour: invert(forward(x)) = x for x (1,3,h,w) in [0,1]."""
        y = self.gain * x.clamp(0, 1) ** (1 / self.power) * (1 - self.veil) + self.air * self.veil
        return relit(y.clamp(0, 1), -self.stops, self.share) if self.dark else y

    @functools.cached_property  # the host asks the device once, not at every step
    def dark(self) -> bool:
        """Whether light is missing, by `stops`."""
        return bool(self.stops.max() > 0)

    def describe(self) -> str:
        """In words what is wrong with the picture and how much."""
        least, most = self.stops.flatten().cpu().quantile(torch.tensor([0.1, 0.9])).tolist()
        missing = f"{most:.1f} stops" if most - least < 1 else f"{most:.1f} stops where it is darkest"
        parts = {
            f"too dark ({missing})": self.dark,
            f"too dark ({self.gain:.0%} of white)": self.gain < 1,
            f"hazy ({self.veil.mean().item():.0%})": self.veil.max() > 0,
            "no colour": self.grey,
            f"noisy ({255 * self.noise:.0f}/255)": self.noise > 0,
            "blocks of JPEG": self.told > self.noise == 0,
        }
        return " · ".join(part for part, present in parts.items() if present) or "nothing amiss"


def first_guess(y: Tensor, kind: str, always: bool = False) -> Guess:
    """What kind (one of GUESSES) of damage y (1,3,h,w) in [0,1] has and how strong; "auto" looks for each.

    A kind that is told but surely not there is left out as well: a picture in which nothing is wrong stays as
    it is. Told that light is missing, the shade of two good photographs in five gets some.
    always: as it was before there was a damage meter, for recipes of that time.
    """
    if always:
        return _guess_of_before(y, kind)
    y = y.clamp(0, 1)  # beyond is noise that no file has, which a benchmark adds
    measured, light, (white, _) = measure_damage(y), find_light(y), _whites(y)
    flat = _is_flat(y) or _is_edgeless(y, white)
    drawn = _is_drawn(y)
    empty = flat or drawn  # drawings have the colours and the shadows that were meant
    lacking = max(measured.darkness.confidence, measured.backlight.confidence)
    dark = kind in DARK and lacking >= max(DARK[kind], drawn * DARK_DRAWING) and not flat
    grey = ((kind == "auto" and is_grey(y)) or (kind in {"grey", "grey+noise"} and is_toned(y))) and not empty
    hazy = kind in HAZY and measured.veil.confidence >= HAZY[kind] and not (empty or dark or grey)
    nothing = y.new_zeros(1, 1, 1, 1)
    stops = _missing_light(y, light) if dark else nothing
    veil = CLEARED * fitted(light.veil, y) if hazy else nothing
    guess = Guess(stops, light.share.item(), veil, light.air.item(), grey)
    if kind == "grey":  # said to be clean: what looks like noise is texture, which is kept
        return guess
    noise = _noise_after(guess, y, measured)
    if not _is_noisy(y, measured, noise, kind):
        # blocks of JPEG alone are taken out where the picture is said to be noisy
        if kind != "none" or empty:
            return guess
        noise = 0.0
    # equal noise in all channels is as much in brightness as independent noise √3 times as strong
    channels = 3**0.5 if grey or is_grey(y) else 1.0
    return dataclasses.replace(guess, noise=channels * noise, told=channels * measured.as_white(noise))


def _guess_of_before(y: Tensor, kind: str) -> Guess:
    """As `first_guess` was before there was a meter, for the recipes of that time: what is told is there."""
    strongest, spread = y.amax(1), y.amax(1) - y.amin(1)
    white, exposed = _whites(y)
    grey = kind in {"grey", "grey+noise"} or (kind == "auto" and is_grey(y))
    dark = kind == "exposure" or (kind == "auto" and exposed < DARK_WHITE)
    veil = _veil(y, white) if kind in {"veil", "auto"} else torch.zeros_like(y[:, :1])
    clear = veil.mean() - COLOURFUL * (spread / strongest.clamp_min(1e-2)).mean() < HAZY_VEIL
    if kind == "auto" and (dark or grey or clear):
        veil = torch.zeros_like(veil)
    guess = Guess(y.new_zeros(1, 1, 1, 1), 1.0, veil, white, grey)
    if dark:
        guess = dataclasses.replace(guess, gain=exposed, power=EXPOSURE_POWER)
    if kind == "grey":
        return guess
    channels = 3**0.5 if grey else 1.0
    noise = channels * NOISE_FACTOR * max(noise_level(guess.invert(y)) ** 2 - TEXTURE**2, 0.0) ** 0.5
    return dataclasses.replace(guess, noise=noise, told=noise)


def noise_level(y: Tensor) -> float:
    """Standard deviation of white noise in y, [0,1] units: the median of the finest diagonal Haar details
    over 0.6745 (Donoho 1994).
    """
    height, width = (side // 2 * 2 for side in y.shape[-2:])
    a, b, c, d = (y[..., i:height:2, j:width:2] for i in (0, 1) for j in (0, 1))
    return ((a - b - c + d) / 2).abs().median().item() / 0.6745


def _missing_light(y: Tensor, light: Light) -> Tensor:
    """(1,1,h,w): the stops that y (1,3,h,w) in [0,1] lacks, with its edges, and nowhere so many that small
    areas would be full.
    """
    areas = F.adaptive_max_pool2d(F.adaptive_avg_pool2d(y, 2 * AREAS), AREAS).amax(1, keepdim=True)
    room = torch.log2(FULL / linear_light(straight(areas, light.share.to(y))).clamp_min(1e-4)).clamp_min(0)
    stops = fitted(light.stops, y)
    return stops.minimum(F.interpolate(room, y.shape[-2:], mode="bilinear"))


def _whites(y: Tensor) -> tuple[float, float]:
    """(the white of y, the same but at most LAMP times the mean)."""
    strongest = y.amax(1)
    white = strongest.flatten().quantile(WHITE_QUANTILE).clamp_min(1 / 255).item()
    return white, min(white, max(LAMP * strongest.mean().item(), 1 / 255))


def _is_noisy(y: Tensor, measured: Damage, noise: float, kind: str) -> bool:
    """Whether noise that is this strong once the guess is undone, which lifts it from the dark, is there and
    is seen.
    """
    if _is_drawn(y):
        return False
    large = NOISY_TOLD if kind == "none" else NOISY
    least = NOISY_GREY if is_grey(y) else large if min(y.shape[-2:]) >= SMALL else NOISY_SMALL
    return measured.noise.confidence >= least and noise > FAINT


def _noise_after(guess: Guess, y: Tensor, measured: Damage) -> float:
    """The noise's standard deviation once the guess is undone, which lifts it where it is steep."""
    above, below = (y + 2 / 255).clamp(0, 1), (y - 2 / 255).clamp(0, 1)
    slope = (guess.invert(above) - guess.invert(below)) / (above - below)
    return (measured.noise_map(y) * slope).square().mean().sqrt().item()


def _is_drawn(y: Tensor) -> bool:
    """Whether most pixels equal their neighbours, as in drawings; what is black or white may be clipped and
    does not count.
    """
    corner = y[..., :-1, :-1]
    equal = ((corner == y[..., :-1, 1:]) & (corner == y[..., 1:, :-1])).all(1)
    seen = ((corner > 0) & (corner < 1)).any(1)
    return bool(equal[seen].float().mean() > DRAWN) if seen.float().mean() > UNCLIPPED else True


def _is_flat(y: Tensor) -> bool:
    return bool(F.adaptive_avg_pool2d(y, FLAT_SIDE).std((-1, -2)).max() < FLAT)


def _is_edgeless(y: Tensor, white: float) -> bool:
    """Whether y is but a gradient: light that nowhere bends from one area to the next."""
    small = F.adaptive_avg_pool2d(y, (min(y.shape[-2], BENT_SIDE), min(y.shape[-1], BENT_SIDE)))
    bent = torch.cat([small.diff(n=2, dim=axis).abs().amax(1).flatten() for axis in (-1, -2)])
    return bool(bent.quantile(BENT_QUANTILE) < EDGELESS * white)


def is_grey(y: Tensor) -> bool:
    """Whether the channels of y (1,3,h,w) in [0,1] are equal but for the rounding of a file."""
    return bool((y.amax(1) - y.amin(1)).mean() < GREY_SPREAD)


def is_toned(y: Tensor) -> bool:
    """Whether y (1,3,h,w) in [0,1] is grey or has one tone that follows brightness, as sepia does."""
    # without its noise; on the host, as an accelerator has no driver for what may lack rank
    small = F.adaptive_avg_pool2d(y, 4 * FLAT_SIDE).cpu()
    b = to_grey(small)[0, 0].flatten()
    curve = torch.stack([torch.ones_like(b), b, b**2], 1).double()
    colour = (small - to_grey(small))[0].flatten(1).T.double()
    left = colour - curve @ torch.linalg.lstsq(curve, colour, driver="gelsd").solution
    return bool((left.amax(1) - left.amin(1)).mean() < TONED_SPREAD * small.max())


def _veil(y: Tensor, air: float) -> Tensor:
    """The haze's share of each pixel, (1,1,h,w): the dark channel (He et al., CVPR 2009) of wide windows,
    smoothed as depth is smooth.
    """
    from scipy.ndimage import gaussian_filter, minimum_filter

    channels = y.amin(1, keepdim=True)
    if min(y.shape[-2:]) > VEIL_SIDE:
        scale = VEIL_SIDE / min(y.shape[-2:])
        reduced = F.adaptive_avg_pool2d(channels, (round(y.shape[-2] * scale), round(y.shape[-1] * scale)))
        return F.interpolate(_veil(reduced, air), y.shape[-2:], mode="bilinear")
    dark = (channels[0, 0] / air).clamp(0, 1).cpu().numpy()
    side = min(dark.shape)
    smooth = gaussian_filter(
        minimum_filter(dark, max(3, round(VEIL_WINDOW * side))), VEIL_WIDTH * side, mode="nearest"
    )
    return torch.from_numpy(smooth).to(y).mul(VEIL_STRENGTH).clamp_max(CLEAREST)[None, None]
