"""PNG: its picture alone, and the texts that it carries."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from restoration.files.containers.container import (
    XMP_SEARCHED,
    Container,
    count_parts,
    exif_turn,
    inflated,
    last_turn,
    xmp_turn,
)
from restoration.files.containers.tiff import MAX_ICC

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT = 2**26  # bytes of a packed text, which may be a picture of its own


def png_chunks(data: bytes | mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end of the content) of each chunk of a PNG, as far as the file goes."""
    place, parts = 8, 0
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place + 8, min(place + 8 + length, len(data))
        place += 12 + length
        parts += 1
        count_parts(parts)


def png_text(data: bytes | mmap.mmap, key: str) -> str | None:
    """The text under a key in a PNG's content, plain or packed, wherever it stands; None where there is none.

    ValueError for no PNG.
    """
    if data[: len(SIGNATURE)] != SIGNATURE:
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
        return (inflated(content, MAX_TEXT) if packed else content).decode("utf-8", "replace")
    return None


def read(data: bytes) -> Container:
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    kept, turns, profile, frames = [data[:8]], [1], b"", False
    for name, start, end in png_chunks(data):
        if name in {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}:
            kept.append(data[start - 8 : end + 4])
        elif name == b"eXIf":
            turns.append(exif_turn(data[start:end]))
        elif name == b"iCCP":
            profile = inflated(data[data.find(b"\0", start, end) + 2 : end], MAX_ICC)
        elif name == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0\0", start):
            # EXIF, where both speak, is right
            turns.insert(1, xmp_turn(data[start : min(end, start + XMP_SEARCHED)]))
        frames = frames or name == b"acTL"
    return Container("PNG", width, height, b"".join(kept), last_turn(turns), profile, frames, bits)
