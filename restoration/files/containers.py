"""Picture files taken apart with bounds, before any decoder sees them: the sides, the turn, the profile, and
the pixels alone.

What is handed on holds no comments, EXIF, XMP or further pictures: decoders spend gigabytes or minutes on
crafted ones, and refuse honest pictures for odd ones. Needs neither Pillow nor numpy. Formats: those of
READERS.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from restoration.files.tiff import BITS, ICC, MAX_ICC, SAMPLE_FORMAT, SAMPLES, SIDES, XMP, Directory

MARKER = re.compile(rb"\xff([^\xff])")  # of a segment of a JPEG
PNG = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 2**26  # bytes of a packed text, which may be a picture of its own
PARTS = 100_000  # chunks, segments or blocks of one file; honest ones have at most some thousands
XMP_TURN = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
XMP_SEARCHED = 2**20  # bytes of XMP that are searched for a turn


class Container(NamedTuple):
    """kind: Pillow's name of the format; width, height: as stored, (0, 0) where only the decoder knows; turn:
    EXIF's 1 to 8.

    bits, sample: bits of one value and "u", "i" or "f", as the file says; frames: whether there are more
    pictures than the first.
    """

    kind: str
    width: int
    height: int
    pixels: bytes
    turn: int = 1
    profile: bytes = b""
    frames: bool = False
    bits: int = 8
    sample: str = "u"


class UnknownFormat(ValueError):
    """The file is none of READERS."""


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


def _xmp_turn(text: bytes) -> int:
    said = XMP_TURN.search(text[:XMP_SEARCHED])
    return int(said[1]) if said else 1


def exif_turn(block: bytes) -> int:
    """The turn, 1 to 8, that an EXIF block says; 1 where it is broken: that must not cost the picture."""
    with contextlib.suppress(ValueError, struct.error):
        return Directory(block.removeprefix(b"Exif\0\0")).orientation
    return 1


def _inflated(data: bytes, most: int) -> bytes:
    """zlib's content; b"" where it is broken or longer than `most`."""
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(data, most)
        return content if stream.eof else b""
    except zlib.error:
        return b""


def _count(parts: int) -> None:
    if parts > PARTS:
        raise ValueError("too many parts")


# ---- PNG


def png_chunks(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end of the content) of each chunk of a PNG, as far as the file goes."""
    place, parts = 8, 0
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place + 8, min(place + 8 + length, len(data))
        place += 12 + length
        parts += 1
        _count(parts)


def png_text(data: bytes | mmap.mmap, key: str) -> str | None:
    """The text under a key in a PNG's content, plain or packed, wherever it stands; None where there is none.

    ValueError for no PNG.
    """
    if data[: len(PNG)] != PNG:
        raise ValueError("only PNGs written by this project do")
    wanted = key.encode("latin-1") + b"\0"
    for name, start, end in png_chunks(data):
        if name not in {b"tEXt", b"zTXt", b"iTXt"} or data[start : start + len(wanted)] != wanted:
            continue
        content = data[start + len(wanted) : end]
        if name == b"tEXt":
            return content.decode("latin-1")
        packed = name == b"zTXt" or content[:1] == b"\1"
        # iTXt has a language and a translated key before the text
        content = content[2:].split(b"\0", 2)[-1] if name == b"iTXt" else content[1:]
        return (_inflated(content, MAX_TEXT) if packed else content).decode("utf-8", "replace")
    return None


def _png(data: bytes) -> Container:
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    kept, turns, profile, frames = [data[:8]], [1], b"", False
    for name, start, end in png_chunks(data):
        if name in {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}:
            kept.append(data[start - 8 : end + 4])
        elif name == b"eXIf":
            turns.append(exif_turn(data[start:end]))
        elif name == b"iCCP":
            profile = _inflated(data[data.find(b"\0", start, end) + 2 : end], MAX_ICC)
        elif name == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0\0", start):
            # EXIF, where both speak, is right
            turns.insert(1, _xmp_turn(data[start : min(end, start + XMP_SEARCHED)]))
        frames = frames or name == b"acTL"
    return Container("PNG", width, height, b"".join(kept), _last(turns), profile, frames, bits)


def _last(turns: list[int]) -> int:
    """The last turn that turns anything."""
    return next((turn for turn in reversed(turns) if turn != 1), 1)


# ---- JPEG


def _jpeg(data: bytes) -> Container:
    place, parts, size, exif, xmp = 2, 0, (0, 0), 1, 1
    kept, profile = [data[:2]], dict[int, bytes]()
    frames = False
    while True:
        said = MARKER.search(data, place)  # bytes between segments mean nothing
        if said is None:
            raise ValueError("no picture")
        marker, start = said[1][0], said.end()
        if marker == 0xDA:  # the scans: all that follows
            break
        place = start
        if 0xD0 <= marker <= 0xD9 or marker in {0, 1}:
            parts += 1
            _count(parts)
            continue
        (length,) = struct.unpack_from(">H", data, start)
        body, place = data[start + 2 : start + length], start + max(length, 2)
        if marker in {0xDB, 0xC4, 0xDD, 0xE0, 0xEE} or 0xC0 <= marker <= 0xCF:
            kept.append(b"\xff" + data[start - 1 : place])
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            size = struct.unpack_from(">HH", body, 1)[::-1]
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif_turn(body)
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = _xmp_turn(body)
        elif (
            marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and sum(map(len, profile.values())) < MAX_ICC
        ):
            profile[body[12]] = body[14:]
        frames = frames or (marker == 0xE2 and body.startswith(b"MPF\0"))
        parts += 1
        _count(parts)
    pixels = b"".join([*kept, b"\xff", data[start - 1 :]])
    return Container(
        "JPEG", *size, pixels, _last([1, xmp, exif]), b"".join(profile[k] for k in sorted(profile)), frames
    )


# ---- WebP


def _webp(data: bytes) -> Container:
    place, parts, size, turn, profile, frames = 12, 0, (0, 0), 1, b"", False
    kept = []
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        body, after = place + 8, place + 8 + length + length % 2
        chunk = data[place:after]
        if name == b"VP8X":
            width, height = (1 + int.from_bytes(data[body + k : body + k + 3], "little") for k in (4, 7))
            size = (width, height)
            chunk = chunk[:8] + bytes([data[body] & ~0x2C]) + chunk[9:]  # no profile, EXIF and XMP any more
        elif name == b"VP8L" and not any(size):
            bits = struct.unpack_from("<I", data, body + 1)[0]
            size = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif name == b"VP8 " and not any(size):
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif name == b"EXIF":
            turn = exif_turn(data[body : body + length])
        elif name == b"ICCP" and length <= MAX_ICC:
            profile = data[body : body + length]
        frames = frames or name == b"ANMF"
        if name in {b"VP8X", b"VP8L", b"VP8 ", b"ALPH", b"ANIM", b"ANMF"}:
            kept.append(chunk)
        place, parts = after, parts + 1
        _count(parts)
    pixels = b"".join(kept)
    pixels = b"RIFF" + struct.pack("<I", 4 + len(pixels)) + b"WEBP" + pixels
    return Container("WEBP", *size, pixels, turn, profile, frames)


# ---- GIF


def _gif(data: bytes) -> Container:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, parts = [data[:place]], 0
    while data[place] != 0x2C:
        parts += 1
        _count(parts)
        start, graphics = place, data[place : place + 2] == b"!\xf9"
        if data[place] != 0x21:
            raise ValueError("no picture")
        place = _after_blocks(data, place + 2)
        if graphics:
            kept.append(data[start:place])
    start = place
    sides = struct.unpack_from("<HHHH", data, place + 1)
    flags = data[place + 9]
    place = _after_blocks(data, place + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    kept += [data[start:place], b";"]
    # the first picture may lie anywhere, and the canvas grows with it
    size = (max(width, sides[0] + sides[2]), max(height, sides[1] + sides[3]))
    return Container("GIF", *size, b"".join(kept), frames=data[place : place + 1] in {b"!", b","})


def _after_blocks(data: bytes, place: int) -> int:
    """The place after a row of sub-blocks; the end where they are cut off."""
    parts = 0
    while place < len(data) and data[place]:
        place += 1 + data[place]
        parts += 1
        _count(parts)
    return min(place + 1, len(data))


# ---- TIFF, BMP, PPM, and the ISO base media file format


def _tiff(data: bytes) -> Container:
    directory = Directory(data)
    width, height = ([*directory.numbers(tag), 0][0] for tag in SIDES)
    bits, sample = directory.numbers(BITS) or [1], (directory.numbers(SAMPLE_FORMAT) or [1])[0]
    if len(bits) > 8 or (directory.numbers(SAMPLES) or [1])[0] > 8:
        raise ValueError("too many channels")
    turn = directory.orientation
    if turn == 1:
        turn = _xmp_turn(directory.content(XMP, XMP_SEARCHED))
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
    said = re.match(
        rb"P[456](?:\s+|#[^\n]{0,1000}\n){1,50}?(\d{1,9})(?:\s+|#[^\n]{0,1000}\n){1,50}?(\d{1,9})\s",
        data[:65536],
    )
    if not said:
        raise ValueError("no size")
    depth = re.match(rb"(?:\s*#[^\n]{0,1000}\n)*\s*(\d{1,5})\s", data[said.end() - 1 : said.end() + 4096])
    deep = data[1:2] in b"56" and depth and int(depth[1]) > 255
    return Container("PPM", int(said[1]), int(said[2]), data, bits=16 if deep else 8)


def _media(kind: str) -> Callable[[bytes], Container]:
    return lambda data: Container(kind, 0, 0, data)


def _brands(head: bytes) -> set[bytes]:
    return {head[k : k + 4] for k in (8, 16, 20, 24)} if head[4:8] == b"ftyp" else set()


HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
READERS: list[tuple[Callable[[bytes], bool], Callable[[bytes], Container]]] = [
    (lambda head: head.startswith(PNG), _png),
    (lambda head: head.startswith(b"\xff\xd8"), _jpeg),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", _webp),
    (lambda head: head[:6] in {b"GIF87a", b"GIF89a"}, _gif),
    (lambda head: head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}, _tiff),
    (lambda head: head.startswith(b"BM"), _bmp),
    (lambda head: bool(re.match(rb"P[456][\s#]", head)), _ppm),
    (lambda head: bool({b"avif", b"avis"} & _brands(head)), _media("AVIF")),
    (lambda head: head[8:12] in HEIC_BRANDS and bool(_brands(head)), _media("HEIF")),
]
