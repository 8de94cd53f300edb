from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from restoration.files import images
from restoration.files.images import edge_taper, lanczos, read_image


def save(tmp_path, image: Image.Image, name: str, **options) -> str:
    image.save(tmp_path / name, **options)
    return str(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"not a picture at all", b"\x89PNG\r\n\x1a\n"])
def test_not_a_picture(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError, match="PNG, JPEG"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["eps", "dds", "jp2", "pcx", "tga", "ico"])
def test_no_other_format_is_decoded(tmp_path, kind):
    save(tmp_path, Image.new("RGB", (32, 32)), f"x.{kind}")
    path = (tmp_path / f"x.{kind}").rename(tmp_path / "x.png")
    with pytest.raises(
        ValueError, match=r"x\.png is .*(which cannot be|that can be) read here; PNG, JPEG, .* are"
    ):
        read_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"])
def test_broken_files_are_one_sentence(tmp_path, kind):
    """Bytes changed at random: Pillow answers with errors of ten kinds."""
    buffer, random, path = io.BytesIO(), np.random.default_rng(0), tmp_path / "x"
    Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(buffer, kind)
    for _ in range(100):
        content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        content[random.integers(0, min(len(content), 120), 4)] = random.integers(0, 255, 4)
        path.write_bytes(content[: random.integers(20, 2 * len(content))].tobytes())
        try:
            read_image(path, 1)
            images.read_alpha(path, 1)
        except ValueError as error:
            assert str(error).endswith(".") and "\n" not in str(error) and "raw mode" not in str(error)


def test_the_size_is_known_from_the_header(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, Image.new("RGB", (4032, 3024)), "large.jpg", exif=exif)
    assert images.size_read(path) == (1732, 2309) and read_image(path, 1).shape[-2:] == (2309, 1732)
    with pytest.raises(ValueError, match="8×8"):
        images.size_read(save(tmp_path, Image.new("RGB", (8, 8)), "small.png"))


def test_truncated(tmp_path):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ValueError, match="damaged or cut off"):
        read_image(tmp_path / "cut.png")


@pytest.mark.parametrize("size", [(1, 1), (20000, 20000), (12000, 12000), (9000, 16)])
def test_sizes_are_refused_from_the_header(tmp_path, size):
    path = save(tmp_path, Image.new("1", size), "big.png")
    with pytest.raises(ValueError, match=r"at least 16 pixels|megapixels"):
        read_image(path)


def test_missing_file():
    with pytest.raises(ValueError, match="cannot be opened"):
        read_image("/nowhere/x.png")


def test_alpha_over_white(tmp_path):
    x = read_image(save(tmp_path, Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "a.png"))
    assert x.min() == 1


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    x = read_image(save(tmp_path, Image.fromarray(np.full((16, 16), 32768, np.uint16)), "a.png"))
    assert abs(x.mean().item() - 0.5) < 0.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    values = np.full((16, 16), 0.5, np.float32)
    path = save(tmp_path, Image.fromarray(values), "a.tif")
    assert (
        images.how_read(path) == "16×16 pixels, floating point, 1 taken as white"
        and abs(read_image(path).mean() - 0.5) < 0.01
    )
    values[3, 3] = value
    with pytest.raises(ValueError, match="infinite or not numbers"):
        read_image(save(tmp_path, Image.fromarray(values), "a.tif"))


def test_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(save(tmp_path, Image.new("RGB", (32, 16)), "a.jpg", exif=exif)).shape[-2:] == (32, 16)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "1"])
def test_modes(tmp_path, mode):
    name = "a.png" if mode in {"P", "L", "LA", "1"} else "a.tif"
    assert read_image(save(tmp_path, Image.new("RGB", (16, 17), "red").convert(mode), name)).shape == (
        1,
        3,
        17,
        16,
    )


def picture_with_profile(mode: str) -> Image.Image:
    """Red as (0,255,0) of a colour space that names its channels the other way round."""
    image = Image.new("RGB", (16, 16), (0, 255, 0)).convert(mode)
    image.info["icc_profile"] = swapped_profile()
    return image


def swapped_profile() -> bytes:
    """sRGB's profile with the primaries of red and green exchanged, under another name."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for k in range(128 + 4, 128 + 4 + 12 * int.from_bytes(profile[128:132]), 12):
        profile[k : k + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(
            bytes(profile[k : k + 4]), bytes(profile[k : k + 4])
        )
    return bytes(profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be")))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_srgb(tmp_path, mode):
    image = picture_with_profile(mode)
    x = read_image(save(tmp_path, image, "a.png", icc_profile=image.info["icc_profile"]))
    assert x[0, 0].min() > 0.98 and x[0, 1].max() < 0.02


@pytest.mark.parametrize(
    ("size", "enlarged"),
    [
        ((4032, 3024), 1),
        ((4032, 3024), 4),
        ((2000, 2000), 1),
        ((2001, 2000), 1),
        ((16000, 100), 1),
        ((640, 480), 3),
    ],
)
def test_the_largest_size_of_the_same_shape(size, enlarged):
    width, height = images.fitted(*size, enlarged)
    images.check_size(width * enlarged, height * enlarged)
    assert abs(width / size[0] - height / size[1]) < 1 / min(size)
    if (width, height) != size:
        grown = ((width + 2) * enlarged, (height + 2) * enlarged)
        assert grown[0] * grown[1] > images.MAX_PIXELS or max(grown) > images.MAX_SIDE


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_phones_picture_is_reduced(tmp_path, photo, monkeypatch, suffix):
    """As Lanczos of the whole picture reduces it, although a JPEG is decoded smaller; turned upright, and the
    rest of the sides is kept.
    """
    monkeypatch.setattr("restoration.files.sizes.MAX_PIXELS", 3000)
    exif = Image.Exif()
    exif[0x0112] = 6
    large = images.to_pil(lanczos(photo, 300, 400))
    path = save(tmp_path, large, f"a.{suffix}", exif=exif, quality=95)
    x = read_image(path, enlarged=1)
    assert x.shape[-2:] == (63, 47)
    plain = images.to_tensor(
        large.resize((63, 47), Image.Resampling.LANCZOS).transpose(Image.Transpose.ROTATE_270)
    )
    assert (x - plain).abs().mean() < 0.01
    assert read_image(path, enlarged=2).shape[-2:] == (31, 23)
    with pytest.raises(ValueError, match="400×300; at most"):
        read_image(path)


def test_what_fits_is_not_touched(tmp_path, photo):
    path = save(tmp_path, images.to_pil(photo), "a.jpg", quality=90)
    assert torch.equal(read_image(path), read_image(path, enlarged=4))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((12000, 12000), "12000×12000; at most 67 megapixels"),
        ((20000, 20000), "at most 67 megapixels"),
        ((60000, 20), "16"),
    ],
)
def test_absurd_sizes_are_refused_at_once(tmp_path, monkeypatch, size, words):
    path = save(tmp_path, Image.new("1", size), "bomb.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # no pixel is decoded
    with pytest.raises(ValueError, match=words):
        read_image(path, enlarged=1)
    assert images.how_read(path) == ""


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    x = read_image(save(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:]))
    assert x[0, 0].min() > 0.9 and x[0, 2].max() < 0.1


def test_edge_taper_wraps_smoothly():
    y = edge_taper(torch.linspace(0, 1, 32).expand(1, 3, 32, 32), 12)
    assert y.shape[-2:] == (56, 56)
    assert (y[..., 0] - y[..., -1]).abs().max() < 0.05
    assert torch.equal(y[..., 12:-12, 12:-12], torch.linspace(0, 1, 32).expand(1, 3, 32, 32))


def test_lanczos_there_and_back(photo):
    large = lanczos(photo, 192, 192)
    assert large.shape == (1, 3, 192, 192) and large.max() <= 1
    assert (lanczos(large, 96, 96) - photo).abs().mean() < 0.01


def test_a_sheet_holds_every_picture():
    pictures = [(str(k), Image.new("RGB", (24, 16), (60 * k, 0, 0))) for k in range(5)]
    sheet = images.sheet(pictures, columns=2)
    assert sheet.size == (48, 3 * (16 + images.HEADING))
    assert [
        sheet.getpixel((24 * (k % 2) + 12, (k // 2) * (16 + images.HEADING) + images.HEADING + 8))[0]
        for k in range(5)
    ] == [0, 60, 120, 180, 240]


def test_what_is_done_to_a_file_is_said(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path, Image.new("RGB", (40, 30)), "turned.jpg", exif=exif)
    assert images.how_read(turned) == "40×30 pixels, turned upright as the camera says"
    large = save(tmp_path, Image.new("RGB", (4032, 3024)), "large.jpg", exif=exif)
    assert (
        images.how_read(large) == "4032×3024 pixels, turned upright as the camera says, reduced to 1732×2309"
    )
    assert (
        images.how_read(turned, enlarged=100)
        == "40×30 pixels, turned upright as the camera says, reduced to 17×23"
    )
    assert images.how_read(save(tmp_path, picture_with_profile("RGBA"), "p3.png")).endswith(
        "colours converted to sRGB, laid over white where transparent"
    )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (
        images.how_read(save(tmp_path, Image.new("RGB", (40, 30)), "srgb.png", icc_profile=srgb))
        == "40×30 pixels"
    )
    assert (
        images.how_read(save(tmp_path, Image.new("RGBA", (40, 30)), "a.png"))
        == "40×30 pixels, laid over white where transparent"
    )
    assert (
        images.how_read(save(tmp_path, Image.new("I;16", (40, 30)), "deep.png"))
        == "40×30 pixels, 16 bits scaled to 8"
    )
    assert (
        images.how_read(save(tmp_path, Image.new("CMYK", (40, 30)), "c.jpg"))
        == "40×30 pixels, CMYK converted to RGB"
    )
    (tmp_path / "x.png").write_bytes(b"x")
    assert images.how_read(tmp_path / "x.png") == ""
