"""The page on a phone: what is pressed is followed by what one sees."""

from __future__ import annotations

import torch
from browsing import visible, visit
from skimage.data import astronaut

from restoration.files import images
from restoration.page import sizes
from restoration.page.controls import TITLES

SCREEN = {"width": 390, "height": 844}
# what a finger can hardly hit: all but the circle of a choice, whose label is pressed with it
SMALL = """tab => [...tab.querySelectorAll('button, input, label:has(input[type=radio])')]
    .filter(e => e.checkVisibility() && !['radio', 'file'].includes(e.type))
    .filter(e => Math.min(e.offsetHeight, e.offsetWidth) < 40).map(e => e.outerHTML.slice(0, 200))"""
# answers of the server wait for release(), as those of one that has just been started
SLOW = r"""{
    const send = window.fetch, waiting = [];
    window.fetch = async (...asked) => {
        if (asked[0].toString().includes('/run/predict')) await new Promise(go => waiting.push(go));
        return send(...asked);
    };
    window.release = () => { waiting.splice(0).forEach(go => go()); window.fetch = send; };
}"""


def test_a_file_that_no_browser_draws_is_restored_in_sight(browser, address, tmp_path, monkeypatch):
    """From the upload, while the page still opens, to the result on the screen; quick, or large."""
    monkeypatch.setattr(sizes, "SIZES", {sizes.QUICK: 96**2, sizes.LARGE: 192**2})
    x = images.to_tensor(astronaut()[:192, 140:332])
    x = x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    images.to_pil(x).save(tmp_path / "own.tif")
    phone = {"viewport": SCREEN, "is_mobile": True, "has_touch": True}
    page = visit(browser, address, script=SLOW, **phone)
    place = page.locator("[role=tabpanel]:visible input[type=file]").first
    place.set_input_files(tmp_path / "own.tif")
    page.locator("#start-compare:has-text('Looking at it')").wait_for()
    page.wait_for_timeout(500)  # until the page asks for what it opens with
    page.evaluate("release()")
    page.locator("#start-compare:has-text('Compare'):enabled").wait_for()
    page.get_by_role("tab", name=TITLES["reld"][0]).tap()
    seen = "[id=seen-reld] [data-width='{}']"
    visible(page, seen.format(96)).wait_for()
    page.wait_for_function("() => document.querySelector('#photo-reld img').naturalWidth")
    page.get_by_label("Large: 4 megapixels").locator("visible=true").check()
    visible(page, seen.format(192)).wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").tap()
    page.get_by_text("192×192 pixels in").wait_for()
    page.wait_for_timeout(500)  # of smooth scrolling
    box = page.locator("#comparison-reld").bounding_box()
    assert 0 <= box["y"] < SCREEN["height"] / 3
    assert page.evaluate("document.documentElement.scrollWidth") == SCREEN["width"]
    settings = page.locator('[role="tabpanel"]:visible').get_by_text("Method settings").bounding_box()
    assert settings["y"] > box["y"] + box["height"]
    preview = page.locator("#seen-reld [data-preview]").get_attribute("data-preview")
    images.to_pil(x.flip(-1)).save(tmp_path / "other.tif")  # which is not stood for by the one before
    page.locator("[role=tabpanel]:visible input[type=file]").first.set_input_files(tmp_path / "other.tif")
    image = "document.querySelector('#photo-reld img')"
    page.wait_for_function(f"old => {image}?.src.startsWith('data:') && {image}.src !== old", arg=preview)
    page.context.close()


def test_scores_of_a_comparison_are_read_without_moving_sideways(lend):
    """Below each picture, marked where they are the best; the table of them all is too wide."""
    page = lend(390, "")
    assert not page.get_by_text("★ is the best of its column").is_visible()
    lists = page.locator(".zoom .scores:visible")
    assert lists.first.inner_text().startswith("PSNR ↑") and lists.count() > 3
    assert lists.evaluate_all("all => all.every(e => e.scrollWidth <= e.clientWidth)")
    named = page.locator(".zoom .won").evaluate_all("all => all.flatMap(e => e.innerText.split(', ')).length")
    assert page.locator(".zoom dd:has-text('★')").count() == named > 0


def test_a_phone_opens_with_the_place_for_the_photograph(lend):
    """Whose button opens the phone's own chooser though a picture is there; tabs are one row above it."""
    page = lend(390)
    rows = {round(tab.bounding_box()["y"]) for tab in page.get_by_role("tab").all() if tab.is_visible()}
    assert len(rows) == 1
    box = page.locator("#photo-reld").bounding_box()
    assert box["y"] < 300
    before = page.locator("#photo-reld img").get_attribute("src")
    choose = page.locator("#photo-reld").get_by_role("button", name="Choose a photograph")
    assert choose.bounding_box()["height"] >= 40
    with page.expect_file_chooser():
        choose.tap()
    assert page.locator("#photo-reld img").get_attribute("src") == before
    table = page.locator(".of-result .virtual-table-viewport:visible")
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth")  # the last column, too
    assert page.locator("footer .divider:visible").count() == 0  # between nothing and "Settings"
    small = page.locator("[role=tabpanel]:visible").evaluate(SMALL)
    assert not small, "\n".join(small)
