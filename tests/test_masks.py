"""Blur kernels and inpainting masks out of files of every kind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_reading import HOLES, KERNEL, RANDOM, written

from restoration.files import knob_files


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
