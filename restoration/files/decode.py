"""Photographs out of picture files: what is done beside decoding is said, and nothing is guessed from one
pixel.

Every picture of the project is read here, kernels and masks by way of masks.py. Needs only Pillow
and numpy, so that restoration/files/sandbox.py can run it apart. Errors are ValueErrors, one sentence, that
begin with the name of the file.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

from restoration.files.colours import split, srgb, transform_of
from restoration.files.containers.container import Container
from restoration.files.masks import kernel, mask
from restoration.files.opening import Unreadable, cut, opened, turn_of, turned, upright
from restoration.files.sizes import MAX_PIXELS, check_size, fitted
from restoration.files.white import deep_how, is_deep, values_of, white

__all__ = [
    "Photo",
    "describe",
    "flatten",
    "kernel",
    "mask",
    "photo",
    "warm",
]  # what sandbox.call may be asked for


class Photo(NamedTuple):
    """pixels (H,W,3) uint8 sRGB, over white; alpha (H,W) uint8, or None where nothing shows through; how:
    what was done, one line.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    how: str


def warm() -> None:
    """Load what opening a picture loads, so that children of the process need not."""
    Image.init()
    srgb()
    with contextlib.suppress(ImportError):
        import pi_heif  # noqa: F401
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16)).save(buffer, kind)
        photo(buffer.getvalue(), kind)


def _how(container: Container, image: Image.Image, size: tuple[int, int], level: float | None) -> str:
    """What is done to a picture beside decoding it, in one line; level: what is white in a deep one."""
    turn = turn_of(container, image)
    width, height = upright(size, turn)
    remarks = [
        ("turned upright as the camera says", turn != 1),
        ("" if level is None else deep_how(image.mode, container, level), level is not None),
        (f"{container.bits} bits scaled to 8", container.bits > 8 and level is None),
        (f"{image.mode} converted to RGB", image.mode in {"CMYK", "LAB", "HSV", "YCbCr"}),
        ("colours converted to sRGB", transform_of(image, container)[1] is not None),
        ("laid over white where transparent", image.has_transparency_data),
        ("first frame only", container.frames or getattr(image, "n_frames", 1) > 1),
        (f"reduced to {width}×{height}", size != image.size),
    ]
    return ", ".join([f"{image.width}×{image.height} pixels", *(text for text, holds in remarks if holds)])


def _fitted(image: Image.Image, enlarged: int | None, most: int) -> tuple[int, int]:
    """The stored sides that are kept; ValueError where too small, or too large and enlarged is None."""
    size = image.size if enlarged is None else fitted(*image.size, enlarged, most)
    try:
        check_size(*size)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return size


def describe(
    data: bytes, name: str, enlarged: int | None = 1, most: int = MAX_PIXELS
) -> tuple[tuple[int, int], str]:
    """((width, height), how) of what `photo` makes of a file, without decoding it where its header says
    enough.
    """
    with opened(data, name) as (container, image):
        size, level = _fitted(image, enlarged, most), None
        if is_deep(image.mode):
            level = white(values_of(image, container), image.mode, container)
        return upright(size, turn_of(container, image)), _how(container, image, size, level)


def photo(
    data: bytes,
    name: str,
    enlarged: int | None = None,
    most: int = MAX_PIXELS,
    part: Sequence[float] | None = None,
) -> Photo:
    """The photograph in a file's content; of an animation the first frame.

    enlarged: of a restoration so many times as large a side; a picture too large for it, or of more than
    `most` pixels, is reduced. None: it is refused. part: of the upright picture (left, top, right, bottom) in
    fractions of its sides; None: all of it.
    """
    with opened(data, name) as (container, image):
        return flatten(image, container, enlarged, most, part)


def flatten(
    image: Image.Image,
    container: Container,
    enlarged: int | None,
    most: int = MAX_PIXELS,
    part: Sequence[float] | None = None,
) -> Photo:
    """Upright 8-bit sRGB over white, at the size and of the part that `photo` says."""
    size, turn = _fitted(image, enlarged, most), turn_of(container, image)
    (mode, transform), level = transform_of(image, container), None
    if is_deep(image.mode):  # what is white in all of it is white in its part
        values = values_of(image, container)
        level = white(values, image.mode, container)
    if part:
        image = cut(image, part, turn)
        size = _fitted(image, enlarged, most)
    if level is not None:
        values = values_of(image, container) if part else values
        how, alpha = _how(container, image, size, level), None
        colours = Image.fromarray((values / level * 255).clip(0, 255).round().astype(np.uint8))
    else:
        how = _how(container, image, size, None)
        image.draft(None, size)  # a JPEG is decoded at the half, quarter or eighth that is just large enough
        colours, alpha = split(image, size)
    if colours.size != size:
        colours = colours.resize(size, Image.Resampling.LANCZOS)
    colours = colours.convert(mode) if transform else colours
    pixels = turned(
        (ImageCms.applyTransform(colours, transform) if transform else None) or colours.convert("RGB"), turn
    )
    if alpha is None or alpha.getextrema()[0] == 255:
        return Photo(np.asarray(pixels), None, how)
    alpha = turned(alpha, turn)
    pixels = Image.composite(pixels, Image.new("RGB", pixels.size, "white"), alpha)
    return Photo(np.asarray(pixels), np.asarray(alpha), how)
