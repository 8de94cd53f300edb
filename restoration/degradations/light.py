"""Statistics of light, haze and colour, seen on a small copy of a picture: histograms, and the dark channel
(He et al. 2009).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, minimum_filter, uniform_filter

QUANTILES = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.995)
SMALL = 64  # side of the picture on which light, haze and colour are judged
FAINT = 0.35  # light below this is little


def light(pixels: np.ndarray) -> np.ndarray:
    """(H,W,3) float in [0,255] -> (n,) float32 of fixed length, all finite: of darkness, backlight and haze,
    seen on a small copy.
    """
    return finite([*_light_and_colour(pixels)])


def illumination(pixels: np.ndarray) -> tuple[float, float, float]:
    """(how bright the darkest quarter is at most, the brightest tenth at least, the share below FAINT) of the
    light that is smoothed over a tenth of the short side, of (H,W,3) in [0,255]; light from 0 to 1."""
    smooth = _smooth_light(_reduced(pixels))
    return float(np.quantile(smooth, 0.25)), float(np.quantile(smooth, 0.9)), float((smooth < FAINT).mean())


def _smooth_light(small: np.ndarray) -> np.ndarray:
    strongest = small.max(-1)
    return gaussian_filter(strongest, min(strongest.shape) / 10)


def finite(values: list[float]) -> np.ndarray:
    return np.nan_to_num(np.array(values, dtype=np.float32), posinf=0, neginf=0)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """The picture at about SMALL a side, by means of equal cells, (h,w,3) in [0,1]."""
    height, width = pixels.shape[:2]
    cell = max(1, min(height, width) // SMALL)
    height, width = height // cell * cell, width // cell * cell
    return pixels[:height, :width].reshape(height // cell, cell, width // cell, cell, 3).mean((1, 3)) / 255


def _light_and_colour(pixels: np.ndarray) -> Iterator[float]:
    """Histograms of brightness, of smooth light, of local contrast, of the dark channel and of colour."""
    small = _reduced(pixels)
    luma, strongest, weakest = small @ np.array([0.299, 0.587, 0.114]), small.max(-1), small.min(-1)
    side = min(luma.shape)
    yield from np.quantile(luma, QUANTILES)
    yield luma.mean()
    smooth = _smooth_light(small)
    yield from np.quantile(smooth, (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98))
    yield from ((luma < dark).mean() for dark in (0.04, 0.1, 0.2))
    yield from ((luma > bright).mean() for bright in (0.6, 0.8, 0.95))
    window = max(3, side // 8)
    dark = minimum_filter(weakest, window)
    yield from np.quantile(dark, (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98))
    yield from np.quantile(weakest, (0.005, 0.05, 0.25, 0.5))
    third = max(1, dark.shape[0] // 3)
    height, width = luma.shape
    centre = luma[height // 4 : height - height // 4, width // 4 : width - width // 4]
    yield from (
        centre.mean(),
        *np.quantile(centre, (0.1, 0.5)),
        *((smooth < least).mean() for least in (0.15, 0.25, 0.35)),
    )
    yield from (dark[:third].mean(), dark[-third:].mean(), luma[:third].mean(), luma[-third:].mean())
    contrast = np.sqrt(np.maximum(uniform_filter(luma**2, window) - uniform_filter(luma, window) ** 2, 0))
    # where something is seen; what haze leaves of its shadows
    lively = weakest[contrast >= np.quantile(contrast, 0.7)]
    yield from np.quantile(lively, (0.01, 0.05, 0.25))
    yield from np.log(0.003 + np.quantile(contrast, (0.1, 0.5, 0.9)))
    yield from np.log(0.003 + np.array([contrast[:third].mean(), contrast[-third:].mean()]))
    relative = contrast / (uniform_filter(luma, window) + 0.02)
    yield from np.log(0.003 + np.quantile(relative, (0.1, 0.5, 0.9)))
    saturation = (strongest - weakest) / (strongest + 0.02)
    yield from np.quantile(saturation, (0.1, 0.5, 0.9))
    yield (saturation * strongest).mean()
    dark_part, bright_part = smooth <= np.quantile(smooth, 0.3), smooth >= np.quantile(smooth, 0.7)
    yield from (np.log(0.003 + contrast[part].mean()) for part in (dark_part, bright_part))
    yield from (
        np.log(0.02 + luma[bright_part].mean()) - np.log(0.02 + luma[dark_part].mean()),
        saturation[dark_part].mean(),
    )
    airy = dark >= np.quantile(dark, 0.98)
    yield from (saturation[airy].mean(), luma[airy].mean())
    # haze is pale and smooth
    yield np.corrcoef(dark.ravel(), contrast.ravel())[0, 1] if min(dark.std(), contrast.std()) > 1e-6 else 0.0
