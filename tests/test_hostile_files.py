"""Files that are no pictures, or are made to cost much."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from test_reading import GREY, HEIC, KERNEL, chunk, png_with

from restoration.files import images, knob_files, sandbox


@pytest.fixture(autouse=True, scope="module")
def here():
    """Files are opened by this process, though a page of another test's may have said otherwise: what a
    process apart takes would not be counted, and thousands of them take half a minute.
    """
    before = sandbox.enabled()
    sandbox.disable()
    yield
    if before:
        sandbox.enable()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 40, "is a JPEG 2000 picture, which cannot be read here"),
        (b"8BPS" + b"\0" * 40, "is a Photoshop document, which"),
        (b"%PDF-1.4" + b"\0" * 40, "is a PDF document"),
        (
            b"BM" + b"\0" * 12 + struct.pack("<IiiHHI", 40, 20, 20, 1, 8, 1) + b"\0" * 60,
            "BMP picture with run-length coding",
        ),
        (b"", "is not a picture that can be read here"),
    ],
)
def test_other_formats_are_named(tmp_path, content, words):
    (tmp_path / "a\n.png").write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        images.read_image(tmp_path / "a\n.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colours_as_floats_are_named(tmp_path, order):
    """Written by hand: Pillow writes none."""
    pixels = np.full((20, 20, 3), 0.5, order + "f4").tobytes()
    tags = [(256, 4, 20), (257, 4, 20), (258, 3, (32,) * 3), (259, 3, 1), (262, 3, 2), (273, 4, 200)]
    tags += [(277, 3, 3), (278, 4, 20), (279, 4, len(pixels)), (339, 3, (3,) * 3)]
    body, more, place = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, kind, value in tags:
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(order + ("H" if kind == 3 else "I") * len(values), *values)
        if len(packed) > 4:
            more, packed = more + packed, struct.pack(order + "I", place + len(more))
        body += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    (tmp_path / "a.tif").write_bytes((head + body + bytes(4) + more).ljust(200, b"\0") + pixels)
    with pytest.raises(ValueError, match="is a TIFF with colours as floating-point numbers, which cannot be"):
        images.read_image(tmp_path / "a.tif")


def test_a_pipe_or_a_folder_is_no_picture(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is not a file"):
        images.read_image(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"cannot be opened|is not a file"):
        images.read_image(tmp_path)


def tag_bomb(tags: int, size: int) -> bytes:
    """One directory whose private tags all point at the same bytes."""
    width, height = 24, 20
    base = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (278, 4, 1, height),
    ]
    start = 8 + 2 + 12 * (len(base) + 2 + tags) + 4
    entries = sorted(
        [
            *base,
            (273, 4, 1, start),
            (279, 4, 1, width * height),
            *((1000 + k, 7, size, start) for k in range(tags)),
        ]
    )
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + packed
        + b"\0\0\0\0"
        + b"\x80" * max(size, width * height)
    )


def test_tags_that_share_their_bytes_and_directories_without_end(tmp_path):
    import tracemalloc

    many = b"II*\0" + struct.pack("<I", 8)
    one = [
        (256, 24),
        (257, 20),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8 + 30_000 * 114),
        (277, 1),
        (278, 20),
        (279, 480),
    ]
    body = struct.pack("<H", len(one)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in one
    )
    many += b"".join(body + struct.pack("<I", 8 + 114 * (k + 1)) for k in range(30_000)) + b"\x80" * 480
    exif = chunk(b"eXIf", tag_bomb(1000, 500_000))
    tracemalloc.start()
    for content in (tag_bomb(1000, 500_000), many, png_with(exif)):
        (tmp_path / "bomb").write_bytes(content)
        assert images.read_image(tmp_path / "bomb").shape[-2:] == (20, 24)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 50_000_000


def test_a_comment_of_a_gif_is_skipped(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray((GREY * 255).astype(np.uint8)).save(buffer, "GIF")
    content = buffer.getvalue()
    place = 13 + 3 * 256  # after the palette
    (tmp_path / "a.gif").write_bytes(
        content[:place] + b"!\xfe" + (b"\xff" + b"a" * 255) * 20_000 + b"\0" + content[place:]
    )
    before = images.load("photo", content)[0]
    assert (images.load("photo", tmp_path / "a.gif")[0] == before).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF", "NPY", "NPZ"]
)
def test_broken_headers_of_every_format(tmp_path, kind, seed):
    """Bytes changed, cut, doubled and exchanged at random: one sentence or a picture, whoever reads it."""
    random, buffer = np.random.default_rng(seed), io.BytesIO()
    if kind == "HEIF":
        pytest.importorskip("pi_heif")
        buffer.write(HEIC)
    elif kind in {"NPY", "NPZ"}:
        np.save(buffer, KERNEL) if kind == "NPY" else np.savez(buffer, KERNEL)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif} if kind in {"PNG", "JPEG", "WEBP", "AVIF", "TIFF"} else {}
        Image.fromarray(random.integers(0, 255, (24, 20, 3), np.uint8)).save(buffer, kind, **options)
    path = tmp_path / "x"
    for _ in range(40):
        content = bytearray(buffer.getvalue())
        for place in random.integers(0, min(len(content), 300), random.integers(1, 6)):
            content[place] = random.choice([0, 1, 127, 128, 255, random.integers(0, 256)])
        if random.random() < 0.3:
            content = content[: random.integers(0, len(content))]
        if random.random() < 0.3:
            start, stop = sorted(random.integers(0, len(content) + 1, 2))
            content[start:start] = content[start:stop]
        path.write_bytes(content)
        for read in (
            lambda: images.read_photo(path, 1),
            lambda: images.describe(path),
            lambda: knob_files.read_kernel(str(path)),
            lambda: knob_files.how_read_mask(str(path), 24, 20),
        ):
            try:
                read()
            except ValueError as error:
                assert "\n" not in str(error) and str(tmp_path) not in str(error) and str(error).endswith(".")
