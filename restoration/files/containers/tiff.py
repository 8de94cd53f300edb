"""TIFF directories read with bounds: the one that describes a TIFF picture, and the one that an EXIF block
is.

Pillow reads every tag of every directory, and values as long as a tag claims: a megabyte of file becomes
gigabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

ORIENTATION, ICC, XMP = 274, 34675, 700
SIDES = (256, 257)
BITS, COMPRESSION, SAMPLES, SAMPLE_FORMAT = 258, 259, 277, 339
# what the pixels depend on: sizes, samples, colours, strips and tiles, tables of the compression
PIXEL_TAGS = {
    254, *SIDES, BITS, COMPRESSION, 262, 266, 273, SAMPLES, 278, 279, 284, 292, 293, 301, 317, 318, 319, 320,
    322, 323, 324, 325, 332, 334, 336, 338, SAMPLE_FORMAT, 340, 341, 347, 529, 530, 531, 532,
}  # fmt: skip
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}  # by type: the letter of struct
MAX_VALUE = 2**20  # bytes of one tag: a quarter of a million strips
MAX_ICC = 2**22  # bytes of a colour profile; the largest in use, of printers, have two million


class Entry(NamedTuple):
    """One tag: its 12 or 20 bytes, its type, how many values it has, and where they lie in the file."""

    raw: bytes
    kind: int
    number: int
    start: int

    @property
    def length(self) -> int:
        """Bytes of the values."""
        return SIZES.get(self.kind, 1) * self.number


class Directory:
    """The first directory of a TIFF file or EXIF block. ValueError where there is none."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        version = self._number("H", 2) if self.order and len(data) >= 8 else 0
        if version not in {42, 43}:
            raise ValueError("no TIFF header")
        self.big = version == 43
        self.pointer = 8 if self.big else 4  # where the place of the directory stands
        self.start = self._number("Q" if self.big else "I", self.pointer)
        self.entries: dict[int, Entry] = {}
        for tag, entry in self._walk():
            self.entries.setdefault(tag, entry)

    def _number(self, letter: str, place: int) -> int:
        try:
            return struct.unpack_from(self.order + letter, self.data, place)[0]
        except (struct.error, OverflowError):
            raise ValueError("the directory is cut off") from None

    def _walk(self) -> Iterator[tuple[int, Entry]]:
        width, head = (20, "HHQ") if self.big else (12, "HHI")
        count = self._number("Q" if self.big else "H", self.start)
        if count > 65535:
            raise ValueError("too many tags")
        first = self.start + (8 if self.big else 2)
        self.after = first + width * count
        for place in range(first, self.after, width):
            raw = self.data[place : place + width]
            if len(raw) < width:
                return  # an EXIF block that is cut off still turns its picture
            tag, kind, number = struct.unpack_from(self.order + head, raw)
            inside = place + width - (8 if self.big else 4)
            fits = SIZES.get(kind, 1) * number <= width - inside + place
            yield (
                tag,
                Entry(raw, kind, number, inside if fits else self._number("Q" if self.big else "I", inside)),
            )

    @property
    def more(self) -> bool:
        """Whether another directory, and so another picture, follows."""
        try:
            return self._number("Q" if self.big else "I", self.after) != 0
        except ValueError:
            return False

    def numbers(self, tag: int, most: int = 16) -> list[int]:
        """The first values of a tag of whole numbers; [] where it is missing or anything else."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in INTEGERS:
            return []
        count = min(entry.number, most)
        try:
            return list(
                struct.unpack_from(f"{self.order}{count}{INTEGERS[entry.kind]}", self.data, entry.start)
            )
        except (struct.error, OverflowError):
            return []

    def content(self, tag: int, most: int) -> bytes:
        """The bytes of a tag; b"" where it is missing or longer than `most`."""
        entry = self.entries.get(tag)
        if entry is None or entry.length > most:
            return b""
        return self.data[entry.start : entry.start + entry.length]

    @property
    def orientation(self) -> int:
        """1 to 8 as EXIF numbers them, 1 where nothing sensible is said."""
        turn = self.numbers(ORIENTATION)
        return turn[0] if turn and 1 <= turn[0] <= 8 else 1

    def picture_alone(self) -> bytes:
        """The same file with one directory, of PIXEL_TAGS alone.

        ValueError where one of these is absurdly long.
        """
        kept = {tag: entry for tag, entry in self.entries.items() if tag in PIXEL_TAGS}
        for tag, entry in kept.items():
            if entry.length > MAX_VALUE or entry.start + entry.length > len(self.data):
                raise ValueError(f"tag {tag} is too long")
        if self.numbers(BITS) == [32] and self.numbers(SAMPLE_FORMAT)[:1] in ([], [1]):
            # Pillow reads 32 bits without sign in one byte order only; the reader of the values knows better
            head = struct.pack(self.order + ("HHQ" if self.big else "HHI"), SAMPLE_FORMAT, 3, 1)
            value = struct.pack(self.order + "H", 2).ljust(8 if self.big else 4, b"\0")
            kept[SAMPLE_FORMAT] = Entry(head + value, 3, 1, 0)
        number, place = ("Q", "Q") if self.big else ("H", "I")
        body = b"".join(kept[tag].raw for tag in sorted(kept))
        directory = struct.pack(self.order + number, len(kept)) + body + struct.pack(self.order + place, 0)
        padded = self.data + b"\0" * (-len(self.data) % 8)
        if not self.big and len(padded) >= 2**32 - len(directory):
            raise ValueError("the file is too long")
        moved = bytearray(padded + directory)
        struct.pack_into(self.order + place, moved, self.pointer, len(padded))
        return bytes(moved)
