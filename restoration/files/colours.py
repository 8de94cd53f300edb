"""The colours of picture files, into sRGB by their profile, and their transparency."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from restoration.files.containers.container import Container
from restoration.files.white import is_deep

SRGB_ERROR = 2  # levels of 255 within which a profile is sRGB itself


@functools.lru_cache(maxsize=1)
def srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _to_srgb(profile: bytes, mode: str) -> Any:
    """The transform of a profile from a Pillow mode (L, RGB, CMYK); None where there is none to make.

    That is: no profile, a broken one, one of other channels, or, whatever its name, sRGB itself: browsers
    show these as they are.
    """
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}.get(source.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(source, srgb(), mode, "RGB")
        if mode == "CMYK":
            return transform
        probe = _probe().convert(mode)
        shift = np.asarray(probe.convert("RGB"), int) - np.asarray(
            ImageCms.applyTransform(probe, transform), int
        )
        return transform if abs(shift).max() > SRGB_ERROR else None
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return None


def _probe() -> Image.Image:
    """Greys, and colours between all corners of the cube."""
    axis = np.linspace(0, 255, 6).round()
    colours = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    greys = np.repeat(np.arange(0, 256, 4)[:, None], 3, 1)
    return Image.fromarray(np.concatenate([colours, greys])[None].astype(np.uint8))


def _base(image: Image.Image) -> str:
    """The mode of the colours alone that Pillow's mode is read as."""
    if image.mode in {"1", "L", "LA", "La"} or is_deep(image.mode):
        return "L"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def transform_of(image: Image.Image, container: Container) -> tuple[str, Any]:
    """(mode, transform): what the colours are converted to first, and from there to sRGB."""
    profile, mode = container.profile or image.info.get("icc_profile") or b"", _base(image)
    if mode == "L" and not (transform := _to_srgb(profile, "L")):
        mode = "RGB"  # grey pictures often carry a colour profile
    elif mode == "L":
        return mode, transform
    return mode, _to_srgb(profile, mode)


def split(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, Image.Image | None]:
    """(colours, alpha) of a picture of 8 bits or less, reduced to `size` where it has alpha: colours weigh as
    much as is seen of them.
    """
    if not image.has_transparency_data:
        return (image if image.mode in {"L", "RGB", "CMYK"} else image.convert(_base(image))), None
    grey = image.mode in {"LA", "La"}
    mode = "LA" if grey else "RGBA"
    clear = image if image.mode == mode else image.convert(mode)  # which would copy it
    if clear.size != size:
        clear = clear.resize(size, Image.Resampling.LANCZOS)
    return clear.convert("L" if grey else "RGB"), clear.getchannel("A")
