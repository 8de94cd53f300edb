"""Picture files opened with bounds and not decoded yet, and turned upright.

Errors are ValueErrors, one sentence, that begin with the name of the file.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence

from PIL import Image

from restoration.files import containers
from restoration.files.containers.container import Container, exif_turn
from restoration.files.sizes import MAX_DECODED

ACCEPTED = "PNG, JPEG, WebP, HEIC, AVIF, TIFF, GIF, BMP or PPM"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip

# of a point in an upright picture, in fractions of its sides, the place in the stored one, by turn
STORED = {
    1: lambda x, y: (x, y), 2: lambda x, y: (1 - x, y), 3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y), 5: lambda x, y: (y, x), 6: lambda x, y: (y, 1 - x),
    7: lambda x, y: (1 - y, 1 - x), 8: lambda x, y: (1 - y, x),
}  # fmt: skip
GRID = 8  # pixels: a JPEG's blocks stay whole where a part is cut out


class Unreadable(ValueError):
    """A sentence for the user, without the file's name before it."""


@contextlib.contextmanager
def opened(data: bytes, name: str) -> Iterator[tuple[Container, Image.Image]]:
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


def turn_of(container: Container, image: Image.Image) -> int:
    """EXIF's number of the turn; 1 is upright, 5 to 8 are sideways.

    HEIC decoders turn by themselves, AVIF's say it in EXIF.
    """
    block = image.info.get("exif") if container.kind == "AVIF" else None
    return exif_turn(block) if isinstance(block, bytes) else container.turn


def upright(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return size[::-1] if turn >= 5 else size


def turned(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def cut(image: Image.Image, part: Sequence[float], turn: int) -> Image.Image:
    """The part of a stored picture that is (left, top, right, bottom) of the upright one, in fractions of its
    sides, and up to GRID pixels more. Decodes all of the picture."""
    start, end = STORED[turn](*part[:2]), STORED[turn](*part[2:])
    left, right = _blocks(start[0], end[0], image.width)
    top, bottom = _blocks(start[1], end[1], image.height)
    return image.crop((left, top, right, bottom))


def _blocks(one: float, other: float, side: int) -> tuple[int, int]:
    """The whole blocks around the part of a side between two places on it, in fractions."""
    low, high = sorted((round(one * side), round(other * side)))
    return low // GRID * GRID, min(side, -(-high // GRID) * GRID)
