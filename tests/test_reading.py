"""Pictures of every kind, made here: what is read, what is said, and what is refused, in this process and
apart from it.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from restoration.files import images, opening

RANDOM = np.random.default_rng(0)
GREY = np.linspace(0, 1, 24 * 20).reshape(20, 24)  # of photographs
KERNEL = np.outer(np.hanning(9), np.hanning(7))
HOLES = RANDOM.random((20, 24)) > 0.3  # of masks: True is known
# 16×16 of red and blue, as libheif and x265 wrote it
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAA"
    "AAABoAABAAAAAAAAAFMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRi"
    "AAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAGAAAAAEAAAAQAAAAAf///9gAAAAC////0AAAAAIAAAAQ"
    "cGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAW21kYXQAAABPKAGvCchryRojmJb/w1+92h/7iXyT1HSIIv0m4zUCXjqjKIUL+6nVcfT+w55p"
    "Rv/Nx9RF0qmfvehAzbymA/fqFmlA7jBPPtkHUOc8SwBr9w=="
)


def written(folder: Path, values: np.ndarray | Image.Image, name: str, **options) -> Path:
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    image.save(folder / name, **options)
    return folder / name


def tiff(values: np.ndarray, sample: int, turn: int = 1, order: str = "<") -> bytes:
    """An uncompressed grey TIFF; sample: 1 unsigned, 2 signed, 3 floating point."""
    height, width = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8 * values.itemsize), (259, 3, 1), (262, 3, 1),
    (273, 4, 8), (274, 3, turn),
            (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, sample)]  # fmt: skip
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, 1)
        + struct.pack(order + ("HH" if kind == 3 else "I"), *((v, 0) if kind == 3 else (v,)))
        for tag, kind, v in tags
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "scale", "sample", "said"),
    [
        (np.uint16, 65535, 1, "16 bits scaled to 8"),
        (np.uint16, 255, 1, "16 bits, 255 taken as white"),
        (np.int16, 32767, 2, "16 bits scaled to 8"),
        (np.uint32, 2**32 - 1, 1, "32 bits, 4294967295 taken as white"),
        (np.int32, 2**31 - 1, 2, "32 bits, 2147483647 taken as white"),
        (np.int32, 65535, 2, "32 bits, 65535 taken as white"),
        (np.int32, 255, 2, "32 bits, 255 taken as white"),
        (np.float32, 1, 3, "floating point, 1 taken as white"),
        (np.float32, 255, 3, "floating point, 255 taken as white"),
        (np.float32, 65535, 3, "floating point, 65535 taken as white"),
    ],
)
def test_white_is_of_the_type_and_of_the_bulk(tmp_path, kind, scale, sample, said, order):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff((GREY * scale).astype(kind), sample, order=order))
    photo = images.read_photo(path)
    assert photo.how == images.how_read(path) == f"24×20 pixels, {said}"
    assert (photo.x - torch.from_numpy(GREY)).abs().max() < 1.5 / 255


@pytest.mark.parametrize("odd", [1.3, 200.0, -5.0])
@pytest.mark.parametrize("scale", [1, 255])
def test_one_value_decides_nothing(tmp_path, odd, scale):
    values = (GREY * scale).astype(np.float32)
    values[3, 3] = odd * scale
    (tmp_path / "a.tif").write_bytes(tiff(values, 3))
    error = (images.read_image(tmp_path / "a.tif")[0, 0] - torch.from_numpy(GREY)).abs()
    error[3, 3] = 0
    assert error.max() < 1.5 / 255


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_every_turn_of_every_format(tmp_path, turn, suffix):
    exif = Image.Exif()
    exif[0x0112] = turn
    plain = np.repeat(np.repeat((GREY[::5, ::6] * 255).astype(np.uint8), 8, 0), 8, 1)
    image = Image.fromarray(plain).convert("RGB" if suffix in {"webp", "avif"} else "L")
    path = written(
        tmp_path, image, f"a.{suffix}", exif=exif, **({} if suffix in {"png", "tif"} else {"quality": 100})
    )
    method = opening.TURNS.get(turn)
    upright = np.asarray(
        Image.fromarray(plain).transpose(method) if method is not None else Image.fromarray(plain)
    )
    x = images.read_image(path)
    assert tuple(x.shape[-2:]) == upright.shape == images.size_read(path)[::-1]
    assert (x[0, 1] - torch.from_numpy(upright.copy()) / 255).abs().mean() < 0.03
    if suffix == "tif":
        assert images.read_image(path)[0, 0].equal(torch.from_numpy(upright.copy()) / 255)


@pytest.mark.parametrize("turn", [1, 6, 8])
def test_a_sideways_uncompressed_tiff_is_not_torn(tmp_path, turn):
    values = (GREY * 255).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff(values, 1, turn))
    upright = np.rot90(values, {1: 0, 6: 3, 8: 1}[turn])
    assert (images.read_image(tmp_path / "a.tif")[0, 0] * 255).round().numpy().astype(
        np.uint8
    ).tolist() == upright.tolist()


def profile(name: str, curve: float) -> bytes:
    """sRGB's primaries with another tone curve, under any name."""
    made = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        .tobytes()
        .replace("sRGB".encode("utf-16-be"), name.encode("utf-16-be"))
    )
    count = int.from_bytes(made[128:132])
    for k in range(132, 132 + 12 * count, 12):
        if bytes(made[k : k + 4]) in {b"rTRC", b"gTRC", b"bTRC"}:
            place = int.from_bytes(made[k + 4 : k + 8])
            made[place : place + 14] = b"curv\0\0\0\0\0\0\0\1" + round(curve * 256).to_bytes(2)
            made[k + 8 : k + 12] = (14).to_bytes(4)
    return bytes(made)


@pytest.mark.parametrize("name", ["sRGB", "RIMM"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_profile_is_what_it_does_not_what_it_is_called(tmp_path, name, mode):
    linear = Image.new("RGB", (16, 16), (55, 55, 55)).convert(mode)
    x = images.read_photo(written(tmp_path, linear, "a.png", icc_profile=profile(name, 1.0)))
    assert abs(255 * x.x.mean() - 128) < 3 and "colours converted to sRGB" in x.how
    same = images.read_photo(
        written(
            tmp_path,
            linear,
            "b.png",
            icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        )
    )
    assert abs(255 * same.x.mean() - 55) < 0.1 and "sRGB" not in same.how


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(*chunks: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((GREY * 255).astype(np.uint8)).save(buffer, "PNG")
    content = buffer.getvalue()
    return content[:33] + b"".join(chunks) + content[33:]


EXIF = (
    b"II*\0\x08\0\0\0"
    + struct.pack("<H", 3)
    + struct.pack("<HHII", 0x0112, 3, 1, 6)
    + struct.pack("<HHII", 0x9999, 99, 2**31, 2**31)
)


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 3_000_000))],
        [chunk(b"eXIf", EXIF + struct.pack("<HHII", 0x829A, 5, 2**20, 10))],
        [chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff")],
        [chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 10_000_000))],
        [chunk(b"tEXt", b"Comment\0" + b"a" * 2_000_000)],
    ],
)
def test_what_lies_beside_the_pixels_costs_no_picture(tmp_path, chunks):
    (tmp_path / "a.png").write_bytes(png_with(*chunks))
    photo = images.read_photo(tmp_path / "a.png")
    assert sorted(photo.x.shape[-2:]) == [20, 24] and abs(photo.x.mean() - 0.5) < 0.01


def test_transparency_of_every_kind(tmp_path):
    alpha = (HOLES * 255).astype(np.uint8)
    for mode in ("LA", "RGBA"):
        clear = Image.new(mode[:-1], (24, 20), 0 if mode == "LA" else (0, 0, 0))
        clear.putalpha(Image.fromarray(alpha))
        photo = images.read_photo(written(tmp_path, clear, "a.png"))
        assert photo.alpha is not None and np.asarray(photo.alpha).tolist() == alpha.tolist()
        assert (photo.x[0, 0].numpy() == ~HOLES).all()  # black, and white where nothing is
    palette = Image.fromarray(HOLES.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 9, 9, 9])
    photo = images.read_photo(written(tmp_path, palette, "p.png", transparency=0))
    assert photo.alpha is not None and np.asarray(photo.alpha).tolist() == alpha.tolist()


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "a.mpo", "a.avif", "a.ppm", "a.pgm", "a.webp", "a.bmp", "a.gif"]
)
def test_formats_that_people_have(tmp_path, name):
    image = Image.fromarray((GREY * 255).astype(np.uint8)).convert("L" if name == "a.pgm" else "RGB")
    kind = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM"}.get(name[2:], name[2:].upper())
    options = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
    photo = images.read_photo(written(tmp_path, image, name, format=kind, **options))
    assert (photo.x[0, 0] - torch.from_numpy(GREY)).abs().mean() < 0.03
    assert photo.how == "24×20 pixels" + (", first frame only" if kind == "MPO" else "")


def test_heic_is_read(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    pytest.importorskip("pi_heif")
    x = images.read_image(tmp_path / "a.heic")
    assert x.shape == (1, 3, 16, 24) and x[0, 2, :, :10].min() > 0.8 and x[0, 0, :, 14:].min() > 0.8


# ---- kernels


# ---- masks


# ---- apart, and hostile
