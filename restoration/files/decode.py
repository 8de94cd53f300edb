"""Pixels out of picture files: what is done beside decoding is said, and nothing is guessed from one pixel.

Every picture of the project is read here: photographs, references, blur kernels and masks. Needs only Pillow
and numpy, so that restoration/files/sandbox.py can run it apart. Errors are ValueErrors, one sentence, that
begin with the name of the file.
"""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

from restoration.files import arrays, containers
from restoration.files.containers import Container, exif_turn
from restoration.files.sizes import MAX_DECODED, MAX_KERNEL, check_size, fitted

ACCEPTED = "PNG, JPEG, WebP, HEIC, AVIF, TIFF, GIF, BMP or PPM"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
BULK = 0.99  # of the positive values decide what is white; single ones may be anything
OVERSHOOT = 1.5  # times white that the bulk may reach: restored and resampled pictures go beyond it
SRGB_ERROR = 2  # levels of 255 within which a profile is sRGB itself


class Unreadable(ValueError):
    """A sentence for the user, without the file's name before it."""


class Photo(NamedTuple):
    """pixels (H,W,3) uint8 sRGB, over white; alpha (H,W) uint8, or None where nothing shows through; how:
    what was done, one line.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    how: str


@contextlib.contextmanager
def _opened(data: bytes, name: str) -> Iterator[tuple[Container, Image.Image]]:
    """The picture in a file's content, not decoded yet.

    ValueError, one sentence, for whatever goes wrong in the block too.
    """
    try:
        container = containers.take_apart(data)
        _check_decodable(container.width, container.height)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _decoder(container) as image:
                _check_decodable(*image.size)
                yield container, image
    except containers.UnknownFormat as error:
        what = f"{error}, which cannot be read here" if str(error) else "not a picture that can be read here"
        raise ValueError(f"{name} is {what}; {ACCEPTED} are accepted.") from None
    except Unreadable as error:
        raise ValueError(str(error)) from None
    except MemoryError:
        raise ValueError(f"{name} needs more memory than there is; take a smaller picture.") from None
    # decoders raise whatever a broken file leads them to: TypeError, IndexError, struct.error, …
    except Exception:
        raise ValueError(f"{name} is damaged or cut off; a complete {ACCEPTED} file is needed.") from None


def _decoder(container: Container) -> Image.Image:
    """Pillow's lazy picture of a container."""
    if container.kind == "HEIF":
        try:
            from pi_heif import register_heif_opener
        except ImportError:
            raise Unreadable(
                "HEIC pictures need `pip install pi-heif` here; or save it as JPEG or PNG first."
            ) from None
        register_heif_opener()
    return Image.open(io.BytesIO(container.pixels), formats=(container.kind,))


def _check_decodable(width: int, height: int) -> None:
    if width * height > MAX_DECODED:
        most = f"{MAX_DECODED / 1e6:.0f} megapixels"
        raise Unreadable(f"The picture is {width}×{height}; at most {most} can be read and reduced.")


def _turn(container: Container, image: Image.Image) -> int:
    """EXIF's number of the turn; 1 is upright, 5 to 8 are sideways.

    HEIC decoders turn by themselves, AVIF's say it in EXIF.
    """
    block = image.info.get("exif") if container.kind == "AVIF" else None
    return exif_turn(block) if isinstance(block, bytes) else container.turn


def _upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return size[::-1] if turn >= 5 else size


def _turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def warm() -> None:
    """Load what opening a picture loads, so that children of the process need not."""
    Image.init()
    _srgb()
    with contextlib.suppress(ImportError):
        import pi_heif  # noqa: F401
    for kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16)).save(buffer, kind)
        photo(buffer.getvalue(), kind)


# ---- values: what is white


def is_deep(mode: str) -> bool:
    """More than 8 bits a value, which Pillow knows of grey pictures only: colour comes in 8 bits from its
    decoders.
    """
    return mode in {"I", "F"} or mode.startswith("I;16")


def _values(image: Image.Image, container: Container) -> np.ndarray:
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


def _deep_how(mode: str, container: Container, level: float) -> str:
    bits = container.bits
    if mode != "F" and bits <= 16 and level == 2.0 ** (bits - (container.sample == "i")) - 1:
        return f"{bits} bits scaled to 8"
    return f"{'floating point' if mode == 'F' else f'{bits} bits'}, {level:.0f} taken as white"


# ---- colours: into sRGB


@functools.lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
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
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB")
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


def _transform(image: Image.Image, container: Container) -> tuple[str, Any]:
    """(mode, transform): what the colours are converted to first, and from there to sRGB."""
    profile, mode = container.profile or image.info.get("icc_profile") or b"", _base(image)
    if mode == "L" and not (transform := _to_srgb(profile, "L")):
        mode = "RGB"  # grey pictures often carry a colour profile
    elif mode == "L":
        return mode, transform
    return mode, _to_srgb(profile, mode)


# ---- photographs


def _how(container: Container, image: Image.Image, size: tuple[int, int], level: float | None) -> str:
    """What is done to a picture beside decoding it, in one line; level: what is white in a deep one."""
    turn = _turn(container, image)
    width, height = _upright(size, turn)
    words = [
        ("turned upright as the camera says", turn != 1),
        ("" if level is None else _deep_how(image.mode, container, level), level is not None),
        (f"{container.bits} bits scaled to 8", container.bits > 8 and level is None),
        (f"{image.mode} converted to RGB", image.mode in {"CMYK", "LAB", "HSV", "YCbCr"}),
        ("colours converted to sRGB", _transform(image, container)[1] is not None),
        ("laid over white where transparent", image.has_transparency_data),
        ("first frame only", container.frames or getattr(image, "n_frames", 1) > 1),
        (f"reduced to {width}×{height}", size != image.size),
    ]
    return ", ".join([f"{image.width}×{image.height} pixels", *(text for text, said in words if said)])


def _fitted(image: Image.Image, enlarged: int | None) -> tuple[int, int]:
    """The stored sides that are kept; ValueError where too small, or too large and enlarged is None."""
    size = image.size if enlarged is None else fitted(*image.size, enlarged)
    try:
        check_size(*size)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return size


def describe(data: bytes, name: str, enlarged: int | None = 1) -> tuple[tuple[int, int], str]:
    """((width, height), how) of what `photo` makes of a file, without decoding it where its header says
    enough.
    """
    with _opened(data, name) as (container, image):
        size, level = _fitted(image, enlarged), None
        if is_deep(image.mode):
            level = white(_values(image, container), image.mode, container)
        return _upright(size, _turn(container, image)), _how(container, image, size, level)


def photo(data: bytes, name: str, enlarged: int | None = None) -> Photo:
    """The photograph in a file's content; of an animation the first frame.

    enlarged: of a restoration so many times as large a side; a picture too large for it is reduced. None: it
    is refused.
    """
    with _opened(data, name) as (container, image):
        return flatten(image, container, enlarged)


def flatten(image: Image.Image, container: Container, enlarged: int | None) -> Photo:
    """Upright 8-bit sRGB over white, at the size that `photo` says."""
    size, turn = _fitted(image, enlarged), _turn(container, image)
    (mode, transform), level = _transform(image, container), None
    if is_deep(image.mode):
        values = _values(image, container)
        level = white(values, image.mode, container)
        said, alpha = _how(container, image, size, level), None
        colours = Image.fromarray((values / level * 255).clip(0, 255).round().astype(np.uint8))
    else:
        said = _how(container, image, size, None)
        image.draft(None, size)  # a JPEG is decoded at the half, quarter or eighth that is just large enough
        colours, alpha = _split(image, size)
    if colours.size != size:
        colours = colours.resize(size, Image.Resampling.LANCZOS)
    colours = colours.convert(mode) if transform else colours
    pixels = _turned(
        (ImageCms.applyTransform(colours, transform) if transform else None) or colours.convert("RGB"), turn
    )
    if alpha is None or alpha.getextrema()[0] == 255:
        return Photo(np.asarray(pixels), None, said)
    alpha = _turned(alpha, turn)
    pixels = Image.composite(pixels, Image.new("RGB", pixels.size, "white"), alpha)
    return Photo(np.asarray(pixels), np.asarray(alpha), said)


def _split(image: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, Image.Image | None]:
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


# ---- kernels and masks


def _grey(image: Image.Image, container: Container) -> tuple[np.ndarray, np.ndarray | None]:
    """(values (h,w) float64 as in the file, alpha (h,w) in [0,1] or None), upright."""
    image.load()
    if is_deep(image.mode):
        return _oriented(_values(image, container), _turn(container, image)), None
    colours, alpha = _split(image, image.size)
    turn = _turn(container, image)
    values = np.asarray(_turned(colours.convert("L"), turn), np.float64)
    return values, None if alpha is None else np.asarray(_turned(alpha, turn), np.float64) / 255


def _oriented(values: np.ndarray, turn: int) -> np.ndarray:
    return np.asarray(_turned(Image.fromarray(values.astype(np.float32)), turn), np.float64)


def kernel(data: bytes, name: str) -> np.ndarray:
    """A blur kernel (h,w) float32, up to a factor: of a grey picture (transparent is black), or of a .npy or
    .npz array.
    """
    if arrays.is_array(data):
        return arrays.kernel(data, name)
    with _opened(data, name) as (container, image):
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
    with _opened(data, name) as (container, image):
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
        lying = "; the mask must lie as the picture does once it is turned upright"
        raise ValueError(
            f"The mask {name} is {sides[0]}×{sides[1]} but the picture {width}×{height}; they must be equal"
            f"{lying if sides == (height, width) else ''}."
        )
    share = Image.fromarray(known.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    return np.asarray(share) > 0.999
