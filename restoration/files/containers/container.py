"""What is left of a picture file once it is taken apart, and what its readers share."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from typing import NamedTuple

from restoration.files.containers.tiff import Directory

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


def xmp_turn(text: bytes) -> int:
    match = XMP_TURN.search(text[:XMP_SEARCHED])
    return int(match[1]) if match else 1


def exif_turn(block: bytes) -> int:
    """The turn, 1 to 8, that an EXIF block says; 1 where it is broken: that must not cost the picture."""
    with contextlib.suppress(ValueError, struct.error):
        return Directory(block.removeprefix(b"Exif\0\0")).orientation
    return 1


def inflated(data: bytes, most: int) -> bytes:
    """zlib's content; b"" where it is broken or longer than `most`."""
    try:
        stream = zlib.decompressobj()
        content = stream.decompress(data, most)
        return content if stream.eof else b""
    except zlib.error:
        return b""


def count_parts(parts: int) -> None:
    if parts > PARTS:
        raise ValueError("too many parts")


def last_turn(turns: list[int]) -> int:
    """The last turn that turns anything."""
    return next((turn for turn in reversed(turns) if turn != 1), 1)
