"""Blur kernels and inpainting masks out of picture files. Needs only Pillow and numpy, as decode.py."""

from __future__ import annotations

import numpy as np
from PIL import Image

from restoration.files import arrays
from restoration.files.colours import split
from restoration.files.containers.container import Container
from restoration.files.opening import Unreadable, opened, turn_of, turned
from restoration.files.sizes import MAX_KERNEL
from restoration.files.white import bulk, is_deep, values_of, white


def _grey(image: Image.Image, container: Container) -> tuple[np.ndarray, np.ndarray | None]:
    """(values (h,w) float64 as in the file, alpha (h,w) in [0,1] or None), upright."""
    image.load()
    if is_deep(image.mode):
        return _oriented(values_of(image, container), turn_of(container, image)), None
    colours, alpha = split(image, image.size)
    turn = turn_of(container, image)
    values = np.asarray(turned(colours.convert("L"), turn), np.float64)
    return values, None if alpha is None else np.asarray(turned(alpha, turn), np.float64) / 255


def _oriented(values: np.ndarray, turn: int) -> np.ndarray:
    return np.asarray(turned(Image.fromarray(values.astype(np.float32)), turn), np.float64)


def kernel(data: bytes, name: str) -> np.ndarray:
    """A blur kernel (h,w) float32, up to a factor: of a grey picture (transparent is black), or of a .npy or
    .npz array.
    """
    if arrays.is_array(data):
        return arrays.kernel(data, name)
    with opened(data, name) as (container, image):
        for width, height in ((container.width, container.height), image.size):
            if max(width, height) > MAX_KERNEL:
                most = f"{MAX_KERNEL}×{MAX_KERNEL}"
                raise Unreadable(f"The kernel picture is {width}×{height}; at most {most} is accepted.")
        values, alpha = _grey(image, container)
        return (values if alpha is None else values * alpha).astype(np.float32)


def mask(data: bytes, name: str, height: int, width: int) -> tuple[np.ndarray, str]:
    """((height,width) bool, how): True where pixels are known, and what was taken as that.

    Black is missing. Of two values the higher is known, whatever they are; else it is half of white.
    Transparent is missing, except around black strokes. A mask of a photograph that is reduced is reduced
    like it: a pixel is known where all of it was.
    """
    with opened(data, name) as (container, image):
        values, alpha = _grey(image, container)
        known, how = _known(values, alpha, image.mode, container)
    if known.shape != (height, width):
        known = _reduced_mask(known, height, width, name)
        how += f", reduced to {width}×{height}"
    if not known.any():
        raise ValueError(
            f"The mask {name} leaves no pixel known; black marks what is missing, white what is known."
        )
    return known, f"{how}; {100 * (1 - known.mean()):.1f} % of the pixels are missing"


def _known(
    values: np.ndarray, alpha: np.ndarray | None, mode: str, container: Container
) -> tuple[np.ndarray, str]:
    """(known, how) of a mask's numbers and transparency."""
    if alpha is not None and alpha.min() < 0.5:
        opaque = values[alpha >= 0.5]
        # black strokes on a clear ground; without any, nothing is known
        if not opaque.size or opaque.max() < 128:
            return (alpha < 0.5) if opaque.size else np.zeros(values.shape, bool), "opaque is missing"
        levels = np.unique(opaque)
        # of a photograph with holes the transparency alone counts
        strokes = (values >= 128) | (len(levels) > 2)
        return (alpha >= 0.5) & strokes, "transparent is missing"
    levels = np.unique(values)
    if len(levels) == 2:
        return values > levels.mean(), f"{levels[1]:g} is known, {levels[0]:g} missing"
    shallow = 1.0 if bulk(values) <= 1 else 255.0
    level = white(values, mode, container) if is_deep(mode) else shallow
    return values > level / 2, f"above {level / 2:g} is known"


def _reduced_mask(known: np.ndarray, height: int, width: int, name: str) -> np.ndarray:
    sides = known.shape[::-1]
    scale = max(width / sides[0], height / sides[1])
    alike = all(abs(side * scale - target) <= 1 for side, target in zip(sides, (width, height), strict=True))
    if scale >= 1 or not alike:
        lying = "; it must lie as the picture does once that is turned upright"
        raise ValueError(
            f"The mask {name} is {sides[0]}×{sides[1]} but the picture {width}×{height}; they must be equal"
            f"{lying if sides == (height, width) else ''}."
        )
    share = Image.fromarray(known.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(share) > 0.999
