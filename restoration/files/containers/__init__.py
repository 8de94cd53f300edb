"""Picture files taken apart with bounds, before any decoder sees them: the sides, the turn, the profile, and
the pixels alone.

What is handed on holds no comments, EXIF, XMP or further pictures: decoders spend gigabytes or minutes on
crafted ones, and refuse honest pictures for odd ones. Needs neither Pillow nor numpy. Formats: those of
READERS; each has a file, but for those that are read here in a few lines.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from restoration.files.containers import gif, jpeg, png, webp
from restoration.files.containers.container import XMP_SEARCHED, Container, UnknownFormat, xmp_turn
from restoration.files.containers.tiff import (
    BITS,
    ICC,
    MAX_ICC,
    SAMPLE_FORMAT,
    SAMPLES,
    SIDES,
    XMP,
    Directory,
)


def take_apart(data: bytes) -> Container:
    """The container of a picture file's content.

    UnknownFormat where it is none of READERS, ValueError where it is damaged.
    """
    for begins, reader in READERS:
        if begins(data[:32]):
            try:
                return reader(data)
            except (struct.error, IndexError) as error:
                raise ValueError(f"cut off: {error}") from None
    raise UnknownFormat(named(data[:32]))


def named(head: bytes) -> str:
    """What a file that is not read here is, as far as its beginning tells; "" where it does not."""
    brand = head[4:8] == b"ftyp"
    kinds = {
        "a JPEG 2000 picture": head[:12] == b"\0\0\0\x0cjP  \r\n\x87\n" or head[:4] == b"\xffO\xffQ",
        "a JPEG XL picture": head[:12] == b"\0\0\0\x0cJXL \r\n\x87\n" or head[:2] == b"\xff\n",
        "a video": brand and head[8:11] in {b"iso", b"mp4", b"M4V", b"qt ", b"3gp", b"avc"},
        "a Canon raw picture": brand and head[8:11] == b"crx",
        "a Photoshop document": head[:4] == b"8BPS",
        "a PDF document": head[:5] == b"%PDF-",
        "PostScript": head[:2] == b"%!",
        "an OpenEXR picture": head[:4] == b"v/1\x01",
        "a Radiance picture": head[:2] == b"#?",
        "an SVG drawing": head.lstrip()[:4] in {b"<svg", b"<?xm"},
        "a DDS texture": head[:4] == b"DDS ",
        "an icon": head[:4] in {b"\0\0\1\0", b"icns"},
    }
    return next((name for name, fits in kinds.items() if fits), "")


def _tiff(data: bytes) -> Container:
    directory = Directory(data)
    width, height = ([*directory.numbers(tag), 0][0] for tag in SIDES)
    bits, sample = directory.numbers(BITS) or [1], (directory.numbers(SAMPLE_FORMAT) or [1])[0]
    if len(bits) > 8 or (directory.numbers(SAMPLES) or [1])[0] > 8:
        raise ValueError("too many channels")
    if len(bits) > 1 and sample == 3:  # Pillow knows those with one channel alone
        raise UnknownFormat("a TIFF with colours as floating-point numbers")
    turn = directory.orientation
    if turn == 1:
        turn = xmp_turn(directory.content(XMP, XMP_SEARCHED))
    profile, letter = directory.content(ICC, MAX_ICC), {2: "i", 3: "f"}.get(sample, "u")
    return Container(
        "TIFF", width, height, directory.picture_alone(), turn, profile, directory.more, max(bits), letter
    )


def _bmp(data: bytes) -> Container:
    header = struct.unpack_from("<I", data, 14)[0]
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    if header != 12 and struct.unpack_from("<I", data, 30)[0] in {1, 2}:
        # decoded in Python: minutes for crafted ones
        raise UnknownFormat("a BMP picture with run-length coding")
    return Container("BMP", abs(width), abs(height), data)


def _ppm(data: bytes) -> Container:
    header = re.match(
        rb"P[456](?:\s+|#[^\n]{0,1000}\n){1,50}?(\d{1,9})(?:\s+|#[^\n]{0,1000}\n){1,50}?(\d{1,9})\s",
        data[:65536],
    )
    if not header:
        raise ValueError("no size")
    depth = re.match(rb"(?:\s*#[^\n]{0,1000}\n)*\s*(\d{1,5})\s", data[header.end() - 1 : header.end() + 4096])
    deep = data[1:2] in b"56" and depth and int(depth[1]) > 255
    return Container("PPM", int(header[1]), int(header[2]), data, bits=16 if deep else 8)


def _media(kind: str) -> Callable[[bytes], Container]:
    return lambda data: Container(kind, 0, 0, data)


def _brands(head: bytes) -> set[bytes]:
    return {head[k : k + 4] for k in (8, 16, 20, 24)} if head[4:8] == b"ftyp" else set()


HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
READERS: list[tuple[Callable[[bytes], bool], Callable[[bytes], Container]]] = [
    (lambda head: head.startswith(png.SIGNATURE), png.read),
    (lambda head: head.startswith(b"\xff\xd8"), jpeg.read),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", webp.read),
    (lambda head: head[:6] in {b"GIF87a", b"GIF89a"}, gif.read),
    (lambda head: head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}, _tiff),
    (lambda head: head.startswith(b"BM"), _bmp),
    (lambda head: bool(re.match(rb"P[456][\s#]", head)), _ppm),
    (lambda head: bool({b"avif", b"avis"} & _brands(head)), _media("AVIF")),
    (lambda head: head[8:12] in HEIC_BRANDS and bool(_brands(head)), _media("HEIF")),
]
