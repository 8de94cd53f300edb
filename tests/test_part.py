"""A part of a photograph that alone is restored: in the file, and under a frame in the browser."""

from __future__ import annotations

import json

import numpy as np
import pytest
from browsing import PATIENCE, touches, upload, visible
from PIL import Image, PngImagePlugin
from playwright.sync_api import expect

from restoration.degradations.jpeg_traces import TOLD, quality_of_file
from restoration.files import images
from restoration.files.opening import TURNS
from restoration.page import inspection, part

WHOLE = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize("turn", [1, *TURNS])
def test_the_part_is_of_the_picture_as_it_stands_upright(tmp_path, turn):
    """However its camera was turned, pixel by pixel."""
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(WHOLE).save(tmp_path / "own.png", exif=exif)
    upright = images.read_photo(tmp_path / "own.png").x
    height, width = upright.shape[-2:]
    sides = [16 / width, 24 / height, 64 / width, 56 / height]
    assert (images.read_photo(tmp_path / "own.png", part=sides).x == upright[..., 24:56, 16:64]).all()
    file = part.cut_out(str(tmp_path / "own.png"), json.dumps(sides))
    assert (images.read_image(file) == upright[..., 24:56, 16:64]).all()


@pytest.mark.parametrize("kind", ["16 bits", "transparent", "CMYK", "JPEG"])
def test_a_part_has_the_colours_of_the_whole(tmp_path, kind):
    """White is what is white in the whole picture; what shows through does so in the part."""
    picture, file = Image.fromarray(WHOLE), tmp_path / "own.png"
    if kind == "16 bits":
        picture = Image.fromarray(np.linspace(0, 65535, 80 * 120).reshape(80, 120).astype(np.uint16))
    elif kind == "transparent":
        picture.putalpha(Image.fromarray(WHOLE[..., 0]))
    elif kind == "CMYK":
        picture, file = picture.convert("CMYK"), tmp_path / "own.tif"
    elif kind == "JPEG":
        file = tmp_path / "own.jpg"
    picture.save(file)
    whole, sides = images.read_photo(file), [0, 0, 64 / 120, 0.5]
    cut = images.read_photo(part.cut_out(str(file), json.dumps(sides)))
    assert (cut.x - whole.x[..., :40, :64]).abs().max() < 1.5 / 255
    assert (cut.alpha is None) == (whole.alpha is None)


def test_a_part_of_a_jpeg_is_judged_as_a_jpeg(tmp_path, monkeypatch):
    """Its blocks do not begin where the part does; a number that is none is not believed."""
    told = []
    measure = inspection.measure_damage
    monkeypatch.setattr(inspection, "measure_damage", lambda x, quality: told.append(quality) or measure(x))
    Image.fromarray(WHOLE).save(tmp_path / "own.jpg", quality=35)
    cut = part.cut_out(str(tmp_path / "own.jpg"), "[0.1, 0.1, 0.7, 0.9]")
    for file in (tmp_path / "own.jpg", cut, part.cut_out(cut, "[0, 0, 0.5, 0.5]")):
        inspection.inspect(str(file), "quick")
    assert told == [35, 35, 35]
    Image.fromarray(WHOLE).save(tmp_path / "own.png")
    assert quality_of_file(part.cut_out(str(tmp_path / "own.png"), "[0, 0, 0.5, 0.5]")) is None
    for text in ("999", "-1", "x", "9" * 5000):
        hostile = PngImagePlugin.PngInfo()
        hostile.add_text(TOLD, text)
        Image.fromarray(WHOLE).save(tmp_path / "own.png", pnginfo=hostile)
        assert quality_of_file(tmp_path / "own.png") is None


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "no",
        "[0,0,1]",
        "[0,0,NaN,1]",
        "[0,0,1,2]",
        "[0.5,0,0.5,1]",
        '["0",0,1,1]',
        "[" * 199,
        "1" * 9999,
        None,
    ],
)
def test_what_is_no_frame_is_refused(tmp_path, frame):
    Image.fromarray(WHOLE).save(tmp_path / "own.png")
    with pytest.raises(ValueError, match="Draw a frame"):
        part.cut_out(str(tmp_path / "own.png"), frame)


def test_a_part_too_small_is_refused(tmp_path):
    Image.fromarray(WHOLE).save(tmp_path / "own.png")
    with pytest.raises(ValueError, match="at least 16 pixels"):
        part.cut_out(str(tmp_path / "own.png"), "[0.1, 0.1, 0.12, 0.9]")


def test_a_part_is_restored(lend, tmp_path):
    """Drawn with a finger, moved by keys; afterwards the whole photograph is back."""
    page = lend(390)
    Image.fromarray(WHOLE).resize((240, 160)).save(tmp_path / "own.png")
    upload(page, tmp_path / "own.png")
    visible(page, "[id^=seen-] [data-width='240']").wait_for()
    fold = page.locator("#part-reld")
    fold.locator("button.label-wrap").click()
    page.wait_for_function("() => document.querySelector('#part-reld .sheet img')?.naturalWidth === 240")
    fold.locator(".sheet").scroll_into_view_if_needed()
    box = fold.locator(".sheet").bounding_box()
    corner = lambda u, v: (box["x"] + u * box["width"], box["y"] + v * box["height"])  # noqa: E731
    touches(page, [[corner(0.05, 0.05)], [corner(0.4, 0.6)]])
    fold.locator("output:has-text('84 × 88 pixels')").wait_for()
    fold.locator(".frame").press("ArrowRight")
    fold.locator(".frame").press("-")
    fold.locator("output:has-text('76 × 80 pixels')").wait_for()
    fold.get_by_role("button", name="Take this part").click()
    visible(page, "[id^=seen-] [data-width='88'][data-height='88']").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    assert (
        page.locator("#photo-reld img").evaluate("image => image.decode().then(() => image.naturalWidth)")
        == 88
    )
    # what was taken is seen, though the fold has closed that was above the button
    expect(page.locator("#photo-reld img")).to_be_in_viewport(timeout=PATIENCE)
    fold.locator("button.label-wrap").click()
    fold.get_by_role("button", name="The whole photograph again").click()
    visible(page, "[id^=seen-] [data-width='240']").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
