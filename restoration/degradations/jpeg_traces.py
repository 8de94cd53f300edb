"""What JPEG leaves behind: the quality that a file says, the grid of its blocks and the comb of its steps
(Fan and de Queiroz 2003).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import PngImagePlugin

from restoration.degradations.blocks import BLOCK, blocks_of, coefficients
from restoration.files.containers.png import SIGNATURE, png_text

HEADER = 2**17  # bytes of a file in which its quality is looked for
TOLD = "restoration-jpeg-quality"  # the PNG text chunk with the quality of the JPEG that it was cut out of

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


def quality_of_file(path: str | Path) -> int | None:
    """`file_quality` of a file."""
    with open(path, "rb") as file:
        return file_quality(file.read(HEADER))


def as_text(quality: int | None) -> PngImagePlugin.PngInfo | None:
    """What makes a PNG of a JPEG's pixels tell the JPEG's quality; None where that is not known."""
    if quality is None:
        return None
    text = PngImagePlugin.PngInfo()
    text.add_text(TOLD, str(quality))
    return text


def file_quality(data: bytes) -> int | None:
    """The quality, 1 to 100, that libjpeg would have taken for the table of luma in the first bytes of a JPEG
    file, or that a PNG tells by `as_text`; None of anything else.
    """
    if data.startswith(SIGNATURE):
        with contextlib.suppress(ValueError):
            told = int(png_text(data, TOLD) or 0)
            return told if 1 <= told <= 100 else None
        return None
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


def blocking(lumas: list[np.ndarray]) -> Iterator[float]:
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
        np.abs(coefficients(np.ascontiguousarray(blocks, dtype=np.float32))[:, rows, columns])
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
