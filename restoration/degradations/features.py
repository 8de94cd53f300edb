"""What the damage meter looks at: some two hundred statistics of a picture, whatever its size. Values 0 to
255 inside.

Spectra of the blocks of a picture and of its flattest ones tell noise from texture (the flat-patch idea of
Pyatykh et al. 2013 and Chen et al. 2015, with a spectrum in place of one variance, since the noise of
photographs is not white); ratios of gradients across scales give the width of edges (Zhuo and Sim 2011); the
comb of DCT coefficients gives JPEG's steps (Fan and de Queiroz 2003); periodic second differences betray
enlargement (Gallagher 2005); the dark channel gives haze (He et al. 2009).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from scipy.fft import dct
from scipy.ndimage import gaussian_filter, minimum_filter, uniform_filter

# of a large picture so many tiles of this side are looked at, whose corners keep the grid of JPEG's blocks
TILE, TILES = 128, 15
BLOCK = 8
# of a block's frequencies; -1: its mean
BANDS = np.digitize(np.add.outer(np.arange(BLOCK), np.arange(BLOCK)), (1, 2, 3, 5, 7, 9, 11)) - 1
QUANTILES = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.995)
SMALL = 64  # side of the picture on which light, haze and colour are judged
BLOCKS = 600  # of JPEG's that are looked at
ROUNDING = 0.3  # standard deviation of a DCT coefficient of luma through 8-bit colours
# Annex K of the JPEG standard, the first frequencies of luma in zigzag order as (row, column): step at
# quality 50
STEPS = {
    (0, 1): 11, (1, 0): 12, (2, 0): 14, (1, 1): 12, (0, 2): 10, (0, 3): 16, (1, 2): 14, (2, 1): 13, (3,
     0): 14, (4, 0): 18, (3, 1): 17,
    (2, 2): 16, (1, 3): 19, (0, 4): 24, (0, 5): 40, (1, 4): 26, (2, 3): 24, (3, 2): 22, (4, 1): 22, (5,
     0): 24,
}  # fmt: skip
QUALITIES = np.arange(5, 101)
FAINT = 0.35  # light below this is little
FEW = 24  # blocks of one brightness: fewer say nothing
COMB = slice(-7, -5)  # where `texture` has (quality / 100, log-likelihood ratio) of JPEG's comb
EPSILON = 0.05  # of 255: below this all spectra are alike


def texture(pixels: np.ndarray) -> np.ndarray:
    """(H,W,3) float in [0,255], sides ≥ 16 -> (n,) float32 of fixed length, all finite: of noise, blur, JPEG
    and enlargement.
    """
    opponents = [_opponents(tile) for tile in _tiles(pixels)]
    lumas = [colours[..., 0] for colours in opponents]
    values = [
        *_spectra(lumas, [c[..., 1] for c in opponents], [c[..., 2] for c in opponents]),
        *_spectra([_halved(luma) for luma in lumas]),
        *_fourier(lumas),
        *_edges(lumas),
        *_periods(lumas),
        *_blocking(lumas),
        *_brightness(lumas),
        np.log(pixels.shape[0] * pixels.shape[1]),
    ]
    return _finite(values)


def light(pixels: np.ndarray) -> np.ndarray:
    """(H,W,3) float in [0,255] -> (n,) float32 of fixed length, all finite: of darkness, backlight and haze,
    seen on a small copy.
    """
    return _finite([*_light_and_colour(pixels)])


def illumination(pixels: np.ndarray) -> tuple[float, float, float]:
    """(how bright the darkest quarter is at most, the brightest tenth at least, the share below FAINT) of the
    light that is smoothed over a tenth of the short side, of (H,W,3) in [0,255]; light from 0 to 1."""
    smooth = _smooth_light(_reduced(pixels))
    return float(np.quantile(smooth, 0.25)), float(np.quantile(smooth, 0.9)), float((smooth < FAINT).mean())


def _smooth_light(small: np.ndarray) -> np.ndarray:
    strongest = small.max(-1)
    return gaussian_filter(strongest, min(strongest.shape) / 10)


def _finite(values: list[float]) -> np.ndarray:
    return np.nan_to_num(np.array(values, dtype=np.float32), posinf=0, neginf=0)


def file_quality(data: bytes) -> int | None:
    """The quality, 1 to 100, that libjpeg would have taken for the table of luma in the bytes of a JPEG file;
    None of anything else.
    """
    place = 2
    while data[:2] == b"\xff\xd8" and place + 4 <= len(data) and data[place] == 0xFF:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place + 4 : end]
        # table 0, in bytes and in zigzag order as STEPS
        if data[place + 1] == 0xDB and len(segment) >= 65 and segment[0] == 0:
            return _quality([*segment[2 : 2 + len(STEPS)]])
        if end <= place + 2 or data[place + 1] == 0xDA:
            break
        place = end
    return None


def _quality(steps: list[int]) -> int:
    scale = np.median([100 * step / usual for step, usual in zip(steps, STEPS.values(), strict=True)])
    quality = 100 - scale / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 1, 100))


def _tiles(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """The picture itself if it is small, else TILES tiles spread over it."""
    height, width = pixels.shape[:2]
    if height * width <= TILES * TILE**2:
        yield pixels
        return
    rows = max(1, min(round((TILES * height / width) ** 0.5), height // TILE))
    columns = max(1, min(TILES // rows, width // TILE))
    for top in np.linspace(0, max(0, height - TILE), rows):
        for left in np.linspace(0, max(0, width - TILE), columns):
            y, x = int(top) // BLOCK * BLOCK, int(left) // BLOCK * BLOCK
            yield pixels[y : y + TILE, x : x + TILE]


def _opponents(tile: np.ndarray) -> np.ndarray:
    """Luma and two differences of colours (JPEG's), float32."""
    matrix = np.array(
        [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], dtype=np.float32
    )
    return tile.astype(np.float32) @ matrix


def _halved(a: np.ndarray) -> np.ndarray:
    height, width = (side // 2 * 2 for side in a.shape)
    return (
        a[0:height:2, 0:width:2]
        + a[1:height:2, 0:width:2]
        + a[0:height:2, 1:width:2]
        + a[1:height:2, 1:width:2]
    ) / 4


@functools.cache
def _dct_matrix() -> np.ndarray:
    """(8,8) orthonormal."""
    return dct(np.eye(BLOCK), axis=0, norm="ortho").astype(np.float32)


def blocks_of(a: np.ndarray, stride: int) -> np.ndarray:
    """(n,8,8): the blocks of a (H,W) at every `stride`."""
    windows = np.lib.stride_tricks.sliding_window_view(a, (BLOCK, BLOCK))[::stride, ::stride]
    return windows.reshape(-1, BLOCK, BLOCK)


def _coefficients(blocks: np.ndarray) -> np.ndarray:
    matrix = _dct_matrix()
    return matrix @ blocks @ matrix.T


def _powers(planes: list[np.ndarray], stride: int = 4) -> np.ndarray:
    """(n,8): each block's mean power in the bands of frequency, the last the whole."""
    blocks = np.concatenate(
        [blocks_of(plane, stride) for plane in planes if min(plane.shape) >= BLOCK]
        or [np.zeros((1, BLOCK, BLOCK))]
    )
    squares = _coefficients(np.ascontiguousarray(blocks, dtype=np.float32)).reshape(len(blocks), -1) ** 2
    inside = BANDS.reshape(-1, 1) == np.arange(7)
    masks = (inside / inside.sum(0)).astype(np.float32)
    return np.concatenate([squares @ masks, squares[:, 1:].mean(1, keepdims=True)], 1)


def _level(powers: np.ndarray) -> np.ndarray:
    return np.log(EPSILON + np.sqrt(np.maximum(powers, 0)))


def block_means(planes: list[np.ndarray], stride: int = 4) -> np.ndarray:
    """(n,): the mean of the block that each row of `_powers` is about."""
    return np.concatenate(
        [blocks_of(plane, stride).mean((1, 2)) for plane in planes if min(plane.shape) >= BLOCK]
        or [np.zeros(1)]
    )


def _spectra(lumas: list[np.ndarray], *colours: list[np.ndarray]) -> Iterator[float]:
    """Quantiles over blocks of the spectrum, and the spectrum of the flattest blocks: of luma, and of colour
    where it is given.
    """
    means = block_means(lumas)
    whole = _powers(lumas)
    seen = (means > 4) & (means < 251)  # what is clipped has no noise
    seen = seen if seen.sum() >= 0.05 * len(seen) else np.ones_like(seen)
    powers = whole[seen]
    yield float(seen.mean())
    yield from _level(np.quantile(powers, (0.1, 0.5, 0.9), axis=0)).ravel()
    order = np.argsort(powers[:, -1])
    flattest = order[: max(4, len(order) // 10)]
    yield from _level(powers[flattest].mean(0))
    if not colours:
        return
    for low, high in ((4, 85), (85, 170), (170, 251)):  # the noise of the dark, the middle and the bright
        part = powers[(means[seen] > low) & (means[seen] <= high)]
        part = part if len(part) >= 8 else powers
        yield from _level(np.quantile(part[:, [1, 4, 6]], 0.1, axis=0))
    colour = np.mean([_powers(plane)[seen] for plane in colours], axis=0)
    yield from _level(np.quantile(colour, (0.1, 0.5), axis=0)).ravel()
    yield from _level(colour[flattest].mean(0))


def _fourier(lumas: list[np.ndarray]) -> Iterator[float]:
    """The spectrum in 16 rings, of windowed squares of 64, relative to the first; then its fall along rows
    and columns at the end.
    """
    side = min(64, *(min(luma.shape) for luma in lumas))
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    ring = np.minimum((radius * 32).astype(int), 15)  # corners belong to the last
    power = np.zeros((side, side))
    for luma in lumas:
        for top in range(0, luma.shape[0] - side + 1, side):
            for left in range(0, luma.shape[1] - side + 1, side):
                square = luma[top : top + side, left : left + side]
                power += np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2 / side**2 / len(lumas)
    rings = np.bincount(ring.ravel(), power.ravel(), 16) / np.maximum(
        np.bincount(ring.ravel(), minlength=16), 1
    )
    levels = np.log(rings + 1e-3) / 2
    yield levels[1:3].mean()
    yield from np.diff(levels)
    steep = np.abs(frequency) > 0.4
    yield np.log(power[steep][:, np.abs(frequency) < 0.1].mean() + 1e-3) - np.log(
        power[np.abs(frequency) < 0.1][:, steep].mean() + 1e-3
    )


def _edges(lumas: list[np.ndarray]) -> Iterator[float]:
    """How much the strongest gradients lose when they are smoothed: the wider an edge is, the less."""
    lost: dict[tuple[float, float], list[np.ndarray]] = {(0.6, 1.2): [], (1.0, 2.0): [], (2.0, 4.0): []}
    strong: list[np.ndarray] = []
    for luma in lumas:
        size = {
            s: np.hypot(*np.gradient(gaussian_filter(luma, s))) for s in {s for pair in lost for s in pair}
        }
        for (fine, coarse), ratios in lost.items():
            ratios.append(np.stack([size[fine].ravel(), size[coarse].ravel()]))
        strong.append(size[1.0].ravel())
    gradient = np.concatenate(strong)
    yield from np.log(0.1 + np.quantile(gradient, (0.5, 0.9, 0.98, 0.995)))
    for parts in lost.values():
        fine, coarse = np.concatenate(parts, 1)
        for share in (0.9, 0.98):
            ratio = ((coarse + 0.05) / (fine + 0.05))[gradient >= np.quantile(gradient, share)]
            yield from np.quantile(ratio, (0.1, 0.5))


def _periods(lumas: list[np.ndarray]) -> Iterator[float]:
    """The strongest periods of the second differences' mean size along rows and columns: interpolation leaves
    its own behind.
    """
    peaks = np.zeros((2, 64))
    for luma in lumas:
        for axis in (0, 1):
            profile = np.abs(np.diff(luma, 2, axis=axis)).mean(1 - axis)
            profile = np.log(profile + 0.05)
            profile = profile - uniform_filter(profile, min(9, len(profile)))
            spectrum = np.abs(np.fft.rfft(profile * np.hanning(len(profile)), 512))[1:257]
            spectrum = spectrum / (np.median(spectrum) + 1e-3)
            peaks[axis] += spectrum.reshape(64, 4).max(1) / len(lumas)
    both = np.log(1e-2 + peaks).mean(0)
    whole = np.sort(both[8:])
    yield from (
        both[10:13].max(),
        both[15:17].max(),
        both[20:23].max(),
        both[24],
        both[31:33].max(),
        both[41:44].max(),
        both[47:49].max(),
    )
    yield from (both[62:].max(), whole[-1], whole[-4], float(np.argmax(both[8:])) / 64)


def _blocking(lumas: list[np.ndarray]) -> Iterator[float]:
    """JPEG's grid and steps: how much stronger the differences at its borders are, the quality whose comb
    fits best, and how well.
    """
    phases = np.zeros((2, BLOCK))
    for luma in lumas:
        for axis in (0, 1):
            a = luma if axis else luma.T
            # a step beyond the slope around it
            steps = np.abs(a[:, 2:-1] - a[:, 1:-2] - (a[:, 3:] - a[:, :-3]) / 3)
            for phase in range(BLOCK):  # the border between columns k - 1 and k is steps[:, k - 2]
                phases[axis, phase] += steps[:, (phase - 2) % BLOCK :: BLOCK].mean() / len(lumas)
    usual = np.median(phases, axis=1, keepdims=True) + 0.02
    ratios = np.log((phases + 0.02) / usual)
    yield from (ratios[:, 0].mean(), ratios.max(1).mean(), ratios[:, 4].mean())
    top, left = ratios.argmax(1)
    best = _comb(lumas, (0, 0))
    if (top, left) != (0, 0):
        shifted = _comb(lumas, (int(top), int(left)))
        best = shifted if shifted[1] > best[1] + 0.2 else best
    yield from best


def _comb(lumas: list[np.ndarray], offset: tuple[int, int]) -> tuple[float, float, float]:
    """(quality / 100, mean log-likelihood ratio of its comb against none, share of coefficients that say
    anything).
    """
    parts = [
        blocks_of(luma[offset[0] :, offset[1] :], BLOCK) for luma in lumas if min(luma.shape) >= 2 * BLOCK
    ]
    if not parts:
        return 1.0, 0.0, 0.0
    blocks = np.concatenate(parts)
    # clipping moves the coefficients off the comb
    blocks = blocks[(blocks.min((1, 2)) > 1) & (blocks.max((1, 2)) < 254)]
    blocks = blocks[:: max(1, len(blocks) // BLOCKS)]
    rows, columns = np.array([*STEPS]).T
    values = (
        np.abs(_coefficients(np.ascontiguousarray(blocks, dtype=np.float32))[:, rows, columns])
        if len(blocks)
        else np.zeros((1, len(STEPS)))
    )
    telling = values > 4 * ROUNDING
    if telling.sum() < 20:
        return 1.0, 0.0, 0.0
    base = np.broadcast_to(np.array([*STEPS.values()], dtype=np.float32), values.shape)[telling]
    values = values[telling]
    keep = slice(None, None, max(1, len(values) // 3000))
    base, values = base[keep], values[keep]
    scores = []
    for quality in QUALITIES:
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        step = np.clip(np.floor((base * scale + 50) / 100), 1, 255)
        rest = values - step * np.round(values / step)
        density = np.exp(-(rest**2) / (2 * ROUNDING**2)) / (ROUNDING * 2.5066)
        scores.append(np.log(0.1 + 0.9 * step * density).mean())
    best = int(np.argmax(scores))
    return QUALITIES[best] / 100, float(scores[best]), float(telling.mean())


def _brightness(lumas: list[np.ndarray]) -> Iterator[float]:
    yield from (
        np.quantile(np.concatenate([luma[::4, ::4].ravel() for luma in lumas]), (0.05, 0.5, 0.95)) / 255
    )


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


def noise_by_brightness(pixels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(len(edges) - 1,): the level of the flattest blocks whose mean brightness lies between neighbouring
    edges; nan where there are few.

    pixels (H,W,3) and edges in [0,255]. Only the ratios of these levels are good: texture and selection bias
    all of them.
    """
    planes = [_opponents(tile) for tile in _tiles(pixels)]
    means = block_means([colours[..., 0] for colours in planes])
    powers = np.mean(
        [_powers([colours[..., k] for colours in planes])[:, 2:7].mean(1) for k in range(3)], axis=0
    )
    levels = np.full(len(edges) - 1, np.nan)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        part = np.sort(powers[(means >= low) & (means < high)])
        if len(part) >= FEW:
            levels[k] = np.sqrt(part[: max(4, len(part) // 8)].mean())
    return levels
