"""WebP, without its profile, EXIF and XMP."""

from __future__ import annotations

import struct

from restoration.files.containers.container import Container, count_parts, exif_turn
from restoration.files.containers.tiff import MAX_ICC


def read(data: bytes) -> Container:
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
        count_parts(parts)
    pixels = b"".join(kept)
    pixels = b"RIFF" + struct.pack("<I", 4 + len(pixels)) + b"WEBP" + pixels
    return Container("WEBP", *size, pixels, turn, profile, frames)
