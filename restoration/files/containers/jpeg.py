"""JPEG, its segments but those of the pixels left out."""

from __future__ import annotations

import re
import struct

from restoration.files.containers.container import Container, count_parts, exif_turn, last_turn, xmp_turn
from restoration.files.containers.tiff import MAX_ICC

MARKER = re.compile(rb"\xff([^\xff])")  # of a segment of a JPEG


def read(data: bytes) -> Container:
    place, parts, size, exif, xmp = 2, 0, (0, 0), 1, 1
    kept, profile = [data[:2]], dict[int, bytes]()
    frames = False
    while True:
        match = MARKER.search(data, place)  # bytes between segments mean nothing
        if match is None:
            raise ValueError("no picture")
        marker, start = match[1][0], match.end()
        if marker == 0xDA:  # the scans: all that follows
            break
        place = start
        if 0xD0 <= marker <= 0xD9 or marker in {0, 1}:
            parts += 1
            count_parts(parts)
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
            xmp = xmp_turn(body)
        elif (
            marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and sum(map(len, profile.values())) < MAX_ICC
        ):
            profile[body[12]] = body[14:]
        frames = frames or (marker == 0xE2 and body.startswith(b"MPF\0"))
        parts += 1
        count_parts(parts)
    pixels = b"".join([*kept, b"\xff", data[start - 1 :]])
    return Container(
        "JPEG",
        *size,
        pixels,
        last_turn([1, xmp, exif]),
        b"".join(profile[k] for k in sorted(profile)),
        frames,
    )
