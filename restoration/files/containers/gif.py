"""GIF: its first picture."""

from __future__ import annotations

import struct

from restoration.files.containers.container import Container, count_parts


def read(data: bytes) -> Container:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, parts = [data[:place]], 0
    while data[place] != 0x2C:
        parts += 1
        count_parts(parts)
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
        count_parts(parts)
    return min(place + 1, len(data))
