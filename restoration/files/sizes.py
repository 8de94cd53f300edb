"""How large pictures may be."""

from __future__ import annotations

import math

MIN_SIDE = 16
MAX_SIDE = 8192
MAX_PIXELS = 4_000_000
MAX_DECODED = 2**26  # pixels of a picture that is read to be reduced: phones have 50 megapixels
MAX_KERNEL = 128  # pixels a side of a blur kernel


def check_size(width: int, height: int) -> None:
    """ValueError unless MIN_SIDE ≤ both sides ≤ MAX_SIDE and width·height ≤ MAX_PIXELS."""
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"The picture is {width}×{height}; each side must have at least {MIN_SIDE} pixels.")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        most = f"{MAX_PIXELS / 1e6:g} megapixels and {MAX_SIDE} pixels a side"
        raise ValueError(f"The picture is {width}×{height}; at most {most} are accepted.")


def fitted(width: int, height: int, enlarged: int = 1, most: int = MAX_PIXELS) -> tuple[int, int]:
    """The picture's own sides, or the largest in their ratio of no more than `most` pixels whose result is
    within MAX_PIXELS and MAX_SIDE.

    enlarged: how many times as large a side the result is.
    """
    pixels = min(most, MAX_PIXELS / enlarged**2)
    shrink = min(1.0, math.sqrt(pixels / (width * height)), MAX_SIDE / max(width, height) / enlarged)
    return int(width * shrink), int(height * shrink)
