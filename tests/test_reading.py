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

from restoration.files import images, knob_files, opening, sandbox

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


def test_a_pipe_or_a_folder_is_no_picture(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is not a file"):
        images.read_image(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"cannot be opened|is not a file"):
        images.read_image(tmp_path)


# ---- kernels


def kernels(folder: Path) -> list[Path]:
    eight, sixteen = (KERNEL * 255).round().astype(np.uint8), (KERNEL * 65535).round().astype(np.uint16)
    clear = Image.fromarray(eight).convert("RGBA")
    paths = [
        written(folder, eight, "8.png"),
        written(folder, sixteen, "16.png"),
        written(folder, Image.fromarray(eight).convert("RGB"), "rgb.png"),
    ]
    paths += [written(folder, clear, "alpha.png"), written(folder, KERNEL.astype(np.float32), "float.tif")]
    paths += [
        written(folder, (KERNEL / KERNEL.sum()).astype(np.float32), "sum1.tif"),
        written(folder, (KERNEL * 1000).astype(np.int32), "32.tif"),
    ]
    arrays = {"a.npy": KERNEL, "B.NPY": KERNEL.astype(">f8"), "half.npy": KERNEL.astype(np.float16)}
    arrays |= {
        "f.npy": np.asfortranarray(KERNEL),
        "channel.npy": KERNEL[..., None],
        "rounding.npy": KERNEL - 1e-12,
    }
    for name, array in (arrays | {"int.npy": (KERNEL * 1000).astype(int)}).items():
        with open(folder / name, "wb") as file:
            np.save(file, array)
        paths.append(folder / name)
    np.savez(folder / "c.npz", k=KERNEL)
    np.savez_compressed(folder / "d.npz", k=KERNEL)
    return [*paths, folder / "c.npz", folder / "d.npz"]


def test_a_kernel_is_the_same_in_every_file(tmp_path):
    for path in kernels(tmp_path):
        kernel = knob_files.read_kernel(str(path))
        assert (kernel / kernel.sum() - torch.from_numpy(KERNEL / KERNEL.sum())).abs().max() < 3e-4, path.name


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 0), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 10000000000000), }"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", b"\0" * 8),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 10),
        npy("{'descr': '<c16', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 1296),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 999),
        npy("{'descr': '<f3', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 999),
        npy("{'descr': '<U4', 'fortran_order': False, 'shape': (9, 9), }", b"\0" * 1296),
        npy("(" * 9000),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 20000), }", b"\1" * 20000),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (129, 2), }", b"\1" * 300),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4, 5), }", b"\1" * 300),
        b"\x93NUMPY",
        b"PK\3\4garbage",
        b"",
    ],
)
def test_a_kernel_that_is_none_is_one_sentence(tmp_path, content):
    (tmp_path / "k.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"k\.npy") as error:
        knob_files.read_kernel(str(tmp_path / "k.npy"))
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("name", ["k.png", "k.tif", "k.bmp", "k.avif"])
def test_kernels_are_small_whatever_the_format(tmp_path, name):
    with pytest.raises(ValueError, match="at most 128×128"):
        knob_files.read_kernel(str(written(tmp_path, Image.new("L", (129, 64), 9).convert("RGB"), name)))


# ---- masks


def masks(folder: Path) -> list[Path]:
    clear = Image.new("RGB", (24, 20), "white")
    clear.putalpha(Image.fromarray((HOLES * 255).astype(np.uint8)))
    strokes = Image.new("RGBA", (24, 20), (0, 0, 0, 255))
    strokes.putalpha(Image.fromarray((~HOLES * 255).astype(np.uint8)))
    cut = Image.fromarray(RANDOM.integers(0, 255, (20, 24, 3), np.uint8))
    cut.putalpha(Image.fromarray((HOLES * 255).astype(np.uint8)))
    palette = Image.fromarray(HOLES.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, Image.Image | np.ndarray] = {
        "8.png": (HOLES * 255).astype(np.uint8), "01.png": HOLES.astype(np.uint8),
        "1.png": Image.fromarray(HOLES), "p.png": palette,
        "16.png": (HOLES * 65535).astype(np.uint16), "16-01.png": HOLES.astype(np.uint16),
        "16-255.png": (HOLES * 255).astype(np.uint16),
        "16-12bit.png": (HOLES * 4095).astype(np.uint16),
        "16-soft.png": (20000 + HOLES * 20000).astype(np.uint16),
        "float.tif": HOLES.astype(np.float32), "float255.tif": (HOLES * 255).astype(np.float32),
        "32.tif": HOLES.astype(np.int32),
        "grey.png": (10 + HOLES * 90).astype(np.uint8), "clear.png": clear, "strokes.png": strokes,
        "cut.png": cut,
        "rgb.bmp": Image.fromarray((HOLES * 255).astype(np.uint8)).convert("RGB"),
        "soft.png": (HOLES * 255 + RANDOM.integers(-20, 20, (20, 24))).clip(0, 255).astype(np.uint8),
    }  # fmt: skip
    turned = written(folder, np.rot90(HOLES * 255).astype(np.uint8), "turned.png", exif=exif)
    return [*(written(folder, values, name) for name, values in made.items()), turned]


def test_a_mask_is_the_same_in_every_file(tmp_path):
    for path in masks(tmp_path):
        assert (knob_files.read_mask(str(path), 20, 24).numpy() == HOLES).all(), path.name
        share = f"{100 * (1 - HOLES.mean()):.1f} % of the pixels are missing"
        assert share in knob_files.how_read_mask(str(path), 20, 24)


def test_masks_that_do_not_fit(tmp_path):
    for values in (
        np.zeros((20, 24), np.uint8),
        np.zeros((20, 24), np.uint16),
        np.zeros((20, 24), np.float32),
    ):
        with pytest.raises(ValueError, match="leaves no pixel known"):
            knob_files.read_mask(str(written(tmp_path, values, "m.tif")), 20, 24)
    # as a camera stored the photograph, which it turned
    with pytest.raises(ValueError, match=r"The mask m\.png is 24×20 but the picture 20×24; .* lie as"):
        knob_files.read_mask(str(written(tmp_path, HOLES.astype(np.uint8), "m.png")), 24, 20)


def test_a_mask_is_reduced_with_its_photograph(tmp_path):
    large = np.ones((60, 72), np.uint8)
    large[30:33, 30:33] = 0
    known = knob_files.read_mask(str(written(tmp_path, large, "m.png")), 20, 24)
    assert (~known).nonzero().tolist() == [[10, 10]]
    assert "reduced to 24×20" in knob_files.how_read_mask(str(tmp_path / "m.png"), 20, 24)


# ---- apart, and hostile


@pytest.fixture
def apart(monkeypatch):
    if not sandbox.AVAILABLE:
        pytest.skip("needs Linux")
    monkeypatch.setattr(sandbox, "_enabled", True)


def test_apart_the_same_is_read(tmp_path, apart, monkeypatch):
    (tmp_path / "kernels").mkdir()
    arrays = kernels(tmp_path / "kernels")
    paths = [*masks(tmp_path), written(tmp_path, (GREY * 255).astype(np.uint8), "photo.png")]
    there = [images.read_photo(path) for path in paths], [images.how_read(path) for path in paths]
    kernel = [knob_files.read_kernel(str(path)) for path in arrays]
    content = images.read_image(paths[0].read_bytes())
    monkeypatch.setattr(sandbox, "_enabled", False)
    here = [images.read_photo(path) for path in paths], [images.how_read(path) for path in paths]
    assert there[1] == here[1] and content.equal(here[0][0].x)
    for one, other in zip(*(found[0] for found in (there, here)), strict=True):
        assert one.x.equal(other.x) and one.how == other.how
        assert (one.alpha is None) == (other.alpha is None) and (
            one.alpha is None or one.alpha.tobytes() == other.alpha.tobytes()
        )
    assert all(
        a.equal(b)
        for a, b in zip(kernel, [knob_files.read_kernel(str(path)) for path in arrays], strict=True)
    )


def test_apart_the_same_is_refused(tmp_path, apart):
    (tmp_path / "a.png").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"a\.png is not a picture"):
        images.read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 16"):
        images.read_image(written(tmp_path, np.zeros((4, 4), np.uint8), "b.png"))


@pytest.mark.parametrize(
    "body", ["while True: pass", "bytearray(10**9)", "import os; os.abort()", "import time; time.sleep(99)"]
)
def test_a_decoder_that_is_taken_over_gets_nowhere(tmp_path, apart, monkeypatch, body):
    """The server of this test decodes with code of the test's."""
    monkeypatch.setattr(sandbox, "_server", None)
    code = f"decode.warm, decode.photo = int, lambda *a, **k: exec({body!r})"
    limits = "sandbox.WALL, sandbox.SECONDS = 4.0, 1"
    load = "import sys; from restoration.files import decode, sandbox"
    server = f"{load}; {code}; {limits}; sandbox.serve(*map(int, sys.argv[1:]))"
    monkeypatch.setattr(sandbox, "SERVER", server)
    path = written(tmp_path, (GREY * 255).astype(np.uint8), "a.png")
    with pytest.raises(ValueError, match=r"a\.png (takes too much|needs too much)"):
        images.read_photo(path)
    assert images.size_read(path) == (24, 20)  # and the next request is served
    sandbox._stop()


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
