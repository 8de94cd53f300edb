"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import io
import itertools
import re
from urllib.parse import parse_qsl

import pytest
import torch
from browsing import denoise_own, settle, shown_result, told, upload, visible, visit
from PIL import Image
from skimage.data import astronaut

from restoration.files import images, recipe
from restoration.page import actions, state
from restoration.page.controls import TITLES, heading
from restoration.page.state import EXAMPLES


def test_a_visitor_sees_a_result_without_computation_and_repeats_it(tab):
    visible(tab, ":text('PSNR ↑')").wait_for()
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    told(tab, "256×256 pixels in")


def test_of_two_examples_the_last_is_shown(tab):
    """Though the answer to the first is still on its way: Gradio would drop the second press."""
    held = []
    tab.route("**/run/predict*", lambda route: held.append(route), times=1)
    tab.get_by_role("button", name="Enlarge ×4", exact=True).click()
    while not held:
        tab.wait_for_timeout(50)
    tab.get_by_role("button", name="Denoise", exact=True).click()
    held[0].continue_()
    told(tab, "Denoise: computed beforehand")


@pytest.mark.parametrize("method", ["", "reld"])
def test_garbage_is_answered_with_one_sentence(lend, tmp_path, method):
    """Once, where the upload happens; the box is empty then, and a press says so."""
    tab, place = lend(1280, method), method or "compare"
    assert tab.locator(f"#share-{place}").is_visible()
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    upload(tab, tmp_path / "garbage.png")
    sentence = tab.locator(":text('is not a picture that can be read here'):visible")
    tab.locator(f"#seen-{place}:has-text('is not a picture')").wait_for()
    tab.locator(f"#photo-{place} img").wait_for(state="detached")
    if not method:  # the status line without words covers no other
        ground = tab.locator("#status-compare").evaluate("e => getComputedStyle(e).backgroundColor")
        assert ground == "rgba(0, 0, 0, 0)"
    tab.locator(f"#start-{place}:enabled").click()
    tab.locator(f"#status-{place}:has-text('Choose a picture')").wait_for()
    assert sentence.count() == 1
    # another one is looked at all the same
    tab.locator(f"#photo-{place} input[type=file]").set_input_files(EXAMPLES / "chelsea.png")
    tab.locator(f"#status-{place}:has-text('Press ')").wait_for()
    assert sentence.count() == 0 and not tab.locator(f"#share-{place}").is_visible()  # there is no result


@pytest.mark.parametrize("width", [390, 1280])
def test_every_tab_fits_the_window(lend, width):
    page = lend(width)
    for name in ("Compare", *(title for title, _ in TITLES.values()), "Repeat", "About"):
        tab = page.get_by_role("tab", name=name, exact=True)
        assert tab.is_visible()  # behind nothing; on a phone in a row that a finger moves
        tab.click()
        settle(page)
        box = tab.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
        assert box["height"] >= 40 or width > 500
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img:not([alt])").count() == 0


@pytest.mark.parametrize(
    "query",
    [
        "method=reld&image=chelsea.png&task=denoise&preset=fast&seed=3&noise_std=15",
        "method=ld-rps&image=coffee.png&seed=3&steps=2",
    ],
)
def test_a_link_shows_every_visitor_the_same_picture(browser, address, query):
    """That of the settings which it names, computed here once more."""
    page = visit(browser, f"{address}?{query}")
    page.get_by_text(re.compile("256×256 pixels in .*seed 3")).wait_for()
    *_, (pair, *_) = actions.run(*state.from_query(dict(parse_qsl(query))))
    assert torch.equal(shown_result(page), images.read_image(pair[1]))
    page.context.close()


def test_before_and_after_without_the_slider(tab):
    """By keyboard alone, with names for screen readers: the very files of the slider."""
    visible(tab, "button:has-text('Side by side')").press("Enter")
    before, after = (tab.get_by_role("img", name=name, exact=True) for name in ("Before", "After"))
    opening = after.get_attribute("src")
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.wait_for_function("old => document.querySelector('.zoom img[alt=After]').src !== old", arg=opening)
    tab.wait_for_function("document.querySelector('.zoom img[alt=After]').complete")
    slider = tab.locator('[role="tabpanel"]:visible .slider-wrap img').evaluate_all(
        "all => all.map(i => i.src)"
    )
    assert slider == [before.get_attribute("src"), after.get_attribute("src")]
    assert before.evaluate("i => i.naturalWidth") == after.evaluate("i => i.naturalWidth") == 256


def test_the_slider_by_keyboard(tab):
    """With a name and a value for screen readers, and both pictures named."""
    slider = tab.get_by_role("slider", name="Divider between before").locator("visible=true")
    slider.focus()
    after = tab.locator(".slider-wrap img.fixed:visible")
    told = "([e, value]) => e.getAttribute('aria-valuenow') === value"
    for key, value in {
        "": 50,
        "ArrowRight": 55,
        "ArrowLeft": 50,
        "Home": 0,
        "End": 100,
        "PageDown": 80,
    }.items():
        if key:
            tab.keyboard.press(key)
        tab.wait_for_function(told, arg=[slider.element_handle(), str(value)])
    hidden = after.evaluate("i => parseFloat(i.style.clipPath.split(' ')[3]) / 100 * i.clientWidth")
    assert hidden == pytest.approx(slider.evaluate("e => new DOMMatrix(e.style.transform).e"), abs=1)
    names = tab.locator(".slider-wrap img:visible").evaluate_all("all => all.map(i => i.alt)")
    assert names == ["The picture before", "The picture after"]
    for _ in range(6):
        tab.keyboard.press("ArrowLeft")  # back to the middle


def test_the_share_button_follows_the_result(lend):
    """On a phone: result, then Share, then the downloads."""
    page = lend(390)
    tops = [
        page.locator(place).bounding_box()["y"]
        for place in (
            "#status-reld",
            "#comparison-reld",
            "#share-reld",
            "[role=tabpanel]:visible .block.download",
            "[role=tabpanel]:visible .block.alone",
        )
    ]
    assert tops == sorted(tops) and tops[2] - tops[1] < 600


def test_a_caption_for_a_prior_that_reads_none_is_answered(tab):
    tab.get_by_role("tab", name=TITLES["ld-rps"][0]).click()
    tab.locator('[role="tabpanel"]:visible').get_by_text("Caption: guides").click()
    tab.get_by_role("button", name="Restore without and with this caption").click()
    tab.get_by_text("The prior embedded reads no text").first.wait_for()


def test_history_brings_a_result_back(tab, tmp_path):
    recipe.save_png(torch.rand(1, 3, 64, 64), tmp_path / "own.png", {})
    denoise_own(tab, tmp_path / "own.png")
    visible(tab, "button:has-text('Restore')").click()
    told(tab, "64×64 pixels in")
    result = shown_result(tab)
    tab.wait_for_function("localStorage.runs && JSON.parse(localStorage.runs).length === 1")
    tab.reload()
    tab.locator("#status-reld:has-text('computed beforehand')").wait_for()
    settle(tab)  # what opens the page is drawn; a click before that would be drawn over
    visible(tab, ".past button").click()
    told(tab, "64×64 pixels in")
    assert torch.equal(shown_result(tab), result)
    visible(tab, "button:has-text('Restore')").click()  # the picture is back too
    tab.locator(".past button").nth(1).wait_for()
    assert torch.equal(shown_result(tab), result)


def test_where_there_is_no_result_there_are_no_empty_boxes(tab):
    for name in (heading("reld-paper")[0], "Repeat"):
        tab.get_by_role("tab", name=name, exact=True).click()
        visible(tab, "[role=tabpanel] button.primary").wait_for()
        settle(tab)
        empty = "[aria-label='Empty value']:visible, textarea:placeholder-shown:visible"
        assert tab.locator(empty).count() == 0


def test_a_wrong_link_says_so_and_shows_an_example(browser, address):
    page = visit(browser, f"{address}?method=foo&image=chelsea.png")
    page.get_by_text("Here is an example instead").wait_for()
    visible(page, ":text('PSNR ↑')").wait_for()
    page.context.close()


def test_a_png_of_the_page_repeats_its_run(tab):
    tab.get_by_role("tab", name="Repeat").click()
    tab.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(EXAMPLES / "chelsea.png")
    tab.locator(".notice .refused:has-text('carries no recipe')").wait_for()  # for longer than a message
    assert not tab.locator("#start-repeat").is_visible()  # a press would take away the result before
    tab.get_by_label("Remove").or_(tab.get_by_label("Clear")).locator("visible=true").first.click()
    file = EXAMPLES / "chelsea-denoise-reld.png"
    tab.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(file)
    tab.get_by_text("input_sha256").first.wait_for()
    tab.get_by_role("button", name="Repeat", exact=True).click()
    told(tab, "256×256 pixels in")
    # other processors round differently
    assert (shown_result(tab) - images.read_image(file)).abs().max() < 2.5 / 255


def test_both_halves_of_the_slider_have_one_box(tab):
    """And all of the picture is within it, whatever its ratio and the window's width."""
    tab.locator(".slider-wrap img:visible").nth(1).wait_for()
    sizes = (400, 400), (800, 600), (600, 800), (960, 540), (900, 400)
    for width, size in itertools.product((390, 1280, 1920), sizes):
        tab.set_viewport_size({"width": width, "height": 900})
        boxes = tab.evaluate(
            """async ([width, height]) => {
                const picture = Object.assign(document.createElement('canvas'), {width, height}).toDataURL();
                const frame = [...document.querySelectorAll('.slider-wrap')].find(e => e.offsetParent);
                for (const image of frame.querySelectorAll('img')) {
                    image.dataset.src ??= image.src;
                    image.src = picture;
                    await image.decode();
                }
                const block = frame.closest('.block').getBoundingClientRect(), boxes = [];
                for (const image of frame.querySelectorAll('img')) {
                    const {x, y, width, height, bottom, right} = image.getBoundingClientRect();
                    const inside = bottom <= block.bottom && right <= block.right && y >= block.top;
                    boxes.push([x, y, width, height, inside]);
                }
                return boxes;
            }""",
            size,
        )
        assert len(boxes) == 2 and boxes[0] == boxes[1] and boxes[0][4] and boxes[0][3] > 100
    tab.evaluate("document.querySelectorAll('img[data-src]').forEach(image => image.src = image.dataset.src)")


def test_an_uploaded_photograph_is_restored_and_not_damaged(tab, tmp_path):
    """Two actions: drop, Restore.

    The old result goes, the photograph stands as Before, settings follow from what is seen.
    """
    x = images.to_tensor(astronaut()[:192, 140:332])
    x = images.quantise(x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    recipe.save_png(x, tmp_path / "own.png", {})
    upload(tab, tmp_path / "own.png")
    visible(tab, "[id^=seen-]:has-text('It is noisy')").wait_for()
    assert tab.locator(":text('PSNR ↑'):visible").count() == 0 and torch.equal(shown_result(tab), x)
    tab.locator("#start-reld:has-text('Restore'):enabled").click()
    told(tab, "192×192 pixels in")
    forecast = tab.locator("[role=tabpanel]:visible :text('Result: 192×192 pixels')").first
    forecast.wait_for()
    before = tab.locator('[role="tabpanel"]:visible .slider-wrap img').first.get_attribute("src")
    assert torch.equal(images.read_image(Image.open(io.BytesIO(tab.request.get(before).body()))), x)
    assert tab.get_by_text("scores worse").count() == 0
    visible(tab, ":text('how natural it looks')").wait_for()
    # what the table shows is explained, and nothing else
    assert tab.locator(":text('round trip'):visible").count() == 0
    tab.get_by_role("tab", name=TITLES["ld-rps"][0]).click()  # the photograph is there too
    visible(tab, "[id=seen-ld-rps]:has-text('It is noisy'):has([data-width='192'])").wait_for()
