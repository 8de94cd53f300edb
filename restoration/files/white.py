"""What is white in a picture of more than 8 bits a value: nothing is guessed from one pixel."""

from __future__ import annotations

import numpy as np
from PIL import Image

from restoration.files.containers.container import Container
from restoration.files.opening import Unreadable

BULK = 0.99  # of the positive values decide what is white; single ones may be anything
OVERSHOOT = 1.5  # times white that the bulk may reach: restored and resampled pictures go beyond it


def is_deep(mode: str) -> bool:
    """More than 8 bits a value, which Pillow knows of grey pictures only: colour comes in 8 bits from its
    decoders.
    """
    return mode in {"I", "F"} or mode.startswith("I;16")


def values_of(image: Image.Image, container: Container) -> np.ndarray:
    """(H,W) float64, the numbers in the file. ValueError where some are infinite or not numbers."""
    values = np.asarray(image)
    if image.mode == "I" and (container.bits, container.sample) == (32, "u"):
        values = values.view(np.uint32)  # Pillow takes them as signed
    if not np.isfinite(values).all():
        raise Unreadable("The picture has values that are infinite or not numbers; finite ones are needed.")
    return values.astype(np.float64)


def bulk(values: np.ndarray) -> float:
    """The value that BULK of the positive ones do not exceed; 0 where none is positive."""
    positive = values[values > 0]
    return float(np.quantile(positive, BULK, method="lower")) if positive.size else 0.0


def white(values: np.ndarray, mode: str, container: Container) -> float:
    """Which value stands for white: the largest of the type, or a common one that the bulk of the values
    keeps to.
    """
    most = bulk(values)
    if mode == "F":
        for level in (1.0, 255.0, 65535.0, 2.0**32 - 1):
            if most <= level * OVERSHOOT:
                return level
        raise Unreadable(
            f"The picture's values reach {most:.3g}; floating point is read as 0 to 1, 255 or 65535."
        )
    bits = container.bits
    largest = 2.0 ** (bits - (container.sample == "i")) - 1
    usual = (255.0, 65535.0) if bits > 16 else (255.0,)
    return next((level for level in usual if 0 < most <= level), largest)


def deep_how(mode: str, container: Container, level: float) -> str:
    bits = container.bits
    if mode != "F" and bits <= 16 and level == 2.0 ** (bits - (container.sample == "i")) - 1:
        return f"{bits} bits scaled to 8"
    return f"{'floating point' if mode == 'F' else f'{bits} bits'}, {level:.0f} taken as white"
