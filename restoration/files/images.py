"""Pictures in and out: files and PIL images <-> (1,3,H,W) float32 in [0,1], without silent damage."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

MIN_SIDE = 16
MAX_SIDE = 8192
MAX_PIXELS = 4_000_000
MAX_DECODED = 2**26  # pixels of a picture that is read to be reduced: phones have 50 megapixels
DEEP = {"I": "32 bits scaled to 8", "F": "floating point scaled to 8 bits"}  # by Pillow's mode; its other deep ones have 16
HEADING = 18  # pixels of a title on a sheet of pictures
ACCEPTED = "PNG, JPEG, WebP, BMP, GIF or TIFF"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # no others: Pillow would run Ghostscript on a visitor's EPS
# of pictures in folders; HEIC so that it is refused by name rather than overlooked
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif"}


def check_size(width: int, height: int) -> None:
    """ValueError unless MIN_SIDE ≤ both sides ≤ MAX_SIDE and width·height ≤ MAX_PIXELS."""
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"The picture is {width}×{height}; each side must have at least {MIN_SIDE} pixels.")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ValueError(f"The picture is {width}×{height}; at most {MAX_PIXELS / 1e6:g} megapixels and {MAX_SIDE} pixels a side are accepted.")


def fitted(width: int, height: int, enlarged: int = 1) -> tuple[int, int]:
    """The picture's own sides, or the largest in their ratio whose result, `enlarged` times as large a side, is within MAX_PIXELS and MAX_SIDE."""
    shrink = min(1.0, math.sqrt(MAX_PIXELS / (width * height)) / enlarged, MAX_SIDE / max(width, height) / enlarged)
    return int(width * shrink), int(height * shrink)


@contextlib.contextmanager
def open_image(source: str | Path | IO[bytes]) -> Iterator[Image.Image]:
    """The picture in a file of FORMATS, not decoded yet, for a with block; what goes wrong in the block is told as well.

    ValueError, one sentence: the file cannot be opened, is none of ACCEPTED, claims an absurd size, or turns out damaged; a ValueError of
    the block stays as it is.
    """
    name = Path(source).name if isinstance(source, str | Path) else "The picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limits are stricter
            with Image.open(source, formats=FORMATS) as image:
                yield image
    except ValueError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has far more than the {MAX_DECODED / 1e6:.0f} megapixels that can be read.") from None
    except UnidentifiedImageError:
        if _is_heic(source):
            raise ValueError(f"{name} is a HEIC picture, which cannot be read here; save it as JPEG or PNG first.") from None
        raise ValueError(f"{name} is not a picture that can be read here; {ACCEPTED} are accepted.") from None
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to: TypeError, IndexError, struct.error, …
        if isinstance(error, OSError) and error.strerror:  # the system's, not a decoder's
            raise ValueError(f"{source} cannot be opened: {error.strerror}.") from None
        raise ValueError(f"{name} is damaged or cut off; a complete {ACCEPTED} file is needed.") from None


def read_image(source: str | Path | Image.Image, enlarged: int | None = None) -> Tensor:
    """A picture as (1,3,H,W) float32 in [0,1]: rotated as its EXIF says, in sRGB, over white where transparent, 16 bits scaled.

    enlarged: of a restoration so many times as large a side; a picture too large for it is reduced as `fitted` says. None: it is refused.
    The size is checked in the header, before any pixel is decoded. Of an animation the first frame is taken.
    Raises ValueError, one sentence that says what is wrong and what is accepted.
    """
    if isinstance(source, Image.Image):
        return to_tensor(_reduced(source, enlarged))
    with open_image(source) as image:
        return to_tensor(_reduced(image, enlarged))


def read_alpha(path: str | Path, enlarged: int) -> Image.Image | None:
    """The transparency, 8-bit grey, of a picture that `read_image` took, `enlarged` times as large a side; None where nothing shows through."""
    with open_image(path) as image:
        if not image.has_transparency_data or _is_deep(image):
            return None
        alpha = (ImageOps.exif_transpose(image) or image).convert("RGBA").getchannel("A")
    width, height = fitted(*alpha.size, enlarged)
    whole = alpha.getextrema()[0] == 255
    return None if whole else alpha.resize((enlarged * width, enlarged * height), Image.Resampling.LANCZOS)


def see_through(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """The RGBA picture that over white is `image` (8-bit RGB), without white rims on other grounds; alpha: 8-bit grey, cropped to its size.

    Right to a level, but where `image` is darker than black would be over white, which a restoration can make of an edge: there it is black.
    """
    alpha = alpha.crop((0, 0, *image.size))
    opacity = np.asarray(alpha, dtype=np.float32)[..., None].clip(1) / 255
    colours = 255 - (255 - np.asarray(image, dtype=np.float32)) / opacity
    clear = Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))
    clear.putalpha(alpha)
    return clear


def _reduced(image: Image.Image, enlarged: int | None) -> Image.Image:
    """`_flatten`, at the size that read_image says."""
    if enlarged is None:
        check_size(*image.size)
        return _flatten(image)
    size = _checked_size(image, enlarged)
    if size == image.size:
        return _flatten(image)
    image.draft(None, size)  # a JPEG is decoded at the half, quarter or eighth that is just large enough
    return _flatten(image).resize(_upright(image, size), Image.Resampling.LANCZOS)


def _checked_size(image: Image.Image, enlarged: int) -> tuple[int, int]:
    """`fitted` of the picture; ValueError where it is too large to be decoded or too narrow to be reduced."""
    width, height = image.size
    if width * height > MAX_DECODED:
        raise ValueError(f"The picture is {width}×{height}; at most {MAX_DECODED / 1e6:.0f} megapixels can be read and reduced.")
    size = fitted(width, height, enlarged)
    check_size(*size)
    return size


def _orientation(image: Image.Image) -> int:
    """1 is upright, 5 to 8 are sideways."""
    return image.getexif().get(0x0112, 1)  # the EXIF tag of the orientation


def _upright(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) that the stored sides become when the picture is turned upright."""
    return size[::-1] if 5 <= _orientation(image) <= 8 else size


def size_read(path: str | Path, enlarged: int = 1) -> tuple[int, int]:
    """(width, height) of what `read_image` makes of this file, from its header alone. ValueError, that of `read_image`, where it refuses it."""
    with open_image(path) as image:
        return _upright(image, _checked_size(image, enlarged))


def how_read(path: str | Path, enlarged: int = 1) -> str:
    """What `read_image` does to this file beside decoding it, in one line for the user; "" where it refuses the file."""
    try:
        with open_image(path) as image:
            size = _checked_size(image, enlarged)
            width, height = _upright(image, size)
            words = {
                "turned upright as the camera says": _orientation(image) != 1,
                DEEP.get(image.mode, "16 bits scaled to 8"): _is_deep(image),
                f"{image.mode} converted to RGB": image.mode in {"CMYK", "LAB", "HSV", "YCbCr"},
                "colours converted to sRGB": _foreign_profile(image) is not None and not _is_deep(image),
                "laid over white where transparent": image.has_transparency_data,
                "first frame only": getattr(image, "n_frames", 1) > 1,
                f"reduced to {width}×{height}": size != image.size,
            }
            return ", ".join([f"{image.width}×{image.height} pixels", *(text for text, said in words.items() if said)])
    except ValueError:
        return ""


def _is_heic(source: str | Path | IO[bytes]) -> bool:
    """Whether the file begins as an ISO image file, the form of HEIC and HEIF."""
    if not isinstance(source, str | Path):
        return False
    with open(source, "rb") as file:
        return file.read(12)[4:] in {b"ftyp" + brand for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")}


def _is_deep(image: Image.Image) -> bool:
    """More than 8 bits a value, which Pillow knows of grey pictures only: colour comes in 8 bits from its decoders."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _foreign_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The picture's colour profile; None where it has none, a broken one or sRGB itself: the numbers are then taken as sRGB, as browsers do."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return None if "sRGB" in ImageCms.getProfileDescription(profile) else profile
    except (KeyError, OSError, TypeError, ImageCms.PyCMSError):
        return None


def _flatten(image: Image.Image) -> Image.Image:
    """Upright 8-bit sRGB without alpha."""
    try:
        image.load()
    except ValueError as error:  # of a broken header; most decoders raise OSError
        raise OSError(str(error)) from None
    image = ImageOps.exif_transpose(image) or image
    if _is_deep(image):
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError("The picture has values that are infinite or not numbers; finite ones are needed.")
        whole = 1.0 if image.mode == "F" and values.max() <= 1 else 255.0 if image.mode in {"I", "F"} and values.max() <= 255 else 65535.0
        return Image.fromarray((values / whole * 255).clip(0, 255).round().astype(np.uint8)).convert("RGB")
    profile, see_through = _foreign_profile(image), image.has_transparency_data
    if see_through or image.mode == "P":
        image = image.convert("RGBA" if see_through else "RGB")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError):  # of another number of channels than the picture has
            image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGBA" if see_through else "RGB") or image
    if see_through:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB PIL image -> (1,3,H,W) float32 in [0,1]."""
    return torch.from_numpy(np.array(image, copy=True)).permute(2, 0, 1)[None].float() / 255


def to_pil(x: Tensor) -> Image.Image:
    """(1,3,H,W) in [0,1] (clamped) -> 8-bit RGB PIL image."""
    pixels = (x[0].detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def lanczos(x: Tensor, height: int, width: int) -> Tensor:
    """x (1,3,H,W) in [0,1] at another size, in 8 bits: Pillow's Lanczos, anti-aliased."""
    return to_tensor(to_pil(x).resize((width, height), Image.Resampling.LANCZOS))


def sheet(pictures: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Pictures at their own size under their titles, in rows of `columns`; every cell is as large as the largest picture."""
    width, height = (max(picture.size[axis] for _, picture in pictures) for axis in (0, 1))
    columns = min(columns, len(pictures))
    drawn = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * (height + HEADING)), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(HEADING - 6)
    for k, (title, picture) in enumerate(pictures):
        left, top = k % columns * width, k // columns * (height + HEADING)
        drawn.paste(picture, (left, top + HEADING))
        draw.rectangle((left, top, left + width, top + HEADING - 1), fill="white")  # a title too long ends at the next one's cell
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
        return torch.nn.functional.interpolate(y, scale_factor=scale, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def edge_taper(y: Tensor, margin: int) -> Tensor:
    """y extended by `margin` pixels a side so that it wraps around smoothly: real photographs are not periodic.

    (B,3,H,W) -> (B,3,H+2m,W+2m): replicated borders, blended across the seam towards the mean of both facing edges.
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
