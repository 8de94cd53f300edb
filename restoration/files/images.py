"""Pictures in and out: files and PIL images <-> (1,3,H,W) float32 in [0,1], without silent damage."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from restoration.files import decode, sandbox
from restoration.files.containers.container import Container
from restoration.files.errors import plain_name
from restoration.files.opening import ACCEPTED
from restoration.files.sizes import MAX_DECODED, MAX_PIXELS, MAX_SIDE, MIN_SIDE, check_size, fitted

__all__ = [
    "ACCEPTED",
    "MAX_DECODED",
    "MAX_PIXELS",
    "MAX_SIDE",
    "MIN_SIDE",
    "check_size",
    "fitted",
    "plain_name",
]

HEADING = 18  # pixels of a title on a sheet of pictures
MAX_FILE = 2**29  # bytes of a file that is read at all
# of pictures in folders: first those that are read, then those that are refused by name rather than
# overlooked
SUFFIXES = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".heic", ".heif", ".hif",
    ".avif", ".tif", ".tiff", ".gif", ".bmp",
    ".dib", ".ppm", ".pgm", ".pbm", ".pnm",
    ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".psd", ".exr", ".hdr", ".svg", ".eps", ".ico", ".tga", ".dds",
    ".pcx", ".pfm",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef",
}  # fmt: skip


class Photo(NamedTuple):
    """x (1,3,H,W) in [0,1]; alpha: 8-bit grey of the same size, None where nothing shows through; how: what
    was done, in one line.
    """

    x: Tensor
    alpha: Image.Image | None
    how: str


def load(function: str, source: str | Path | bytes, **arguments: Any) -> Any:
    """What restoration.files.decode's `function` makes of a file or of a file's content, apart where
    `sandbox.enable` was called.

    ValueError, one sentence.
    """
    if isinstance(source, bytes):
        if not sandbox.enabled():
            return getattr(decode, function)(source, "The picture", **arguments)
        with open(os.memfd_create("picture"), "w+b") as file:
            file.write(source)
            file.seek(0)
            return sandbox.call(function, file.fileno(), "The picture", arguments)
    name = plain_name(source)
    try:
        # a pipe or a device would be waited for or read for ever
        with open(
            os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ValueError(f"{name} is not a file.")
            if state.st_size > MAX_FILE:
                raise ValueError(
                    f"{name} has {state.st_size / 1e6:.0f} MB; at most {MAX_FILE / 1e6:.0f} are read."
                )
            if sandbox.enabled():
                return sandbox.call(function, file.fileno(), name, arguments)
            return getattr(decode, function)(file.read(), name, **arguments)
    except OSError as error:
        raise ValueError(f"{name} cannot be opened: {error.strerror or error}.") from None


def read_photo(
    source: str | Path | bytes,
    enlarged: int | None = None,
    most: int = MAX_PIXELS,
    part: Sequence[float] | None = None,
) -> Photo:
    """The photograph in a file, or in a file's content: rotated as its EXIF says, in sRGB, over white where
    transparent, more than 8 bits scaled.

    enlarged: of a restoration so many times as large a side; a picture too large for it, or of more than
    `most` pixels, is reduced as `fitted` says. None: it is refused. The size is checked in the header,
    before any pixel is decoded. Of an animation the first frame is taken. part: of the upright picture
    (left, top, right, bottom) in fractions of its sides; None: all of it. Raises ValueError, one sentence
    that says what is wrong and what is accepted.
    """
    pixels, alpha, how = load("photo", source, enlarged=enlarged, most=most, part=part)
    return Photo(to_tensor(pixels), None if alpha is None else Image.fromarray(alpha), how)


def read_image(source: str | Path | bytes | Image.Image, enlarged: int | None = None) -> Tensor:
    """`read_photo`'s x, (1,3,H,W) float32 in [0,1], of a file, of a file's content or of a Pillow image."""
    if isinstance(source, Image.Image):
        return to_tensor(
            decode.flatten(source, Container(source.format or "", *source.size, b""), enlarged).pixels
        )
    return read_photo(source, enlarged).x


def read_alpha(path: str | Path, enlarged: int) -> Image.Image | None:
    """The transparency, 8-bit grey, of a picture that `read_image` took, `enlarged` times as large a side;
    None where nothing shows through.
    """
    return enlarged_alpha(read_photo(path, enlarged).alpha, enlarged)


def enlarged_alpha(alpha: Image.Image | None, factor: int) -> Image.Image | None:
    """The transparency of a result that is `factor` times as large a side."""
    if alpha is None or factor == 1:
        return alpha
    return alpha.resize((factor * alpha.width, factor * alpha.height), Image.Resampling.LANCZOS)


def size_read(path: str | Path, enlarged: int = 1, most: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) of what `read_image` makes of this file.

    ValueError, that of `read_image`, where it refuses it.
    """
    return load("describe", path, enlarged=enlarged, most=most)[0]


def how_read(path: str | Path, enlarged: int = 1, most: int = MAX_PIXELS) -> str:
    """What `read_image` does to this file beside decoding it, in one line for the user; "" where it refuses
    the file.
    """
    try:
        return load("describe", path, enlarged=enlarged, most=most)[1]
    except ValueError:
        return ""


def describe(
    source: str | Path | bytes, enlarged: int = 1, most: int = MAX_PIXELS
) -> tuple[tuple[int, int], str]:
    """((width, height), line): `size_read` and `how_read` at once, mostly from the header alone."""
    return load("describe", source, enlarged=enlarged, most=most)


def see_through(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA picture that over white is `image` (8-bit RGB), without white rims on other grounds; alpha:
    8-bit grey, cropped to its size.

    Right to a level, but where `image` is darker than black would be over white, which a restoration can make
    of an edge: there it is black.
    """
    alpha = alpha.crop((0, 0, *image.size))
    opacity = np.asarray(alpha, dtype=np.float32)[..., None].clip(1) / 255
    colours = 255 - (255 - np.asarray(image, dtype=np.float32)) / opacity
    clear = Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))
    clear.putalpha(alpha)
    return clear


def to_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """8-bit RGB, PIL image or (H,W,3) uint8 -> (1,3,H,W) float32 in [0,1]."""
    return torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1)[None].float() / 255


def to_pil(x: Tensor) -> Image.Image:
    """(1,3,H,W) in [0,1] (clamped) -> 8-bit RGB PIL image."""
    pixels = (x[0].detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def lanczos(x: Tensor, height: int, width: int) -> Tensor:
    """x (1,3,H,W) in [0,1] at another size, in 8 bits: Pillow's Lanczos, anti-aliased."""
    return to_tensor(to_pil(x).resize((width, height), Image.Resampling.LANCZOS))


def sheet(pictures: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Pictures at their own size under their titles, in rows of `columns`; every cell is as large as the
    largest picture.
    """
    width, height = (max(picture.size[axis] for _, picture in pictures) for axis in (0, 1))
    columns = min(columns, len(pictures))
    drawn = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * (height + HEADING)), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(HEADING - 6)
    for k, (title, picture) in enumerate(pictures):
        left, top = k % columns * width, k // columns * (height + HEADING)
        drawn.paste(picture, (left, top + HEADING))
        # a title too long ends at the next one's cell
        draw.rectangle((left, top, left + width, top + HEADING - 1), fill="white")
        draw.text((left + 4, top + 2), title, fill="black", font=font)
    return drawn


def quantise(x: Tensor) -> Tensor:
    """What a PNG of x holds: clamped to [0,1] and rounded to 8 bits. Metrics are taken of this."""
    return (x.detach().clamp(0, 1) * 255).round() / 255


def enlarge(y: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement as Pillow's (B,3,h,w) -> (B,3,h·scale,w·scale), clamped to [0,1]."""
    if scale == 1:
        return y
    with torch.autocast(y.device.type, enabled=False):
        return torch.nn.functional.interpolate(
            y, scale_factor=scale, mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)


def edge_taper(y: Tensor, margin: int) -> Tensor:
    """y extended by `margin` pixels a side so that it wraps around smoothly: real photographs are not
    periodic.

    (B,3,H,W) -> (B,3,H+2m,W+2m): replicated borders, blended across the seam towards the mean of both facing
    edges.
    """
    y = torch.nn.functional.pad(y, (margin,) * 4, mode="replicate")
    for axis in (-1, -2):
        n = y.shape[axis]
        weight = torch.zeros(n)
        ramp = (1 + torch.cos(torch.linspace(0, torch.pi, margin + 1)[:margin])) / 4
        weight[:margin], weight[-margin:] = ramp, ramp.flip(0)
        weight = weight.to(y) if axis == -1 else weight.to(y)[:, None]
        y = y * (1 - weight) + y.flip(axis) * weight
    return y
