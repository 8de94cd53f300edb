"""What the damage meter looks at in the texture of a picture: some two hundred statistics at any size.
Values 0 to 255 inside.

Spectra of the blocks of a picture and of its flattest ones tell noise from texture (the flat-patch idea of
Pyatykh et al. 2013 and Chen et al. 2015, with a spectrum in place of one variance, since the noise of
photographs is not white); ratios of gradients across scales give the width of edges (Zhuo and Sim 2011); the
comb of DCT coefficients gives JPEG's steps (Fan and de Queiroz 2003); periodic second differences betray
enlargement (Gallagher 2005).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from restoration.degradations.blocks import block_means, halved, log_level, opponents, powers_of, tiles_of
from restoration.degradations.jpeg_traces import blocking

FEW = 24  # blocks of one brightness: fewer say nothing
COMB = slice(-7, -5)  # where `texture` has (quality / 100, log-likelihood ratio) of JPEG's comb


def texture(pixels: np.ndarray) -> np.ndarray:
    """(H,W,3) float in [0,255], sides ≥ 16 -> (n,) float32 of fixed length, all finite: of noise, blur, JPEG
    and enlargement.
    """
    planes = [opponents(tile) for tile in tiles_of(pixels)]
    lumas = [colours[..., 0] for colours in planes]
    values = [
        *_spectra(lumas, [c[..., 1] for c in planes], [c[..., 2] for c in planes]),
        *_spectra([halved(luma) for luma in lumas]),
        *_fourier(lumas),
        *_edges(lumas),
        *_periods(lumas),
        *blocking(lumas),
        *_brightness(lumas),
        np.log(pixels.shape[0] * pixels.shape[1]),
    ]
    return np.nan_to_num(np.array(values, dtype=np.float32), posinf=0, neginf=0)


def _spectra(lumas: list[np.ndarray], *colours: list[np.ndarray]) -> Iterator[float]:
    """Quantiles over blocks of the spectrum, and the spectrum of the flattest blocks: of luma, and of colour
    where it is given.
    """
    means = block_means(lumas)
    whole = powers_of(lumas)
    seen = (means > 4) & (means < 251)  # what is clipped has no noise
    seen = seen if seen.sum() >= 0.05 * len(seen) else np.ones_like(seen)
    powers = whole[seen]
    yield float(seen.mean())
    yield from log_level(np.quantile(powers, (0.1, 0.5, 0.9), axis=0)).ravel()
    order = np.argsort(powers[:, -1])
    flattest = order[: max(4, len(order) // 10)]
    yield from log_level(powers[flattest].mean(0))
    if not colours:
        return
    for low, high in ((4, 85), (85, 170), (170, 251)):  # the noise of the dark, the middle and the bright
        part = powers[(means[seen] > low) & (means[seen] <= high)]
        part = part if len(part) >= 8 else powers
        yield from log_level(np.quantile(part[:, [1, 4, 6]], 0.1, axis=0))
    colour = np.mean([powers_of(plane)[seen] for plane in colours], axis=0)
    yield from log_level(np.quantile(colour, (0.1, 0.5), axis=0)).ravel()
    yield from log_level(colour[flattest].mean(0))


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


def _brightness(lumas: list[np.ndarray]) -> Iterator[float]:
    yield from (
        np.quantile(np.concatenate([luma[::4, ::4].ravel() for luma in lumas]), (0.05, 0.5, 0.95)) / 255
    )


def coarseness(pixels: np.ndarray) -> float:
    """How much stronger than on the mean of all frequencies the flattest blocks of (H,W,3) in [0,255] are in
    the waves of 4 to 5 pixels: 1 for white noise, 1.15 for noise that was reduced with its picture, 1.25
    after demosaicing. Coarser waves tell more of it, but texture more still.
    """
    powers = np.mean([powers_of([tile[..., k] for tile in tiles_of(pixels)]) for k in range(3)], axis=0)
    flattest = powers[np.argsort(powers[:, -1])[: max(4, len(powers) // 10)]].mean(0)
    return float(np.sqrt(flattest[2] / max(flattest[-1], 1e-6)))


def noise_by_brightness(pixels: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(len(edges) - 1,): the level of the flattest blocks whose mean brightness lies between neighbouring
    edges; nan where there are few.

    pixels (H,W,3) and edges in [0,255]. Only the ratios of these levels are good: texture and selection bias
    all of them.
    """
    planes = [opponents(tile) for tile in tiles_of(pixels)]
    means = block_means([colours[..., 0] for colours in planes])
    powers = np.mean(
        [powers_of([colours[..., k] for colours in planes])[:, 2:7].mean(1) for k in range(3)], axis=0
    )
    levels = np.full(len(edges) - 1, np.nan)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        part = np.sort(powers[(means >= low) & (means < high)])
        if len(part) >= FEW:
            levels[k] = np.sqrt(part[: max(4, len(part) // 8)].mean())
    return levels
