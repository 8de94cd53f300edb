"""The page in a real browser; skipped where there is none."""

from __future__ import annotations

import io
import itertools
import re
import threading
import time

import httpx
import pytest
import torch
from conftest import PATIENCE, settle, upload, visit, visit_method
from PIL import Image
from skimage.data import astronaut

from restoration.files import images, recipe
from restoration.page import actions
from restoration.page.controls import TITLES
from restoration.page.state import EXAMPLES
from restoration.run import restore


@pytest.fixture
def tab(browser, address):
    page = visit_method(browser, address)
    yield page
    page.context.close()


def test_a_visitor_sees_a_result_without_computation_and_repeats_it(tab):
    visible(tab, ":text('PSNR ↑')").wait_for()
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("256×256 pixels in").wait_for()


def test_stop_ends_the_run(tab):
    restore_in_steps(tab, 200)
    tab.get_by_text("of 200").wait_for()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_text("Stopped").wait_for()
    # the queue is free again
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    tab.get_by_role("button", name="Restore").click()
    tab.get_by_text("256×256 pixels in").wait_for()


def test_garbage_is_answered_with_one_sentence(tab, tmp_path):
    (tmp_path / "garbage.png").write_bytes(b"not a picture")
    upload(tab, tmp_path / "garbage.png")
    tab.get_by_role("button", name="Restore").click()
    tab.locator("#status-reld:has-text('is not a picture that can be read here')").wait_for()
    upload(tab, EXAMPLES / "chelsea.png")  # another one is looked at all the same
    tab.locator("#seen-reld:has-text('is not a picture')").wait_for(state="detached")


@pytest.mark.parametrize("width", [390, 1280])
def test_every_tab_fits_the_window(browser, address, width):
    page = visit(browser, address, width)
    page.get_by_text("computed beforehand").first.wait_for()
    for name in ("Compare", *(title for title, _ in TITLES.values()), "Repeat", "About"):
        tab = page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():  # on a phone it is behind the three dots
            page.get_by_label("More tabs").click()
            tab = page.locator(".overflow-dropdown").get_by_text(name, exact=True)
        tab.click()
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img:not([alt])").count() == 0
    page.context.close()


def visible(page, selector):
    return page.locator(f"{selector}:visible").first


def restore_in_steps(page, steps: int) -> None:
    """Press Restore for a run long enough to look at."""
    page.get_by_text("Method settings").click()
    box = page.get_by_label("number input for Steps")
    box.wait_for()
    # the opening value may still be on its way into a box that has just been drawn
    page.wait_for_timeout(1000)
    box.fill(str(steps))
    box.press("Tab")
    page.get_by_role("button", name="Restore").click()


def denoise_own(page, file) -> None:
    """Set the page to denoising and upload a picture."""
    page.get_by_role("button", name="Denoise", exact=True).click()
    page.get_by_text("Denoise: computed beforehand").wait_for()
    upload(page, file)


def shown_result(page) -> torch.Tensor:
    """The pixels of the result as the page shows it."""
    sources = page.locator(
        '[role="tabpanel"]:visible .slider-wrap img, '
        '[role="tabpanel"]:visible [data-testid="imageslider-image"] img'
    )
    address, before = sources.last.get_attribute("src"), ""
    while address != before:  # the slider may change a moment after the line that the caller waited for
        page.wait_for_timeout(400)
        address, before = sources.last.get_attribute("src"), address
    answer = page.request.get(address)
    assert answer.headers["content-type"] == "image/png"
    return images.read_image(Image.open(io.BytesIO(answer.body())))


@pytest.mark.parametrize(
    "query",
    [
        "method=reld&image=chelsea.png&task=denoise&preset=fast&seed=3&noise_std=15",
        "method=ld-rps&image=coffee.png&seed=3",
    ],
)
def test_a_link_shows_another_visitor_the_same_picture(browser, address, query):
    link = f"{address}?{query}"
    results = []
    for _ in range(2):
        page = visit(browser, link)
        page.get_by_text(re.compile("256×256 pixels in .*seed 3")).wait_for()
        results.append(shown_result(page))
        page.context.close()
    assert torch.equal(*results)


def test_two_visitors_do_not_see_each_others_pictures(browser, address):
    pages = []
    for name in ("chelsea.png", "coffee.png"):
        page = visit_method(browser, address)
        denoise_own(page, EXAMPLES / name)
        pages.append((name, page))
    for _, page in pages:
        visible(page, "button:has-text('Restore')").click()
    for name, page in pages:
        page.get_by_text("256×256 pixels in").wait_for()
        clean = images.read_image(EXAMPLES / name)
        assert (shown_result(page) - clean).abs().mean() < 0.05
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


def test_a_caption_for_a_prior_that_reads_none_is_answered(tab):
    tab.get_by_role("tab", name=TITLES["ld-rps"][0]).click()
    tab.locator('[role="tabpanel"]:visible').get_by_text("Caption: guides").click()
    tab.get_by_role("button", name="Restore without and with this caption").click()
    tab.get_by_text("The prior embedded reads no text").first.wait_for()


def test_history_brings_a_result_back(tab, tmp_path):
    recipe.save_png(torch.rand(1, 3, 64, 64), tmp_path / "own.png", {})
    denoise_own(tab, tmp_path / "own.png")
    visible(tab, "button:has-text('Restore')").click()
    tab.get_by_text("64×64 pixels in").wait_for()
    result = shown_result(tab)
    tab.locator(".past button").wait_for()
    tab.reload()
    tab.locator("#status-reld:has-text('computed beforehand')").wait_for()
    visible(tab, ".past button").click()
    tab.get_by_text("64×64 pixels in").wait_for()
    assert torch.equal(shown_result(tab), result)
    visible(tab, "button:has-text('Restore')").click()  # the picture is back too
    tab.locator(".past button").nth(1).wait_for()
    assert torch.equal(shown_result(tab), result)


def test_the_link_is_of_the_run_that_is_shown(tab, monkeypatch):
    """Not of what the controls say when it ends."""
    changed = threading.Event()

    def held(*args, **options):
        for step in restore(*args, **options):
            yield step
            changed.wait(PATIENCE / 1000)

    monkeypatch.setattr(actions, "restore", held)
    restore_in_steps(tab, 12)
    tab.get_by_text("Step 1 of 12").wait_for()
    tab.get_by_label("Seed", exact=True).first.fill("7")
    changed.set()
    tab.get_by_text("256×256 pixels in").wait_for()
    link = tab.locator("label:has-text('Settings link')").locator("input, textarea").first
    tab.wait_for_function("box => box.value.includes('steps=12')", arg=link.element_handle())
    assert "seed=0" in link.input_value()
    tab.get_by_role("button", name="Denoise", exact=True).click()
    tab.get_by_text("Denoise: computed beforehand").wait_for()
    assert link.input_value() == ""


def test_opening_the_page_takes_no_place_in_the_queue(tab, browser, address, monkeypatch):
    """While one run holds the only place, three visitors open the page and look at an example."""
    over = threading.Event()

    def held(*args, **options):
        for step in restore(*args, **options):
            yield step
            over.wait(PATIENCE / 1000)

    monkeypatch.setattr(actions, "restore", held)
    restore_in_steps(tab, 200)
    tab.get_by_text("Step 1 of 200").wait_for()
    others = [visit_method(browser, address) for _ in range(3)]
    page = others[-1]
    page.get_by_role("button", name="Denoise", exact=True).click()
    page.get_by_text("Denoise: computed beforehand").wait_for()
    assert page.get_by_text("busy").count() == 0 and page.get_by_text("queue").count() == 0
    for page in others:
        page.context.close()
    tab.get_by_text("Step 1 of 200").wait_for()
    tab.get_by_role("button", name="Stop").click()
    over.set()
    tab.get_by_text("Stopped").wait_for()


def test_a_run_ends_with_the_page_that_started_it(browser, address, monkeypatch):
    ended = threading.Event()

    def endless(*args, **options):
        first = next(restore(*args, **options))
        try:
            while True:
                yield first
                time.sleep(0.05)
        finally:
            ended.set()

    monkeypatch.setattr(actions, "restore", endless)
    page = visit_method(browser, address)
    restore_in_steps(page, 200)
    page.get_by_text("Step 1 of 200").wait_for()
    page.context.close()
    assert ended.wait(PATIENCE / 1000)


def test_a_wrong_link_says_so_and_shows_an_example(browser, address):
    for query in (
        "method=foo&image=chelsea.png",
        "method=reld&image=chelsea.png&noise_std=nan",
    ):
        page = visit(browser, f"{address}?{query}")
        page.get_by_text("Here is an example instead").wait_for()
        visible(page, ":text('PSNR ↑')").wait_for()
        page.context.close()


def test_a_png_of_the_page_repeats_its_run(tab):
    tab.get_by_role("tab", name="Repeat").click()
    tab.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(EXAMPLES / "chelsea.png")
    tab.get_by_text("carries no recipe").first.wait_for()
    tab.get_by_label("Remove").or_(tab.get_by_label("Clear")).locator("visible=true").first.click()
    file = EXAMPLES / "chelsea-denoise-reld.png"
    tab.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(file)
    tab.get_by_text("input_sha256").first.wait_for()
    tab.get_by_role("button", name="Repeat", exact=True).click()
    tab.get_by_text("256×256 pixels in").wait_for()
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


def test_a_press_is_answered_where_it_can_be_seen(browser, address):
    """On a phone the progress comes into view; the button says that a run goes on; an error replaces all
    that.
    """
    page = visit_method(browser, address, 390)
    restore_in_steps(page, 200)
    page.get_by_text("of 200").wait_for()
    button, status = page.locator("#start-reld"), page.locator("#status-reld")
    assert button.inner_text() == "Restoring…" and button.is_disabled()
    box = status.bounding_box()
    assert 0 <= box["y"] < box["y"] + box["height"] <= 900
    page.get_by_role("button", name="Stop").first.click()
    page.get_by_text("Stopped").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    visible(page, "[aria-label='Remove Image']").click()
    button.click()
    status.get_by_text("Choose a picture first").wait_for()
    page.locator("#start-reld:has-text('Restore'):enabled").wait_for()
    assert page.locator(".slider-wrap:visible").count() == 0
    page.context.close()


def test_an_uploaded_photograph_is_restored_and_not_damaged(browser, address, tmp_path):
    """Two actions: drop, Restore.

    The old result goes, the photograph stands as Before, settings follow from what is seen.
    """
    page = visit_method(browser, address)
    x = images.to_tensor(astronaut()[:192, 140:332])
    x = images.quantise(x + 30 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    recipe.save_png(x, tmp_path / "own.png", {})
    upload(page, tmp_path / "own.png")
    visible(page, "[id^=seen-]:has-text('It is noisy')").wait_for()
    assert page.locator(":text('PSNR ↑'):visible").count() == 0 and torch.equal(shown_result(page), x)
    page.locator("#start-reld:has-text('Restore'):enabled").click()
    page.get_by_text("192×192 pixels in").wait_for()
    before = page.locator('[role="tabpanel"]:visible .slider-wrap img').first.get_attribute("src")
    assert torch.equal(images.read_image(Image.open(io.BytesIO(page.request.get(before).body()))), x)
    assert page.get_by_text("scores worse").count() == 0
    page.get_by_role("tab", name=TITLES["ld-rps"][0]).click()  # the photograph is there too
    visible(page, "[id=seen-ld-rps]:has-text('It is noisy')").wait_for()
    page.context.close()


MARKUP = (
    "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>${document.title='ran'}"
)


def test_no_script_of_a_stranger_runs(browser, address, tmp_path):
    """Markup posted to every event of a session, in a file's name, the history and a recipe."""
    with httpx.Client(base_url=f"{address}gradio_api/", timeout=120) as client:
        events = [
            e for e in client.get(f"{address}config").json()["dependencies"] if e["inputs"] and not e["queue"]
        ]
        for event in events:
            for value in (MARKUP, [MARKUP], [{"url": f'x"{MARKUP}'}] * 2):
                body = {
                    "data": [value] * len(event["inputs"]),
                    "fn_index": event["id"],
                    "session_hash": "stranger",
                }
                client.post("run/predict", json=body)
        assert client.get("deep_link", params={"session_hash": "stranger"}).status_code == 404
    page = visit(browser, address)
    page.get_by_role("button", name="Compare", exact=True).wait_for()
    run = {"method": "reld", "title": MARKUP, "pictures": ["", f'x"{MARKUP}'], "status": MARKUP, "link": ""}
    page.evaluate("run => localStorage.setItem('runs', JSON.stringify([run]))", run)
    page.goto(f"{address}?method=reld")
    page.locator(".past button").wait_for()
    (tmp_path / "<img src=x onerror=document.title=1>.png").write_bytes(b"not a picture")
    upload(page, tmp_path / "<img src=x onerror=document.title=1>.png")
    page.get_by_text("is not a picture that can be read here").first.wait_for()
    page.get_by_role("tab", name="Repeat").click()
    recipe.save_png(
        torch.rand(1, 3, 32, 32), tmp_path / "r.png", {"solver": MARKUP, "task": MARKUP, "prior": MARKUP}
    )
    page.locator('[role="tabpanel"]:visible input[type=file]').first.set_input_files(tmp_path / "r.png")
    page.get_by_role("button", name="Repeat", exact=True).click()
    page.get_by_text("holds no recipe").first.wait_for()
    assert page.title() == "Latent restoration" and page.locator("img[src=x]").count() == 0
    # and were there markup after all, the page's policy lets no script of it run
    page.evaluate("text => document.body.insertAdjacentHTML('beforeend', text)", MARKUP)
    page.wait_for_timeout(1000)
    assert page.title() == "Latent restoration"
    page.context.close()
