"""A picture cut into tiles and blocks, and the mean powers of their frequencies. Values 0 to 255."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from scipy.fft import dct

# of a large picture so many tiles of this side are looked at, whose corners keep the grid of JPEG's blocks
TILE, TILES = 128, 15
BLOCK = 8
# of a block's frequencies; -1: its mean
BANDS = np.digitize(np.add.outer(np.arange(BLOCK), np.arange(BLOCK)), (1, 2, 3, 5, 7, 9, 11)) - 1
EPSILON = 0.05  # of 255: below this all spectra are alike


def tiles_of(pixels: np.ndarray) -> Iterator[np.ndarray]:
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


def opponents(tile: np.ndarray) -> np.ndarray:
    """Luma and two differences of colours (JPEG's), float32."""
    matrix = np.array(
        [[0.299, -0.168736, 0.5], [0.587, -0.331264, -0.418688], [0.114, 0.5, -0.081312]], dtype=np.float32
    )
    return tile.astype(np.float32) @ matrix


def halved(a: np.ndarray) -> np.ndarray:
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


def coefficients(blocks: np.ndarray) -> np.ndarray:
    matrix = _dct_matrix()
    return matrix @ blocks @ matrix.T


def powers_of(planes: list[np.ndarray], stride: int = 4) -> np.ndarray:
    """(n,8): each block's mean power in the bands of frequency, the last the whole."""
    blocks = np.concatenate(
        [blocks_of(plane, stride) for plane in planes if min(plane.shape) >= BLOCK]
        or [np.zeros((1, BLOCK, BLOCK))]
    )
    squares = coefficients(np.ascontiguousarray(blocks, dtype=np.float32)).reshape(len(blocks), -1) ** 2
    inside = BANDS.reshape(-1, 1) == np.arange(7)
    masks = (inside / inside.sum(0)).astype(np.float32)
    return np.concatenate([squares @ masks, squares[:, 1:].mean(1, keepdims=True)], 1)


def log_level(powers: np.ndarray) -> np.ndarray:
    return np.log(EPSILON + np.sqrt(np.maximum(powers, 0)))


def block_means(planes: list[np.ndarray], stride: int = 4) -> np.ndarray:
    """(n,): the mean of the block that each row of `powers_of` is about."""
    return np.concatenate(
        [blocks_of(plane, stride).mean((1, 2)) for plane in planes if min(plane.shape) >= BLOCK]
        or [np.zeros(1)]
    )
